//! `kustomize localize`: a copy of a kustomization and of all it names, in which nothing is elsewhere any more.
//!
//! Reads as a build does and gives the files of the copy; whoever asked writes them.

mod charts;
mod fields;
mod plugins;

use std::collections::BTreeMap;

use yaml::Value;

use crate::{
    Error, FileError, Files, Kustomization, Remote, Result,
    address::Address,
    generate,
    kustomization::read_value,
    path, read, refused,
    target::{self, MAX_DEPTH},
};

/// The directory in which the copy keeps what was elsewhere.
const ELSEWHERE: &str = "localized-files";
/// Bytes of a copy at most.
const LARGEST: usize = 1 << 30;

/// What is copied, and how far it may reach.
#[derive(Clone, Copy, Default)]
pub struct Localize<'a> {
    /// The directory that local references may not leave; that of the kustomization when there is none.
    pub scope: Option<&'a str>,
    /// Brings what is not in the files; without it remote references are an error.
    pub remote: Option<&'a dyn Remote>,
}

/// A copy, by paths in its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Localized {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Directories of charts, which may have nothing in them.
    pub directories: Vec<String>,
    /// Where the copy of the kustomization itself is.
    pub target: String,
    /// The name that kustomize gives the directory of the copy.
    pub name: String,
}

impl Localized {
    /// Adds a file. Nothing leads out of the copy, and it has an end.
    fn add(&mut self, path: &str, content: Vec<u8>) -> Result<()> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(Error::Refused(format!("{path} is outside of the copy")));
        }
        let whole: usize = self.files.values().map(Vec::len).sum();
        if whole + content.len() > LARGEST {
            return Err(Error::Refused(format!("the copy is larger than {LARGEST} bytes")));
        }
        self.files.insert(path.to_owned(), content);
        Ok(())
    }
}

/// Copies the kustomization in the directory (or at the address) `target`.
pub fn localize(files: &dyn Files, target: &str, options: &Localize<'_>) -> Result<Localized> {
    let failed = |error: Error| error.during(format!("unable to localize target {target:?}"));
    let mut copy = Localized::default();
    if let Some(address) = Address::parse(target).ok().filter(|_| files.canonical(target).is_none()) {
        if let Some(scope) = options.scope {
            return Err(Error::wrong(format!("scope {scope:?} specified for remote localize target {target:?}")));
        }
        let reference = referred(target, &address)?;
        let remote = options.remote.ok_or_else(|| refused(target))?;
        let (inside, root) = remote.repository(target).map_err(Error::Wrong)?;
        let root = inside.canonical(&root).ok_or_else(|| Error::wrong(format!("'{root}' is not in {target}")))?;
        let base = if root == "/" { path::base(&address.repository) } else { path::base(&root) };
        copy.name = format!("localized-{base}-{}", reference.replace('/', "-"));
        copy.target = path::clean(root.trim_start_matches('/'));
        let place = Root {
            files: inside.as_ref(),
            root,
            scope: "/".to_owned(),
            copy: copy.target.clone(),
            visited: vec![target.to_owned()],
            options,
        };
        place.localize(&mut copy).map_err(failed)?;
        return Ok(copy);
    }
    let missing = |what: &str| Error::Absent(format!("unable to establish localize {what}: no such directory"));
    let root = files.canonical(target).filter(|found| files.is_dir(found));
    let root = root.ok_or_else(|| missing(&format!("target {target:?}")))?;
    let scope = match options.scope {
        None => root.clone(),
        Some(scope) => {
            let found = files.canonical(scope).filter(|found| files.is_dir(found));
            found.ok_or_else(|| missing(&format!("scope {scope:?}")))?
        }
    };
    if !path::within(&root, &scope) {
        let scope = options.scope.unwrap_or_default();
        return Err(Error::wrong(format!("localize scope {scope:?} does not contain target {target:?} at {root:?}")));
    }
    copy.name = match path::base(&root) {
        "" => "localized".to_owned(),
        base => format!("localized-{base}"),
    };
    copy.target = relative(&scope, &root);
    let place = Root { files, root: root.clone(), scope, copy: copy.target.clone(), visited: vec![root], options };
    place.localize(&mut copy).map_err(failed)?;
    Ok(copy)
}

/// One kustomization that is copied.
struct Root<'a> {
    files: &'a dyn Files,
    root: String,
    /// No directory outside may be named: the scope, or the repository that was brought.
    scope: String,
    /// Where its copy is.
    copy: String,
    visited: Vec<String>,
    options: &'a Localize<'a>,
}

