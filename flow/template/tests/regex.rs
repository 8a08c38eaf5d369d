//! Regular expressions as Go reads them: `tests/regex.json` holds expressions and what Go 1.26's `regexp` finds with each in
//! one text, or says against it.

use serde_json::Value as Json;
use template::{Family, Options, Renderer, Set, Value};

#[test]
fn expressions_are_gos() {
    let cases: Json = serde_json::from_str(include_str!("regex.json")).unwrap();
    let rows = cases["rows"].as_array().unwrap();
    let mut wrong = Vec::new();
    for row in rows {
        let pattern = row["pattern"].as_str().unwrap();
        let mut set = Set::new(Family::Helm4);
        set.parse("t", "{{ mustRegexFindAll .p .s -1 | toJson }}").unwrap();
        let data = [("p", Value::from(pattern)), ("s", Value::from(cases["subject"].as_str().unwrap()))];
        let mut renderer = Renderer::new(&set, Options::default());
        let got = renderer.render("t", Value::map(data)).map(|done| done.to_str().into_owned());
        let got = got.map_err(|error| error.to_string());
        let same = match (&got, row["error"].as_str()) {
            (Ok(found), None) => {
                let found: Json = serde_json::from_str(found).unwrap();
                found.as_array().cloned().unwrap_or_default() == row["found"].as_array().cloned().unwrap_or_default()
            }
            (Err(got), Some(want)) => got.ends_with(&format!("error calling mustRegexFindAll: {want}")),
            _ => false,
        };
        if !same {
            wrong.push(format!("{pattern}\n  want {row}\n  got  {got:?}"));
        }
    }
    assert!(rows.len() > 140, "only {} expressions", rows.len());
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
