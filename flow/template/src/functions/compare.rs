//! Go templates' comparison, and `reflect.DeepEqual`.

use super::Fail;
use crate::value::Value;

#[derive(Clone, Copy, PartialEq)]
enum Basic {
    Invalid,
    Bool,
    Complex,
    Int,
    Float,
    Str,
    Uint,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Complex(..) => Basic::Complex,
        Value::Int(..) => Basic::Int,
        Value::Float(_) => Basic::Float,
        Value::Str(_) => Basic::Str,
        Value::Uint(..) => Basic::Uint,
        _ => Basic::Invalid,
    }
}

fn incompatible(a: &Value, b: &Value) -> Fail {
    Fail::Message(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()))
}

/// `eq a b c …`: whether the first equals one of the others.
pub fn equal(first: &Value, others: &[Value]) -> Result<bool, Fail> {
    if others.is_empty() {
        return Err(Fail::from("missing argument for comparison"));
    }
    for other in others {
        let same = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Complex(a, b), Value::Complex(c, d)) => a == c && b == d,
            (Value::Int(_, a), Value::Int(_, b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Uint(_, a), Value::Uint(_, b)) => a == b,
            (Value::Int(_, a), Value::Uint(_, b)) | (Value::Uint(_, b), Value::Int(_, a)) => {
                u64::try_from(*a) == Ok(*b)
            }
            _ if basic(first) != basic(other) => {
                if !first.is_nil() && !other.is_nil() {
                    return Err(incompatible(first, other));
                }
                false
            }
            _ => {
                if first.is_nil() || other.is_nil() {
                    first.is_nil() == other.is_nil()
                } else if first.kind_name() != other.kind_name() {
                    let show = crate::printf::plain;
                    return Err(Fail::Message(format!(
                        "non-comparable types {}: {}, {}: {}",
                        show(first),
                        first.type_name(),
                        other.type_name(),
                        show(other)
                    )));
                } else if matches!(other.kind_name(), "slice" | "map") {
                    let nil = |v: &Value| matches!(v, Value::List(l) if l.is_nil());
                    if nil(first) || nil(other) {
                        nil(first) == nil(other)
                    } else {
                        let text = crate::printf::plain(other);
                        return Err(Fail::Message(format!("non-comparable type {text}: {}", other.type_name())));
                    }
                } else {
                    deep(first, other, 0, &mut 1_000_000)
                }
            }
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `lt a b`.
pub fn less(a: &Value, b: &Value) -> Result<bool, Fail> {
    let bad = || Fail::from("invalid type for comparison");
    if basic(a) == Basic::Invalid || basic(b) == Basic::Invalid {
        return Err(bad());
    }
    Ok(match (a, b) {
        (Value::Int(_, a), Value::Int(_, b)) => a < b,
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Str(a), Value::Str(b)) => a < b,
        (Value::Uint(_, a), Value::Uint(_, b)) => a < b,
        (Value::Int(_, a), Value::Uint(_, b)) => *a < 0 || (*a as u64) < *b,
        (Value::Uint(_, a), Value::Int(_, b)) => *b >= 0 && *a < (*b as u64),
        _ if basic(a) != basic(b) => return Err(incompatible(a, b)),
        _ => return Err(bad()),
    })
}

/// `reflect.DeepEqual`: same types all the way down. `budget` bounds the values looked at.
pub fn deep(a: &Value, b: &Value, depth: usize, budget: &mut u64) -> bool {
    if depth > 500 || *budget == 0 {
        return false;
    }
    *budget -= 1;
    match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(k, a), Value::Int(l, b)) => k == l && a == b,
        (Value::Uint(k, a), Value::Uint(l, b)) => k == l && a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Complex(a, b), Value::Complex(c, d)) => a == c && b == d,
        (Value::Str(a), Value::Str(b)) | (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.element() == b.element()
                && a.is_nil() == b.is_nil()
                && a.len() == b.len()
                && (a.same(b) || a.iter().zip(b.iter()).all(|(a, b)| deep(a, b, depth + 1, budget)))
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.same(b) {
                return true;
            }
            let (x, y) = (a.pairs(), b.pairs());
            a.kind() == b.kind()
                && x.len() == y.len()
                && x.iter().zip(&y).all(|((k, v), (l, w))| k == l && deep(v, w, depth + 1, budget))
        }
        (Value::Object(a), Value::Object(b)) => {
            std::rc::Rc::ptr_eq(a, b)
                || (a.type_name() == b.type_name() && a.string() == b.string() && {
                    let (x, y) = (a.fields(), b.fields());
                    x.len() == y.len() && x.iter().zip(&y).all(|((_, v), (_, w))| deep(v, w, depth + 1, budget))
                })
        }
        _ => false,
    }
}
