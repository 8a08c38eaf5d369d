//! Carries templates out.

use std::{fmt, rc::Rc, sync::Arc};

use crate::{
    error::{Cause, Error, Place},
    functions::{Body, Fail, Function},
    parse::NO_SLOT,
    printf,
    quote::quote_str,
    render::{MissingKey, Session},
    trace::{Guards, Read, Recorder, Traced},
    tree::{Branch, Command, Invocation, Node, Operand, Pipe, Term, Tree, Variable, is_empty},
    value::{Element, MapType, Names, Param, Signature, Text, Value},
};

/// Templates by name, those of an outer scope behind them.
pub struct Scope<'p> {
    pub own: &'p Names<Arc<str>, Arc<Tree>>,
    pub outer: Option<&'p Scope<'p>>,
}

impl Scope<'_> {
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Tree>> {
        let name = std::str::from_utf8(name).ok()?;
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some(tree) = here.own.get(name) {
                return Some(tree);
            }
            scope = here.outer;
        }
        None
    }
}

/// A value with what Go knows of its static type: whether it sits in an `interface {}`. A `nil` that does is a nil interface;
/// one that does not is no value at all.
#[derive(Clone, Default)]
pub struct Held {
    pub value: Value,
    pub boxed: bool,
}

impl Held {
    pub fn bare(value: Value) -> Self {
        Self { value, boxed: false }
    }

    fn boxed(value: Value) -> Self {
        Self { value, boxed: true }
    }

    fn none() -> Self {
        Self::default()
    }

    fn type_name(&self) -> String {
        if self.boxed { "interface {}".to_owned() } else { self.value.type_name() }
    }
}

/// The piece of the template that is being carried out, for errors.
#[derive(Clone, Copy)]
enum At<'t> {
    Start,
    Pipe(&'t Pipe),
    Action(&'t Pipe),
    Branch(&'static str, &'t Branch),
    Invocation(&'t Invocation),
    Command(&'t Command),
    Operand(&'t Operand),
    Text(usize),
}

impl At<'_> {
    fn pos(self) -> Option<usize> {
        Some(match self {
            Self::Start => return None,
            Self::Pipe(pipe) | Self::Action(pipe) => pipe.pos,
            Self::Branch(_, branch) => branch.pipe.pos,
            Self::Invocation(invocation) => invocation.pos,
            Self::Command(command) => command.pos,
            Self::Operand(operand) => operand.pos,
            Self::Text(pos) => pos,
        })
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start | Self::Text(_) => Ok(()),
            Self::Pipe(pipe) => pipe.fmt(f),
            Self::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Self::Branch(name, branch) => write!(f, "{{{{{name} {}}}}}", branch.pipe),
            Self::Invocation(invocation) => invocation.fmt(f),
            Self::Command(command) => command.fmt(f),
            Self::Operand(operand) => operand.fmt(f),
        }
    }
}

enum Flow {
    On,
    Break,
    Continue,
}

type Run<T> = Result<T, Box<Error>>;

/// One template being carried out.
pub struct Exec<'t, 's, 'h> {
    session: &'s mut Session<'h>,
    scope: &'t Scope<'t>,
    tree: &'t Tree,
    vars: Vec<Option<Held>>,
    /// What was read for a variable, by its slot; only while it is traced.
    heard: Names<usize, Vec<Read>>,
    at: At<'t>,
}

/// Carries `tree` out on `dot`.
pub fn run(
    session: &mut Session<'_>,
    scope: &Scope<'_>,
    tree: &Tree,
    dot: Held,
    out: &mut Vec<u8>,
    trace: Option<&mut Recorder>,
) -> Run<()> {
    stacker::maybe_grow(256 << 10, 2 << 20, || {
        let mut vars = vec![None; tree.slots];
        vars[0] = Some(dot.clone());
        let mut exec = Exec { session, scope, tree, vars, heard: Names::default(), at: At::Start };
        exec.walk(&dot, &tree.body, &mut Sink { out, trace }).map(|_| ())
    })
}

struct Sink<'o> {
    out: &'o mut Vec<u8>,
    trace: Option<&'o mut Recorder>,
}

