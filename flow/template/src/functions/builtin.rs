//! The functions of `text/template` itself, and Helm's that carry templates out.

use super::{Body, Fail, Family, Function, Outcome, Plain, bytes, compare, fixed, string};
use crate::{
    printf,
    quote::is_print,
    render::Session,
    value::{MapType, Param, Signature, UintKind, Value},
};

use Param::{Any, Reflect, Str};

const fn go(name: &'static str, params: &'static [Param], rest: Option<Param>, body: Plain) -> Function {
    special(name, Family::Go, params, rest, Body::Plain(body))
}

const fn special(
    name: &'static str,
    family: Family,
    params: &'static [Param],
    rest: Option<Param>,
    body: Body,
) -> Function {
    Function { name, family, signature: Signature { params, rest }, random: false, body }
}

pub const TABLE: &[Function] = &[
    special("and", Family::Go, &[Reflect], Some(Reflect), Body::And),
    special("or", Family::Go, &[Reflect], Some(Reflect), Body::Or),
    special("call", Family::Go, &[Reflect], Some(Reflect), Body::Call),
    go("not", &[Reflect], None, |_, v| Ok(Value::Bool(!v[0].truth()))),
    go("eq", &[Reflect], Some(Reflect), |_, v| compare::equal(&v[0], &v[1..]).map(Value::Bool)),
    go("ne", &[Reflect, Reflect], None, |_, v| compare::equal(&v[0], &v[1..]).map(|same| Value::Bool(!same))),
    go("lt", &[Reflect, Reflect], None, |_, v| compare::less(&v[0], &v[1]).map(Value::Bool)),
    go("le", &[Reflect, Reflect], None, |_, v| less_or_equal(v).map(Value::Bool)),
    go("gt", &[Reflect, Reflect], None, |_, v| less_or_equal(v).map(|le| Value::Bool(!le))),
    go("ge", &[Reflect, Reflect], None, |_, v| compare::less(&v[0], &v[1]).map(|lt| Value::Bool(!lt))),
    go("len", &[Reflect], None, length),
    go("index", &[Reflect], Some(Reflect), index),
    go("slice", &[Reflect], Some(Reflect), slice),
    go("print", &[], Some(Any), |_, v| Ok(Value::Str(printf::sprint(v)))),
    go("println", &[], Some(Any), |_, v| Ok(Value::Str(printf::sprintln(v)))),
    go("printf", &[Str], Some(Any), |_, v| Ok(Value::Str(printf::sprintf(bytes(v, 0), &v[1..])))),
    go("html", &[], Some(Any), |_, v| Ok(Value::str(html(shown(v).as_bytes())))),
    go("js", &[], Some(Any), |_, v| Ok(Value::str(js(shown(v).as_bytes())))),
    go("urlquery", &[], Some(Any), |_, v| Ok(Value::str(super::url::query_escape(shown(v).as_bytes())))),
    special("include", Family::Helm3, &[Str, Any], None, Body::Include),
    special("tpl", Family::Helm3, &[Str, Any], None, Body::Tpl),
    fixed("required", &[Str, Any], required),
    fixed("fail", &[Str], fail),
    fixed("lookup", &[Str, Str, Str, Str], |session, v| {
        let hooks = session.hooks;
        Ok(hooks.lookup(&string(v, 0), &string(v, 1), &string(v, 2), &string(v, 3))?)
    }),
    fixed("getHostByName", &[Str], |session, v| {
        let hooks = session.hooks;
        Ok(Value::str(hooks.host(&string(v, 0))?))
    }),
    fixed("hello", &[], |_, _| Ok(Value::str("Hello!"))),
];

fn less_or_equal(v: &[Value]) -> Result<bool, Fail> {
    Ok(compare::less(&v[0], &v[1])? || compare::equal(&v[0], &v[1..])?)
}

/// Arguments as one text, where what is not there is `<no value>`.
fn shown(values: &[Value]) -> crate::value::Text {
    let values: Vec<Value> =
        values.iter().map(|v| if v.is_nil() { Value::str("<no value>") } else { v.clone() }).collect();
    printf::sprint(&values)
}

fn length(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    Ok(Value::int(match v[0].plain() {
        Value::Str(t) | Value::Bytes(t) => t.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Nil => return Err(Fail::from("len of nil pointer")),
        other => return Err(Fail::Message(format!("len of type {}", other.type_name()))),
    } as i64))
}

