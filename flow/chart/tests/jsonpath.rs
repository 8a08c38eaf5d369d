//! `show values --jsonpath`, held against what helm 4 printed, and where it does better.

use chart::jsonpath::JsonPath;

fn said(text: &str, values: &yaml::Value) -> Result<String, String> {
    JsonPath::parse(text).map(|path| path.print(values)).map_err(|why| format!("error parsing jsonpath {text}: {why}"))
}

#[test]
fn what_the_real_one_says() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/jsonpath.json")).unwrap();
    let values = yaml::from_str(golden["values"].as_str().unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 60);
    let mut wrong = String::new();
    for case in cases {
        let text = |at: usize| case[at].as_str().map(str::to_owned);
        let expected = text(1).ok_or_else(|| text(2).unwrap());
        let found = said(case[0].as_str().unwrap(), &values);
        if found != expected {
            wrong.push_str(&format!("{}: {found:?}, expected {expected:?}\n", case[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn numbers_are_compared_and_names_may_hold_anything() {
    let values = yaml::from_str("p: [{num: 1, 'a.b': x}, {num: 20, live: true, 'a.b': z}]\n").unwrap();
    for (path, expected) in [
        ("{.p[?(@.num==20)]['a.b']}", "z"),
        ("{.p[?(@.num < 2)]['a.b']}", "x"),
        ("{.p[?(@.num>=1)]['a.b']}", "x z"),
        ("{.p[?(@.live==true)].num}", "20"),
        ("{range .p[*]}{range .nope[*]}?{end}{.num},{end}", "1,20,"),
    ] {
        assert_eq!(said(path, &values).unwrap(), expected, "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_ends(text in "[{}\\[\\].*?()@$'\"a-c0-9:,=<>! ]{0,40}") {
        let values = yaml::from_str("a: [1, {b: {c: x}}]\nb: {a: [[]]}\n").unwrap();
        let _ = said(&text, &values);
    }
}
