//! `shipway render`: finds out what a path is and shows the objects that it makes, what a commit changes in them, what is wrong
//! with them, and who wrote a field.

mod all;
mod checks;
mod disk;
mod git;
mod kept;
mod show;
mod written;

use std::{io::Read, path::Path, process::ExitCode};

use chart::{Given, KubeVersion};
use checks::Sources;
use clap::Args;
use manifest::{App, How, Kitchen, Output, Tree, recognise_path};
use show::Form;

use super::helm::{Compatible, SingleValues};
use crate::fault::{Class, Fault, Result};

const EXAMPLES: &str = "\
Examples:
  shipway render chart -f prod.yaml --set image.tag=2      the objects of a chart
  shipway render deploy/prod -o out                        a file for each object
  shipway render deploy/prod --diff main                   what the working tree changes
  shipway render chart --validate --kube-version 1.29      what the API server would refuse
  shipway render chart --explain deploy/web.spec.replicas  who wrote a field
  shipway render --all apps --diff main --exit-code        every app below a directory";

// What to render, how, and what to say about it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// A chart (directory or .tgz), a kustomization, a file or directory of objects; `-` for standard input
    #[arg(default_value = ".")]
    path: String,
    /// Render every chart and kustomization below PATH; what did not change is not rendered again
    #[arg(long, conflicts_with = "explain")]
    all: bool,
    /// With --all: render everything, and keep nothing
    #[arg(long, requires = "all")]
    no_cache: bool,
    #[command(flatten)]
    values: Values,
    /// The name of the release, for charts
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The namespace of the release, for charts
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The version of Kubernetes that templates are told and objects are checked for
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// APIs that templates are told the cluster has
    #[arg(short, long, value_name = "API", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// The definitions of custom resources of charts too
    #[arg(long)]
    include_crds: bool,
    /// Without hooks that are tests
    #[arg(long)]
    skip_tests: bool,
    /// What everything random in templates is made from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The version of Helm whose behaviour counts
    #[arg(long, value_name = "MAJOR", value_enum, default_value_t = Compatible::Helm4)]
    compatible: Compatible,
    /// Kustomizations may read files outside of their directories
    #[arg(long)]
    load_anywhere: bool,
    /// yaml, json, or a directory: one file an object (with --all: one an app)
    #[arg(short, long, value_name = "FORMAT|DIR", default_value = "yaml")]
    output: Form,
    /// What the working tree changes in the objects since a commit, branch or tag
    #[arg(long, value_name = "REF", conflicts_with = "explain")]
    diff: Option<String>,
    /// With --diff: exit 1 when something differs
    #[arg(long, requires = "diff")]
    exit_code: bool,
    /// Hold the objects against the schemas of Kubernetes
    #[arg(long, conflicts_with_all = ["diff", "explain"])]
    validate: bool,
    /// Schemas of another version, or of custom resources: a file, a directory, or `cluster`; implies --validate
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["diff", "explain"])]
    schemas: Vec<String>,
    /// Who wrote a field: KIND/NAME.field.path, for example deployment/web.spec.replicas
    #[arg(long, value_name = "OBJECT")]
    explain: Option<String>,
    /// With --diff, --validate and --explain: the answer as JSON, as with `-o json`
    #[arg(long)]
    json: bool,
}

// The flags that give values, as `helm` has them; files come from the tree that is rendered.
#[derive(Debug, Args)]
struct Values {
    /// Values from a YAML file; may be repeated, the last wins
    #[arg(short = 'f', long = "values", value_name = "FILE", value_delimiter = ',')]
    values: Vec<String>,
    #[command(flatten)]
    single: SingleValues,
}

impl Values {
    fn given(&self) -> Given {
        self.single.given(&self.values)
    }
}

/// The largest text on standard input.
const LARGEST: u64 = 256 << 20;

pub async fn main(options: Options) -> Result<ExitCode> {
    let here = std::env::current_dir()
        .map_err(|error| Fault::new(Class::Unavailable, format!("cannot tell the working directory: {error}")))?;
    let mut how = how(&options, &here)?;
    let form = answer(&options)?;
    let shown = show::Shown::new(&here);
    let sources = Sources::of(&options, &shown).await?;
    if let (Some(sources), None) = (&sources, &how.kube) {
        // Templates are told the version that their objects are checked for.
        let (major, minor) = sources.version;
        how.kube = KubeVersion::parse(&format!("{major}.{minor}.0"), how.flavor).ok();
    }
    if options.all {
        return all::run(&options, &how, &here, form, sources.as_ref());
    }
    if options.path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(LARGEST + 1)
            .read_to_string(&mut text)
            .map_err(|error| Fault::new(Class::Unavailable, format!("cannot read standard input: {error}")))?;
        if text.len() as u64 > LARGEST {
            let message = format!("standard input has more than {} MiB", LARGEST >> 20);
            return Err(Fault::new(Class::TooLarge, message));
        }
        if options.diff.is_some() {
            return Err(Fault::usage("standard input has no history: name a path"));
        }
        if options.explain.is_some() {
            return Err(Fault::usage("nothing is known of what made standard input: name a path"));
        }
        fits(&options, App::File)?;
        let output = manifest::objects_of("stdin", &text).map_err(|error| shown.fault(&error))?;
        return finish(&shown, &output, form, sources.as_ref());
    }
    let path = manifest::tree::join(&here.to_string_lossy(), &options.path);
    if let Some(reference) = &options.diff {
        let (before, after) = (git::at(Path::new(&path), reference)?, disk::Disk);
        return difference(&options, &how, &shown, reference, &before, &after, &path, form);
    }
    let app = recognise_path(&disk::Disk, &path).map_err(|error| shown.fault(&error))?;
    fits(&options, app)?;
    let output = Kitchen::default().render(&disk::Disk, &path, &how).map_err(|error| match &error {
        manifest::Error::Below { file, what } => {
            let message =
                format!("{} is a directory of files, and {} in it is a {what}", options.path, shown.text(file));
            Fault::usage(message).hint("render every app below it with --all, or name one of them")
        }
        error => shown.fault(error),
    })?;
    if let Some(wanted) = &options.explain {
        let explanation =
            manifest::explain(&disk::Disk, &path, &how, &output, wanted).map_err(|error| shown.fault(&error))?;
        return shown.explanation(&explanation, form == Form::Json);
    }
    finish(&shown, &output, form, sources.as_ref())
}

