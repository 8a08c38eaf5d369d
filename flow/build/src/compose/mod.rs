//! Compose files as far as they concern images: merged, interpolated, extended, included, and turned into builds.
//!
//! Reads nothing itself: files come through [`Files`]. The result is the canonical model as `compose config` prints it, and [`builds`] of
//! the services that have one. Everything about running containers is kept as it is written and never looked at.

mod canonical;
mod interpolate;
mod marks;
mod merge;
mod model;
mod parts;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

use interpolate::read_env_over;
pub use interpolate::{interpolate, read_env};
pub use model::{SecretSource, ServiceBuild, ServiceSecret, builds, builds_in_order};

/// Bytes of one file, files of one project, and how deep `include` and `extends` may go.
pub const MAX_SIZE: u64 = 4 << 20;
const MAX_FILES: usize = 200;
const MAX_DEPTH: usize = 20;

/// Why a project cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct ComposeError {
    pub file: String,
    pub reason: String,
}

/// Gives the texts of files by absolute path; `Ok(None)` for one that is not there.
pub trait Files {
    fn read(&self, path: &Path) -> Result<Option<String>, String>;
}

/// What a project is loaded with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Absolute, the later laid over the earlier.
    pub files: Vec<PathBuf>,
    /// Absolute; relative paths in the files count from it.
    pub directory: PathBuf,
    /// The name of the project, when it was given.
    pub name: Option<String>,
    pub profiles: BTreeSet<String>,
    /// The environment with what the `.env` file adds to it.
    pub variables: BTreeMap<String, String>,
    /// Variables stay as they are written.
    pub verbatim: bool,
}

/// A project, merged and resolved.
#[derive(Debug, Clone)]
pub struct Project {
    pub name: String,
    pub directory: PathBuf,
    /// The canonical model.
    pub model: Value,
    /// Variables that were used and have no value.
    pub unset: Vec<String>,
    /// All profiles that services name, whether they are asked for or not.
    pub profiles: BTreeSet<String>,
}

impl Project {
    /// Leaves these services, what they depend on, and what those use.
    ///
    /// # Errors
    /// A name that is no service.
    pub fn select(&mut self, names: &[String]) -> Result<(), ComposeError> {
        let Some(root) = self.model.as_object_mut() else { return Ok(()) };
        let Some(Value::Object(services)) = root.get_mut("services") else { return Ok(()) };
        if let Some(missing) = names.iter().find(|name| !services.contains_key(*name)) {
            let known: Vec<&str> = services.keys().map(String::as_str).collect();
            let reason = format!("has no service `{missing}`: there are {}", known.join(", "));
            return Err(ComposeError { file: format!("project {}", self.name), reason });
        }
        let (mut wanted, mut look): (BTreeSet<String>, Vec<String>) = (BTreeSet::new(), names.to_vec());
        while let Some(name) = look.pop() {
            let needs = services.get(&name).and_then(|service| service.get("depends_on")?.as_object());
            look.extend(
                needs.into_iter().flat_map(serde_json::Map::keys).filter(|name| !wanted.contains(*name)).cloned(),
            );
            wanted.insert(name);
        }
        services.retain(|name, _| wanted.contains(name));
        parts::used(root);
        Ok(())
    }
}

