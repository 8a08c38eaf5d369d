//! Maps. They are shared: what `set` and `merge` write is seen by everybody who holds the map.

use super::{Fail, Function, Outcome, bytes, cast, fixed, open};
use crate::{
    render::Session,
    value::{List, Map, MapType, Param, Text, Value},
};

use Param::{Any, Str};

pub const TABLE: &[Function] = &[
    open("dict", &[], Any, |_, v| {
        let map = Map::new();
        for pair in v.chunks(2) {
            map.insert(cast::text(&pair[0]), pair.get(1).cloned().unwrap_or_else(|| Value::str("")));
        }
        Ok(Value::Map(map))
    }),
    fixed("get", &[Param::Map, Str], |_, v| {
        Ok(v[0].as_map().and_then(|map| map.get(bytes(v, 1))).unwrap_or_else(|| Value::str("")))
    }),
    fixed("set", &[Param::Map, Str, Any], |_, v| match (&v[0], &v[1]) {
        (Value::Map(map), Value::Str(key)) => {
            map.insert(key.clone(), v[2].clone());
            Ok(as_map(map))
        }
        _ => Err(Fail::from("assignment to entry in nil map")),
    }),
    fixed("unset", &[Param::Map, Str], |_, v| {
        Ok(match &v[0] {
            Value::Map(map) => {
                map.remove(bytes(v, 1));
                as_map(map)
            }
            _ => Value::Map(Map::new()),
        })
    }),
    fixed("hasKey", &[Param::Map, Str], |_, v| {
        Ok(Value::Bool(v[0].as_map().is_some_and(|map| map.contains(bytes(v, 1)))))
    }),
    open("pluck", &[Str], Param::Map, |_, v| {
        let found = v[1..].iter().filter_map(|map| map.as_map()?.get(bytes(v, 0)));
        Ok(Value::list(found.collect()))
    }),
    open("keys", &[], Param::Map, |s, v| {
        let keys: Vec<Text> = v
            .iter()
            .filter_map(Value::as_map)
            .flat_map(|map| map.cells().keys().cloned().collect::<Vec<_>>())
            .collect();
        s.charge(keys.len() as u64)?;
        Ok(Value::strings(keys))
    }),
    fixed("values", &[Param::Map], |_, v| {
        Ok(Value::list(v[0].as_map().map(|map| map.cells().values().cloned().collect()).unwrap_or_default()))
    }),
    open("pick", &[Param::Map], Str, |_, v| {
        let picked = Map::new();
        if let Some(map) = v[0].as_map() {
            for key in &v[1..] {
                if let Value::Str(key) = key
                    && let Some(value) = map.get(key)
                {
                    picked.insert(key.clone(), value);
                }
            }
        }
        Ok(Value::Map(picked))
    }),
    open("omit", &[Param::Map], Str, |s, v| {
        let left = Map::new();
        if let Some(map) = v[0].as_map() {
            s.charge(map.len() as u64)?;
            for (key, value) in map.pairs() {
                let omitted = |v: &Value| matches!(v, Value::Str(text) if *text == key);
                if !v[1..].iter().any(omitted) {
                    left.insert(key, value);
                }
            }
        }
        Ok(Value::Map(left))
    }),
    open("merge", &[Param::Map], Param::Map, |s, v| merge_all(s, v, false)),
    open("mustMerge", &[Param::Map], Param::Map, |s, v| merge_all(s, v, false)),
    open("mergeOverwrite", &[Param::Map], Param::Map, |s, v| merge_all(s, v, true)),
    open("mustMergeOverwrite", &[Param::Map], Param::Map, |s, v| merge_all(s, v, true)),
    fixed("deepCopy", &[Any], |s, v| copy(s, &v[0], 0)),
    fixed("mustDeepCopy", &[Any], |s, v| copy(s, &v[0], 0)),
    open("dig", &[], Any, dig),
];

