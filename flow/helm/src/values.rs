//! The values of the revision before, when they are used again.

use serde_json::Value as Json;
use yaml::{Map, Value};

use chart::release::Record;

/// What becomes of the values given to the revision before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// They are used again if no new ones are given.
    #[default]
    Unless,
    /// Never (`--reset-values`).
    Never,
    /// Over the chart's values as they were, below the new ones (`--reuse-values`).
    Whole,
    /// Over the new chart's values, below the new ones (`--reset-then-reuse-values`).
    Given,
}

/// The values that the user gave to a revision.
pub fn given(record: &Record) -> Map {
    record.config.as_ref().map(map).unwrap_or_default()
}

fn map(json: &Json) -> Map {
    match Value::from(json.clone()) {
        Value::Map(map) => map,
        _ => Map::new(),
    }
}

/// The values of a revision with its chart's defaults below.
pub fn computed(record: &Record) -> Map {
    let defaults = record.chart.as_ref().map(|chart| map(&chart["values"])).unwrap_or_default();
    let mut values = given(record);
    under(&mut values, defaults);
    values
}

/// Puts defaults below values; null in the values takes a default away.
fn under(values: &mut Map, defaults: Map) {
    for (key, default) in defaults {
        match (values.remove(&key), default) {
            (None, default) => {
                values.insert(key, default);
            }
            (Some(Value::Null), _) => {}
            (Some(Value::Map(mut inner)), Value::Map(default)) => {
                under(&mut inner, default);
                values.insert(key, Value::Map(inner));
            }
            (Some(value), _) => {
                values.insert(key, value);
            }
        }
    }
}

/// The values for a new revision, and the chart's own values if those of the revision before take their place.
pub(crate) fn reused(reuse: Reuse, new: Map, before: &Record) -> (Map, Option<Map>) {
    let over = |mut new: Map| {
        under(&mut new, given(before));
        new
    };
    match reuse {
        Reuse::Never => (new, None),
        Reuse::Whole => (over(new), Some(computed(before))),
        Reuse::Given => (over(new), None),
        Reuse::Unless if new.is_empty() => (given(before), None),
        Reuse::Unless => (new, None),
    }
}

/// As it is stored with a revision: nothing when nothing is given.
pub(crate) fn stored(values: &Map) -> Option<Json> {
    if values.is_empty() { None } else { serde_json::to_value(Value::Map(values.clone())).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_reuse() {
        let before = Record {
            chart: Some(json!({"values": {"a": 1, "b": {"x": 1, "y": 2}, "c": 3}})),
            config: Some(json!({"b": {"x": 9}, "c": null})),
            ..Record::default()
        };
        let json = |map: &Map| serde_json::to_value(Value::Map(map.clone())).unwrap();
        assert_eq!(json(&computed(&before)), json!({"a": 1, "b": {"x": 9, "y": 2}}));
        let new = map(&json!({"d": 4}));
        let values = |reuse, new: &Map| json(&reused(reuse, new.clone(), &before).0);
        assert_eq!(values(Reuse::Unless, &Map::new()), json!({"b": {"x": 9}, "c": null}));
        assert_eq!(values(Reuse::Unless, &new), json!({"d": 4}));
        assert_eq!(values(Reuse::Never, &Map::new()), json!({}));
        assert_eq!(values(Reuse::Given, &new), json!({"b": {"x": 9}, "c": null, "d": 4}));
        let (_, chart) = reused(Reuse::Whole, new, &before);
        assert_eq!(json(&chart.unwrap()), json!({"a": 1, "b": {"x": 9, "y": 2}}));
    }
}