impl<'t> Exec<'t, '_, '_> {
    fn fail<T>(&self, cause: Cause) -> Run<T> {
        let (line, column) = self.tree.source.locate(self.at.pos().unwrap_or(0));
        Err(Box::new(Error::Exec {
            place: Box::new(Place { file: self.tree.source.name.to_string(), line, column: Some(column) }),
            template: self.tree.name.to_string(),
            context: self.at.to_string(),
            cause,
        }))
    }

    fn error<T>(&self, message: impl Into<String>) -> Run<T> {
        self.fail(Cause::Message(message.into()))
    }

    fn charge(&mut self, steps: u64) -> Run<()> {
        match self.session.charge(steps) {
            Ok(()) => Ok(()),
            Err(Fail::Limit(message)) => self.fail(Cause::Limit(message)),
            Err(_) => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8], sink: &mut Sink<'_>, pos: usize, literal: bool) -> Run<()> {
        if let Err(Fail::Limit(message)) = self.session.written(bytes.len()) {
            return self.fail(Cause::Limit(message));
        }
        if let Some(trace) = &mut sink.trace {
            let (source, line) = (&self.tree.source, self.tree.source.locate(pos).0);
            match (bytes.is_empty(), literal) {
                (false, true) => trace.literal(sink.out.len(), source, line, self.session.guards.clone()),
                (false, false) => trace.action(sink.out.len(), source, line, self.session),
                (true, true) => {}
                (true, false) => self.session.nested.clear(),
            }
        }
        sink.out.extend_from_slice(bytes);
        Ok(())
    }