/// Loads a project.
pub fn load(options: &Options, files: &dyn Files) -> Result<Project, ComposeError> {
    let mut loader = Loader { files, unset: Vec::new(), count: 0, verbatim: options.verbatim, marks: HashMap::new() };
    let paths = &options.files;
    let variables = named(options, files);
    let mut model = loader.layered(paths, &options.directory, &variables, 0)?;
    let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let wrong = |reason: String| ComposeError { file: first.clone(), reason };
    let written = model.get("name").and_then(Value::as_str).map(str::to_owned);
    let directory = options.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name_of(options).or(written).unwrap_or(directory);
    let name = proper(&name);
    if name.is_empty() {
        return Err(wrong("the project has no name: write `name:` or give one".into()));
    }
    let Some(root) = model.as_object_mut() else { return Err(wrong("is no Compose file: a map is expected".into())) };
    root.remove("version");
    root.remove("include");
    root.insert("name".into(), Value::String(name.clone()));
    let services = root.entry("services").or_insert_with(|| serde_json::json!({}));
    let Some(services) = services.as_object_mut() else { return Err(wrong("`services` is no map".into())) };
    let names: Vec<String> = services.keys().cloned().collect();
    let mut profiles = BTreeSet::new();
    for service in &names {
        let own = services[service].get("profiles").and_then(Value::as_array).into_iter().flatten();
        profiles.extend(own.filter_map(Value::as_str).map(str::to_owned));
        let active = services[service].get("profiles").and_then(Value::as_array).is_none_or(|profiles| {
            profiles.is_empty()
                || profiles
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|p| options.profiles.contains(p) || options.profiles.contains("*"))
        });
        if !active {
            services.remove(service);
        }
    }
    for service in services.values_mut().filter_map(Value::as_object_mut) {
        loader.environment(service, &variables)?;
        loader.labels(service, &variables)?;
    }
    let canonical =
        canonical::Canonical { project: &name, directory: &options.directory, variables: &variables, services: &names };
    canonical.apply(&mut model).map_err(wrong)?;
    if !options.verbatim
        && let Some(root) = model.as_object_mut()
    {
        parts::used(root);
    }
    let mut unset = loader.unset;
    unset.sort();
    unset.dedup();
    Ok(Project { name, directory: options.directory.clone(), model, unset, profiles })
}

struct Loader<'a> {
    files: &'a dyn Files,
    unset: Vec<String>,
    count: usize,
    verbatim: bool,
    /// `!reset` and `!override` of each file.
    marks: HashMap<PathBuf, Vec<marks::Mark>>,
}

