//! Template texts to [`Tree`]s.

use std::sync::Arc;

use crate::{
    error::{Error, Place},
    functions::{self, Family},
    lex::{Kind, Lexer, Token},
    number::Number,
    quote::{quote_str, unquote},
    tree::{Branch, Command, Invocation, Node, Operand, Pipe, Source, Term, Tree, Variable, is_empty},
    value::Text,
};

/// Parentheses in parentheses and blocks in blocks, at most.
const MOST_NESTING: usize = 500;

/// A slot that never holds a variable.
pub const NO_SLOT: usize = usize::MAX;

/// What one text defines: itself first, then its `define`s.
#[derive(Debug)]
pub struct Parsed {
    pub trees: Vec<Arc<Tree>>,
}

impl Parsed {
    /// The same text under another name.
    pub fn named(&self, name: &str) -> Self {
        let old = &self.trees[0].source;
        let source = Arc::new(Source { name: name.into(), lines: old.lines.clone() });
        let renamed = |tree: &Arc<Tree>| {
            let name = if tree.name == old.name { source.name.clone() } else { tree.name.clone() };
            Arc::new(Tree { name, source: source.clone(), ..Tree::clone(tree) })
        };
        Self { trees: self.trees.iter().map(renamed).collect() }
    }
}

/// Parses a text.
pub fn parse(name: &str, text: &str, family: Family) -> Result<Parsed, Error> {
    parse_with(name, text, family, "{{", "}}")
}

/// Parses a text with other delimiters; empty ones are the usual ones.
pub fn parse_with(name: &str, text: &str, family: Family, left: &str, right: &str) -> Result<Parsed, Error> {
    let left = if left.is_empty() { "{{" } else { left };
    let right = if right.is_empty() { "}}" } else { right };
    let mut parser = Parser {
        lexer: Lexer::new(text, left, right),
        source: Arc::new(Source::new(name, text)),
        family,
        tokens: [Token::start(), Token::start(), Token::start()],
        peeked: 0,
        trees: Vec::new(),
        scope: Scope::new(),
        nesting: 0,
        nodes: Vec::new(),
        operands: Vec::new(),
    };
    let body = parser.top()?;
    parser.add(name, body)?;
    // The text itself is last; it comes first for whoever runs it.
    parser.trees.sort_by_key(|tree| *tree.name != *name);
    Ok(Parsed { trees: parser.trees })
}

/// What belongs to one template of a text.
struct Scope<'t> {
    vars: Vec<Var<'t>>,
    most: usize,
    ranges: usize,
    action_line: usize,
}

struct Var<'t> {
    name: &'t str,
    slot: usize,
    /// A variable can be used by its own pipeline only if there is another of that name.
    live: bool,
}