/// The form of the answer: of the objects, or of what is said about them.
fn answer(options: &Options) -> Result<Form> {
    let said = [
        (options.diff.is_some(), "--diff"),
        (options.explain.is_some(), "--explain"),
        (options.validate, "--validate"),
        (!options.schemas.is_empty(), "--schemas"),
    ];
    let said = said.iter().find(|(given, _)| *given).map(|(_, flag)| *flag);
    match (said, &options.output) {
        (None, _) if options.json => Err(Fault::usage("--json goes with --diff, --validate and --explain")
            .hint("`-o json` prints the objects as JSON")),
        (Some(flag), Form::Directory(directory)) => Err(Fault::usage(format!(
            "{flag} prints an answer and writes no objects: -o {} does not go with it",
            directory.display()
        ))
        .hint("leave -o out, or `-o json` for the answer as JSON")),
        (Some(_), _) if options.json => Ok(Form::Json),
        (_, form) => Ok(form.clone()),
    }
}

fn finish(shown: &show::Shown, output: &Output, form: Form, sources: Option<&Sources>) -> Result<ExitCode> {
    for warning in &output.warnings {
        eprintln!("{}", shown.text(warning));
    }
    let Some(sources) = sources else { return shown.objects(output, &form) };
    let mut schemas = sources.schemas().map_err(|error| shown.fault(&error))?;
    checks::learn(&mut schemas, output);
    let found: Vec<_> = output.documents.iter().flat_map(|document| schemas.check(document)).collect();
    if form == Form::Json {
        super::output::json(&shown.findings_json(&found, None))?;
    } else {
        show::write(&shown.findings(&found))?;
        eprintln!("{}", show::Counted::of(&found).said(output.documents.len(), sources.version));
    }
    Ok(if show::Counted::of(&found).errors > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Values and names mean nothing to what is no chart: said, not ignored.
fn fits(options: &Options, app: App) -> Result<()> {
    let given = options.values.given() != Given::default() || options.name.is_some() || options.namespace.is_some();
    if given && !app.takes_values() {
        let path = if options.path == "-" { "standard input" } else { &options.path };
        let message = format!("{path} is a {}: values, --name and --namespace are for charts", app.what());
        let hint = match app {
            App::Kustomization => "set `namespace:` in the kustomization, or make an overlay of it",
            _ => "leave them out",
        };
        return Err(Fault::usage(message).hint(hint));
    }
    Ok(())
}

fn how(options: &Options, here: &Path) -> Result<How> {
    let flavor = options.compatible.flavor();
    let kube = options.kube_version.as_deref().map(|version| KubeVersion::parse(version, flavor)).transpose();
    let kube = kube.map_err(|error| Fault::usage(format!("--kube-version: {error}")))?;
    Ok(How {
        name: options.name.clone().unwrap_or_else(|| "release-name".to_owned()),
        namespace: options.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        given: options.values.given(),
        directory: here.to_string_lossy().into_owned(),
        flavor,
        kube,
        api_versions: options.api_versions.clone(),
        include_crds: options.include_crds,
        skip_tests: options.skip_tests,
        seed: options.seed,
        // What is checked or explained names the lines that made it.
        trace: options.explain.is_some() || options.validate || !options.schemas.is_empty(),
        load_anywhere: options.load_anywhere,
        ..How::default()
    })
}

#[allow(clippy::too_many_arguments, reason = "both sides of a comparison")]
fn difference(
    options: &Options,
    how: &How,
    shown: &show::Shown,
    reference: &str,
    before: &dyn Tree,
    after: &dyn Tree,
    path: &str,
    form: Form,
) -> Result<ExitCode> {
    let kitchen = Kitchen::default();
    let side = |tree: &dyn Tree, name: &str| -> Result<Option<Output>> {
        if let Ok(app) = recognise_path(tree, path) {
            fits(options, app)?;
        }
        side(&kitchen, tree, path, how).map_err(|error| {
            // With --exit-code, 1 says that there are differences, and nothing else.
            let class = if options.exit_code { Class::Usage } else { Class::Failed };
            Fault::new(class, format!("{name}: {}", shown.text(&error)))
        })
    };
    let (was, is) = (side(before, reference)?, side(after, "the working tree")?);
    if was.is_none() && is.is_none() {
        return Err(Fault::not_found(format!("{} is neither in {reference} nor in the working tree", options.path)));
    }
    let documents = |output: Option<Output>| output.map(|output| output.documents).unwrap_or_default();
    let found = manifest::differences(&documents(was), &documents(is));
    if form == Form::Json {
        super::output::json(&show::differences_json(&found, reference, None))?;
    } else {
        show::write(&shown.differences(&found, reference))?;
        eprintln!("{}", show::changes(&found));
    }
    Ok(if options.exit_code && !found.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What a path makes in one of two trees; nothing where it is not there, which makes no objects.
fn side(kitchen: &Kitchen, tree: &dyn Tree, path: &str, how: &How) -> manifest::Result<Option<Output>> {
    match recognise_path(tree, path) {
        Err(manifest::Error::Missing(_)) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => kitchen.render(tree, path, how).map(Some),
    }
}
