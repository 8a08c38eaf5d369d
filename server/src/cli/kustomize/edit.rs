//! `shipway kustomize edit` and `create`: changing a kustomization file.

use std::{path::Path, process::ExitCode};

use clap::{Args, Subcommand};
use kustomize::{Edit, NAMES};

use super::{Disk, unavailable, wrong};
use crate::fault::{Class, Fault, Result};

// What can be changed.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Add to the file
    #[command(subcommand)]
    Add(Add),
    /// Set what the file says
    #[command(subcommand)]
    Set(Set),
    /// Take out of the file
    #[command(subcommand)]
    Remove(Remove),
    /// Replace deprecated fields
    Fix(Fix),
}

#[derive(Debug, Args)]
pub struct Fix {
    /// Turn vars into replacements, where that is possible; changes the files that use them too
    #[arg(long)]
    vars: bool,
}

// The content of a generated ConfigMap or Secret.
#[derive(Debug, Args)]
pub struct Content {
    /// The name of the generator
    name: String,
    /// A key and its value
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A file, under its own name or another
    #[arg(long, value_name = "[KEY=]PATH")]
    from_file: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long, value_name = "PATH")]
    from_env_file: Vec<String>,
    /// The namespace of the generator
    #[arg(long, default_value = "")]
    namespace: String,
    /// What to do with one that is generated below: create, merge or replace
    #[arg(long, default_value = "", value_parser = ["", "create", "merge", "replace"])]
    behavior: String,
    /// The name stays as it is
    #[arg(long = "disableNameSuffixHash")]
    disable_name_suffix_hash: bool,
    /// Only for secrets
    #[arg(long = "type", default_value = "")]
    of: String,
}

// Other values for what is generated.
#[derive(Debug, Args)]
pub struct Literals {
    /// The name of the generator
    name: String,
    /// A key that is there, and its new value
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// The namespace that it has now
    #[arg(long, default_value = "")]
    namespace: String,
    /// The namespace that it gets
    #[arg(long, value_name = "NAMESPACE", default_value = "")]
    new_namespace: String,
}

#[derive(Debug, Args)]
pub struct Named {
    /// The names, with commas between
    #[arg(required = true, value_delimiter = ',', num_args = 1)]
    names: Vec<String>,
    /// The namespace that they have
    #[arg(long, default_value = "")]
    namespace: String,
}

#[derive(Debug, Args)]
pub struct Patch {
    /// The file of the patch
    #[arg(long, default_value = "", conflicts_with = "patch")]
    path: String,
    /// The patch itself
    #[arg(long, default_value = "")]
    patch: String,
    /// API group of its targets
    #[arg(long, default_value = "")]
    group: String,
    /// API version of its targets
    #[arg(long, default_value = "")]
    version: String,
    /// Kind of its targets
    #[arg(long, default_value = "")]
    kind: String,
    /// Name of its targets, a regular expression
    #[arg(long, default_value = "")]
    name: String,
    /// Namespace of its targets, a regular expression
    #[arg(long, default_value = "")]
    namespace: String,
    /// Annotations of its targets
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    annotation_selector: String,
    /// Labels of its targets
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    label_selector: String,
}

impl Patch {
    fn fields(&self) -> [(&str, &str); 2] {
        [("path", &self.path), ("patch", &self.patch)]
    }

    fn target(&self) -> [(&str, &str); 7] {
        [
            ("group", &self.group),
            ("version", &self.version),
            ("kind", &self.kind),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("annotationSelector", &self.annotation_selector),
            ("labelSelector", &self.label_selector),
        ]
    }
}

#[derive(Debug, Args)]
pub struct Labels {
    #[command(flatten)]
    given: Pairs,
    /// Not as selectors: into `labels` instead of `commonLabels`
    #[arg(long)]
    without_selector: bool,
    /// Into pod templates too
    #[arg(long, requires = "without_selector")]
    include_templates: bool,
}