impl Loader<'_> {
    /// Files laid one over the other, with what they include below them.
    fn layered(
        &mut self,
        paths: &[PathBuf],
        directory: &Path,
        variables: &BTreeMap<String, String>,
        depth: usize,
    ) -> Result<Value, ComposeError> {
        let mut model = Value::Object(serde_json::Map::new());
        for path in paths {
            let read = self.file(path, directory, variables, depth)?;
            if let Some(marks) = self.marks.get(path) {
                marks::clear(&mut model, marks);
            }
            merge::merge(&mut model, read);
        }
        Ok(model)
    }

    /// One file: interpolated, its services extended, with absolute paths, over what it includes.
    fn file(
        &mut self,
        path: &Path,
        directory: &Path,
        variables: &BTreeMap<String, String>,
        depth: usize,
    ) -> Result<Value, ComposeError> {
        let wrong = |reason: String| ComposeError { file: path.display().to_string(), reason };
        if depth > MAX_DEPTH {
            return Err(wrong(format!("`include` and `extends` go deeper than {MAX_DEPTH} files, or in a circle")));
        }
        let mut value = self.parse(path, variables)?;
        let mut model = Value::Object(serde_json::Map::new());
        let included = value.as_object_mut().and_then(|root| root.remove("include"));
        for entry in included.iter().flat_map(|included| included.as_array().cloned().unwrap_or_default()) {
            let below = self.include(path, &entry, directory, variables, depth)?;
            merge::merge(&mut model, below);
        }
        if let Some(Value::Object(services)) = value.get("services") {
            let names: Vec<String> = services.keys().cloned().collect();
            for name in names {
                let whole = self.extended(path, &value, &name, directory, variables, &mut Vec::new())?;
                value["services"][&name] = whole;
            }
        }
        model::absolute(&mut value, directory, variables);
        if let Some(marks) = self.marks.get(path) {
            marks::clear(&mut model, marks);
        }
        merge::merge(&mut model, value);
        Ok(model)
    }

    fn parse(&mut self, path: &Path, variables: &BTreeMap<String, String>) -> Result<Value, ComposeError> {
        let wrong = |reason: String| ComposeError { file: path.display().to_string(), reason };
        self.count += 1;
        if self.count > MAX_FILES {
            return Err(wrong(format!("the project has more than {MAX_FILES} files")));
        }
        let text = self.files.read(path).map_err(wrong)?.ok_or_else(|| wrong("is not there".into()))?;
        let (mut whole, mut all): (Option<Value>, Vec<marks::Mark>) = (None, Vec::new());
        // Documents of one file are laid one over the other, as files are.
        for document in documents(&text) {
            let (value, marks) = self.document(path, &document, variables)?;
            match &mut whole {
                None => whole = Some(value),
                Some(whole) => {
                    marks::clear(whole, &marks);
                    merge::merge(whole, value);
                }
            }
            all.extend(marks);
        }
        self.marks.insert(path.to_owned(), all);
        Ok(whole.unwrap_or_else(|| serde_json::json!({})))
    }

    fn document(
        &mut self,
        path: &Path,
        text: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<(Value, Vec<marks::Mark>), ComposeError> {
        let wrong = |reason: String| ComposeError { file: path.display().to_string(), reason };
        let mut value = read_yaml(text).map_err(wrong)?;
        if !value.is_object() {
            return Err(wrong("is no Compose file: a map is expected".into()));
        }
        if !self.verbatim {
            self.replace(&mut value, variables, &mut String::new()).map_err(wrong)?;
        }
        schema::check(&value, text).map_err(|schema::Wrong { place, reason }| ComposeError {
            file: place.map_or_else(
                || path.display().to_string(),
                |(line, column)| format!("{}:{line}:{column}", path.display()),
            ),
            reason,
        })?;
        let marks = marks::marks(text).map_err(wrong)?;
        marks::reset(&mut value, &marks);
        merge::normalize(&mut value);
        Ok((value, marks))
    }

    /// What the files of variables of a service hold, below what it says itself.
    fn environment(
        &mut self,
        service: &mut serde_json::Map<String, Value>,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), ComposeError> {
        let mut found = BTreeMap::new();
        for entry in service.get("env_file").and_then(Value::as_array).into_iter().flatten() {
            let Some(path) = entry.as_str().or_else(|| entry["path"].as_str()) else { continue };
            let said = |reason: String| ComposeError { file: path.to_owned(), reason };
            match self.files.read(Path::new(path)).map_err(said)? {
                // Later files hold over earlier ones; what they name may stand in either, or in the environment.
                Some(text) => {
                    let mut known = variables.clone();
                    known.extend(found.clone());
                    let mut own = BTreeMap::new();
                    read_env_over(&text, &known, &mut own).map_err(said)?;
                    found.extend(own);
                }
                None if entry["required"] == false => {}
                None => return Err(said("is not there".into())),
            }
        }
        if !self.verbatim {
            // Its values stand in the environment now.
            service.remove("env_file");
        }
        if !found.is_empty() {
            let own = service.entry("environment").or_insert_with(|| serde_json::json!({}));
            if let Value::Object(own) = own {
                for (name, value) in found {
                    own.entry(name).or_insert(Value::String(value));
                }
            }
        }
        Ok(())
    }

    /// What the files of labels of a service hold, below what it says itself.
    fn labels(
        &mut self,
        service: &mut serde_json::Map<String, Value>,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), ComposeError> {
        let mut found = BTreeMap::new();
        for path in service.get("label_file").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            let said = |reason: String| ComposeError { file: path.to_owned(), reason };
            let text = self.files.read(Path::new(path)).map_err(said)?.ok_or_else(|| said("is not there".into()))?;
            let mut own = BTreeMap::new();
            read_env_over(&text, variables, &mut own).map_err(said)?;
            found.extend(own);
        }
        if !found.is_empty()
            && let Value::Object(own) = service.entry("labels").or_insert_with(|| serde_json::json!({}))
        {
            for (name, value) in found {
                own.entry(name).or_insert(Value::String(value));
            }
        }
        Ok(())
    }

    /// Interpolates every text, but no key. `at` is the place, for errors.
    fn replace(
        &mut self,
        value: &mut Value,
        variables: &BTreeMap<String, String>,
        at: &mut String,
    ) -> Result<(), String> {
        let length = at.len();
        match value {
            Value::String(text) => {
                let done = interpolate(text, variables, &mut self.unset);
                *text = done.map_err(|reason| format!("{}: {reason}", at.trim_start_matches('.')))?;
            }
            Value::Array(items) => {
                for (number, item) in items.iter_mut().enumerate() {
                    at.push_str(&format!("[{number}]"));
                    self.replace(item, variables, at)?;
                    at.truncate(length);
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    at.push('.');
                    at.push_str(name);
                    self.replace(value, variables, at)?;
                    at.truncate(length);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn include(
        &mut self,
        path: &Path,
        entry: &Value,
        directory: &Path,
        variables: &BTreeMap<String, String>,
        depth: usize,
    ) -> Result<Value, ComposeError> {
        let wrong = |reason: &str| ComposeError { file: path.display().to_string(), reason: reason.into() };
        let list = |value: &Value| -> Vec<String> {
            match value {
                Value::String(text) => vec![text.clone()],
                Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            }
        };
        let files = if entry.is_string() { list(entry) } else { list(&entry["path"]) };
        let files: Vec<PathBuf> = files.iter().map(|file| join(directory, file)).collect();
        let Some(first) = files.first() else { return Err(wrong("an entry of `include` has no path")) };
        let below = match entry.get("project_directory").and_then(Value::as_str) {
            Some(named) => join(directory, named),
            None => first.parent().unwrap_or(directory).to_owned(),
        };
        // Its own variables hold only where the environment says nothing.
        let mut own = variables.clone();
        let named = entry.get("env_file").map(list);
        let must = named.is_some();
        for file in named.unwrap_or_else(|| vec![".env".to_owned()]) {
            // One that is named counts from here, and the other lies there.
            let file = join(if must { directory } else { &below }, &file);
            let said = |reason: String| ComposeError { file: file.display().to_string(), reason };
            match self.files.read(&file).map_err(said)? {
                Some(text) => read_env(&text, &mut own).map_err(said)?,
                None if must => return Err(said("is not there".into())),
                None => {}
            }
        }
        let mut included = self.layered(&files, &below, &own, depth + 1)?;
        // What is built without a context is built where the included files count from.
        let services = included.get_mut("services").and_then(Value::as_object_mut);
        for service in services.into_iter().flat_map(serde_json::Map::values_mut) {
            if let Some(build) = service.get_mut("build").and_then(Value::as_object_mut) {
                build.entry("context").or_insert_with(|| below.display().to_string().into());
            }
        }
        Ok(included)
    }

    /// A service over what it extends.
    fn extended(
        &mut self,
        path: &Path,
        file: &Value,
        name: &str,
        directory: &Path,
        variables: &BTreeMap<String, String>,
        seen: &mut Vec<(PathBuf, String)>,
    ) -> Result<Value, ComposeError> {
        let wrong = |reason: String| ComposeError { file: path.display().to_string(), reason };
        let here = (path.to_owned(), name.to_owned());
        if seen.contains(&here) || seen.len() > MAX_DEPTH {
            return Err(wrong(format!(
                "service `{name}` extends itself, over {} others",
                seen.len().saturating_sub(1)
            )));
        }
        seen.push(here);
        let mut service = file["services"][name].clone();
        if service.is_null() {
            return Err(wrong(format!("there is no service `{name}` to extend")));
        }
        let Some(extends) = service.as_object_mut().and_then(|service| service.remove("extends")) else {
            return Ok(service);
        };
        let (other, service_name) = match &extends {
            Value::String(name) => (None, name.clone()),
            extends => {
                let name = extends["service"].as_str();
                let name = name.ok_or_else(|| wrong(format!("service `{name:?}`: `extends` names no service")))?;
                (extends["file"].as_str().map(str::to_owned), name.to_owned())
            }
        };
        let mut base = match other {
            None => self.extended(path, file, &service_name, directory, variables, seen)?,
            Some(other) => {
                let other = join(directory, &other);
                let parsed = self.parse(&other, variables)?;
                let there = other.parent().unwrap_or(directory).to_owned();
                let base = self.extended(&other, &parsed, &service_name, &there, variables, seen)?;
                // Its paths count from where it stands.
                let mut whole = serde_json::json!({ "services": { "x": base } });
                model::absolute(&mut whole, &there, variables);
                whole["services"]["x"].take()
            }
        };
        if let Some(marks) = self.marks.get(path) {
            marks::clear(&mut base, &marks::below(marks, &["services", name]));
        }
        merge::merge(&mut base, service);
        Ok(base)
    }
}

fn read_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: true, duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error };
    let value: Option<Value> = serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())?;
    Ok(value.unwrap_or_else(|| serde_json::json!({})))
}

