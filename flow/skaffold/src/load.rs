//! A file and all it requires, as configurations in the order in which skaffold works on them.

use std::collections::{BTreeMap, HashMap};

use kustomize::{Files, path};
use yaml::{Map, Node, Value};

use crate::{
    Config, Entry, Error, Loaded, Options, Place, Result,
    decode::{Decoder, distance},
    defaults, profile,
    schema::Version,
    tree::{text, texts},
    upgrade::upgrade,
    walk,
};

/// More configurations than anyone has; `requires` can name them in circles with ever other profiles.
const MOST: usize = 2_000;
const DEEPEST: usize = 64;

/// Reads `file` and what it requires.
pub(crate) fn load(files: &dyn Files, file: &str, options: &Options<'_>) -> Result<Loaded> {
    let mut loader = Loader {
        options,
        profiles: Vec::new(),
        applied: HashMap::new(),
        named: BTreeMap::new(),
        warnings: Vec::new(),
        seen: 0,
    };
    let start = Ask {
        files,
        file: path::join(options.directory, file),
        selection: Vec::new(),
        profiles: options.profiles.to_vec(),
        required: false,
        dependency: false,
        remote: None,
        depth: 0,
    };
    let entries = loader.file(&start, None)?;
    if entries.is_empty() {
        return Err(match options.modules.is_empty() {
            true => Error::Nothing(format!("failed to get any valid configs from file {file:?}")),
            false => Error::Nothing(format!(
                "did not find any configs matching selection {:?}: `-m` takes the `metadata.name` of a configuration",
                options.modules
            )),
        });
    }
    let unknown: Vec<String> = options
        .profiles
        .iter()
        .filter(|name| !loader.profiles.iter().any(|known| known == name.trim_start_matches('-')))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(Error::NoProfile(unknown));
    }
    Ok(Loaded { entries, warnings: loader.warnings })
}

/// One file on the way, and how it was come to.
struct Ask<'a> {
    files: &'a dyn Files,
    file: String,
    /// The configurations wanted of it; empty for all.
    selection: Vec<String>,
    profiles: Vec<String>,
    /// Below a configuration that was asked for by name.
    required: bool,
    dependency: bool,
    /// The address it came from.
    remote: Option<String>,
    depth: usize,
}

struct Loader<'a> {
    options: &'a Options<'a>,
    /// The names of all profiles that were seen.
    profiles: Vec<String>,
    /// File, index, required → active profiles.
    applied: HashMap<(String, usize, bool), Vec<String>>,
    /// Name of a configuration → its file.
    named: BTreeMap<String, String>,
    warnings: Vec<String>,
    seen: usize,
}

