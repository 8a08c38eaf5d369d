//! `shipway render`: finds out what a path is and shows the objects that it makes, what a commit changes in them, what is wrong
//! with them, and who wrote a field.

mod all;
mod disk;
mod git;
mod kept;
mod show;

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chart::{Given, KubeVersion};
use clap::Args;
use manifest::{App, How, Kitchen, Output, Schemas, Tree, recognise_path, schema};

use super::helm::{Compatible, SingleValues};
use crate::fault::{Class, Fault, Result};

/// What to render, how, and what to say about it.
#[derive(Debug, Args)]
pub struct Options {
    /// A chart (directory or .tgz), a kustomization, a file or directory of objects; `-` for standard input
    #[arg(default_value = ".")]
    path: String,
    /// Render every chart and kustomization below PATH; what did not change is not rendered again
    #[arg(long, conflicts_with_all = ["diff", "explain"])]
    all: bool,
    /// With --all: render everything, and keep nothing
    #[arg(long)]
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
    output: String,
    /// What the working tree changes in the objects since a commit, branch or tag
    #[arg(long, value_name = "REF", conflicts_with = "explain")]
    diff: Option<String>,
    /// With --diff: exit 1 when something differs
    #[arg(long, requires = "diff")]
    exit_code: bool,
    /// Hold the objects against the schemas of Kubernetes
    #[arg(long)]
    validate: bool,
    /// Schemas of another version, or of custom resources: a file, a directory, or `cluster`; implies --validate
    #[arg(long, value_name = "SOURCE")]
    schemas: Vec<String>,
    /// Who wrote a field: KIND/NAME.field.path, for example deployment/web.spec.replicas
    #[arg(long, value_name = "OBJECT")]
    explain: Option<String>,
    /// With --diff, --validate and --explain: the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The flags that give values, as `helm` has them; files come from the tree that is rendered.
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
const LARGEST: u64 = 100 << 20;

pub async fn main(options: Options) -> Result<ExitCode> {
    let here = std::env::current_dir()
        .map_err(|error| Fault::new(Class::Unavailable, format!("cannot tell the working directory: {error}")))?;
    let how = how(&options, &here)?;
    let shown = show::Shown::new(&here);
    if options.all {
        return all::run(&options, &how, &here);
    }
    if options.path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(LARGEST)
            .read_to_string(&mut text)
            .map_err(|error| Fault::new(Class::Unavailable, format!("cannot read standard input: {error}")))?;
        if options.diff.is_some() || options.explain.is_some() {
            return Err(Fault::usage("standard input has no history: name a path"));
        }
        let output = manifest::objects_of("stdin", &text).map_err(|error| shown.fault(&error))?;
        return finish(&options, &how, &shown, output).await;
    }
    let path = manifest::tree::join(&here.to_string_lossy(), &options.path);
    if let Some(reference) = &options.diff {
        let (before, after) = (git::at(Path::new(&path), reference)?, disk::Disk);
        return difference(&options, &how, &shown, reference, &before, &after, &path);
    }
    let app = recognise_path(&disk::Disk, &path).map_err(|error| shown.fault(&error))?;
    fits(&options, app)?;
    let output = Kitchen::default().render(&disk::Disk, &path, &how).map_err(|error| shown.fault(&error))?;
    if let Some(wanted) = &options.explain {
        let explanation =
            manifest::explain(&disk::Disk, &path, &how, &output, wanted).map_err(|error| shown.fault(&error))?;
        return shown.explanation(&explanation, options.json);
    }
    finish(&options, &how, &shown, output).await
}

async fn finish(options: &Options, how: &How, shown: &show::Shown, output: Output) -> Result<ExitCode> {
    for warning in &output.warnings {
        eprintln!("{warning}");
    }
    if options.validate || !options.schemas.is_empty() {
        let schemas = schemas(options, how, shown, &output).await?;
        let found: Vec<_> = output.documents.iter().flat_map(|document| schemas.check(document)).collect();
        return shown.findings(&found, output.documents.len(), schemas.version(), options.json);
    }
    shown.objects(&output, &options.output)
}