impl Scope<'_> {
    fn new() -> Self {
        Self { vars: vec![Var { name: "$", slot: 0, live: true }], most: 1, ranges: 0, action_line: 0 }
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    source: Arc<Source>,
    family: Family,
    tokens: [Token<'t>; 3],
    peeked: usize,
    trees: Vec<Arc<Tree>>,
    scope: Scope<'t>,
    nesting: usize,
    /// Of lists and commands that are not at their end: how long they get is known only there, and then they are as long as they are.
    nodes: Vec<Node>,
    operands: Vec<Operand>,
}

/// How a list of nodes ended.
enum End {
    End,
    Else,
}

impl End {
    fn text(&self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Ended(End),
}

type Parse<T> = Result<T, Error>;

impl<'t> Parser<'t> {
    fn next(&mut self) -> Token<'t> {
        if self.peeked > 0 {
            self.peeked -= 1;
        } else {
            self.tokens[0] = self.lexer.next_token();
        }
        self.tokens[self.peeked]
    }

    fn backup(&mut self) {
        self.peeked += 1;
    }

    fn peek(&mut self) -> Token<'t> {
        if self.peeked == 0 {
            self.peeked = 1;
            self.tokens[0] = self.lexer.next_token();
        }
        self.tokens[self.peeked - 1]
    }

    fn peek_kind(&mut self) -> Kind {
        if self.peeked == 0 {
            self.peeked = 1;
            self.tokens[0] = self.lexer.next_token();
        }
        self.tokens[self.peeked - 1].kind
    }

    fn next_non_space(&mut self) -> Token<'t> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token<'t> {
        let token = self.next_non_space();
        self.backup();
        token
    }

    fn error<T>(&self, message: impl Into<String>) -> Parse<T> {
        let place = Place { file: self.source.name.to_string(), line: self.tokens[0].line, column: None };
        Err(Error::Parse { place: Box::new(place), message: message.into() })
    }

    fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Parse<T> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {token} in {context}"));
        }
        let mut extra = String::new();
        if self.scope.action_line != 0 && self.scope.action_line != token.line {
            extra = format!(" in action started at {}:{}", self.source.name, self.scope.action_line);
            if self.lexer.wrong.ends_with(" action") {
                extra = extra[" in action".len()..].to_owned();
            }
        }
        self.error(format!("{}{extra}", self.lexer.wrong))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parse<Token<'t>> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn deeper<T>(&mut self, what: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.nesting >= MOST_NESTING {
            return self.error("max expression depth exceeded");
        }
        self.nesting += 1;
        let done = stacker::maybe_grow(128 << 10, 1 << 20, || what(self));
        self.nesting -= 1;
        done
    }

    /// Everything outside of `define`.
    fn top(&mut self) -> Parse<Vec<Node>> {
        let mut body = Vec::new();
        while self.peek_kind() != Kind::Eof {
            if self.peek_kind() == Kind::LeftDelim {
                let delim = self.next();
                if self.next_non_space().kind == Kind::Define {
                    self.definition()?;
                    continue;
                }
                self.tokens[1] = delim;
                self.peeked = 2;
            }
            match self.text_or_action()? {
                Item::Node(node) => body.push(node),
                Item::Ended(end) => return self.error(format!("unexpected {}", end.text())),
            }
        }
        Ok(body)
    }

    fn definition(&mut self) -> Parse<()> {
        const CONTEXT: &str = "define clause";
        let outer = std::mem::replace(&mut self.scope, Scope::new());
        let token = self.next_non_space();
        let name = self.template_name(&token, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        let body = self.whole(CONTEXT)?;
        self.add(&name, body)?;
        self.scope = outer;
        Ok(())
    }

    /// A list that must end with `end`.
    fn whole(&mut self, context: &str) -> Parse<Vec<Node>> {
        match self.items()? {
            (body, End::End) => Ok(body),
            (_, end) => self.error(format!("unexpected {} in {context}", end.text())),
        }
    }

    fn add(&mut self, name: &str, body: Vec<Node>) -> Parse<()> {
        let tree = |body: Vec<Node>| {
            Arc::new(Tree { name: name.into(), source: self.source.clone(), body: body.into(), slots: self.scope.most })
        };
        let known = self.trees.iter().position(|tree| *tree.name == *name);
        match known {
            None => self.trees.push(tree(body)),
            Some(at) if is_empty(&self.trees[at].body) => self.trees[at] = tree(body),
            Some(_) if is_empty(&body) => {}
            Some(_) => {
                return self.error(format!("template: multiple definition of template {}", quote_str(name)));
            }
        }
        Ok(())
    }

    fn items(&mut self) -> Parse<(Vec<Node>, End)> {
        let before = self.nodes.len();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => self.nodes.push(node),
                Item::Ended(end) => return Ok((self.nodes.drain(before..).collect(), end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parse<Item> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(Text::from(token.text), token.pos))),
            Kind::LeftDelim => {
                self.scope.action_line = token.line;
                let item = self.action();
                if item.is_ok() {
                    self.scope.action_line = 0;
                }
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parse<Item> {
        let token = self.next_non_space();
        Ok(Item::Node(match token.kind {
            Kind::Block => self.block()?,
            Kind::Break | Kind::Continue => {
                let name = if token.kind == Kind::Break { "{{break}}" } else { "{{continue}}" };
                let next = self.next_non_space();
                if next.kind != Kind::RightDelim {
                    return self.unexpected(&next, name);
                }
                if self.scope.ranges == 0 {
                    return self.error(format!("{name} outside {{{{range}}}}"));
                }
                if token.kind == Kind::Break { Node::Break } else { Node::Continue }
            }
            Kind::Else => {
                let peek = self.peek_non_space();
                if matches!(peek.kind, Kind::If | Kind::With) {
                    return Ok(Item::Ended(End::Else));
                }
                self.expect(Kind::RightDelim, "else")?;
                return Ok(Item::Ended(End::Else));
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Ended(End::End));
            }
            Kind::If => Node::If(self.control("if")?),
            Kind::Range => Node::Range(self.control("range")?),
            Kind::With => Node::With(self.control("with")?),
            Kind::Template => {
                const CONTEXT: &str = "template clause";
                let token = self.next_non_space();
                let name = self.template_name(&token, CONTEXT)?;
                let mut pipe = None;
                if self.next_non_space().kind != Kind::RightDelim {
                    self.backup();
                    pipe = Some(self.pipeline(CONTEXT, Kind::RightDelim)?);
                }
                Node::Template(Invocation { pos: token.pos, name: name.into(), pipe })
            }
            _ => {
                self.backup();
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        }))
    }

    fn block(&mut self) -> Parse<Node> {
        const CONTEXT: &str = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
        let outer = std::mem::replace(&mut self.scope, Scope::new());
        let body = self.deeper(|parser| parser.whole(CONTEXT))?;
        self.add(&name, body)?;
        self.scope = outer;
        Ok(Node::Template(Invocation { pos: token.pos, name: name.into(), pipe: Some(pipe) }))
    }

    fn template_name(&mut self, token: &Token<'_>, context: &str) -> Parse<String> {
        match token.kind {
            Kind::String | Kind::RawString => self.unquoted(token),
            _ => self.unexpected(token, context),
        }
    }

    fn unquoted(&self, token: &Token<'_>) -> Parse<String> {
        match unquote(token.text.as_bytes()) {
            Some(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            None => self.error("invalid syntax"),
        }
    }

    fn control(&mut self, context: &str) -> Parse<Branch> {
        self.deeper(|parser| {
            let vars = parser.scope.vars.len();
            let pipe = parser.pipeline(context, Kind::RightDelim)?;
            parser.scope.ranges += usize::from(context == "range");
            let (body, end) = parser.items()?;
            parser.scope.ranges -= usize::from(context == "range");
            let mut otherwise = None;
            if let End::Else = end {
                let next = parser.peek_kind();
                if context == "if" && next == Kind::If {
                    parser.next();
                    otherwise = Some(vec![Node::If(parser.control("if")?)]);
                } else if context == "with" && next == Kind::With {
                    parser.next();
                    otherwise = Some(vec![Node::With(parser.control("with")?)]);
                } else {
                    let (body, end) = parser.items()?;
                    if let End::Else = end {
                        return parser.error("expected end; found {{else}}");
                    }
                    otherwise = Some(body);
                }
            }
            parser.scope.vars.truncate(vars);
            Ok(Branch { pipe, body, otherwise })
        })
    }

    /// Makes room for a variable, or finds the one that is assigned.
    fn declare(&mut self, token: &Token<'t>, assign: bool) -> Variable {
        let slot = if assign {
            self.slot(token.text)
        } else {
            let declared = self.scope.vars.iter().filter(|v| v.slot != NO_SLOT);
            let slot = declared.map(|v| v.slot + 1).max().unwrap_or(0);
            self.scope.most = self.scope.most.max(slot + 1);
            slot
        };
        self.scope.vars.push(Var { name: token.text, slot, live: assign });
        Variable { slot, idents: vec![Text::from(token.text)] }
    }

    fn slot(&self, name: &str) -> usize {
        self.scope.vars.iter().rev().find(|v| v.live && v.name == name).map_or(NO_SLOT, |v| v.slot)
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parse<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, assign: false, decl: Vec::new(), commands: Vec::with_capacity(1) };
        let mut names: Vec<Token<'t>> = Vec::new();
        let first_var = self.scope.vars.len();
        loop {
            let v = self.peek_non_space();
            if v.kind != Kind::Variable {
                break;
            }
            self.next();
            let adjacent = self.peek();
            let next = self.peek_non_space();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assign = next.kind == Kind::Assign;
                    self.next_non_space();
                    names.push(v);
                }
                Kind::Char if next.text == "," => {
                    self.next_non_space();
                    names.push(v);
                    if context != "range" || names.len() >= 2 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    match self.peek_non_space().kind {
                        Kind::Variable | Kind::RightDelim | Kind::RightParen => continue,
                        _ => return self.error("range can only initialize variables"),
                    }
                }
                _ if adjacent.kind == Kind::Space => {
                    self.tokens[1] = adjacent;
                    self.tokens[2] = v;
                    self.peeked = 3;
                }
                _ => {
                    self.tokens[1] = v;
                    self.peeked = 2;
                }
            }
            break;
        }
        for name in &names {
            let variable = self.declare(name, pipe.assign);
            pipe.decl.push(variable);
        }
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.backup();
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        self.scope.vars[first_var..].iter_mut().for_each(|v| v.live = true);
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::String { .. } = command.args[0].term
            {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(pipe)
    }

    fn command(&mut self) -> Parse<Command> {
        let pos = self.peek_non_space().pos;
        let before = self.operands.len();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                self.operands.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.backup(),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if self.operands.len() == before {
            return self.error("empty command");
        }
        Ok(Command { pos, args: self.operands.drain(before..).collect() })
    }

    fn operand(&mut self) -> Parse<Option<Operand>> {
        let Some(mut node) = self.term()? else {
            return Ok(None);
        };
        if self.peek_kind() != Kind::Field {
            return Ok(Some(node));
        }
        let pos = self.peek().pos;
        match &mut node.term {
            // Go gives the whole chain the place of its second field; error messages show it.
            Term::Field(idents) | Term::Variable(Variable { idents, .. }) => self.fields(idents),
            Term::Bool(_) | Term::String { .. } | Term::Number(_) | Term::Nil | Term::Dot => {
                self.fields(&mut Vec::new());
                return self.error(format!("unexpected . after term {}", quote_str(&node.to_string())));
            }
            _ => {
                let mut fields = Vec::new();
                self.fields(&mut fields);
                return Ok(Some(Operand { pos, term: Term::Chain(Box::new(node), fields) }));
            }
        }
        node.pos = pos;
        Ok(Some(node))
    }

    fn fields(&mut self, into: &mut Vec<Text>) {
        while self.peek_kind() == Kind::Field {
            let field = Text::from(&self.next().text[1..]);
            into.push(field);
        }
    }

    fn term(&mut self) -> Parse<Option<Operand>> {
        let token = self.next_non_space();
        let pos = token.pos;
        let term = match token.kind {
            Kind::Identifier => match functions::find(self.family, token.text) {
                Some(function) => Term::Function(function),
                None => return self.error(format!("function {} not defined", quote_str(token.text))),
            },
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable => {
                if !self.scope.vars.iter().any(|v| v.name == token.text) {
                    return self.error(format!("undefined variable {}", quote_str(token.text)));
                }
                let slot = self.slot(token.text);
                Term::Variable(Variable { slot, idents: vec![Text::from(token.text)] })
            }
            Kind::Field => {
                // Most have a few behind them.
                let mut idents = Vec::with_capacity(3);
                idents.push(Text::from(&token.text[1..]));
                Term::Field(idents)
            }
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => {
                let number = match token.kind {
                    Kind::CharConstant => Number::from_char(token.text),
                    kind => Number::parse(token.text, kind == Kind::Complex),
                };
                match number {
                    Ok(number) => Term::Number(Box::new(number)),
                    Err(message) => return self.error(message),
                }
            }
            Kind::LeftParen => {
                let pipe = self.deeper(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParen))?;
                return Ok(Some(Operand { pos: pipe.pos, term: Term::Pipe(Box::new(pipe)) }));
            }
            Kind::String | Kind::RawString => match unquote(token.text.as_bytes()) {
                Some(bytes) => Term::String { quoted: token.text.into(), text: Text::from(&*bytes) },
                None => return self.error("invalid syntax"),
            },
            _ => {
                self.backup();
                return Ok(None);
            }
        };
        Ok(Some(Operand { pos, term }))
    }
}
