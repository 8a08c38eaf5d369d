use super::*;

fn json(text: &str) -> String {
    to_json(&from_str(text).unwrap())
}

#[test]
fn scalars_are_read_as_sigs_yaml_reads_them() {
    for (text, expected) in [
        ("yes", "true"),
        ("off", "false"),
        ("~", "null"),
        ("", "null"),
        ("0644", "420"),
        ("0x1F", "31"),
        ("0b11", "3"),
        ("1_000", "1000"),
        ("08", "8"),
        ("1e3", "1000"),
        ("1.50", "1.5"),
        (".5", "0.5"),
        ("2001-01-01", "\"2001-01-01\""),
        ("1:20", "\"1:20\""),
        ("'yes'", "\"yes\""),
        ("18446744073709551615", "18446744073709551615"),
        ("!!str 1", "\"1\""),
        ("!!float 1", "1"),
        ("\"a\\u0041\\n\"", "\"aA\\n\""),
        ("a b # c", "\"a b\""),
        ("  a: 1\n b: 2", "{\"a\":1}"),
        ("- a\n-\n- - 1\n  - 2", "[\"a\",null,[1,2]]"),
        ("{a: 1, b: [x, z], c}", "{\"a\":1,\"b\":[\"x\",\"z\"],\"c\":null}"),
        ("a: |\n  x\n   y\n\nb: >-\n  p\n  q\n", "{\"a\":\"x\\n y\\n\",\"b\":\"p q\"}"),
        ("a: &x {k: 1}\nb: {<<: *x, z: 2}", "{\"a\":{\"k\":1},\"b\":{\"k\":1,\"z\":2}}"),
        ("1: a\ntrue: b\n1.5: c", "{\"1\":\"a\",\"1.5\":\"c\",\"true\":\"b\"}"),
        (
            "a: one\n  two\n\n  three\nb: 'x\n\n  y'\nc: \"x \\\n  y\"",
            "{\"a\":\"one two\\nthree\",\"b\":\"x\\ny\",\"c\":\"x y\"}",
        ),
    ] {
        assert_eq!(json(text), expected, "{text:?}");
    }
}

#[test]
fn faults_are_told_in_go_yamls_words() {
    for (text, expected) in [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("x: 1\na: b: c", "yaml: line 2: mapping values are not allowed in this context"),
        ("a: [1, 2", "yaml: line 1: did not find expected ',' or ']'"),
        ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
        ("a: *x", "yaml: line 1: unknown anchor 'x' referenced"),
        ("a: \"b", "yaml: found unexpected end of stream"),
        ("%YAML 1.1", "yaml: line 1: did not find expected <document start>"),
    ] {
        assert_eq!(from_str(text).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    let error = from_str(&text).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Limit, "document contains excessive aliasing"));
    assert!(error.at.is_some());
}

#[test]
fn depth_is_bounded() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "a: ".repeat(3), "{a: ".repeat(5_000)] {
        assert!(from_str(&text).is_err());
    }
}

#[test]
fn values_are_printed_as_go_prints_them() {
    let text = "b: [1, {x: 'y', l: []}]\na: {}\ns: \"yes\"\n'n': \"1\"\nm: \"a\\nb\\n\"\nf: 1000000.0\nt: \"x\\ty\"\ne: ''\nc: 'a: b'\n";
    let expected = "a: {}\nb:\n- 1\n- l: []\n  x: \"y\"\nc: 'a: b'\ne: \"\"\nf: 1e+06\nm: |\n  a\n  b\n\"n\": \"1\"\ns: \"yes\"\nt: \"x\\ty\"\n";
    assert_eq!(to_go(&from_str(text).unwrap()), expected.replace("1e+06", "1000000"));
}

/// The expectations are what `sigs.k8s.io/yaml` and `strconv` print.
#[test]
fn floats_are_printed_as_go_prints_them() {
    for (f, printed, bare) in [
        (1.5, "1.5", "1.5"),
        (100_000.0, "100000", "100000"),
        (123_456.5, "123456.5", "123456.5"),
        (1_234_567.5, "1.2345675e+06", "1.2345675e+06"),
        (1_234_567_890.123_456, "1.234567890123456e+09", "1.234567890123456e+09"),
        (1e6, "1000000", "1e+06"),
        (1e20, "1e+20", "1e+20"),
        (1e21, "1e+21", "1e+21"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "1e-05", "1e-05"),
    ] {
        assert_eq!(go_float(f), bare);
        assert_eq!(to_go(&Value::Float(f)).trim_end(), printed);
    }
}

#[test]
fn a_tree_keeps_its_comments_order_and_styles() {
    let text = "# head\nb: 'q' # line\na:\n# item\n- x\n- {k: v}\nz: \"d\"\n";
    let documents = parse_all(text, &Limits::default(), true).unwrap();
    assert_eq!(print(documents[0].root.as_ref().unwrap(), &Layout::default()), text);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    /// Whatever the bytes are, reading ends in a value or an error.
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = from_str_all(&text);
        if let Ok(documents) = parse_all(&text, &Limits::default(), true) {
            documents.iter().filter_map(|document| document.root.as_ref()).for_each(|root| {
                print(root, &Layout::default());
            });
        }
    }

    /// The same of texts that are nearly YAML.
    #[test]
    fn reading_what_is_nearly_yaml_never_panics(text in "[-a-c:{}\\[\\],?&*!|>'\"%#\n \t0-9~]{0,120}") {
        let _ = from_str_all(&text);
        let _ = parse_all(&text, &Limits::default(), true).map(|documents| documents.len());
    }

    /// What is printed reads back as it was.
    #[test]
    fn printed_strings_read_back(text in "[ -~\n\té]{0,200}", key in "[ -~]{0,40}") {
        // Go's own printer does not quote this one, and then reads it as a merge.
        proptest::prop_assume!(key != "<<");
        let value = Value::Map([(key, Value::String(text))].into());
        proptest::prop_assert_eq!(from_str(&to_go(&value)).unwrap(), value);
    }
}