    fn walk(&mut self, dot: &Held, body: &'t [Node], sink: &mut Sink<'_>) -> Run<Flow> {
        for node in body {
            self.charge(1)?;
            match node {
                Node::Text(text, pos) => {
                    self.at = At::Text(*pos);
                    self.write(text.as_bytes(), sink, *pos, true)?;
                }
                Node::Action(pipe) => {
                    self.at = At::Action(pipe);
                    self.session.reads.clear();
                    let value = self.pipe(dot, pipe)?;
                    if pipe.decl.is_empty() {
                        self.at = At::Action(pipe);
                        match &value.value {
                            Value::Nil => self.write(b"<no value>", sink, pipe.pos, false)?,
                            Value::Str(text) => self.write(text.as_bytes(), sink, pipe.pos, false)?,
                            other => {
                                let text = printf::sprint(std::slice::from_ref(other));
                                self.write(text.as_bytes(), sink, pipe.pos, false)?;
                            }
                        }
                    } else {
                        self.session.nested.clear();
                    }
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::If(branch) | Node::With(branch) => {
                    let with = matches!(node, Node::With(_));
                    self.at = At::Branch(if with { "with" } else { "if" }, branch);
                    self.session.reads.clear();
                    let value = self.pipe(dot, &branch.pipe)?;
                    let guards = self.guard();
                    let flow = if value.value.truth() {
                        self.nest(|exec| exec.walk(if with { &value } else { dot }, &branch.body, sink))?
                    } else if let Some(otherwise) = &branch.otherwise {
                        self.nest(|exec| exec.walk(dot, otherwise, sink))?
                    } else {
                        Flow::On
                    };
                    self.session.guards = guards;
                    if !matches!(flow, Flow::On) {
                        return Ok(flow);
                    }
                }
                Node::Range(branch) => {
                    let guards = self.session.guards.clone();
                    let flow = self.nest(|exec| exec.range(dot, branch, sink))?;
                    self.session.guards = guards;
                    if !matches!(flow, Flow::On) {
                        return Ok(flow);
                    }
                }
                Node::Template(invocation) => self.invoke(dot, invocation, sink)?,
            }
        }
        Ok(Flow::On)
    }

    /// While it is traced: what was read just now decides about what comes. Returns what decided before.
    fn guard(&mut self) -> Option<Rc<Guards>> {
        let outer = self.session.guards.clone();
        if self.session.options.trace {
            let reads = std::mem::take(&mut self.session.reads);
            self.session.guards = Some(Rc::new(Guards { reads, outer: outer.clone() }));
        }
        outer
    }

    /// Notes that a key of a map is read.
    fn read(&mut self, receiver: &Value, key: &Text) {
        if let Value::Map(map) = receiver
            && self.session.options.trace
            && self.session.reads.len() < 1000
        {
            self.session.reads.push(Read { table: map.address(), key: key.to_string() });
        }
    }

    fn nest<T>(&mut self, what: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        stacker::maybe_grow(256 << 10, 2 << 20, || what(self))
    }

    fn range(&mut self, dot: &Held, branch: &'t Branch, sink: &mut Sink<'_>) -> Run<Flow> {
        self.at = At::Branch("range", branch);
        self.session.reads.clear();
        let over = self.pipe(dot, &branch.pipe)?.value.plain();
        self.guard();
        let ran = match &over {
            Value::Nil => false,
            Value::Int(..) | Value::Uint(..) => {
                if branch.pipe.decl.len() > 1 {
                    let text = printf::sprint(std::slice::from_ref(&over));
                    return self.error(format!("can't use {text} to iterate over more than one variable"));
                }
                let (count, make): (i64, Box<dyn Fn(i64) -> Value>) = match &over {
                    Value::Uint(kind, n) => {
                        let kind = *kind;
                        (i64::try_from(*n).unwrap_or(i64::MAX), Box::new(move |n| Value::Uint(kind, n as u64)))
                    }
                    Value::Int(kind, n) => {
                        let kind = *kind;
                        (*n, Box::new(move |n| Value::Int(kind, n)))
                    }
                    _ => (0, Box::new(Value::int)),
                };
                for n in 0..count.max(0) {
                    if !self.iterate(branch, Held::none(), Held::bare(make(n)), sink)? {
                        return Ok(Flow::On);
                    }
                }
                count > 0
            }
            Value::List(list) => {
                let boxed = list.element() == Element::Any;
                for (i, item) in list.iter().enumerate() {
                    let item = Held { value: item.clone(), boxed };
                    if !self.iterate(branch, Held::bare(Value::int(i as i64)), item, sink)? {
                        return Ok(Flow::On);
                    }
                }
                !list.is_empty()
            }
            Value::Bytes(bytes) => {
                for (i, byte) in bytes.as_bytes().iter().enumerate() {
                    let byte = Held::bare(Value::Uint(crate::value::UintKind::Uint8, u64::from(*byte)));
                    if !self.iterate(branch, Held::bare(Value::int(i as i64)), byte, sink)? {
                        return Ok(Flow::On);
                    }
                }
                !bytes.is_empty()
            }
            Value::Map(map) => {
                let boxed = map.kind() != MapType::Str;
                let pairs = map.pairs();
                for (key, value) in &pairs {
                    let value = Held { value: value.clone(), boxed };
                    if !self.iterate(branch, Held::bare(Value::Str(key.clone())), value, sink)? {
                        return Ok(Flow::On);
                    }
                }
                !pairs.is_empty()
            }
            other => {
                let text = printf::sprint(std::slice::from_ref(other));
                return self.error(format!("range can't iterate over {text}"));
            }
        };
        match &branch.otherwise {
            Some(otherwise) if !ran => self.walk(dot, otherwise, sink),
            _ => Ok(Flow::On),
        }
    }

    /// One round of a range; says whether to go on.
    fn iterate(&mut self, branch: &'t Branch, index: Held, item: Held, sink: &mut Sink<'_>) -> Run<bool> {
        self.charge(1)?;
        let dot = item.clone();
        match &branch.pipe.decl[..] {
            [] => {}
            [only] => self.set(only, item)?,
            [first, second, ..] => {
                self.set(first, index)?;
                self.set(second, item)?;
            }
        }
        Ok(!matches!(self.walk(&dot, &branch.body, sink)?, Flow::Break))
    }

    fn set(&mut self, variable: &Variable, value: Held) -> Run<()> {
        if variable.slot == NO_SLOT {
            return self.error(format!("undefined variable: {}", variable.idents[0]));
        }
        self.vars[variable.slot] = Some(value);
        Ok(())
    }

    fn invoke(&mut self, dot: &Held, invocation: &'t Invocation, sink: &mut Sink<'_>) -> Run<()> {
        self.at = At::Invocation(invocation);
        let Some(tree) = self.scope.find(invocation.name.as_bytes()) else {
            return self.error(format!("template {} not defined", quote_str(&invocation.name)));
        };
        let most = self.session.options.limits.depth;
        if self.session.depth >= most {
            return self.error(format!("exceeded maximum template depth ({most})"));
        }
        let dot = match &invocation.pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Held::none(),
        };
        self.session.nested.clear();
        let guards = self.guard();
        self.session.depth += 1;
        let done = run(self.session, self.scope, tree, dot, sink.out, sink.trace.as_deref_mut());
        self.session.depth -= 1;
        self.session.guards = guards;
        done
    }