#[derive(Debug, Args)]
pub struct Pairs {
    /// KEY:VALUE
    #[arg(required = true, value_name = "KEY:VALUE")]
    pairs: Vec<String>,
    /// Replace what is there
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Add {
    /// Files, directories or addresses to `resources`; `*` and `?` fit any characters
    Resource { paths: Vec<String> },
    /// The same, by its older name
    Base { paths: Vec<String> },
    /// Directories to `components`
    Component { paths: Vec<String> },
    /// Files to `generators`
    Generator { paths: Vec<String> },
    /// Files to `transformers`
    Transformer { paths: Vec<String> },
    /// Files to `validators`
    Validator { paths: Vec<String> },
    /// A patch, from a file or written out, with its targets
    // The target's version is an option here.
    #[command(disable_version_flag = true)]
    Patch(Patch),
    /// Labels, to `commonLabels` or with --without-selector to `labels`
    Label(Labels),
    /// Annotations, to `commonAnnotations`
    Annotation(Pairs),
    /// A generator of a ConfigMap, or more content to one that is there
    Configmap(Content),
    /// A generator of a Secret, or more content to one that is there
    Secret(Content),
    /// originAnnotations, managedByLabel or transformerAnnotations, with commas between
    Buildmetadata {
        #[arg(value_delimiter = ',')]
        options: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Set {
    /// Another name, tag or digest for images: NAME=NEWNAME:TAG, NAME:TAG, NAME@DIGEST
    Image { images: Vec<String> },
    /// The namespace of all objects
    Namespace { namespace: String },
    /// What names begin with
    Nameprefix {
        #[arg(allow_hyphen_values = true)]
        prefix: String,
    },
    /// What names end with
    Namesuffix {
        #[arg(allow_hyphen_values = true)]
        suffix: String,
    },
    /// Labels in `commonLabels`: KEY:VALUE
    Label {
        #[arg(required = true, value_name = "KEY:VALUE")]
        pairs: Vec<String>,
    },
    /// Annotations in `commonAnnotations`: KEY:VALUE
    Annotation {
        #[arg(required = true, value_name = "KEY:VALUE")]
        pairs: Vec<String>,
    },
    /// How often objects run: NAME=COUNT
    Replicas { replicas: Vec<String> },
    /// Other values for keys of a generated ConfigMap
    Configmap(Literals),
    /// Other values for keys of a generated Secret
    Secret(Literals),
    /// What is written into objects about their making, in place of what was there
    Buildmetadata {
        #[arg(value_delimiter = ',')]
        options: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Remove {
    /// Entries of `resources`
    Resource { paths: Vec<String> },
    /// Entries of `components`
    Component { paths: Vec<String> },
    /// Entries of `generators`
    Generator { paths: Vec<String> },
    /// Entries of `transformers`
    Transformer { paths: Vec<String> },
    /// Entries of `validators`
    Validator { paths: Vec<String> },
    /// Options of `buildMetadata`, with commas between
    Buildmetadata {
        #[arg(value_delimiter = ',')]
        options: Vec<String>,
    },
    /// A patch, with the same targets as it was added
    #[command(disable_version_flag = true)]
    Patch(Patch),
    /// Keys of `commonLabels`, with commas between
    Label {
        #[arg(value_delimiter = ',')]
        keys: Vec<String>,
    },
    /// Keys of `commonAnnotations`, with commas between
    Annotation {
        #[arg(value_delimiter = ',')]
        keys: Vec<String>,
    },
    /// Generators of ConfigMaps
    Configmap(Named),
    /// Generators of Secrets
    Secret(Named),
}

/// `KEY:VALUE`, the value in double quotes or not. Commas are part of it.
fn pairs(arguments: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |argument: &String| match argument.split_once(':').unwrap_or((argument, "")) {
        ("", _) => Err(Fault::usage(format!("{argument:?} is not KEY:VALUE"))),
        (key, value) => {
            let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Ok((key.to_owned(), inside.unwrap_or(value).to_owned()))
        }
    };
    arguments.iter().map(pair).collect()
}

pub fn main(change: Change) -> Result<ExitCode> {
    let found: Vec<&str> = NAMES.into_iter().filter(|name| Path::new(name).is_file()).collect();
    let [file] = found[..] else {
        let problem =
            if found.is_empty() { "there is no kustomization file" } else { "there are several kustomization files" };
        return Err(Fault::not_found(format!("{problem} in this directory")));
    };
    let text = std::fs::read_to_string(file).map_err(|error| Fault::usage(format!("cannot read {file}: {error}")))?;
    let mut edit = Edit::new(&text, file).map_err(wrong)?;
    // Others that change with it.
    let mut files = Vec::new();
    match change {
        Change::Add(add) => add_to(&mut edit, add)?,
        Change::Set(set) => set_in(&mut edit, set)?,
        Change::Remove(remove) => remove_from(&mut edit, remove)?,
        Change::Fix(fix) => {
            edit.fix(|path| Path::new(path).is_file()).map_err(wrong)?;
            if fix.vars {
                let here = std::env::current_dir().map_err(|error| unavailable(Path::new("."), &error))?;
                files = edit.replace_vars(&Disk, &here.to_string_lossy()).map_err(wrong)?;
            }
        }
    }
    for (path, text) in &files {
        replace(Path::new(path), text)?;
    }
    if edit.text() != text {
        replace(Path::new(file), edit.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Written beside and moved: whoever reads it meanwhile sees the old file or the new one.
fn replace(file: &Path, text: &str) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = file.with_file_name(format!(".{name}.new"));
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, file)).map_err(|error| unavailable(file, &error))
}

fn add_to(edit: &mut Edit, add: Add) -> Result<()> {
    let (field, paths) = match add {
        Add::Resource { paths } | Add::Base { paths } => ("resources", paths),
        Add::Component { paths } => ("components", paths),
        Add::Generator { paths } => ("generators", paths),
        Add::Transformer { paths } => ("transformers", paths),
        Add::Validator { paths } => ("validators", paths),
        Add::Buildmetadata { options } => {
            known_metadata(&options)?;
            ("buildMetadata", options)
        }
        Add::Label(labels) => {
            let (pairs, force) = (pairs(&labels.given.pairs)?, labels.given.force);
            let done = match labels.without_selector {
                true => edit.set_labels(&pairs, labels.include_templates, force),
                false => edit.set_pairs("commonLabels", &pairs, force),
            };
            return done.map_err(wrong);
        }
        Add::Annotation(pairs_given) => {
            return edit.set_pairs("commonAnnotations", &pairs(&pairs_given.pairs)?, pairs_given.force).map_err(wrong);
        }
        Add::Configmap(content) => return generator(edit, "configMapGenerator", content),
        Add::Secret(content) => return generator(edit, "secretGenerator", content),
        Add::Patch(patch) => {
            if patch.path.is_empty() && patch.patch.is_empty() {
                return Err(Fault::usage("must provide either patch or path"));
            }
            if !edit.add_patch(&patch.fields(), &patch.target()).map_err(wrong)? {
                eprintln!("the patch is already in kustomization file");
            }
            return Ok(());
        }
    };
    if paths.is_empty() {
        return Err(Fault::usage(format!("must specify what to add to {field}")));
    }
    let mut found = Vec::new();
    for path in paths {
        if field == "buildMetadata" {
            found.push(path);
        } else {
            // A pattern may fit the kustomization itself, which is none of its own resources.
            found.extend(matching(&path)?.into_iter().filter(|path| !NAMES.contains(&path.as_str())));
        }
    }
    for known in edit.add(field, &found).map_err(wrong)? {
        eprintln!("{known} already in kustomization file");
    }
    Ok(())
}

/// Files and directories that a path or pattern names; addresses stay as they are.
fn matching(path: &str) -> Result<Vec<String>> {
    if path.contains("://") || path.contains("?ref=") || Path::new(path).exists() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = vec![if path.starts_with('/') { "/".to_owned() } else { String::new() }];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for base in &found {
            let beside = |name: &str| {
                let between = if base.is_empty() || base.ends_with('/') { "" } else { "/" };
                format!("{base}{between}{name}")
            };
            if !part.contains(['*', '?']) {
                next.extend(Some(beside(part)).filter(|path| Path::new(path).exists()));
                continue;
            }
            let Ok(entries) = std::fs::read_dir(if base.is_empty() { "." } else { base }) else { continue };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            next.extend(names.filter(|name| Edit::fits(part, name)).map(|name| beside(&name)));
        }
        if next.len() > 20_000 {
            return Err(Fault::usage(format!("{path} fits more than 20000 files")));
        }
        next.sort();
        found = next;
    }
    if found.is_empty() { Err(Fault::not_found(format!("{path} has no match"))) } else { Ok(found) }
}

fn generator(edit: &mut Edit, field: &str, content: Content) -> Result<()> {
    if content.from_literal.is_empty() && content.from_file.is_empty() && content.from_env_file.is_empty() {
        return Err(Fault::usage("at least one of [--from-env-file, --from-file, --from-literal] must be specified"));
    }
    let mut files = Vec::new();
    for source in content.from_file {
        match source.split_once('=') {
            Some((_, path)) => {
                matching(path)?;
                files.push(source);
            }
            None => files.extend(matching(&source)?),
        }
    }
    for path in &content.from_env_file {
        matching(path)?;
    }
    let lists = [("literals", content.from_literal), ("files", files), ("envs", content.from_env_file)];
    let of = match content.of.as_str() {
        _ if field != "secretGenerator" => "",
        "" => "Opaque",
        of => of,
    };
    let texts = [("namespace", content.namespace.as_str()), ("behavior", content.behavior.as_str()), ("type", of)];
    edit.add_generator(field, &content.name, &lists, &texts, content.disable_name_suffix_hash).map_err(wrong)
}

fn set_in(edit: &mut Edit, set: Set) -> Result<()> {
    match set {
        Set::Image { images } => images.iter().try_for_each(|image| edit.set_image(image)),
        Set::Namespace { namespace } => edit.set_text("namespace", &namespace),
        Set::Nameprefix { prefix } => edit.set_text("namePrefix", &prefix),
        Set::Namesuffix { suffix } => edit.set_text("nameSuffix", &suffix),
        Set::Label { pairs: given } => edit.set_pairs("commonLabels", &pairs(&given)?, true),
        Set::Annotation { pairs: given } => edit.set_pairs("commonAnnotations", &pairs(&given)?, true),
        Set::Configmap(literals) => return set_literals(edit, "configMapGenerator", &literals),
        Set::Secret(literals) => return set_literals(edit, "secretGenerator", &literals),
        Set::Buildmetadata { options } => {
            known_metadata(&options)?;
            edit.set("buildMetadata", None).and_then(|()| edit.add("buildMetadata", &options)).map(|_| ())
        }
        Set::Replicas { replicas } => {
            for replica in &replicas {
                let count = replica.split_once('=').and_then(|(name, count)| Some((name, count.parse::<u32>().ok()?)));
                let Some((name, count)) = count else {
                    return Err(Fault::usage(format!("{replica:?} is not NAME=COUNT")));
                };
                let count = yaml::Node::plain(count.to_string());
                edit.set_named("replicas", name, &[("count", count)]).map_err(wrong)?;
            }
            Ok(())
        }
    }
    .map_err(wrong)
}

fn set_literals(edit: &mut Edit, field: &str, new: &Literals) -> Result<()> {
    if new.from_literal.is_empty() && new.new_namespace.is_empty() {
        return Err(Fault::usage("at least one of [--from-literal, --new-namespace] must be specified"));
    }
    edit.set_literals(field, &new.name, &new.namespace, &new.from_literal, &new.new_namespace).map_err(wrong)
}

fn remove_generators(edit: &mut Edit, field: &str, what: &str, named: &Named) -> Result<Vec<String>> {
    let missing = edit.remove_generators(field, &named.names, &named.namespace).map_err(wrong)?;
    if missing.len() == named.names.len() {
        return Err(Fault::not_found(format!("no specified {what}(s) were found in the kustomization file")));
    }
    Ok(missing)
}

fn remove_from(edit: &mut Edit, remove: Remove) -> Result<()> {
    let missing = match remove {
        Remove::Resource { paths } => edit.remove("resources", &paths),
        Remove::Component { paths } => edit.remove("components", &paths),
        Remove::Generator { paths } => edit.remove("generators", &paths),
        Remove::Transformer { paths } => edit.remove("transformers", &paths),
        Remove::Validator { paths } => edit.remove("validators", &paths),
        Remove::Buildmetadata { options } => {
            known_metadata(&options)?;
            edit.remove("buildMetadata", &options)
        }
        Remove::Label { keys } => return remove_keys(edit, "commonLabels", "label", &keys),
        Remove::Annotation { keys } => return remove_keys(edit, "commonAnnotations", "annotation", &keys),
        Remove::Configmap(named) => Ok(remove_generators(edit, "configMapGenerator", "configmap", &named)?),
        Remove::Secret(named) => Ok(remove_generators(edit, "secretGenerator", "secret", &named)?),
        Remove::Patch(patch) => {
            if patch.path.is_empty() && patch.patch.is_empty() {
                return Err(Fault::usage("must provide either patch or path"));
            }
            let found = edit.remove_patch(&patch.fields(), &patch.target());
            found.map(|found| if found { Vec::new() } else { vec![format!("patch {}{}", patch.path, patch.patch)] })
        }
    };
    for name in missing.map_err(wrong)? {
        eprintln!("{name} doesn't exist in kustomization file");
    }
    Ok(())
}

fn remove_keys(edit: &mut Edit, field: &str, what: &str, keys: &[String]) -> Result<()> {
    if edit.get(field).map_err(wrong)?.is_none() {
        return Err(Fault::not_found(format!("{field} is not defined in kustomization file")));
    }
    match edit.remove_pairs(field, keys).map_err(wrong)?.first() {
        None => Ok(()),
        Some(key) => Err(Fault::not_found(format!("{what} {key} is not defined in kustomization file"))),
    }
}

/// What `buildMetadata` may ask for.
fn known_metadata(options: &[String]) -> Result<()> {
    const KNOWN: [&str; 3] = ["managedByLabel", "originAnnotations", "transformerAnnotations"];
    if options.is_empty() {
        return Err(Fault::usage("must specify a buildMetadata option").hint(format!("one of {}", KNOWN.join(", "))));
    }
    match options.iter().find(|option| !KNOWN.contains(&option.as_str())) {
        None => Ok(()),
        Some(option) => Err(Fault::usage(format!("invalid buildMetadata option: {option}"))
            .hint(format!("must be one of {}", KNOWN.join(", ")))),
    }
}

// The content of a new file.
#[derive(Debug, Args)]
pub struct Create {
    /// Resources, with commas between
    #[arg(long, value_delimiter = ',')]
    resources: Vec<String>,
    /// Name the manifests and kustomizations of this directory as resources
    #[arg(long)]
    autodetect: bool,
    /// Those below it too
    #[arg(short, long, requires = "autodetect")]
    recursive: bool,
    /// The namespace of all objects
    #[arg(long, default_value = "")]
    namespace: String,
    /// What names begin with
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    nameprefix: String,
    /// What names end with
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    namesuffix: String,
    /// KEY:VALUE, several with commas between
    #[arg(long, value_delimiter = ',')]
    annotations: Vec<String>,
    /// KEY:VALUE, several with commas between
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
}

/// Writes a new kustomization file into this directory.
pub fn create(options: &Create) -> Result<ExitCode> {
    if NAMES.into_iter().any(|name| Path::new(name).exists()) {
        return Err(Fault::new(Class::Conflict, "kustomization file already exists"));
    }
    let mut resources = Vec::new();
    for path in &options.resources {
        resources.extend(matching(path)?);
    }
    if options.autodetect {
        detect(Path::new("."), options.recursive, 0, &mut resources)?;
    }
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let file = NAMES[0];
    let mut edit = Edit::new(text, file).map_err(wrong)?;
    if !resources.is_empty() {
        edit.add("resources", &resources).map_err(wrong)?;
    }
    for (field, value) in
        [("namePrefix", &options.nameprefix), ("nameSuffix", &options.namesuffix), ("namespace", &options.namespace)]
    {
        if !value.is_empty() {
            edit.set_text(field, value).map_err(wrong)?;
        }
    }
    for (field, given) in [("commonLabels", &options.labels), ("commonAnnotations", &options.annotations)] {
        if !given.is_empty() {
            edit.set_pairs(field, &pairs(given)?, true).map_err(wrong)?;
        }
    }
    std::fs::write(file, edit.text()).map_err(|error| unavailable(Path::new(file), &error))?;
    Ok(ExitCode::SUCCESS)
}

/// Manifests (files of Kubernetes objects) and directories with a kustomization.
fn detect(directory: &Path, recursive: bool, depth: usize, found: &mut Vec<String>) -> Result<()> {
    let unreadable = |error: std::io::Error| Fault::usage(format!("cannot read {}: {error}", directory.display()));
    let mut entries: Vec<_> =
        std::fs::read_dir(directory).map_err(unreadable)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(".").unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !recursive {
                continue;
            }
            if NAMES.iter().any(|file| path.join(file).is_file()) {
                found.push(name);
            } else if depth < 32 {
                detect(&path, recursive, depth + 1, found)?;
            }
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            let objects = std::fs::read_to_string(&path).ok().and_then(|text| yaml::from_str_all(&text).ok());
            let object = |value: &yaml::Value| value.get("apiVersion").is_some() && value.get("kind").is_some();
            if objects.is_some_and(|objects| !objects.is_empty() && objects.iter().all(object))
                && !found.contains(&name)
            {
                found.push(name);
            }
        }
    }
    Ok(())
}
