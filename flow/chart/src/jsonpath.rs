//! The JSONPath of `kubectl` and of `helm show values --jsonpath`: text with expressions in braces.
//!
//! As there, what is not found gives nothing, and so does an index that is out of bounds. Unlike there, numbers in filters are compared
//! as numbers, and names in brackets may hold dots and blanks.

mod parse;

use yaml::Value;

use parse::{Compare, Operand, Part, Piece};

/// Lists and maps in each other, and parts of one path.
const DEEPEST: usize = 200;
/// Values that one expression may find.
const MOST: usize = 1_000_000;

/// A parsed template.
#[derive(Debug)]
pub struct JsonPath(Vec<Piece>);

impl JsonPath {
    /// Parses a template; the error is what `helm` says after `error parsing jsonpath TEXT: `.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::pieces(text).map(Self)
    }

    /// What the template makes of a value.
    pub fn print(&self, value: &Value) -> String {
        let mut out = String::new();
        print(&self.0, value, &mut out);
        out
    }
}

fn print(pieces: &[Piece], at: &Value, out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(parts) => {
                let found: Vec<String> = find(parts, vec![at]).into_iter().map(text).collect();
                out.push_str(&found.join(" "));
            }
            Piece::Range(parts, inside) => {
                find(parts, vec![at]).into_iter().for_each(|value| print(inside, value, out))
            }
        }
    }
}

/// Texts as they are, numbers as Go prints them, everything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Int(n) => yaml::go_float(*n as f64),
        Value::Uint(n) => yaml::go_float(*n as f64),
        Value::Float(f) => yaml::go_float(*f),
        value => yaml::to_json(value),
    }
}

fn find<'v>(parts: &[Part], mut found: Vec<&'v Value>) -> Vec<&'v Value> {
    for part in parts {
        let mut next = Vec::new();
        for value in found {
            step(part, value, &mut next);
            if next.len() > MOST {
                return Vec::new();
            }
        }
        found = next;
    }
    found
}

fn step<'v>(part: &Part, value: &'v Value, out: &mut Vec<&'v Value>) {
    match part {
        Part::Field(name) => out.extend(value.get(name)),
        Part::Every => match value {
            Value::List(list) => out.extend(list),
            Value::Map(map) => out.extend(sorted(map)),
            _ => {}
        },
        Part::Below => below(value, out, 0),
        Part::Union(parts) => parts.iter().for_each(|part| step(part, value, out)),
        Part::Slice { from, to, step } => {
            let Some(list) = value.as_list() else { return };
            let length = list.len() as i64;
            let real = |at: i64| if at < 0 { at + length } else { at };
            let (from, to) = (real(from.unwrap_or(0)), real(to.unwrap_or(length)));
            if from < 0 || to > length || from > to || *step < 1 {
                return;
            }
            let chosen = list[from as usize..to as usize].iter();
            out.extend(chosen.step_by(usize::try_from(*step).unwrap_or(usize::MAX)));
        }
        Part::Index(at) => {
            let Some(list) = value.as_list() else { return };
            let at = if *at < 0 { at + list.len() as i64 } else { *at };
            out.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
        }
        Part::Filter(left, compare) => {
            let fits = |item: &&Value| {
                let side = |operand: &Operand| match operand {
                    Operand::Path(parts) => find(parts, vec![*item]).first().map(|value| (*value).clone()),
                    Operand::Literal(value) => Some(value.clone()),
                };
                match (compare, side(left)) {
                    (None, found) => found.is_some(),
                    (Some((compare, right)), Some(left)) => {
                        side(right).is_some_and(|right| compared(&left, *compare, &right))
                    }
                    (Some(_), None) => false,
                }
            };
            out.extend(value.as_list().unwrap_or_default().iter().filter(fits));
        }
    }
}

fn compared(left: &Value, compare: Compare, right: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        Value::Float(f) => Some(*f),
        _ => None,
    };
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => (left == right).then_some(Equal).or(Some(Less)),
        (left, right) => number(left).zip(number(right)).and_then(|(left, right)| left.partial_cmp(&right)),
    };
    let Some(order) = order else { return false };
    match compare {
        Compare::Equal => order == Equal,
        Compare::Unequal => order != Equal,
        Compare::Less => order == Less,
        Compare::Most => order != Greater,
        Compare::Greater => order == Greater,
        Compare::Least => order != Less,
    }
}

/// The value and everything in it, whatever holds it before what is held.
fn below<'v>(value: &'v Value, out: &mut Vec<&'v Value>, depth: usize) {
    if depth > DEEPEST || out.len() > MOST {
        return;
    }
    out.push(value);
    match value {
        Value::List(list) => list.iter().for_each(|value| below(value, out, depth + 1)),
        Value::Map(map) => sorted(map).into_iter().for_each(|value| below(value, out, depth + 1)),
        _ => {}
    }
}

/// The values by the order of their keys.
fn sorted(map: &yaml::Map) -> Vec<&Value> {
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs.into_iter().map(|(_, value)| value).collect()
}
