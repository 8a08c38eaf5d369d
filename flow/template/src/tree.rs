//! Parsed templates. They are immutable, know nothing of values and can be shared by threads.

use std::{fmt, sync::Arc};

use crate::{functions::Function, number::Number, value::Text};

/// A parsed text: its name, and where its lines start.
#[derive(Debug)]
pub struct Source {
    pub name: Arc<str>,
    pub lines: Arc<[usize]>,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), lines }
    }

    /// Line from 1 and column from 0 of a byte.
    pub fn locate(&self, pos: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= pos);
        let column = pos - self.lines[line - 1];
        (line, column)
    }
}

/// A named template.
#[derive(Clone, Debug)]
pub struct Tree {
    pub name: Arc<str>,
    pub source: Arc<Source>,
    pub body: Arc<[Node]>,
    /// Variables alive at once, at most.
    pub slots: usize,
}

#[derive(Debug)]
pub enum Node {
    Text(Text, usize),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(Invocation),
    Break,
    Continue,
}

#[derive(Debug)]
pub struct Branch {
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Option<Vec<Node>>,
}

#[derive(Debug)]
pub struct Invocation {
    pub pos: usize,
    pub name: Arc<str>,
    pub pipe: Option<Pipe>,
}

#[derive(Debug)]
pub struct Pipe {
    pub pos: usize,
    pub assign: bool,
    pub decl: Vec<Variable>,
    pub commands: Vec<Command>,
}

#[derive(Debug)]
pub struct Command {
    pub pos: usize,
    pub args: Vec<Operand>,
}

#[derive(Debug)]
pub struct Variable {
    pub slot: usize,
    /// `$name`, then fields.
    pub idents: Vec<Text>,
}

#[derive(Debug)]
pub struct Operand {
    pub pos: usize,
    pub term: Term,
}

#[derive(Debug)]
pub enum Term {
    Bool(bool),
    Dot,
    Nil,
    Field(Vec<Text>),
    Variable(Variable),
    Number(Box<Number>),
    String { quoted: Box<str>, text: Text },
    Function(&'static Function),
    Chain(Box<Operand>, Vec<Text>),
    Pipe(Box<Pipe>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, variable) in self.decl.iter().enumerate() {
            write!(f, "{}{variable}", if i > 0 { ", " } else { "" })?;
        }
        if !self.decl.is_empty() {
            f.write_str(if self.assign { " = " } else { " := " })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            match &arg.term {
                Term::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{arg}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ident) in self.idents.iter().enumerate() {
            write!(f, "{}{ident}", if i > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, idents: &[Text]| idents.iter().try_for_each(|i| write!(f, ".{i}"));
        match &self.term {
            Term::Bool(b) => write!(f, "{b}"),
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Field(idents) => fields(f, idents),
            Term::Variable(variable) => variable.fmt(f),
            Term::Number(number) => f.write_str(&number.text),
            Term::String { quoted, .. } => f.write_str(quoted),
            Term::Function(function) => f.write_str(function.name),
            Term::Chain(operand, idents) => {
                match &operand.term {
                    Term::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{operand}")?,
                }
                fields(f, idents)
            }
            Term::Pipe(pipe) => pipe.fmt(f),
        }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", crate::quote::quote_str(&self.name))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

/// Whether there is nothing in it but white space.
pub fn is_empty(body: &[Node]) -> bool {
    body.iter().all(|node| match node {
        Node::Text(text, _) => text.to_str().trim().is_empty(),
        _ => false,
    })
}