/// A parameter declared as `map[string]interface {}` forgets a name like `chartutil.Values`; the map stays the same one,
/// so its name is kept here, which only `typeOf` and error texts can tell.
fn as_map(map: &Map) -> Value {
    Value::Map(map.clone())
}

fn merge_all(s: &mut Session<'_>, v: &[Value], overwrite: bool) -> Outcome {
    let target = v[0].as_map().cloned().unwrap_or_default();
    for source in v[1..].iter().filter_map(Value::as_map) {
        merge(s, &target, source, overwrite, 0)?;
    }
    Ok(as_map(&target))
}

/// Merges `source` into `target` in place. Without `overwrite`, what is there and not empty stays. Maps that are only in
/// the source are shared afterwards, not copied.
pub fn merge(s: &mut Session<'_>, target: &Map, source: &Map, overwrite: bool, depth: usize) -> Result<(), Fail> {
    if depth > 200 {
        return Err(Fail::Limit("maps more than 200 deep cannot be merged".to_owned()));
    }
    if target.same(source) {
        return Ok(());
    }
    for (key, value) in source.pairs() {
        s.charge(1)?;
        let known = target.get(&key);
        if value.is_nil() {
            if overwrite {
                target.insert(key, Value::Nil);
            }
            continue;
        }
        let both_maps = if let (Value::Map(inner), Some(Value::Map(known))) = (&value, &known) {
            merge(s, known, inner, overwrite, depth + 1)?;
            true
        } else {
            false
        };
        let filled = known.as_ref().is_some_and(|known| match known {
            // What was merged just now does not count: the value is looked at as it was.
            Value::Map(map) if both_maps => !map.is_empty(),
            known => !cast::empty(known),
        });
        if let Value::List(_) = value
            && filled
        {
            if overwrite {
                target.insert(key, value);
            }
            continue;
        }
        if filled && both_maps {
            continue;
        }
        if overwrite || !filled {
            target.insert(key, value);
        }
    }
    Ok(())
}

/// A copy that shares no map with the original.
pub fn copy(s: &mut Session<'_>, value: &Value, depth: usize) -> Outcome {
    if depth > 200 {
        return Err(Fail::Limit("values more than 200 deep cannot be copied".to_owned()));
    }
    s.charge(1)?;
    Ok(match value {
        Value::List(list) if list.is_nil() => value.clone(),
        Value::List(list) => {
            let items: Result<Vec<Value>, Fail> = list.iter().map(|item| copy(s, item, depth + 1)).collect();
            Value::List(List::of(list.element(), items?))
        }
        Value::Map(map) => {
            let copied = Map::of(map.kind());
            for (key, item) in map.pairs() {
                let item = copy(s, &item, depth + 1)?;
                copied.insert(key, item);
            }
            Value::Map(copied)
        }
        other => other.clone(),
    })
}

fn dig(s: &mut Session<'_>, v: &[Value]) -> Outcome {
    let [keys @ .., default, root] = v else {
        return Err(Fail::from("dig needs at least three arguments"));
    };
    if keys.is_empty() {
        return Err(Fail::from("dig needs at least three arguments"));
    }
    let wrong = |value: &Value, wanted: &str| {
        let name = if value.is_nil() { "nil".to_owned() } else { value.type_name() };
        Fail::Message(format!("interface conversion: interface {{}} is {name}, not {wanted}"))
    };
    let map = |value: &Value| match value {
        Value::Map(map) if map.kind() == MapType::Any => Ok(map.clone()),
        other => Err(wrong(other, "map[string]interface {}")),
    };
    let mut here = map(root)?;
    for key in keys {
        if !matches!(key, Value::Str(_)) {
            return Err(wrong(key, "string"));
        }
    }
    for (i, key) in keys.iter().enumerate() {
        s.charge(1)?;
        let Value::Str(key) = key else { continue };
        match here.get(key) {
            None => return Ok(default.clone()),
            Some(found) if i + 1 == keys.len() => return Ok(found),
            Some(found) => here = map(&found)?,
        }
    }
    Ok(default.clone())
}
