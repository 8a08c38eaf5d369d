use proptest::prelude::*;

use super::*;
use crate::{Decode, to_go, to_json};

fn whole(text: &str) -> Result<Value, crate::Error> {
    Decode::default().read_whole(text)
}

#[test]
fn what_is_common_is_read_this_way() {
    for text in [
        "",
        "# nothing\n\n",
        "---\na: 1\n",
        "a: b # c\nd:\n  - e: f\n    g: 1.5\n  -\n  - - x\n    - y\nh: {i: [1, \"a\\n\", 'it''s'], \"j\":true}\n",
        "a:\n- b\n- c: d\n  e:\n  - f\ng:\nh: ~\n",
        "a: |\n  x\n   y\n\n  z\n\nb: |-\n  p\nc: |+\n  q\n\nd: 2001-01-01\n",
        "a : http://x:80/y#z\n'b': \"c: d\"\n1: yes\non: [a,\n  b\n]\n\u{e9}: \u{20ac}\n",
        "- a\n- b\n",
        "word",
        "{\"a\":[{\"b\":-1}],\"c\":\"\"}\n",
    ] {
        assert_eq!(read(text, None), Some(whole(text).unwrap()), "{text:?}");
    }
}

#[test]
fn what_is_rare_or_wrong_is_left_to_the_whole_reader() {
    for text in [
        "a: &x 1",
        "a: *x",
        "a: !!str 1",
        "a: >\n  x\n",
        "a: b\n  c",
        "a: 'b\n  c'",
        "a:\n  b\n c: d",
        "a: b: c",
        "\ta: 1",
        "<<: {a: 1}",
        "? a",
        "a: |2\n   x",
        "a\nb: c",
        "a: 1\n---\nb: 2",
        "%YAML 1.1\n---\na",
        "a: [1",
        "a: \"\\x41\"",
        "~: 1",
        "a: 1\r\n",
        "a: \u{85}",
        "[a: b]",
        "[a # b\n]",
        "- a\nb: 1",
        "a: - b",
        "a: 1\n...\n",
        "a: |\n    \n  x\n",
    ] {
        assert_eq!(read(text, None), None, "{text:?}");
    }
    assert_eq!(read(&"[".repeat(100_000), None), None);
    assert_eq!(read(&"- ".repeat(100_000), None), None);
    assert_eq!(read(&format!("{}: 1", "k".repeat(2_000)), None), None);
}

#[test]
fn of_a_map_only_what_is_wanted_is_made_and_all_is_read() {
    let text = "a: {b: 1}\nb: [x, {a: y}]\nc:\n- a: |\n    z\n  b: 'q'\nd:\n  a: 2\n  e: [3]\n";
    let Value::Map(mut map) = whole(text).unwrap() else { panic!("a map") };
    map.retain(|key, _| ["a", "d"].contains(&key.as_str()));
    assert_eq!(crate::fields(text, &["a", "d"]).unwrap(), Value::Map(map));
    assert_eq!(crate::fields("[a, {b: c}]", &["b"]).unwrap(), whole("[a, {b: c}]").unwrap());
    assert!(crate::fields("a: 1\nb: [x\n", &["a"]).is_err());
    assert!(crate::fields("a: 1\nb: c: d\n", &["a"]).is_err());
    // The way of the whole reader leads to the same.
    assert_eq!(crate::fields("a: 1\nb: &x y\n", &["a"]).unwrap(), whole("a: 1").unwrap());
}

/// Pieces that texts of all kinds are made of.
const PIECES: [&str; 48] = [
    "a", "b", "key", ": ", ":", ":\n", "\n", "\n\n", "\n  ", "\n    ", "\n   ", "\n ", " ", "  ", "- ", "-", "\n- ",
    "\n  - ", "- - ", "{", "}", "[", "]", ", ", ",", "\"q\"", "'s'", "\"", "'", " # c", "#", "|\n", "|-\n", "|+\n",
    ">\n", "1", "-1", "1.5", "true", "~", "<<", "&x ", "*x", "! ", "?", "---\n", "...", "\u{e9}",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "[ -~\n\u{e9}]{0,24}".prop_map(Value::String),
        "[a-z]{1,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::btree_map("[a-zA-Z0-9./ -]{1,8}", inner, 0..5).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    /// What is read this way is what the whole reader reads; so what that refuses is not read.
    #[test]
    fn both_ways_lead_to_the_same(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
        let text = pieces.concat();
        if let Some(value) = read(&text, None) {
            prop_assert_eq!(whole(&text).ok(), Some(value), "{:?}", text);
        }
        prop_assert_eq!(read(&text, None).is_some(), read(&text, Some(&["a", "key"])).is_some(), "{:?}", text);
    }

    /// The same of texts that have a shape, some lines of which are then moved or cut.
    #[test]
    fn both_ways_lead_to_the_same_for_what_is_printed(
        value in value(), json in any::<bool>(), line in 0usize..12, edit in prop::sample::select(&["", " ", "  ", "- ", "#", "x"][..])
    ) {
        let printed = if json { to_json(&value) } else { to_go(&value) };
        let mut lines: Vec<String> = printed.split('\n').map(str::to_owned).collect();
        for text in [printed.clone(), {
            if let Some(line) = lines.get_mut(line) {
                match line.strip_prefix("  ").filter(|_| edit.is_empty()) {
                    Some(less) => *line = less.to_owned(),
                    None => line.insert_str(0, edit),
                }
            }
            lines.join("\n")
        }] {
            if let Some(value) = read(&text, None) {
                prop_assert_eq!(whole(&text).ok(), Some(value), "{:?}", text);
            }
        }
    }
}
