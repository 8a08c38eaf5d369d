//! `shipway kustomize`: what people know from `kustomize`, done in this process.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use kustomize::{Edit, FileError, Files, LoadRestrictor, NAMES};

use crate::fault::{Class, Fault, Result};

/// What can be done with kustomizations.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a kustomization and print its objects
    Build(Build),
    /// Change the kustomization file of this directory; its comments and order stay
    #[command(subcommand)]
    Edit(Box<Change>),
}

/// Which files a kustomization may read.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Restrictor {
    #[default]
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    #[value(name = "LoadRestrictionsNone")]
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, ValueEnum)]
pub enum Reorder {
    #[default]
    Legacy,
    None,
}

#[derive(Debug, Args)]
pub struct Build {
    /// The directory of the kustomization
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Write here instead of standard output; into a directory, one file an object
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Which files it may read
    #[arg(long, value_name = "WHICH", default_value = "LoadRestrictionsRootOnly")]
    load_restrictor: Restrictor,
    /// The order of the objects, where the kustomization does not say
    #[arg(long, default_value = "legacy")]
    reorder: Reorder,
    /// Inflate helmCharts
    #[arg(long)]
    enable_helm: bool,
    /// Refused: plugins that run programs are not supported
    #[arg(long)]
    enable_alpha_plugins: bool,
    /// Refused: plugins that run programs are not supported
    #[arg(long)]
    enable_exec: bool,
    /// Add the label app.kubernetes.io/managed-by
    #[arg(long)]
    enable_managedby_label: bool,
}

/// What can be changed.
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
    Fix,
}

/// The content of a generated ConfigMap or Secret.
#[derive(Debug, Args)]
pub struct Content {
    name: String,
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    #[arg(long, value_name = "[KEY=]PATH")]
    from_file: Vec<String>,
    #[arg(long, value_name = "PATH")]
    from_env_file: Vec<String>,
    #[arg(long, default_value = "")]
    namespace: String,
    #[arg(long, default_value = "", value_parser = ["", "create", "merge", "replace"])]
    behavior: String,
    /// Only for secrets
    #[arg(long = "type", default_value = "")]
    of: String,
}

#[derive(Debug, Args)]
pub struct Patch {
    #[arg(long, default_value = "", conflicts_with = "patch")]
    path: String,
    #[arg(long, default_value = "")]
    patch: String,
    #[arg(long, default_value = "")]
    group: String,
    #[arg(long, default_value = "")]
    version: String,
    #[arg(long, default_value = "")]
    kind: String,
    #[arg(long, default_value = "")]
    name: String,
    #[arg(long, default_value = "")]
    namespace: String,
    #[arg(long, default_value = "")]
    annotation_selector: String,
    #[arg(long, default_value = "")]
    label_selector: String,
}

