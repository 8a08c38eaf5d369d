//! Lists.

use super::{Fail, Function, Outcome, cast, compare, fixed, int, open};
use crate::{
    render::Session,
    value::{Element, List, Param, UintKind, Value},
};

use Param::{Any, Int};

pub const TABLE: &[Function] = &[
    open("list", &[], Any, |_, v| Ok(Value::list(v.to_vec()))),
    open("tuple", &[], Any, |_, v| Ok(Value::list(v.to_vec()))),
    fixed("append", &[Any, Any], push),
    fixed("push", &[Any, Any], push),
    fixed("mustAppend", &[Any, Any], push),
    fixed("mustPush", &[Any, Any], push),
    fixed("prepend", &[Any, Any], prepend),
    fixed("mustPrepend", &[Any, Any], prepend),
    fixed("first", &[Any], |_, v| Ok(items(&v[0], "Cannot find first on type")?.first().cloned().unwrap_or_default())),
    fixed("mustFirst", &[Any], |_, v| {
        Ok(items(&v[0], "Cannot find first on type")?.first().cloned().unwrap_or_default())
    }),
    fixed("last", &[Any], |_, v| Ok(items(&v[0], "Cannot find last on type")?.last().cloned().unwrap_or_default())),
    fixed("mustLast", &[Any], |_, v| Ok(items(&v[0], "Cannot find last on type")?.last().cloned().unwrap_or_default())),
    fixed("rest", &[Any], |s, v| part(s, &v[0], "Cannot find rest on type", 1, 0)),
    fixed("mustRest", &[Any], |s, v| part(s, &v[0], "Cannot find rest on type", 1, 0)),
    fixed("initial", &[Any], |s, v| part(s, &v[0], "Cannot find initial on type", 0, 1)),
    fixed("mustInitial", &[Any], |s, v| part(s, &v[0], "Cannot find initial on type", 0, 1)),
    fixed("reverse", &[Any], reverse),
    fixed("mustReverse", &[Any], reverse),
    fixed("uniq", &[Any], uniq),
    fixed("mustUniq", &[Any], uniq),
    open("without", &[Any], Any, without),
    open("mustWithout", &[Any], Any, without),
    fixed("has", &[Any, Any], has),
    fixed("mustHas", &[Any, Any], has),
    open("slice", &[Any], Any, slice),
    open("mustSlice", &[Any], Any, slice),
    open("concat", &[], Any, concat),
    fixed("chunk", &[Int, Any], chunk),
    fixed("mustChunk", &[Int, Any], chunk),
    fixed("compact", &[Any], compact),
    fixed("mustCompact", &[Any], compact),
    fixed("sortAlpha", &[Any], |s, v| {
        if !matches!(v[0].plain(), Value::List(_) | Value::Bytes(_)) {
            return Ok(Value::strings([cast::text(&v[0])]));
        }
        let mut texts = cast::strings(&v[0]);
        s.charge(texts.len() as u64 * 4)?;
        texts.sort();
        Ok(Value::strings(texts))
    }),
];

/// The error of Go's runtime for a nil where a list is asked.
fn nil() -> Fail {
    Fail::from("runtime error: invalid memory address or nil pointer dereference")
}

/// The items of a list; `wrong` begins the error for what is none.
fn items(value: &Value, wrong: &str) -> Result<List, Fail> {
    match value.plain() {
        Value::List(list) => Ok(list),
        Value::Bytes(bytes) => {
            let items = bytes.as_bytes().iter().map(|b| Value::Uint(UintKind::Uint8, u64::from(*b)));
            Ok(List::of(Element::Named("uint8"), items.collect()))
        }
        Value::Nil => Err(nil()),
        other => Err(Fail::Message(format!("{wrong} {}", other.kind_name()))),
    }
}

fn push(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot push on type")?;
    s.charge(list.len() as u64)?;
    Ok(Value::list(list.iter().chain([&v[1]]).cloned().collect()))
}

fn prepend(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot prepend on type")?;
    s.charge(list.len() as u64)?;
    Ok(Value::list([&v[1]].into_iter().chain(list.iter()).cloned().collect()))
}

fn part(s: &mut Session<'_>, value: &Value, wrong: &str, head: usize, tail: usize) -> Outcome {
    let list = items(value, wrong)?;
    s.charge(list.len() as u64)?;
    if list.is_empty() {
        return Ok(Value::List(List::nil(Element::Any)));
    }
    Ok(Value::list(list[head..list.len() - tail].to_vec()))
}

fn reverse(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot find reverse on type")?;
    s.charge(list.len() as u64)?;
    Ok(Value::list(list.iter().rev().cloned().collect()))
}

fn compact(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot compact on type")?;
    s.charge(list.len() as u64)?;
    Ok(Value::list(list.iter().filter(|v| !cast::empty(v)).cloned().collect()))
}

/// Whether one of the values is deeply equal to another, for a price.
fn among(s: &mut Session<'_>, values: &[Value], wanted: &Value) -> Result<bool, Fail> {
    for value in values {
        if same(s, value, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub fn same(s: &mut Session<'_>, a: &Value, b: &Value) -> Result<bool, Fail> {
    const MOST: u64 = 10_000_000;
    let mut budget = MOST;
    let same = compare::deep(a, b, 0, &mut budget);
    s.charge(MOST - budget)?;
    Ok(same)
}

fn uniq(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot find uniq on type")?;
    let mut kept: Vec<Value> = Vec::new();
    for item in list.iter() {
        if !among(s, &kept, item)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn without(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "Cannot find without on type")?;
    let mut kept: Vec<Value> = Vec::new();
    for item in list.iter() {
        if !among(s, &v[1..], item)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn has(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    if v[1].is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = items(&v[1], "Cannot find has on type")?;
    among(s, &list, &v[0]).map(Value::Bool)
}

fn slice(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[0], "list should be type of slice or array but")?;
    s.charge(list.len() as u64)?;
    if list.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |i: usize, default: usize| match v.get(i) {
        Some(value) => usize::try_from(cast::int64(value)).ok(),
        None => Some(default),
    };
    match (bound(1, 0), bound(2, list.len())) {
        (Some(start), Some(end)) if start <= end && end <= list.len() => {
            Ok(Value::List(List::of(list.element(), list[start..end].to_vec())))
        }
        _ => Err(Fail::from("reflect.Value.Slice: slice index out of bounds")),
    }
}

fn concat(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let mut all: Vec<Value> = Vec::new();
    for value in v {
        let list = match value.plain() {
            Value::Nil => return Err(nil()),
            Value::List(_) | Value::Bytes(_) => items(value, "")?,
            other => return Err(Fail::Message(format!("Cannot concat type {} as list", other.kind_name()))),
        };
        s.charge(list.len() as u64)?;
        all.extend(list.iter().cloned());
    }
    Ok(if all.is_empty() { Value::List(List::nil(Element::Any)) } else { Value::list(all) })
}

fn chunk(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let list = items(&v[1], "Cannot chunk type")?;
    s.charge(list.len() as u64)?;
    let Some(size) = usize::try_from(int(v, 0)).ok().filter(|n| *n > 0) else {
        return Err(Fail::from("runtime error: makeslice: len out of range"));
    };
    let chunks = list.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect();
    Ok(Value::List(List::of(Element::List, chunks)))
}