    fn pipe(&mut self, dot: &Held, pipe: &'t Pipe) -> Run<Held> {
        self.at = At::Pipe(pipe);
        let heard = self.session.reads.len();
        let mut value: Option<Held> = None;
        for command in &pipe.commands {
            let mut next = self.command(dot, command, value)?;
            next.boxed = false;
            value = Some(next);
        }
        let value = value.unwrap_or_default();
        for variable in &pipe.decl {
            self.set(variable, value.clone())?;
            if self.session.options.trace {
                let reads = self.session.reads.get(heard..).unwrap_or_default().to_vec();
                self.heard.insert(variable.slot, reads);
            }
        }
        Ok(value)
    }

    fn not_a_function(&self, command: &Command, last: &Option<Held>) -> Run<()> {
        if command.args.len() > 1 || last.is_some() {
            return self.error(format!("can't give argument to non-function {}", paren(&command.args[0])));
        }
        Ok(())
    }

    fn command(&mut self, dot: &Held, command: &'t Command, last: Option<Held>) -> Run<Held> {
        let first = &command.args[0];
        match &first.term {
            Term::Field(_) | Term::Chain(..) | Term::Variable(_) => self.chained(dot, first, Some(&command.args), last),
            Term::Function(function) => {
                self.at = At::Operand(first);
                self.call(dot, function, At::Command(command), &command.args[1..], last)
            }
            Term::Pipe(pipe) => {
                self.not_a_function(command, &last)?;
                self.pipe(dot, pipe)
            }
            _ => {
                self.at = At::Operand(first);
                self.not_a_function(command, &last)?;
                match &first.term {
                    Term::Bool(b) => Ok(Held::bare(Value::Bool(*b))),
                    Term::Dot => Ok(dot.clone()),
                    Term::Nil => self.error("nil is not a command"),
                    Term::Number(_) => self.ideal(first).map(Held::bare),
                    Term::String { text, .. } => Ok(Held::bare(Value::Str(text.clone()))),
                    _ => Ok(Held::none()),
                }
            }
        }
    }

    /// A literal number where any type will do.
    fn ideal(&mut self, operand: &'t Operand) -> Run<Value> {
        self.at = At::Operand(operand);
        let Term::Number(number) = &operand.term else {
            return Ok(Value::Nil);
        };
        let text = &number.text;
        let hex = text.len() > 2 && (text.starts_with("0x") || text.starts_with("0X")) && !text.contains(['p', 'P']);
        if let Some((re, im)) = number.complex {
            return Ok(Value::Complex(re, im));
        }
        if let Some(f) = number.float
            && !hex
            && !text.starts_with('\'')
            && text.contains(['.', 'e', 'E', 'p', 'P'])
        {
            return Ok(Value::Float(f));
        }
        match number.int {
            Some(n) => Ok(Value::int(n)),
            None => self.error(format!("{text} overflows int")),
        }
    }