impl Loader<'_> {
    fn file(&mut self, ask: &Ask<'_>, parent: Option<&str>) -> Result<Vec<Entry>> {
        let read = ask.files.read(&ask.file).map_err(|source| match parent {
            None => Error::Missing { file: ask.file.clone(), source },
            Some(parent) => Error::MissingDependency { file: ask.file.clone(), parent: parent.to_owned() },
        })?;
        let text = String::from_utf8(read).map_err(|error| Error::Malformed {
            file: ask.file.clone(),
            source: yaml::Error {
                kind: yaml::ErrorKind::Scan,
                message: format!("the text is not UTF-8 (from byte {})", error.utf8_error().valid_up_to()),
                at: None,
                began: None,
            },
        })?;
        let configs = self.parse(&text, &ask.file)?;
        let mut here: Vec<&str> = Vec::new();
        for config in &configs {
            for profile in config.get("profiles").and_then(Value::as_list).unwrap_or_default() {
                let name = profile.as_map().map_or("", |profile| self::text(profile, "name"));
                if !self.profiles.iter().any(|known| known == name) {
                    self.profiles.push(name.to_owned());
                }
            }
            let name = name_of(config);
            if !name.is_empty() && here.contains(&name) {
                return Err(Error::Conflict(format!(
                    "multiple skaffold configs named {name:?} found in file {:?}",
                    ask.file
                )));
            }
            here.push(name);
        }
        let mut entries = Vec::new();
        for (index, config) in configs.into_iter().enumerate() {
            entries.extend(self.config(config, index, ask)?);
        }
        Ok(entries)
    }

    /// The configurations of a text, each brought to the newest version.
    fn parse(&mut self, text: &str, file: &str) -> Result<Vec<Map>> {
        let malformed = |source| Error::Malformed { file: file.to_owned(), source };
        let limits = yaml::Limits { bytes: 8 << 20, nodes: 500_000, expanded: 500_000, ..yaml::Limits::default() };
        let documents = yaml::parse_all(text, &limits, false).map_err(malformed)?;
        let mut configs = Vec::new();
        for document in documents {
            let Some(root) = document.into_expanded(&limits).map_err(malformed)? else { continue };
            if root.as_scalar().is_some_and(|text| text.is_empty()) {
                continue;
            }
            let version = version(&root, file)?;
            let mut decoder = Decoder { file, version, strict: true, warnings: Vec::new() };
            let mut config = decoder.fields(&root, "SkaffoldConfig", "")?;
            self.warnings.append(&mut decoder.warnings);
            upgrade(&mut config, version, file)?;
            configs.push(config);
        }
        if configs.is_empty() {
            return Err(Error::Nothing(format!(
                "failed to get any valid configs from file {file:?}: it has no document with an apiVersion"
            )));
        }
        Ok(configs)
    }

    fn config(&mut self, mut config: Map, index: usize, ask: &Ask<'_>) -> Result<Vec<Entry>> {
        let name = name_of(&config).to_owned();
        if !name.is_empty() {
            match self.named.get(&name) {
                Some(other) if *other != ask.file => {
                    return Err(Error::Conflict(format!(
                        "skaffold config named {name:?} found in multiple files: {other:?} and {:?}",
                        ask.file
                    )));
                }
                _ => self.named.insert(name.clone(), ask.file.clone()),
            };
        }
        if !ask.selection.is_empty() && !ask.selection.contains(&name) {
            return Ok(Vec::new());
        }
        self.seen += 1;
        if self.seen > MOST {
            return Err(Error::Limit(format!("more than {MOST} configurations: does `requires` lead in circles?")));
        }
        let modules = self.options.modules;
        let required = ask.required || modules.is_empty() || modules.contains(&name);
        let situation = &self.options.situation;
        let cannot = |problem: String| Error::Profile { config: name.clone(), file: ask.file.clone(), problem };
        let active = profile::active(&mut config, &ask.profiles, situation).map_err(cannot)?;
        profile::apply(&mut config, &active.names, &ask.file).map_err(cannot)?;
        config.remove("profiles");
        self.same_context(&config, &active.by_context).map_err(cannot)?;
        defaults::set(&mut config, situation).map_err(|problem| {
            Error::Conflict(format!(
                "failed to set default values for config {name:?} defined in file {:?}: {problem}",
                ask.file
            ))
        })?;
        let base = if ask.dependency { parent(&ask.file) } else { self.options.directory.to_owned() };
        let absolute = self.options.absolute.unwrap_or(ask.dependency);
        // What is required is found from the file itself, so it is asked for before its paths change.
        let requires = config.remove("requires");
        if absolute {
            walk::absolute(&mut config, &base);
        }
        let mut profiles = active.names;
        profiles.sort();
        let key = (ask.file.clone(), index, required);
        match self.applied.get(&key) {
            Some(before) if *before == profiles => return Ok(Vec::new()),
            Some(_) => {
                let id = if name.is_empty() { format!("index {index}") } else { name };
                return Err(Error::Conflict(format!(
                    "config {id:?} defined in file {:?} imported multiple times with different set of profiles",
                    ask.file
                )));
            }
            None => self.applied.insert(key, profiles.clone()),
        };
        let mut entries = Vec::new();
        for dependency in
            requires.as_ref().and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_map)
        {
            entries.extend(self.dependency(dependency, &profiles, required, &base, ask)?);
        }
        if required {
            let tree = Value::Map(config);
            let typed = Config::read(&tree).map_err(|problem| Error::Type {
                place: Place { file: ask.file.clone(), line: 0, column: 0 },
                path: name,
                expected: "a configuration",
                found: problem,
            })?;
            entries.push(Entry {
                config: typed,
                tree,
                file: ask.file.clone(),
                base: if absolute { String::new() } else { base },
                index,
                dependency: ask.dependency,
                remote: ask.remote.clone(),
            });
        }
        Ok(entries)
    }

    /// Profiles that one context activated must not deploy to another.
    fn same_context(&self, config: &Map, by_context: &[String]) -> std::result::Result<(), String> {
        let situation = &self.options.situation;
        let deploy = config.get("deploy").and_then(Value::as_map);
        let effective = deploy.map_or("", |deploy| text(deploy, "kubeContext"));
        if by_context.is_empty()
            || effective.is_empty()
            || situation.kube_context_given
            || effective == situation.kube_context
        {
            return Ok(());
        }
        Err(format!(
            "profiles {by_context:?} were activated by kube-context {:?}, but the effective kube-context is {effective:?} -- please revise your `profiles.activation` and `deploy.kubeContext` configurations",
            situation.kube_context
        ))
    }

    fn dependency(
        &mut self,
        dependency: &Map,
        active: &[String],
        required: bool,
        base: &str,
        ask: &Ask<'_>,
    ) -> Result<Vec<Entry>> {
        if ask.depth >= DEEPEST {
            return Err(Error::Limit(format!("{}: `requires` leads more than {DEEPEST} files deep", ask.file)));
        }
        let mut profiles = chosen(dependency, active);
        if self.options.propagate_profiles {
            for name in self.options.profiles {
                if !profiles.contains(name) {
                    profiles.push(name.clone());
                }
            }
        }
        let selection = texts(dependency, "configs");
        let mut next = Ask {
            files: ask.files,
            file: ask.file.clone(),
            selection,
            profiles,
            required,
            dependency: ask.dependency,
            remote: ask.remote.clone(),
            depth: ask.depth + 1,
        };
        if let Some(source) = Source::of(dependency) {
            let Some(remote) = self.options.remote else {
                return Err(Error::Remote(format!(
                    "{}: `requires` names {source}, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy beside the file and name its path",
                    ask.file
                )));
            };
            let (files, file) = remote
                .fetch(&source)
                .map_err(|problem| Error::Remote(format!("caching remote dependency {source}: {problem}")))?;
            next.file = found(files.as_ref(), &file);
            next.files = files.as_ref();
            next.dependency = true;
            next.remote = Some(source.to_string());
            return self.file(&next, Some(&ask.file));
        }
        let named = text(dependency, "path");
        if !named.is_empty() {
            // With absolute paths the original has already taken it relative to its base.
            let from = if self.options.absolute == Some(true) { base.to_owned() } else { parent(&ask.file) };
            next.file = found(ask.files, &path::join(&from, named));
        }
        next.dependency |= next.file != ask.file;
        self.file(&next, Some(&ask.file))
    }
}