/// Values and names mean nothing to what is no chart: said, not ignored.
fn fits(options: &Options, app: App) -> Result<()> {
    let given = options.values.given() != Given::default() || options.name.is_some() || options.namespace.is_some();
    if given && !app.takes_values() {
        let message = format!("{} is a {}: values, --name and --namespace are for charts", options.path, app.what());
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
) -> Result<ExitCode> {
    let kitchen = Kitchen::default();
    let side = |tree: &dyn Tree, name: &str| -> Result<Option<Output>> {
        match recognise_path(tree, path) {
            // What is not there yet, or not any more, makes no objects.
            Err(manifest::Error::Missing(_)) => Ok(None),
            Err(error) => Err(shown.fault(&error)),
            Ok(app) => {
                fits(options, app)?;
                let rendered = kitchen.render(tree, path, how);
                // With --exit-code, 1 says that there are differences, and nothing else.
                let class = if options.exit_code { Class::Usage } else { Class::Failed };
                rendered.map(Some).map_err(|error| Fault::new(class, format!("{name}: {}", shown.text(&error))))
            }
        }
    };
    let (was, is) = (side(before, reference)?, side(after, "the working tree")?);
    if was.is_none() && is.is_none() {
        return Err(Fault::not_found(format!("{} is neither in {reference} nor in the working tree", options.path)));
    }
    let documents = |output: Option<Output>| output.map(|output| output.documents).unwrap_or_default();
    let found = manifest::differences(&documents(was), &documents(is));
    shown.differences(&found, reference, options.json)?;
    Ok(if options.exit_code && !found.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The schemas that count: built in, or given, and those of the definitions that are rendered too.
async fn schemas(options: &Options, how: &How, shown: &show::Shown, output: &Output) -> Result<Schemas> {
    let wanted = how.kube.as_ref().and_then(|kube| schema::minor(&kube.version));
    let mut schemas = Schemas::built_in(wanted.unwrap_or(schema::BUILT_IN));
    let mut given = false;
    for source in &options.schemas {
        if source == "cluster" {
            let text = from_cluster().await?;
            schemas.openapi("the cluster", &text, wanted.is_some()).map_err(|error| shown.fault(&error))?;
            given = true;
            continue;
        }
        for file in schema_files(Path::new(source))? {
            given |= add_schemas(&mut schemas, &file, wanted.is_some(), shown)?;
        }
    }
    if let Some(wanted) = wanted.filter(|wanted| !given && *wanted != schema::BUILT_IN) {
        let (major, minor) = schema::BUILT_IN;
        eprintln!(
            "note: fields are checked as of Kubernetes {major}.{minor}, API versions as of {}.{}; for the fields of that version give its swagger.json with --schemas, or --schemas cluster",
            wanted.0, wanted.1
        );
    }
    let chart_definitions = output.documents.iter().filter(|document| document.name.kind == "CustomResourceDefinition");
    for document in chart_definitions {
        if let Ok(value) = document.value() {
            schemas.add_definition(&value);
        }
    }
    Ok(schemas)
}

fn schema_files(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(source)
        .max_depth(10)
        .into_iter()
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.file_type().is_file() && manifest::is_manifest(&entry.path().to_string_lossy()))
        .map(walkdir::DirEntry::into_path)
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Fault::usage(format!("{} has no .json or .yaml files", source.display())));
    }
    Ok(files)
}

/// An OpenAPI document, or definitions of custom resources; says whether it was the former.
fn add_schemas(schemas: &mut Schemas, file: &Path, keep_version: bool, shown: &show::Shown) -> Result<bool> {
    let unreadable = |error: std::io::Error| Fault::usage(format!("cannot read {}: {error}", file.display()));
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > schema::LARGEST as u64 {
        let message = format!("{} has more than {} MiB", file.display(), schema::LARGEST >> 20);
        return Err(Fault::new(Class::TooLarge, message));
    }
    let text = std::fs::read(file).map_err(unreadable)?;
    let name = file.display().to_string();
    if file.extension().is_some_and(|extension| extension == "json")
        && [&b"\"definitions\""[..], b"\"components\""]
            .iter()
            .any(|key| text.windows(key.len()).any(|part| part == *key))
    {
        return schemas.openapi(&name, &text, keep_version).map(|()| true).map_err(|error| shown.fault(&error));
    }
    let values = yaml::from_str_all(&String::from_utf8_lossy(&text))
        .map_err(|error| Fault::usage(format!("{name}: {error}")))?;
    let mut any = false;
    for value in &values {
        any |= schemas.add_definition(value);
    }
    if !any {
        return Err(Fault::usage(format!("{name} is neither an OpenAPI document nor a CustomResourceDefinition")));
    }
    Ok(false)
}

async fn from_cluster() -> Result<Vec<u8>> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Fault::new(Class::Unavailable, format!("cannot get the schemas of the cluster: {error}"))
            .hint("`kubectl get --raw /openapi/v2` writes them to a file, which --schemas takes")
    };
    let client = kube::Client::try_default().await.map_err(|error| unavailable(&error))?;
    let request = http::Request::get("/openapi/v2").body(Vec::new()).map_err(|error| unavailable(&error))?;
    client.request_text(request).await.map(String::into_bytes).map_err(|error| unavailable(&error))
}