    /// Fields, variables and what is behind parentheses, with their chain of fields.
    fn chained(
        &mut self,
        dot: &Held,
        operand: &'t Operand,
        args: Option<&'t [Operand]>,
        last: Option<Held>,
    ) -> Run<Held> {
        self.charge(1)?;
        self.at = At::Operand(operand);
        let (receiver, idents) = match &operand.term {
            Term::Field(idents) => (dot.clone(), &idents[..]),
            Term::Variable(variable) => {
                let value = match self.vars.get(variable.slot) {
                    Some(Some(value)) => value.clone(),
                    _ => return self.error(format!("undefined variable: {}", variable.idents[0])),
                };
                if let Some(heard) = self.heard.get(&variable.slot)
                    && self.session.reads.len() < 1000
                {
                    self.session.reads.extend_from_slice(heard);
                }
                if variable.idents.len() == 1 {
                    if args.is_some_and(|args| args.len() > 1) || last.is_some() {
                        return self.error(format!("can't give argument to non-function {operand}"));
                    }
                    return Ok(value);
                }
                (value, &variable.idents[1..])
            }
            Term::Chain(inner, idents) => {
                if let Term::Nil = inner.term {
                    return self.error(format!("indirection through explicit nil in {operand}"));
                }
                self.at = At::Operand(inner);
                let value = match &inner.term {
                    Term::Pipe(pipe) => self.nest(|exec| exec.pipe(dot, pipe))?,
                    Term::Function(function) => self.call(dot, function, At::Operand(inner), &[], None)?,
                    _ => self.chained(dot, inner, None, None)?,
                };
                (value, &idents[..])
            }
            _ => return Ok(Held::none()),
        };
        let Some((end, chain)) = idents.split_last() else {
            return Ok(receiver);
        };
        let mut receiver = receiver;
        for ident in chain {
            receiver = self.field(dot, ident, operand, &[], None, receiver)?;
        }
        let args = args.and_then(|args| args.get(1..)).unwrap_or_default();
        self.read(&receiver.value, end);
        self.field(dot, end, operand, args, last, receiver)
    }

