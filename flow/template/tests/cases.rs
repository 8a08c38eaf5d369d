//! Templates and what Go makes of them, with `tests/data.json` as data. `tests/cases/*.json` hold templates that were written for
//! this test; each `want`
//! and `error` was printed by Go 1.26's `text/template` with Sprig 3.3 and the functions of Helm 3's engine. A case with
//! `differs` is a known difference: it says why, and must still differ. Those with `"family": 4` came from `helm` 4.3.1 itself;
//! their `says` is the end of what it says of a failure.

use serde_json::Value as Json;
use template::{Family, Options, Renderer, Set, Value};

fn run(text: &str, data: &Json, family: Family) -> Result<String, String> {
    let mut set = Set::new(family);
    set.parse("t", text).map_err(|e| e.to_string())?;
    let mut renderer = Renderer::new(&set, Options::default());
    let done = renderer.render("t", Value::from(data.clone())).map_err(|e| e.to_string())?;
    Ok(done.to_str().into_owned())
}

#[test]
fn as_go_says() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let data: Json = serde_json::from_str(include_str!("data.json")).unwrap();
    let (mut equal, mut wrong, mut known) = (0, Vec::new(), 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let cases: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for case in cases {
            let text = case["template"].as_str().unwrap();
            let family = if case["family"] == 4 { Family::Helm4 } else { Family::Helm3 };
            let got = run(text, &data, family);
            let same = match (&got, case["want"].as_str(), case["error"].as_str(), case["says"].as_str()) {
                (Ok(got), Some(want), ..) => got == want,
                (Err(got), _, Some(want), _) => got == want,
                (Err(got), .., Some(end)) => got.ends_with(end),
                _ => false,
            };
            match (same, case.get("differs").is_some()) {
                (true, false) => equal += 1,
                (false, true) => known += 1,
                _ => wrong
                    .push(format!("{text}\n  want {}{}{}\n  got  {got:?}", case["want"], case["error"], case["says"])),
            }
        }
    }
    eprintln!("{equal} equal, {known} known to differ, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal > 500, "only {equal} cases");
}

/// Every function that Helm has stands in a case.
#[test]
fn every_function_has_a_case() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let mut texts = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let cases: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        cases.iter().for_each(|case| texts.push_str(case["template"].as_str().unwrap()));
    }
    let words: std::collections::BTreeSet<&str> =
        texts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let names = template::function_names(Family::Helm4);
    let missing: Vec<&&str> = names.iter().filter(|name| !words.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(names.len() >= 233, "{}", names.len());
}
