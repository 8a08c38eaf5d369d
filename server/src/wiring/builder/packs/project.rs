//! `project.toml` applied: which files of the context a build takes, which buildpacks, and what the image says of the project.

use std::path::{Path, PathBuf};

use buildpack::project::{Named, Project};
use globset::{GlobBuilder, GlobMatcher};

use crate::fault::{Fault, Result};

/// The most bytes of the file.
const MOST: u64 = 1 << 20;

/// A project's file, where one is named or stands in the context.
pub fn load(named: Option<&Path>, root: &Path) -> Result<Option<(PathBuf, Project)>> {
    use std::io::Read;
    let path = named.map_or_else(|| root.join("project.toml"), Path::to_owned);
    let shown = path.display().to_string();
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Fault::usage(format!("cannot open {shown}: {e}"))),
    };
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(|e| Fault::usage(format!("cannot read {shown}: {e}")))?;
    let here = std::env::current_dir().unwrap_or_default();
    let shown = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
    let project = Project::parse(&shown, &text).map_err(|e| Fault::usage(e.to_string()))?;
    Ok(Some((path, project)))
}

/// One line of `include` or `exclude`, as `.gitignore` has them.
struct Pattern {
    glob: GlobMatcher,
    directory: bool,
    negated: bool,
}

/// Which files of the context a build takes.
pub struct Selection {
    patterns: Vec<Pattern>,
    include: bool,
}

impl Selection {
    pub fn of(project: Option<&Project>) -> Result<Self> {
        let (include, lines) = match project {
            Some(project) if !project.include.is_empty() => (true, project.include.as_slice()),
            Some(project) => (false, project.exclude.as_slice()),
            None => (false, &[][..]),
        };
        Ok(Self {
            patterns: lines.iter().filter_map(|line| pattern(line).transpose()).collect::<Result<_>>()?,
            include,
        })
    }

    /// Whether a path of the context is taken. A directory that is named stands for all that is in it.
    pub fn keeps(&self, path: &str, directory: bool) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        let mut matched = false;
        for pattern in &self.patterns {
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            let own = directory || !pattern.directory;
            if (own && pattern.glob.is_match(path)) || parents.into_iter().any(|parent| pattern.glob.is_match(parent)) {
                matched = !pattern.negated;
            }
        }
        matched == self.include
    }
}

fn pattern(line: &str) -> Result<Option<Pattern>> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (negated, rest) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let (directory, rest) = rest.strip_suffix('/').map_or((false, rest), |rest| (true, rest));
    // One without a slash holds at every depth.
    let anchored = rest.contains('/');
    let rest = rest.trim_start_matches('/').trim_start_matches("./");
    let text = if anchored { rest.to_owned() } else { format!("**/{rest}") };
    let glob = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).build();
    let glob = glob.map_err(|e| Fault::usage(format!("project.toml: `{line}` is no pattern: {e}")))?;
    Ok(Some(Pattern { glob: glob.compile_matcher(), directory, negated }))
}

/// `io.buildpacks.project.metadata`: what the project's file says of where the source is from.
pub fn label(project: Option<&Project>) -> serde_json::Value {
    match project {
        Some(project) if !project.version.is_empty() || !project.source_url.is_empty() => {
            let mut source = serde_json::json!({ "type": "project" });
            if !project.version.is_empty() {
                source["version"] = serde_json::json!({ "declared": project.version });
            }
            if !project.source_url.is_empty() {
                source["metadata"] = serde_json::json!({ "url": project.source_url });
            }
            serde_json::json!({ "source": source })
        }
        _ => serde_json::json!({}),
    }
}

/// Writes the buildpack that a script in the project's file stands for; gives its id.
pub fn script(named: &Named, into: &Path) -> Result<()> {
    let Some(script) = &named.script else { return Ok(()) };
    let text = |key: &str, value: &str| format!("{key} = {}\n", serde_json::Value::from(value));
    let descriptor = format!(
        "{}[buildpack]\n{}{}[[stacks]]\nid = \"*\"\n",
        text("api", &script.api),
        text("id", &named.id),
        text("version", "0.0.0")
    );
    let put = |name: &str, content: String| {
        let path = into.join(name);
        std::fs::write(&path, content).map_err(super::tree::failed("write", &path))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, open).map_err(super::tree::failed("write", &path))
    };
    std::fs::create_dir_all(into.join("bin")).map_err(super::tree::failed("make", into))?;
    put("buildpack.toml", descriptor)?;
    put("bin/detect", format!("#!{}\n\nexit 0\n", script.shell))?;
    put("bin/build", format!("#!{}\n\n{}\n", script.shell, script.inline))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let project = Project { include: own(include), exclude: own(exclude), ..Project::default() };
        Selection::of(Some(&project)).unwrap()
    }

    #[test]
    fn files_are_taken_as_git_would_ignore_them() {
        for (include, exclude, path, directory, kept) in [
            (&[][..], &[][..], "a", false, true),
            (&[], &["*.md"], "a/b.md", false, false),
            (&[], &["*.md", "!keep.md"], "a/keep.md", false, true),
            (&[], &["spec/"], "spec/a/b", false, false),
            (&[], &["spec/"], "spec", true, false),
            (&[], &["spec/"], "spec", false, true),
            (&[], &["/a"], "b/a", false, true),
            (&[], &["a/*.o"], "a/b/c.o", false, true),
            (&[], &["a/**/c.o"], "a/b/c.o", false, false),
            (&[], &["# no", ""], "# no", false, true),
            (&["src/", "go.mod"], &[], "src/x/y.go", false, true),
            (&["src/", "go.mod"], &[], "go.mod", false, true),
            (&["src/", "go.mod"], &[], "README", false, false),
            (&["src/", "!*.log"], &[], "src/a.log", false, false),
        ] {
            assert_eq!(selection(include, exclude).keeps(path, directory), kept, "{include:?} {exclude:?} {path}");
        }
        let project = Project { exclude: vec!["a[".into()], ..Project::default() };
        assert!(Selection::of(Some(&project)).is_err());
    }

    #[test]
    fn a_script_is_a_buildpack() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"me/own\"\n[io.buildpacks.group.script]\napi = \"0.10\"\ninline = \"echo \\\"hi\\\"\"\n";
        let project = Project::parse("project.toml", text).unwrap();
        script(&project.group[0], directory.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        let descriptor = buildpack::descriptor::Descriptor::parse("x", &read("buildpack.toml")).unwrap();
        assert_eq!(descriptor.shown(), "me/own@0.0.0");
        assert_eq!(read("bin/build"), "#!/bin/sh\n\necho \"hi\"\n");
    }
}