    fn field(
        &mut self,
        dot: &Held,
        name: &Text,
        operand: &'t Operand,
        args: &'t [Operand],
        last: Option<Held>,
        receiver: Held,
    ) -> Run<Held> {
        let missing = self.session.options.missing_key;
        if receiver.value.is_nil() {
            if receiver.boxed {
                return self.error(format!("nil pointer evaluating interface {{}}.{name}"));
            }
            if missing == MissingKey::Error {
                return self.error(format!("nil data; no entry for key {}", quote_str(&name.to_str())));
            }
            return Ok(Held::none());
        }
        let has_args = !args.is_empty() || last.is_some();
        let known = name.to_str();
        if let Some(signature) = crate::functions::date::method(&receiver.value, &known) {
            let values = self.arguments(dot, &known, signature, args, last)?;
            let result = crate::functions::date::call(&receiver.value, &known, &values);
            return self.called(&known, At::Operand(operand), result).map(Held::bare);
        }
        let map = match &receiver.value {
            Value::Map(map) => Some(map.clone()),
            Value::Object(object) => {
                if let Some(signature) = object.method(&known) {
                    let values = self.arguments(dot, &known, signature, args, last)?;
                    let result = object.call(&known, &values).map_err(Fail::Message);
                    return self.called(&known, At::Operand(operand), result).map(Held::bare);
                }
                if let Some(value) = object.field(&known) {
                    if has_args {
                        return self.error(format!("{name} has arguments but cannot be invoked as function"));
                    }
                    return Ok(Held::bare(value));
                }
                match object.underlying() {
                    Some(Value::Map(map)) => Some(map),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(map) = map else {
            return self.error(format!("can't evaluate field {name} in type {}", receiver.type_name()));
        };
        if has_args {
            return self.error(format!("{name} is not a method but has arguments"));
        }
        let boxed = map.kind() != MapType::Str;
        match map.get(name) {
            Some(value) => Ok(Held { value, boxed }),
            None => match missing {
                MissingKey::Default => Ok(Held::none()),
                MissingKey::Zero if boxed => Ok(Held::boxed(Value::Nil)),
                MissingKey::Zero => Ok(Held::bare(Value::str(""))),
                MissingKey::Error => self.error(format!("map has no entry for key {}", quote_str(&name.to_str()))),
            },
        }
    }

    fn arguments(
        &mut self,
        dot: &Held,
        name: &str,
        signature: Signature,
        args: &'t [Operand],
        last: Option<Held>,
    ) -> Run<Vec<Value>> {
        let fixed = signature.params.len();
        let given = args.len() + usize::from(last.is_some());
        if signature.rest.is_some() {
            if given < fixed {
                return self
                    .error(format!("wrong number of args for {name}: want at least {fixed} got {}", args.len()));
            }
        } else if given != fixed {
            return self.error(format!("wrong number of args for {name}: want {fixed} got {given}"));
        }
        let param = |i: usize| signature.params.get(i).copied().or(signature.rest).unwrap_or(Param::Any);
        let mut values = Vec::with_capacity(given);
        for (i, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, param(i), arg)?);
        }
        if let Some(last) = last {
            values.push(self.validate(last, param(args.len()))?);
        }
        Ok(values)
    }

    fn call(
        &mut self,
        dot: &Held,
        function: &'static Function,
        node: At<'t>,
        args: &'t [Operand],
        last: Option<Held>,
    ) -> Run<Held> {
        self.charge(2)?;
        match function.body {
            Body::And | Body::Or => {
                if args.is_empty() && last.is_none() {
                    let name = function.name;
                    return self.error(format!("wrong number of args for {name}: want at least 1 got 0"));
                }
                let mut value = Value::Nil;
                for arg in args {
                    value = self.argument(dot, Param::Reflect, arg)?;
                    if value.truth() == matches!(function.body, Body::Or) {
                        return Ok(Held::bare(value));
                    }
                }
                if let Some(last) = last {
                    value = self.validate(last, Param::Reflect)?;
                }
                Ok(Held::bare(value))
            }
            Body::Plain(body) => {
                let values = self.arguments(dot, function.name, function.signature, args, last)?;
                if function.random {
                    self.session.place = (self.tree.source.name.clone(), node.pos().unwrap_or(0));
                }
                let result = self.session.room_for(&values).and_then(|()| body(self.session, &values));
                let value = self.called(function.name, node, result)?;
                if let Value::Str(text) = &value {
                    self.charge(text.len() as u64 / 64)?;
                }
                Ok(Held::bare(value))
            }
            Body::Call => {
                let values = self.arguments(dot, function.name, function.signature, args, last)?;
                let shown = args.first().map_or_else(String::new, |arg| arg.to_string());
                let result = match values.first() {
                    None | Some(Value::Nil) => Err(Fail::from("call of nil")),
                    Some(other) => Err(Fail::Message(format!("non-function {shown} of type {}", other.type_name()))),
                };
                self.called(function.name, node, result).map(Held::bare)
            }
            Body::Include => {
                let values = self.arguments(dot, function.name, function.signature, args, last)?;
                let result = self.include(&values);
                self.called(function.name, node, result).map(Held::bare)
            }
            Body::Tpl => {
                let values = self.arguments(dot, function.name, function.signature, args, last)?;
                let result = self.tpl(&values);
                self.called(function.name, node, result).map(Held::bare)
            }
        }
    }

    fn called(&mut self, name: &str, node: At<'t>, result: Result<Value, Fail>) -> Run<Value> {
        let fail = match result {
            Ok(value) => return Ok(value),
            Err(fail) => fail,
        };
        self.at = node;
        self.fail(match fail {
            Fail::Message(message) => Cause::Message(format!("error calling {name}: {message}")),
            Fail::Raised { function, message } => Cause::Raised { function, message },
            Fail::Nested { prefix, error } => {
                Cause::Calling { prefix: format!("error calling {name}: {prefix}"), error }
            }
            Fail::Limit(message) => Cause::Limit(message),
        })
    }

    fn include(&mut self, values: &[Value]) -> Result<Value, Fail> {
        let [Value::Str(name), data] = values else {
            return Err(Fail::from("include takes a name and data"));
        };
        let most = self.session.options.limits.includes;
        let count = self.session.included.entry(name.clone()).or_insert(0);
        if *count > most {
            return Err(Fail::Message(format!(
                "rendering template has a nested reference name: {name}: unable to execute template"
            )));
        }
        *count += 1;
        let done = match self.scope.find(name.as_bytes()) {
            Some(tree) => self.separately(tree, data),
            None => Err(Fail::Nested {
                prefix: String::new(),
                error: Box::new(Error::NoTemplate { name: name.to_string(), set: "gotpl".to_owned() }),
            }),
        };
        if let Some(count) = self.session.included.get_mut(name) {
            *count -= 1;
        }
        done.map(Value::str)
    }

    /// Carries a template out into a text of its own.
    fn separately(&mut self, tree: &Arc<Tree>, data: &Value) -> Result<Vec<u8>, Fail> {
        self.aside(self.scope, tree, data)
    }

    fn aside(&mut self, scope: &Scope<'_>, tree: &Tree, data: &Value) -> Result<Vec<u8>, Fail> {
        let mut out = Vec::new();
        let mut recorder = self.session.options.trace.then(Recorder::default);
        // What was included so far belongs to the line outside.
        let before = std::mem::take(&mut self.session.nested);
        let reads = std::mem::take(&mut self.session.reads);
        let depth = std::mem::take(&mut self.session.depth);
        let within = self.session.within;
        if within >= self.session.options.limits.nesting {
            return Err(Fail::Limit(format!("templates are called by each other {within} deep; that is the limit")));
        }
        self.session.within += 1;
        let done = run(self.session, scope, tree, Held::bare(data.clone()), &mut out, recorder.as_mut());
        self.session.within -= 1;
        self.session.depth = depth;
        self.session.nested = before;
        self.session.reads = reads;
        done.map_err(|error| Fail::Nested { prefix: String::new(), error })?;
        if let Some(recorder) = recorder {
            self.session.nested.push(Rc::new(Traced { text: out.clone(), runs: recorder.runs }));
        }
        Ok(out)
    }

    fn tpl(&mut self, values: &[Value]) -> Result<Value, Fail> {
        let [Value::Str(text), data] = values else {
            return Err(Fail::from("tpl takes a text and data"));
        };
        let quoted = || crate::quote::quote(text.as_bytes(), false);
        // Nothing to carry out: the most common case in values.
        if memchr::memmem::find(text.as_bytes(), b"{{").is_none() {
            return Ok(Value::Str(unvalued(text.as_bytes().to_vec()).into()));
        }
        let parsed = self.session.parsed(text).map_err(|error| Fail::Nested {
            prefix: format!("cannot parse template {}: ", quoted()),
            error: Box::new(error),
        })?;
        // A definition without content does not take the place of one that has some.
        let own: Names<Arc<str>, Arc<Tree>> = parsed
            .trees
            .iter()
            .filter(|tree| !is_empty(&tree.body) || self.scope.find(tree.name.as_bytes()).is_none())
            .map(|tree| (tree.name.clone(), tree.clone()))
            .collect();
        let scope = Scope { own: &own, outer: Some(self.scope) };
        let Some(tree) = parsed.trees.first() else {
            return Ok(Value::str(""));
        };
        let done = self.aside(&scope, tree, data).map_err(|fail| match fail {
            Fail::Nested { prefix, error } => Fail::Nested {
                prefix: format!("error during tpl function execution for {}: {prefix}", quoted()),
                error,
            },
            other => other,
        })?;
        Ok(Value::str(unvalued(done)))
    }

    fn argument(&mut self, dot: &Held, param: Param, operand: &'t Operand) -> Run<Value> {
        self.at = At::Operand(operand);
        match &operand.term {
            Term::Dot => self.validate(dot.clone(), param),
            Term::Nil if param.takes_nil() => Ok(Value::Nil),
            Term::Nil => self.error(format!("cannot assign nil to {}", param.name())),
            Term::Field(_) | Term::Variable(_) | Term::Chain(..) => {
                let value = self.chained(dot, operand, None, None)?;
                self.validate(value, param)
            }
            Term::Pipe(pipe) => {
                let value = self.nest(|exec| exec.pipe(dot, pipe))?;
                self.validate(value, param)
            }
            Term::Function(function) => {
                let value = self.call(dot, function, At::Operand(operand), &[], None)?;
                self.validate(value, param)
            }
            Term::Bool(_) | Term::Number(_) | Term::String { .. } => self.literal(param, operand),
        }
    }

    fn literal(&mut self, param: Param, operand: &'t Operand) -> Run<Value> {
        let number = match &operand.term {
            Term::Number(number) => Some(number),
            _ => None,
        };
        let expected = match param {
            Param::Any | Param::Reflect => {
                return match &operand.term {
                    Term::Bool(b) => Ok(Value::Bool(*b)),
                    Term::String { text, .. } => Ok(Value::Str(text.clone())),
                    _ => self.ideal(operand),
                };
            }
            Param::Bool => match &operand.term {
                Term::Bool(b) => return Ok(Value::Bool(*b)),
                _ => "bool",
            },
            Param::Str => match &operand.term {
                Term::String { text, .. } => return Ok(Value::Str(text.clone())),
                _ => "string",
            },
            Param::Int => match number.and_then(|n| n.int) {
                Some(n) => return Ok(Value::int(n)),
                None => "integer",
            },
            Param::Uint32 => match number.and_then(|n| n.uint) {
                Some(n) => return Ok(Value::Uint(crate::value::UintKind::Uint32, n & 0xffff_ffff)),
                None => "unsigned integer",
            },
            Param::Float => match number.and_then(|n| n.float) {
                Some(f) => return Ok(Value::Float(f)),
                None => "float",
            },
            Param::List | Param::Map | Param::Time | Param::Certificate => {
                return self.error(format!("can't handle {operand} for arg of type {}", param.name()));
            }
        };
        self.error(format!("expected {expected}; found {operand}"))
    }

    fn validate(&mut self, held: Held, param: Param) -> Run<Value> {
        if held.value.is_nil() {
            if held.boxed && !matches!(param, Param::Any | Param::Reflect) {
                return self.error(format!("wrong type for value; expected {}; got interface {{}}", param.name()));
            }
            if !param.takes_nil() {
                return self.error(format!("invalid value; expected {}", param.name()));
            }
            return Ok(Value::Nil);
        }
        if param.takes(&held.value) {
            return Ok(held.value);
        }
        self.error(format!("wrong type for value; expected {}; got {}", param.name(), held.value.type_name()))
    }
}

fn paren(operand: &Operand) -> String {
    operand.to_string()
}

/// Takes out what Go prints for a value that is not there.
pub fn unvalued(text: Vec<u8>) -> Vec<u8> {
    const MARK: &[u8] = b"<no value>";
    if memchr::memmem::find(&text, MARK).is_none() {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(MARK) {
            at += MARK.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}
