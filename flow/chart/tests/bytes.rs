//! Whatever the bytes are, there is an answer and never a panic; and merging values has the laws that it should have.

use std::collections::BTreeMap;

use bytes::Bytes;
use chart::{Flavor, Loader, Render, Warnings, values};
use proptest::{collection, prelude::*};
use yaml::{Map, Value};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-5i64..5).prop_map(Value::Int),
        "[a-c]{0,2}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            collection::btree_map("[a-c]", inner, 0..3).prop_map(Value::Map),
        ]
    })
}

fn map() -> impl Strategy<Value = Map> {
    collection::btree_map("[a-c]", value(), 0..4)
}

proptest! {
    #[test]
    fn an_archive_of_anything(data: Vec<u8>) {
        let mut gzip = vec![0x1f, 0x8b];
        gzip.extend(&data);
        let _ = Loader::default().archive(&data, &Warnings::default());
        let _ = Loader::default().archive(&gzip, &Warnings::default());
    }

    #[test]
    fn files_of_anything(chart in "\\PC{0,80}", values in "\\PC{0,80}", template in "[ -~]{0,60}", lock in "\\PC{0,40}") {
        let files: BTreeMap<String, Bytes> = [
            ("Chart.yaml", format!("apiVersion: v2\nname: x\nversion: 1.0.0\n{chart}")),
            ("values.yaml", values),
            ("Chart.lock", lock),
            ("templates/a.yaml", template),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Bytes::from(text)))
        .collect();
        for flavor in [Flavor::Helm3, Flavor::Helm4] {
            let warnings = Warnings::default();
            if let Ok(chart) = (Loader { flavor, ..Loader::default() }).tree(&files, &warnings) {
                let _ = Render::offline(flavor, "r", "n").run(&chart, &Map::new(), &warnings);
            }
        }
    }

    #[test]
    fn arguments_of_anything(argument in "[a-c.,=\\[\\]{}\\\\0-9\"]{0,24}") {
        for flavor in [Flavor::Helm3, Flavor::Helm4] {
            for form in [values::Form::Typed, values::Form::Text, values::Form::Json, values::Form::Literal] {
                let _ = values::set(&argument, form, &mut Map::new(), flavor);
            }
        }
    }

    #[test]
    fn what_is_put_over_itself_stays(values in map()) {
        let mut twice = values.clone();
        values::over(&mut twice, values.clone());
        prop_assert_eq!(twice, values);
    }

    #[test]
    fn the_last_wins_whatever_came_before(a in map(), b in map()) {
        let mut both = a.clone();
        values::over(&mut both, b.clone());
        for (key, value) in &b {
            if !matches!(value, Value::Map(_)) {
                prop_assert_eq!(&both[key], value);
            }
        }
        for (key, value) in &a {
            if !b.contains_key(key) {
                prop_assert_eq!(&both[key], value);
            }
        }
    }
}

/// The expectations are what the real ones give.
#[test]
fn helm_4_ends_the_last_line_of_a_file_of_values() {
    for (flavor, expected) in [(Flavor::Helm3, "x"), (Flavor::Helm4, "x\n")] {
        for text in ["a: |\n  x", "b: 1\n---\na: |+\n  x"] {
            let values = values::read(text, flavor).unwrap();
            let wanted =
                if flavor == Flavor::Helm3 && text.starts_with('b') { None } else { Some(Value::from(expected)) };
            assert_eq!(values.get("a").cloned(), wanted, "{text:?}");
        }
    }
}
