//! The functions that templates may call: Go's own, Sprig's, Helm's.

pub mod builtin;
pub mod cast;
pub mod compare;
pub mod convert;
pub mod crypto;
pub mod date;
pub mod dict;
pub mod encode;
pub mod json;
pub mod list;
pub mod math;
pub mod path;
pub mod random;
pub mod regex;
pub mod text;
pub mod url;
pub mod version;

use std::sync::LazyLock;

use crate::{
    error::Error,
    render::Session,
    value::{Names, Param, Signature, Value},
};

/// Which functions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Only those of `text/template`.
    Go,
    /// Those that Helm 3 has.
    Helm3,
    /// Those that Helm 4 has.
    Helm4,
}

/// Why a function failed.
#[derive(Debug)]
pub enum Fail {
    /// What Go's error says.
    Message(String),
    /// `fail` or `required`.
    Raised { function: &'static str, message: String },
    /// A template that it called failed.
    Nested { prefix: String, error: Box<Error> },
    /// A bound was reached.
    Limit(String),
}

impl From<String> for Fail {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<&str> for Fail {
    fn from(message: &str) -> Self {
        Self::Message(message.to_owned())
    }
}

pub type Outcome = Result<Value, Fail>;

/// A function: number and types of the arguments are checked before it is called.
pub type Plain = fn(&mut Session<'_>, &[Value]) -> Outcome;

#[derive(Clone, Copy)]
pub enum Body {
    And,
    Or,
    Call,
    Include,
    Tpl,
    Plain(Plain),
}

pub struct Function {
    pub name: &'static str,
    pub family: Family,
    pub signature: Signature,
    /// Whether it draws from the seed.
    pub random: bool,
    pub body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A function of Helm with a fixed number of arguments.
const fn fixed(name: &'static str, params: &'static [Param], body: Plain) -> Function {
    Function { name, family: Family::Helm3, signature: Signature::new(params), random: false, body: Body::Plain(body) }
}

/// One that takes any number of further arguments.
const fn open(name: &'static str, params: &'static [Param], rest: Param, body: Plain) -> Function {
    Function {
        name,
        family: Family::Helm3,
        signature: Signature { params, rest: Some(rest) },
        random: false,
        body: Body::Plain(body),
    }
}

impl Function {
    const fn of(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    const fn drawing(mut self) -> Self {
        self.random = true;
        self
    }
}

static TABLES: [&[Function]; 14] = [
    builtin::TABLE,
    text::TABLE,
    list::TABLE,
    dict::TABLE,
    math::TABLE,
    convert::TABLE,
    date::TABLE,
    version::TABLE,
    crypto::TABLE,
    regex::TABLE,
    json::TABLE,
    path::TABLE,
    random::TABLE,
    url::TABLE,
];

type Index = Names<&'static str, &'static Function>;

/// Each is made when it is first asked for: hardly a program has use for more than one.
static INDEX: [LazyLock<Index>; 3] = [
    LazyLock::new(|| index(Family::Go)),
    LazyLock::new(|| index(Family::Helm3)),
    LazyLock::new(|| index(Family::Helm4)),
];

fn index(family: Family) -> Index {
    let mut index = Index::default();
    // Go's own come first, so that Sprig's `slice` takes the place of Go's.
    for function in TABLES.iter().flat_map(|table| table.iter()).filter(|f| f.family <= family) {
        index.insert(function.name, function);
    }
    index
}

/// The function of that name.
pub fn find(family: Family, name: &str) -> Option<&'static Function> {
    INDEX[family as usize].get(name).copied()
}

/// All names of a family, in order.
pub fn names(family: Family) -> Vec<&'static str> {
    let mut names: Vec<&str> = INDEX[family as usize].keys().copied().collect();
    names.sort_unstable();
    names
}

/// A string argument; the signature has made sure that it is one.
pub(crate) fn bytes(values: &[Value], at: usize) -> &[u8] {
    match values.get(at) {
        Some(Value::Str(text)) => text.as_bytes(),
        _ => b"",
    }
}

/// The same as text.
pub(crate) fn string(values: &[Value], at: usize) -> std::borrow::Cow<'_, str> {
    crate::value::lossy(bytes(values, at))
}

/// An `int` argument.
pub(crate) fn int(values: &[Value], at: usize) -> i64 {
    match values.get(at) {
        Some(Value::Int(_, n)) => *n,
        _ => 0,
    }
}

/// The error of Go's runtime for an index beyond a slice of a string or list.
pub(crate) fn out_of_range(index: i64, length: usize) -> Fail {
    Fail::Message(format!("runtime error: slice bounds out of range [:{index}] with length {length}"))
}