impl Root<'_> {
    fn localize(&self, copy: &mut Localized) -> Result<()> {
        let (name, file, text) = target::find(self.files, &self.root)?;
        let value = yaml::from_str(&text).map_err(|source| Error::Malformed { file: file.clone(), source })?;
        let invalid = |message| Error::Invalid { file: file.clone(), message };
        read_value::<Kustomization>(value.clone()).map_err(invalid)?;
        let mut value = fields::canonical(value);
        if let Value::Map(fields) = &mut value {
            self.fields(fields, copy)?;
            self.plugins(fields, copy)?;
        }
        copy.add(&path::clean(&format!("{}/{name}", self.copy)), yaml::to_go(&value).into_bytes())
    }

    /// The content of a file that may be named here.
    fn load(&self, name: &str) -> Result<Vec<u8>> {
        let wrong = |error: Error| error.during("invalid file reference");
        if is_address(name) {
            let remote = self.options.remote.ok_or_else(|| wrong(refused(name)))?;
            return remote.text(name).map(String::into_bytes).map_err(|why| wrong(Error::Wrong(why)));
        }
        let at = path::join(&self.root, name);
        let Some(real) = self.files.canonical(&at) else { return Err(wrong(FileError::NotFound(at).into())) };
        if self.files.is_dir(&real) {
            return Err(wrong(FileError::Directory(at).into()));
        }
        if !path::within(&real, &self.root) {
            return Err(wrong(FileError::Outside { file: at, root: self.root.clone() }.into()));
        }
        self.files.read(&real).map_err(|error| wrong(error.into()))
    }

    /// Copies a file; gives the path that names its copy.
    fn file(&self, name: &str, copy: &mut Localized) -> Result<String> {
        if name.is_empty() {
            return Ok(String::new());
        }
        let content = self.load(name)?;
        self.keep(name, content, copy)
    }

    fn keep(&self, name: &str, content: Vec<u8>, copy: &mut Localized) -> Result<String> {
        let place = if is_address(name) {
            self.free(&format!("file {name:?}"))?;
            file_place(name)
        } else {
            // Behind every link: the copy has none.
            let real = self.files.canonical(&path::join(&self.root, name));
            relative(&self.root, &real.unwrap_or_else(|| path::join(&self.root, name)))
        };
        copy.add(&path::clean(&format!("{}/{place}", self.copy)), content)?;
        Ok(place)
    }

    /// What was elsewhere needs a directory of its own.
    fn free(&self, what: &str) -> Result<()> {
        match self.files.canonical(&path::join(&self.root, ELSEWHERE)) {
            Some(_) => Err(Error::wrong(format!("{} already contains {ELSEWHERE} needed to store {what}", self.root))),
            None => Ok(()),
        }
    }

    /// Copies another kustomization; gives the path that names its copy.
    fn directory(&self, name: &str, copy: &mut Localized) -> Result<String> {
        if name.is_empty() {
            return Ok(String::new());
        }
        let within = |error: Error| error.during(format!("unable to localize root {name:?}"));
        let here = self.files.canonical(&path::join(&self.root, name));
        if here.is_none() && path::is_remote(name) {
            return self.repository(name, copy);
        }
        let below = self.below(name).map_err(|error| error.during("invalid root reference"))?;
        let place = relative(&self.root, &below.root);
        below.localize(copy).map_err(within)?;
        Ok(place)
    }

    fn below(&self, name: &str) -> Result<Self> {
        let absent = || {
            let at = path::join(&self.root, name);
            Error::Absent(format!("must build at directory: '{at}' is no directory"))
        };
        let root = target::root_below(self.files, &self.root, name)?.ok_or_else(absent)?;
        if !path::within(&root, &self.scope) {
            return Err(Error::Refused(format!("root {root:?} outside localize scope {:?}", self.scope)));
        }
        let visited = target::visit(&self.visited, &root)?;
        let copy = path::clean(&format!("{}/{}", self.copy, relative(&self.root, &root)));
        Ok(Self { files: self.files, root, scope: self.scope.clone(), copy, visited, options: self.options })
    }

    fn repository(&self, name: &str, copy: &mut Localized) -> Result<String> {
        let address = Address::parse(name).map_err(Error::Wrong)?;
        referred(name, &address)?;
        if self.visited.iter().any(|visited| visited == name) || self.visited.len() >= MAX_DEPTH {
            return Err(Error::Cycle { candidate: name.to_owned(), visited: name.to_owned() });
        }
        let remote = self.options.remote.ok_or_else(|| refused(name))?;
        let (files, root) = remote.repository(name).map_err(Error::Wrong)?;
        let root = files.canonical(&root).ok_or_else(|| Error::wrong(format!("'{root}' is not in {name}")))?;
        self.free(&format!("root {name:?}"))?;
        let place = path::clean(&format!("{}/{}", repository_place(&address), root.trim_start_matches('/')));
        let mut visited = self.visited.clone();
        visited.push(name.to_owned());
        let below = Root {
            files: files.as_ref(),
            root,
            scope: "/".to_owned(),
            copy: path::clean(&format!("{}/{place}", self.copy)),
            visited,
            options: self.options,
        };
        below.localize(copy).map_err(|error| error.during(format!("unable to localize root {name:?}")))?;
        Ok(place)
    }

    /// A file with objects, or a directory.
    fn resource(&self, name: &str, copy: &mut Localized) -> Result<String> {
        let as_file = self.load(name).and_then(|content| {
            let text = target::utf8(content.clone(), name)?;
            read::resources(&text, name).map_err(|error| error.during(format!("invalid resource at file {name:?}")))?;
            self.keep(name, content, copy)
        });
        let Err(file) = as_file else { return as_file };
        self.directory(name, copy).map_err(|directory| {
            Error::wrong(format!(
                "could not localize path {name:?} as file: {file}; could not localize path {name:?} as directory: {directory}"
            ))
        })
    }

    /// `KEY=FILE` or `FILE`.
    fn source(&self, source: &str, copy: &mut Localized) -> Result<String> {
        let (key, file) = generate::file(source)?;
        let place = self.file(&file, copy).map_err(|error| error.during(format!("invalid file source {source:?}")))?;
        Ok(if source == file { place } else { format!("{key}={place}") })
    }

    /// A patch: written down here, or in a file.
    fn patch(&self, entry: &str, copy: &mut Localized) -> Result<String> {
        match self.objects(entry)? {
            (_, true) => self.file(entry, copy),
            (_, false) => Ok(entry.to_owned()),
        }
    }

    /// Objects that are written down here, or in a file that is named.
    fn objects(&self, entry: &str) -> Result<(Vec<crate::resource::Resource>, bool)> {
        let inline = match read::resources(entry, "") {
            Ok(found) => return Ok((found, false)),
            Err(error) => error,
        };
        let file = self.load(entry).and_then(|content| read::resources(&target::utf8(content, entry)?, entry));
        file.map(|found| (found, true)).map_err(|error| {
            Error::wrong(format!(
                "unable to load resource entry {entry:?}: when parsing as inline received error: {inline}\nwhen parsing as filepath received error: {error}"
            ))
        })
    }
}

