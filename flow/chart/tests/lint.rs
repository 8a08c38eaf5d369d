//! What `helm lint` says, held against what the real ones printed.

use std::collections::BTreeMap;

use bytes::Bytes;
use chart::{Flavor, Render, Warnings, lint::lint};

fn said(files: &serde_json::Value, flavor: Flavor) -> String {
    let files = files.as_object().unwrap().iter();
    let tree: BTreeMap<String, Bytes> =
        files.map(|(path, text)| (path.clone(), Bytes::from(text.as_str().unwrap().to_owned()))).collect();
    let mut render = Render::offline(flavor, "test-release", "default");
    render.options.lint = true;
    match lint(&tree, "DIR", &yaml::Map::new(), &render, &Warnings::default()) {
        Ok(findings) => findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        Err(error) => format!("Error {error}"),
    }
}

#[test]
fn what_the_real_ones_say() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("golden/lint.json")).unwrap();
    assert!(cases.len() > 60);
    let mut wrong = String::new();
    for case in &cases {
        for (name, flavor) in [("helm3", Flavor::Helm3), ("helm4", Flavor::Helm4)] {
            let (found, expected) = (said(&case["files"], flavor), case[name].as_str().unwrap());
            if found != expected {
                wrong.push_str(&format!("{} ({name})\n{found}\n--- expected\n{expected}\n\n", case["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