fn position(index: &Value, most: usize) -> Result<usize, Fail> {
    let n = match index {
        Value::Int(_, n) => *n,
        Value::Uint(_, n) => *n as i64,
        Value::Nil => return Err(Fail::from("cannot index slice/array with nil")),
        other => return Err(Fail::Message(format!("cannot index slice/array with type {}", other.type_name()))),
    };
    match usize::try_from(n) {
        Ok(at) if at <= most => Ok(at),
        _ => Err(Fail::Message(format!("index out of range: {n}"))),
    }
}

fn index(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    let mut item = v[0].clone();
    if item.is_nil() {
        return Err(Fail::from("index of untyped nil"));
    }
    let beyond = |at: usize, what: &str| {
        Fail::Message(format!("reflect: {what} index out of range{}", if at == usize::MAX { " " } else { "" }))
    };
    for index in &v[1..] {
        item = match item.plain() {
            Value::Str(text) => {
                let at = position(index, text.len())?;
                let byte = text.as_bytes().get(at).ok_or_else(|| beyond(at, "string"))?;
                Value::Uint(UintKind::Uint8, u64::from(*byte))
            }
            Value::Bytes(text) => {
                let at = position(index, text.len())?;
                let byte = text.as_bytes().get(at).ok_or_else(|| beyond(at, "slice"))?;
                Value::Uint(UintKind::Uint8, u64::from(*byte))
            }
            Value::List(list) => {
                let at = position(index, list.len())?;
                list.get(at).cloned().ok_or_else(|| beyond(at, "slice"))?
            }
            Value::Map(map) => match index {
                Value::Str(key) => map.get(key).unwrap_or_else(|| match map.kind() {
                    MapType::Str => Value::str(""),
                    _ => Value::Nil,
                }),
                Value::Nil => return Err(Fail::from("value is nil; should be of type string")),
                other => {
                    return Err(Fail::Message(format!("value has type {}; should be string", other.type_name())));
                }
            },
            Value::Nil => return Err(Fail::from("index of nil pointer")),
            other => return Err(Fail::Message(format!("can't index item of type {}", other.type_name()))),
        };
    }
    Ok(item)
}

fn slice(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    let item = v[0].plain();
    if item.is_nil() {
        return Err(Fail::from("slice of untyped nil"));
    }
    let indexes = &v[1..];
    if indexes.len() > 3 {
        return Err(Fail::Message(format!("too many slice indexes: {}", indexes.len())));
    }
    let length = match &item {
        Value::Str(_) if indexes.len() == 3 => return Err(Fail::from("cannot 3-index slice a string")),
        Value::Str(text) | Value::Bytes(text) => text.len(),
        Value::List(list) => list.len(),
        other => return Err(Fail::Message(format!("can't slice item of type {}", other.type_name()))),
    };
    let mut at = [0, length, length];
    for (i, index) in indexes.iter().enumerate() {
        at[i] = position(index, length)?;
    }
    for (low, high) in [(at[0], at[1]), (at[1], at[2])] {
        if low > high {
            return Err(Fail::Message(format!("invalid slice index: {low} > {high}")));
        }
    }
    Ok(match item {
        Value::Str(text) => Value::str(&text.as_bytes()[at[0]..at[1]]),
        Value::Bytes(text) => Value::Bytes(text.as_bytes()[at[0]..at[1]].into()),
        Value::List(list) => Value::List(crate::value::List::of(list.element(), list[at[0]..at[1]].to_vec())),
        other => other,
    })
}

fn html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for b in text {
        match b {
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b => out.push(*b),
        }
    }
    out
}

fn js(text: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\'' => out.push_str("\\'"),
                '"' => out.push_str("\\\""),
                '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
                c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
                c if c.is_ascii() || is_print(c) => out.push(c),
                c => out.push_str(&format!("\\u{:04X}", c as u32)),
            }
        }
        chunk.invalid().iter().for_each(|_| out.push_str("\\uFFFD"));
    }
    out.into_bytes()
}

fn required(session: &mut Session<'_>, v: &[Value]) -> Outcome {
    let missing = v[1].is_nil() || matches!(&v[1], Value::Str(text) if text.is_empty());
    match (missing, session.options.lint) {
        (false, _) => Ok(v[1].clone()),
        (true, true) => Ok(Value::str("")),
        (true, false) => Err(Fail::Raised { function: "required", message: string(v, 0).into_owned() }),
    }
}

fn fail(session: &mut Session<'_>, v: &[Value]) -> Outcome {
    if session.options.lint {
        return Ok(Value::str(""));
    }
    Err(Fail::Raised { function: "fail", message: string(v, 0).into_owned() })
}