fn is_address(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// The reference of an address: what has none may be something else tomorrow.
fn referred<'a>(name: &str, address: &'a Address) -> Result<&'a str> {
    match address.reference.as_str() {
        "" => Err(Error::wrong(format!("localize remote root {name:?} missing ref query string parameter"))),
        reference => Ok(reference),
    }
}

/// The path from one clean, absolute directory to another place.
fn relative(from: &str, to: &str) -> String {
    let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (from, to) = (parts(from), parts(to));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - same);
    let path: Vec<String> = up.chain(to[same..].iter().cloned()).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

/// Where the copy of a file at an address is: by host and path.
fn file_place(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, file) = rest.split_once('/').unwrap_or((rest, ""));
    format!("{ELSEWHERE}/{}{}", host_name(host), path::clean(&format!("/{file}")))
}

/// Where the copy of a repository is: by host, path and reference.
fn repository_place(address: &Address) -> String {
    let (host, repository) = match address.repository.split_once("://") {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        // As ssh takes it: `user@host:path`.
        None => address.repository.split_once([':', '/']).unwrap_or((&address.repository, "")),
    };
    let repository = repository.strip_suffix(".git").unwrap_or(repository);
    format!("{ELSEWHERE}/{}{}/{}", host_name(host), path::clean(&format!("/{repository}")), address.reference)
}

/// Without user and port.
fn host_name(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.starts_with('[') {
        return host.split(['[', ']']).nth(1).unwrap_or(host);
    }
    host.split(':').next().unwrap_or(host)
}