#[derive(Debug, Args)]
pub struct Pairs {
    /// KEY:VALUE, several with commas between
    #[arg(required = true, value_delimiter = ',')]
    pairs: Vec<String>,
    /// Replace what is there
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Add {
    Resource {
        paths: Vec<String>,
    },
    Base {
        paths: Vec<String>,
    },
    Component {
        paths: Vec<String>,
    },
    Generator {
        paths: Vec<String>,
    },
    Transformer {
        paths: Vec<String>,
    },
    /// The target's version is an option here
    #[command(disable_version_flag = true)]
    Patch(Patch),
    Label(Pairs),
    Annotation(Pairs),
    Configmap(Content),
    Secret(Content),
    Buildmetadata {
        options: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Set {
    /// NAME=NEWNAME:TAG, NAME:TAG, NAME@DIGEST
    Image {
        images: Vec<String>,
    },
    Namespace {
        namespace: String,
    },
    Nameprefix {
        #[arg(allow_hyphen_values = true)]
        prefix: String,
    },
    Namesuffix {
        #[arg(allow_hyphen_values = true)]
        suffix: String,
    },
    Label {
        #[arg(required = true, value_delimiter = ',')]
        pairs: Vec<String>,
    },
    Annotation {
        #[arg(required = true, value_delimiter = ',')]
        pairs: Vec<String>,
    },
    /// NAME=COUNT
    Replicas {
        replicas: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Remove {
    Resource {
        paths: Vec<String>,
    },
    Component {
        paths: Vec<String>,
    },
    Generator {
        paths: Vec<String>,
    },
    Transformer {
        paths: Vec<String>,
    },
    Patch {
        #[arg(long)]
        path: String,
    },
    Label {
        #[arg(value_delimiter = ',')]
        keys: Vec<String>,
    },
    Annotation {
        #[arg(value_delimiter = ',')]
        keys: Vec<String>,
    },
    Configmap {
        #[arg(value_delimiter = ',')]
        names: Vec<String>,
    },
    Secret {
        #[arg(value_delimiter = ',')]
        names: Vec<String>,
    },
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Build(options) => build(&options),
        Command::Edit(change) => edit(*change),
    }
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, FileError> {
        std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
            _ => FileError::Other(format!("open {path}: {error}")),
        })
    }

    fn is_dir(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn canonical(&self, path: &str) -> Option<String> {
        Path::new(path).canonicalize().ok()?.to_str().map(str::to_owned)
    }
}

fn wrong(error: kustomize::Error) -> Fault {
    Fault::usage(error.to_string())
}

fn unavailable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Class::Unavailable, format!("cannot write {}: {error}", path.display()))
}

fn build(options: &Build) -> Result<ExitCode> {
    if options.enable_alpha_plugins || options.enable_exec {
        return Err(Fault::usage("plugins that run programs or containers are not supported")
            .hint("the built-in generators and transformers need no flag"));
    }
    if options.enable_helm {
        return Err(Fault::usage("helmCharts cannot be inflated by this command yet")
            .hint("render the chart with 'shipway helm template' and name the result in 'resources'"));
    }
    let how = kustomize::Options {
        load_restrictor: match options.load_restrictor {
            Restrictor::RootOnly => LoadRestrictor::RootOnly,
            Restrictor::None => LoadRestrictor::None,
        },
        keep_order: options.reorder == Reorder::None,
        managed_by: options.enable_managedby_label,
        ..Default::default()
    };
    let built = kustomize::build(&Disk, &options.directory.to_string_lossy(), &how).map_err(wrong)?;
    for warning in &built.warnings {
        eprintln!("{warning}");
    }
    match &options.output {
        None => print!("{}", built.text()),
        Some(directory) if directory.is_dir() => {
            for object in &built.objects {
                // The names come from the objects: nothing in them may lead out of the directory.
                let id = &object.id;
                let safe = |text: &str| text.to_lowercase().replace(['/', '\\', ':'], "_");
                let group = if id.gvk.group.is_empty() { String::new() } else { format!("{}_", safe(&id.gvk.group)) };
                let name = format!("{group}{}_{}_{}.yaml", safe(&id.gvk.version), safe(&id.gvk.kind), safe(&id.name));
                let path = directory.join(name);
                std::fs::write(&path, yaml::to_go(&object.value)).map_err(|error| unavailable(&path, &error))?;
            }
        }
        Some(file) => std::fs::write(file, built.text()).map_err(|error| unavailable(file, &error))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn pairs(arguments: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |argument: &String| match argument.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.trim_matches(['"', '\'']).to_owned())),
        _ => Err(Fault::usage(format!("{argument:?} is not KEY:VALUE"))),
    };
    arguments.iter().map(pair).collect()
}

