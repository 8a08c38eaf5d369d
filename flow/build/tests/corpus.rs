//! A corpus of Dockerfiles written for this test: every instruction and flag, alone and together. Each is read, printed, read again and
//! lowered; what it comes to is compared with what stands behind it.
//!
//! A case is a line `### <name>: <expectation>` and the Dockerfile below it. The expectation is `ok`, or a part of the error.

use std::collections::{BTreeMap, HashMap};

use build::{
    ContextEntry, ContextTree, Ignore, ImageConfig, Options, Platform, ResolvedBase, dockerfile, lower_or_needs,
};
use graph::{Graph, Origin, vertex::SelectedKind};
use proptest::prelude::*;

const CORPUS: &str = include_str!("corpus/dockerfiles.txt");

fn context() -> ContextTree {
    let file = |path: &str| ContextEntry {
        path: path.into(),
        mode: 0o644,
        kind: SelectedKind::File,
        content: path.into(),
        size: 1,
    };
    let files =
        ["package.json", "package-lock.json", "src/main.js", "src/lib/a.js", "src/a.md", "app.tar.gz", "a b.txt"];
    ContextTree::new(Origin::Directory("/src".into()), files.map(file), Ignore::default()).unwrap()
}

fn bases() -> HashMap<String, ResolvedBase> {
    let base = |name: &str| ResolvedBase {
        name: name.into(),
        repository: name.into(),
        digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        config: ImageConfig::empty(&Platform::host()),
        layers: Vec::new(),
    };
    ["node", "node:22", "golang:1.24", "alpine:3.21", "debian"].map(|name| (name.to_owned(), base(name))).into()
}

fn come_to(text: &str) -> Result<String, String> {
    let file = dockerfile::parse("Dockerfile", text).map_err(|e| e.to_string())?;
    let printed = file.to_string();
    let again = dockerfile::parse("Dockerfile", &printed)
        .map_err(|e| format!("printed, it is no Dockerfile: {e}\n{printed}"))?;
    if again != file {
        return Err(format!("printed, it says something else:\n{printed}"));
    }
    let options = Options { build_args: BTreeMap::from([("GIVEN".into(), "1".into())]), ..Options::default() };
    match lower_or_needs(&file, &context(), &options, &bases()).map_err(|e| e.to_string())? {
        build::Attempt::Ready(plan) => {
            let lowered = plan.add_to(&mut Graph::new(), "image");
            Ok(format!("{} vertices, {} layers", plan.len(), lowered.layer_vertices.len()))
        }
        build::Attempt::Needs(needs) => Ok(format!("{} to fetch", needs.len())),
    }
}

fn cases() -> Vec<(String, String, String)> {
    let cases =
        CORPUS.split("\n### ").map(|case| case.trim_start_matches("### ")).filter(|case| !case.trim().is_empty());
    cases
        .map(|case| {
            let (head, text) = case.split_once('\n').unwrap();
            let (name, expected) = head.split_once(": ").unwrap();
            (name.to_owned(), expected.to_owned(), format!("{text}\n"))
        })
        .collect()
}

#[test]
fn every_file_of_the_corpus_comes_to_what_it_should() {
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, expected, text) in &cases {
        match (come_to(text), expected.as_str()) {
            (Ok(_), "ok") => {}
            (Err(error), expected) if expected != "ok" && error.contains(expected) => {}
            (found, expected) => wrong.push(format!("{name}: expected {expected}, found {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_instruction_stands_in_the_corpus() {
    for keyword in dockerfile::Keyword::ALL {
        let found = CORPUS
            .lines()
            .any(|line| line.trim_start().to_ascii_uppercase().starts_with(&format!("{} ", keyword.as_str())));
        assert!(found, "{}", keyword.as_str());
    }
    for flag in [
        "--mount=type=bind",
        "--mount=type=cache",
        "--mount=type=tmpfs",
        "--mount=type=secret",
        "--mount=type=ssh",
        "--network=",
        "--security=",
        "--from=",
        "--chown=",
        "--chmod=",
        "--link",
        "--parents",
        "--exclude=",
        "--checksum=",
        "--keep-git-dir",
        "--unpack",
        "--platform=",
        "--interval=",
        "--timeout=",
        "--start-period=",
        "--start-interval=",
        "--retries=",
    ] {
        assert!(CORPUS.contains(flag), "{flag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Lines of the corpus in any order, cut and joined anywhere: read or refused, never a panic.
    #[test]
    fn pieces_of_the_corpus_in_any_order(picks in prop::collection::vec((0usize..4000, 0usize..80), 1..12)) {
        let lines: Vec<&str> = CORPUS.lines().collect();
        let mut text = String::new();
        for (line, cut) in picks {
            let line = lines[line % lines.len()];
            text.extend(line.chars().take(if cut > 60 { usize::MAX } else { cut }));
            text.push(if cut % 7 == 0 { ' ' } else { '\n' });
        }
        let _ = come_to(&text);
    }
}