/// The documents of a file, each with as many lines before it as it has in the file. What holds none is none.
fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let begins =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n']));
        // Behind `--- ` a value may begin.
        let empty = line.trim_end() == "---";
        if begins && empty && all.last().is_some_and(|last| !blank(last)) {
            all.push("\n".repeat(number));
        }
        if let Some(last) = all.last_mut() {
            last.push_str(if begins && empty { "\n" } else { line });
        }
    }
    if all.len() > 1 {
        all.retain(|one| !blank(one));
    }
    all
}

/// Whether there are only comments.
fn blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// The name that was given, or that the environment has.
fn name_of(options: &Options) -> Option<String> {
    let variable = options.variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    options.name.clone().or_else(|| variable.cloned())
}

/// A name with what names may hold.
fn proper(name: &str) -> String {
    let name: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    name.trim_start_matches(['-', '_']).to_owned()
}

/// The variables, with the project's name among them: files may use it before they are read.
fn named(options: &Options, files: &dyn Files) -> BTreeMap<String, String> {
    let mut variables = options.variables.clone();
    let written = || {
        let texts = options.files.iter().rev().filter_map(|path| files.read(path).ok().flatten());
        let names = texts.filter(|text| text.contains("name:")).flat_map(|text| {
            let read = |document: &String| read_yaml(document).ok()?["name"].as_str().map(str::to_owned);
            documents(&text).iter().rev().find_map(read)
        });
        let name = names.into_iter().next()?;
        interpolate(&name, &options.variables, &mut Vec::new()).ok()
    };
    let directory = || options.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name_of(options).or_else(written).unwrap_or_else(directory);
    variables.insert("COMPOSE_PROJECT_NAME".into(), proper(&name));
    variables
}

/// A path of this machine as Compose files write it: from a directory, or with `~` from the home of who builds. What begins at the root,
/// or at a drive of Windows, stays as it is.
pub(crate) fn place(directory: &Path, variables: &BTreeMap<String, String>, path: &str) -> String {
    let drive = path.starts_with(|c: char| c.is_ascii_alphabetic()) && matches!(path.get(1..3), Some(":\\" | ":/"));
    if path.starts_with('/') || drive {
        return path.to_owned();
    }
    match (path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')), variables.get("HOME")) {
        (Some(rest), Some(home)) => join(Path::new(home), rest.trim_start_matches('/')).display().to_string(),
        _ => join(directory, path).display().to_string(),
    }
}

/// A path as a file names it, from a directory, without `.` and `..`.
pub(crate) fn join(directory: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in directory.join(path).components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests;