fn edit(change: Change) -> Result<ExitCode> {
    let found: Vec<&str> = NAMES.into_iter().filter(|name| Path::new(name).is_file()).collect();
    let [file] = found[..] else {
        let problem =
            if found.is_empty() { "there is no kustomization file" } else { "there are several kustomization files" };
        return Err(Fault::not_found(format!("{problem} in this directory")));
    };
    let text = std::fs::read_to_string(file).map_err(|error| Fault::usage(format!("cannot read {file}: {error}")))?;
    let mut edit = Edit::new(&text, file).map_err(wrong)?;
    match change {
        Change::Add(add) => add_to(&mut edit, add)?,
        Change::Set(set) => set_in(&mut edit, set)?,
        Change::Remove(remove) => remove_from(&mut edit, remove)?,
        Change::Fix => edit.fix(|path| Path::new(path).is_file()).map_err(wrong)?,
    }
    if edit.text() != text {
        // Written beside and moved: whoever reads it meanwhile sees the old file or the new one.
        let draft = format!(".{file}.new");
        std::fs::write(&draft, edit.text())
            .and_then(|()| std::fs::rename(&draft, file))
            .map_err(|error| unavailable(Path::new(file), &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn add_to(edit: &mut Edit, add: Add) -> Result<()> {
    let (field, paths) = match add {
        Add::Resource { paths } | Add::Base { paths } => ("resources", paths),
        Add::Component { paths } => ("components", paths),
        Add::Generator { paths } => ("generators", paths),
        Add::Transformer { paths } => ("transformers", paths),
        Add::Buildmetadata { options } => ("buildMetadata", options),
        Add::Label(pairs_given) => {
            return edit.set_pairs("commonLabels", &pairs(&pairs_given.pairs)?, pairs_given.force).map_err(wrong);
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
            let target = [
                ("group", patch.group.as_str()),
                ("version", &patch.version),
                ("kind", &patch.kind),
                ("name", &patch.name),
                ("namespace", &patch.namespace),
                ("annotationSelector", &patch.annotation_selector),
                ("labelSelector", &patch.label_selector),
            ];
            return edit.add_patch(&[("path", &patch.path), ("patch", &patch.patch)], &target).map_err(wrong);
        }
    };
    if paths.is_empty() {
        return Err(Fault::usage(format!("must specify what to add to {field}")));
    }
    if field != "buildMetadata" {
        for path in paths.iter().filter(|path| !path.contains("://") && !path.contains("?ref=")) {
            if !Path::new(path).exists() {
                return Err(Fault::not_found(format!("{path} has no match")));
            }
        }
    }
    for known in edit.add(field, &paths).map_err(wrong)? {
        eprintln!("{known} already in kustomization file");
    }
    Ok(())
}

fn generator(edit: &mut Edit, field: &str, content: Content) -> Result<()> {
    if content.from_literal.is_empty() && content.from_file.is_empty() && content.from_env_file.is_empty() {
        return Err(Fault::usage("at least one of [--from-env-file, --from-file, --from-literal] must be specified"));
    }
    let lists = [("literals", content.from_literal), ("files", content.from_file), ("envs", content.from_env_file)];
    let of = if field == "secretGenerator" { content.of.as_str() } else { "" };
    let texts = [("namespace", content.namespace.as_str()), ("behavior", content.behavior.as_str()), ("type", of)];
    edit.add_generator(field, &content.name, &lists, &texts).map_err(wrong)
}

fn set_in(edit: &mut Edit, set: Set) -> Result<()> {
    match set {
        Set::Image { images } => images.iter().try_for_each(|image| edit.set_image(image)),
        Set::Namespace { namespace } => edit.set_text("namespace", &namespace),
        Set::Nameprefix { prefix } => edit.set_text("namePrefix", &prefix),
        Set::Namesuffix { suffix } => edit.set_text("nameSuffix", &suffix),
        Set::Label { pairs: given } => edit.set_pairs("commonLabels", &pairs(&given)?, true),
        Set::Annotation { pairs: given } => edit.set_pairs("commonAnnotations", &pairs(&given)?, true),
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

fn remove_from(edit: &mut Edit, remove: Remove) -> Result<()> {
    let missing = match remove {
        Remove::Resource { paths } => edit.remove("resources", &paths),
        Remove::Component { paths } => edit.remove("components", &paths),
        Remove::Generator { paths } => edit.remove("generators", &paths),
        Remove::Transformer { paths } => edit.remove("transformers", &paths),
        Remove::Label { keys } => edit.remove_pairs("commonLabels", &keys),
        Remove::Annotation { keys } => edit.remove_pairs("commonAnnotations", &keys),
        Remove::Configmap { names } => edit.remove_named("configMapGenerator", &names),
        Remove::Secret { names } => edit.remove_named("secretGenerator", &names),
        Remove::Patch { path } => {
            edit.remove_patch(&path).map(|found| if found { Vec::new() } else { vec![path.clone()] })
        }
    };
    for name in missing.map_err(wrong)? {
        eprintln!("{name} doesn't exist in kustomization file");
    }
    Ok(())
}