/// The file itself, or the one in the directory.
fn found(files: &dyn Files, file: &str) -> String {
    if files.is_dir(file) { path::join(file, "skaffold.yaml") } else { file.to_owned() }
}

fn parent(file: &str) -> String {
    path::join(file, "..")
}

fn name_of(config: &Map) -> &str {
    config.get("metadata").and_then(Value::as_map).map_or("", |metadata| text(metadata, "name"))
}

/// The profiles that a requirement activates.
fn chosen(dependency: &Map, active: &[String]) -> Vec<String> {
    let entries = dependency.get("activeProfiles").and_then(Value::as_list).unwrap_or_default();
    let by = |entry: &Map| {
        let by = texts(entry, "activatedBy");
        by.is_empty() || active.iter().any(|name| by.contains(name))
    };
    entries
        .iter()
        .filter_map(Value::as_map)
        .filter(|entry| by(entry))
        .map(|entry| text(entry, "name").to_owned())
        .collect()
}

/// The version of a document.
fn version(root: &Node, file: &str) -> Result<Version> {
    let node = root.get("apiVersion");
    let given = node.and_then(Node::as_scalar).unwrap_or_default();
    if let Some(version) = Version::find(given) {
        return Ok(version);
    }
    let at = node.map_or(root.start, |node| node.start);
    let near =
        Version::all().map(|known| format!("skaffold/{}", known.name())).min_by_key(|known| distance(known, given));
    let hint = match near {
        _ if given.is_empty() => "; the document has none".to_owned(),
        Some(near) if distance(&near, given) <= 3 => format!("; did you mean {near:?}?"),
        _ => String::new(),
    };
    Err(Error::Version {
        place: Place { file: file.to_owned(), line: at.line, column: at.column },
        version: given.to_owned(),
        newest: Version::newest().name(),
        hint,
    })
}

/// Where a required configuration is, when not among the files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A file in a git repository: `path` may be a directory, `reference` is empty for the default branch.
    Git { repository: String, path: String, reference: String },
    /// A file in Google Cloud Storage.
    Bucket { source: String, path: String },
    /// A file in a repository that Google Cloud Build knows.
    CloudBuild { repository: String, path: String, reference: String },
}

impl Source {
    fn of(dependency: &Map) -> Option<Self> {
        let of = |key: &str| dependency.get(key).and_then(Value::as_map);
        let own = |map: &Map, key: &str| text(map, key).to_owned();
        if let Some(git) = of("git") {
            return Some(Self::Git {
                repository: own(git, "repo"),
                path: own(git, "path"),
                reference: own(git, "ref"),
            });
        }
        if let Some(bucket) = of("googleCloudStorage") {
            return Some(Self::Bucket { source: own(bucket, "source"), path: own(bucket, "path") });
        }
        of("googleCloudBuildRepoV2").map(|build| Self::CloudBuild {
            repository: own(build, "repo"),
            path: own(build, "path"),
            reference: own(build, "ref"),
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Git { repository, reference, .. } if reference.is_empty() => {
                write!(f, "the git repository {repository}")
            }
            Self::Git { repository, reference, .. } => write!(f, "the git repository {repository} at {reference}"),
            Self::Bucket { source, .. } => write!(f, "the storage {source}"),
            Self::CloudBuild { repository, .. } => write!(f, "the Cloud Build repository {repository}"),
        }
    }
}
