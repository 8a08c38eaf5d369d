//! What a build is told: Dockerfiles, ignore files, Compose files, pipelines.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use build::{
    ContextEntry, ContextTree, Ignore, ImageConfig, Options, Platform, ResolvedBase, compose, dockerfile,
    lower_or_needs,
};
use graph::{Graph, Origin, vertex::SelectedKind};

use super::{files, text};

static CONTEXT: LazyLock<Option<ContextTree>> = LazyLock::new(|| {
    let names = ["package.json", "src/main.js", "src/lib/a.js", "app.tar.gz", "a b.txt", "Dockerfile"];
    let entry = |path: &str| ContextEntry {
        path: path.into(),
        mode: 0o644,
        kind: SelectedKind::File,
        content: path.into(),
        size: 1,
    };
    ContextTree::new(Origin::Directory("/src".into()), names.map(entry), Ignore::default()).ok()
});

static BASES: LazyLock<HashMap<String, ResolvedBase>> = LazyLock::new(|| {
    let base = |name: &str| {
        let digest = format!("sha256:{}", "a".repeat(64)).parse().ok()?;
        let config = ImageConfig::empty(&Platform::host());
        let base = ResolvedBase { name: name.into(), repository: name.into(), digest, config, layers: Vec::new() };
        Some((name.to_owned(), base))
    };
    ["node", "debian", "a"].into_iter().filter_map(base).collect()
});

/// A Dockerfile that is read prints as one that says the same, and is lowered or refused.
pub fn dockerfile(input: &[u8]) {
    let Ok(file) = dockerfile::parse("Dockerfile", &text(input)) else { return };
    let printed = file.to_string();
    match dockerfile::parse("Dockerfile", &printed) {
        Ok(again) => assert!(again == file, "printed, it says something else:\n{printed}"),
        Err(error) => panic!("printed, it is no Dockerfile: {error}\n{printed}"),
    }
    build::checks::skipped(&file);
    let Some(context) = CONTEXT.as_ref() else { return };
    let options = Options { build_args: BTreeMap::from([("GIVEN".into(), "1".into())]), ..Options::default() };
    if let Ok(build::Attempt::Ready(plan)) = lower_or_needs(&file, context, &options, &*BASES) {
        plan.add_to(&mut Graph::new(), "image");
    }
}

/// Asking about any path has an answer.
pub fn dockerignore(input: &[u8]) {
    let text = text(input);
    let Ok(ignore) = Ignore::parse(".dockerignore", &text) else { return };
    for path in ["a", "a/b/c", "src/main.js", ".git", "a b", "ä/ö", text.lines().next().unwrap_or_default()] {
        let path = path.trim_matches('/');
        if !path.is_empty() {
            let _ = ignore.decide(path);
        }
    }
}

struct Memory<'a>(Vec<(&'a str, &'a str)>);

impl compose::Files for Memory<'_> {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        let found = self.0.iter().find(|(name, _)| Path::new("/p").join(name) == path);
        Ok(found.map(|(_, text)| (*text).to_owned()))
    }
}

/// Several files may include and extend each other.
pub fn compose(input: &[u8]) {
    let text = text(input);
    let options = compose::Options {
        files: vec![PathBuf::from("/p/compose.yaml")],
        directory: PathBuf::from("/p"),
        variables: BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())]),
        ..compose::Options::default()
    };
    let memory = Memory(files("compose.yaml", &text));
    if let Ok(project) = compose::load(&options, &memory) {
        let _ = compose::builds(&project, &[]);
    }
}

/// A pipeline that is read is planned or refused.
pub fn pipeline(input: &[u8]) {
    if let Err(diagnostics) = pipeline::parse(&text(input), ".shipway.yaml") {
        assert!(!diagnostics.to_string().is_empty());
    }
}
