//! `shipway compose …`: the images of a Compose project.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use build::compose::{Files, Project, ServiceBuild, builds, builds_in_order, load, read_env};

use super::{build_progress, build_settings as settings, output};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{
        Among, Built, Home, Output, OutputKind, Part, Place, Progress, Request, Store, build_all, cache, push, to_give,
    },
};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Compose file; can be given more than once, and the later hold over the earlier [default: compose.yaml and its override]
    #[arg(long, short, value_name = "FILE", global = true)]
    file: Vec<PathBuf>,

    /// Name of the project
    #[arg(long, short, value_name = "NAME", global = true, env = "COMPOSE_PROJECT_NAME")]
    project_name: Option<String>,

    /// Directory that relative paths count from [default: that of the first file]
    #[arg(long, value_name = "DIR", global = true)]
    project_directory: Option<PathBuf>,

    /// File of variables, in place of .env; can be given more than once
    #[arg(long, value_name = "FILE", global = true)]
    env_file: Vec<PathBuf>,

    /// Profile to take in; can be given more than once
    #[arg(long, value_name = "NAME", global = true, value_delimiter = ',', env = "COMPOSE_PROFILES")]
    profile: Vec<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the project as one file: merged, with all variables replaced
    Config {
        /// Services, with what they depend on [default: all]
        names: Vec<String>,
        /// Only the names of the services
        #[arg(long)]
        services: bool,
        /// Only the names of the images
        #[arg(long)]
        images: bool,
        /// Only the names of the volumes
        #[arg(long)]
        volumes: bool,
        /// Only the names of the networks
        #[arg(long)]
        networks: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// How to print it: yaml or json
        #[arg(long, value_name = "FORMAT", default_value = "yaml", value_parser = ["yaml", "json"])]
        format: String,
        /// Only the names of the profiles
        #[arg(long)]
        profiles: bool,
        /// Leave variables as they are written
        #[arg(long)]
        no_interpolate: bool,
        /// Only say whether it is valid
        #[arg(long, short)]
        quiet: bool,
    },
    /// Build the images of services
    Build(BuildOptions),
    /// Push the images of services that name one and build it
    Push {
        services: Vec<String>,
        /// Go on with the others when one cannot be pushed
        #[arg(long)]
        ignore_push_failures: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
struct BuildOptions {
    /// Services [default: all that build something]
    services: Vec<String>,

    /// Value of an ARG of all builds, as NAME=VALUE
    #[arg(long, value_name = "ARG")]
    build_arg: Vec<String>,

    #[arg(long)]
    pull: bool,

    #[arg(long)]
    no_cache: bool,

    /// Push the images when they are built; a service without `image:` is built alone
    #[arg(long)]
    push: bool,

    /// Platforms to build for, in place of those that the files name
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', env = "DOCKER_DEFAULT_PLATFORM")]
    platform: Vec<String>,

    /// Say what is unwise in the Dockerfiles, and build nothing
    #[arg(long)]
    check: bool,

    /// Let a tag be `latest`
    #[arg(long)]
    allow_latest: bool,

    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: build_progress::How,

    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    place: Place,
}

/// Files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> std::result::Result<Option<String>, String> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > ::build::compose::MAX_SIZE => {
                return Err(format!("has more than {} bytes", ::build::compose::MAX_SIZE));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        std::fs::read_to_string(path).map(Some).map_err(|e| e.to_string())
    }
}

const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

impl Options {
    /// Whether images are to be built.
    pub fn builds(&self) -> bool {
        matches!(&self.command, Command::Build(build) if !build.check)
    }

    pub fn isolation(&self) -> crate::wiring::Isolation {
        match &self.command {
            Command::Build(build) => build.place.isolation,
            _ => crate::wiring::Isolation::Auto,
        }
    }

    /// The files: those that are named, else those of the nearest directory that has them.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let here = std::env::current_dir().map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        if !self.file.is_empty() {
            return Ok(self.file.iter().map(|file| here.join(file)).collect());
        }
        let start = self.project_directory.as_ref().map_or_else(|| here.clone(), |directory| here.join(directory));
        for directory in start.ancestors() {
            let Some(main) = NAMES.iter().map(|name| directory.join(name)).find(|path| path.exists()) else { continue };
            let stem = main.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let over = ["yaml", "yml"].map(|end| directory.join(format!("{stem}.override.{end}")));
            return Ok(std::iter::once(main).chain(over.into_iter().find(|path| path.exists())).collect());
        }
        Err(Fault::usage(format!("there is no {} here", NAMES[0])).hint("name the Compose file with -f"))
    }

    fn project(&self) -> Result<Project> {
        let files = self.files()?;
        let here = std::env::current_dir().map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
        let directory = match &self.project_directory {
            Some(directory) => here.join(directory),
            None => files[0].parent().unwrap_or(&here).to_owned(),
        };
        let directory = directory.canonicalize().map_err(|e| Fault::usage(format!("{}: {e}", directory.display())))?;
        let mut variables: BTreeMap<String, String> = std::env::vars().collect();
        let named = !self.env_file.is_empty();
        let env = if named { self.env_file.clone() } else { vec![directory.join(".env")] };
        for file in env.iter().rev() {
            let said = |reason: String| Fault::usage(format!("{}: {reason}", file.display()));
            match Disk.read(file).map_err(said)? {
                Some(text) => read_env(&text, &mut variables).map_err(said)?,
                None if named => return Err(said("is not there".into())),
                None => {}
            }
        }
        let mut profiles: BTreeSet<String> = self.profile.iter().cloned().collect();
        if let (true, Some(named)) = (profiles.is_empty(), variables.get("COMPOSE_PROFILES")) {
            profiles.extend(named.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        }
        let options = ::build::compose::Options {
            files,
            directory,
            name: self.project_name.clone(),
            profiles,
            variables,
            verbatim: matches!(self.command, Command::Config { no_interpolate: true, .. }),
        };
        let project = load(&options, &Disk).map_err(|e| Fault::usage(e.to_string()))?;
        for name in &project.unset {
            eprintln!("warning: the variable {name} is not set: it counts as empty");
        }
        Ok(project)
    }
}

pub async fn main(options: Options) -> Result<ExitCode> {
    super::trace_to_stderr("error");
    let mut project = options.project()?;
    if let Command::Config { names, no_interpolate: false, .. } = &options.command
        && !names.is_empty()
    {
        project.select(names).map_err(|e| Fault::usage(e.to_string()))?;
    }
    match &options.command {
        Command::Config { volumes, networks, .. } if *volumes || *networks => {
            let kind = if *volumes { "volumes" } else { "networks" };
            let names = project.model[kind].as_object().into_iter().flatten();
            names.for_each(|(name, _)| println!("{name}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { profiles: true, .. } => {
            project.profiles.iter().for_each(|profile| println!("{profile}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { services, images, json, format, quiet, no_interpolate, .. } => {
            config(&project, (*services, *images), *json || format == "json", *quiet, *no_interpolate)
        }
        Command::Build(build) => build_services(&project, build).await,
        Command::Push { services, ignore_push_failures, place } => {
            push_all(&project, services, *ignore_push_failures, place).await
        }
    }
}

/// Pushes under the names that the services give their images. One without a name of its own has none that it could be pushed under.
async fn push_all(project: &Project, services: &[String], lenient: bool, place: &Place) -> Result<ExitCode> {
    let found = builds(project, services).map_err(|e| Fault::usage(e.to_string()))?;
    let home = Home::open(place, &|text| eprintln!("{text}")).await?;
    let mut ended = Ok(ExitCode::SUCCESS);
    for one in &found {
        let pushed = match &one.image {
            Some(name) => push_one(&home, name, &one.tags).await,
            None => {
                eprintln!("service {} is left out: it has no `image:` to push it under", one.service);
                Ok(())
            }
        };
        match pushed {
            Err(fault) if lenient => eprintln!("warning: service {}: {}", one.service, fault.message),
            Err(fault) => {
                ended = Err(Fault { message: format!("service {}: {}", one.service, fault.message), ..fault });
                break;
            }
            Ok(()) => {}
        }
    }
    home.close().await?;
    ended
}

async fn push_one(home: &Home, name: &str, tags: &[String]) -> Result<()> {
    let (repository, digest) = home.place_of(name).await.map_err(|fault| match fault.class {
        Class::NotFound => fault.hint("build it first: shipway compose build"),
        _ => fault,
    })?;
    for name in std::iter::once(name).chain(tags.iter().map(String::as_str)) {
        push(home, &repository, &digest, &[to_give(name, true)?]).await?;
        println!("{name} {digest}");
    }
    Ok(())
}

fn config(
    project: &Project,
    (services, images): (bool, bool),
    json: bool,
    quiet: bool,
    verbatim: bool,
) -> Result<ExitCode> {
    let found = builds(project, &[]).map_err(|e| Fault::usage(e.to_string()))?;
    let names = project.model["services"].as_object().into_iter().flatten();
    if quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = project.model.clone();
    if !verbatim {
        // What is printed is read again as it is meant.
        escape(&mut shown);
    }
    if services {
        names.for_each(|(name, _)| println!("{name}"));
    } else if images {
        for (name, service) in names {
            let built = found.iter().find(|one| one.service == *name).map(|one| name_of(project, one));
            if let Some(image) = service["image"].as_str().map(str::to_owned).or(built) {
                println!("{image}");
            }
        }
    } else if json {
        output::json(&shown)?;
    } else {
        let text = serde_saphyr::to_string(&shown).map_err(|e| Fault::new(Class::Internal, e.to_string()))?;
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes each `$` twice.
fn escape(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}

/// The name of a service's image; one that the service does not name is made of the project's and its own.
fn name_of(project: &Project, one: &ServiceBuild) -> String {
    one.image.clone().unwrap_or_else(|| format!("{}-{}:local", project.name, one.service))
}

async fn build_services(project: &Project, options: &BuildOptions) -> Result<ExitCode> {
    let found = builds_in_order(project, &options.services).map_err(|e| Fault::usage(e.to_string()))?;
    if found.is_empty() {
        return Err(Fault::usage("no service builds anything").hint("a service that is to be built has `build:`"));
    }
    let mut requests = Vec::new();
    for one in &found {
        requests.push(request(project, one, options)?);
    }
    let progress = build_progress::make(options.progress, options.quiet);
    let home = Home::open(&options.place, &|text| eprintln!("{text}")).await?;
    let several = found.len() > 1;
    let mut parts = Vec::new();
    for (place, (one, request)) in found.iter().zip(&requests).enumerate() {
        let needs = one.contexts.values().filter_map(|context| context.strip_prefix("service:"));
        let needs = needs.filter_map(|name| found.iter().position(|one| one.service == name)).collect();
        let among = || Arc::new(Among { name: one.service.clone(), place, progress: progress.clone() });
        let progress: Arc<dyn Progress> = if several { among() } else { progress.clone() };
        if !one.without_effect.is_empty() {
            progress.note(&format!("has no effect on a build here: {}", one.without_effect.join(", ")));
        }
        if options.push && one.image.is_none() {
            progress.note("is not pushed: it has no `image:` to push it under");
        }
        parts.push(Part { request, needs, progress });
    }
    let told = |at: usize, built: &Built| {
        if let (Some(digest), Some(part)) = (&built.digest, parts.get(at)) {
            part.progress.note(&format!("{} {digest}", built.names.join(" ")));
        }
    };
    let ended = build_all(&home, &parts, told).await;
    let unwise: usize = ended.iter().flatten().map(|built| built.warnings.len()).sum();
    let failed = ended.err().map(|(at, fault)| match fault.class {
        Class::Signalled(_) => fault,
        _ => Fault { message: format!("service {}: {}", found[at].service, fault.message), ..fault },
    });
    progress.end();
    home.close().await?;
    match failed {
        Some(fault) => Err(fault),
        None if options.check && unwise > 0 => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn request(project: &Project, one: &ServiceBuild, options: &BuildOptions) -> Result<Request> {
    if let Some(reason) = &one.refused {
        return Err(Fault::usage(format!("service `{}`: {reason}", one.service)));
    }
    let mut secrets = Store::default();
    for secret in &one.secrets {
        match &secret.source {
            build::compose::SecretSource::File(path) => secrets.add_file(&secret.id, path.clone())?,
            build::compose::SecretSource::Variable(name) => secrets.add_variable(&secret.id, name)?,
        }
    }
    one.ssh.iter().try_for_each(|agent| secrets.agent(agent))?;
    let mut build_args = BTreeMap::new();
    for (name, value) in &one.args {
        if let Some(value) = value.clone().or_else(|| std::env::var(name).ok()) {
            build_args.insert(name.clone(), value);
        }
    }
    build_args.extend(super::build::pairs(&options.build_arg, "--build-arg", true)?);
    let inline = one.dockerfile_inline.clone();
    let inline = inline.map(|text| (format!("services.{}.build.dockerfile_inline", one.service), text));
    let file = match &one.dockerfile {
        _ if inline.is_some() => None,
        Some(name) if build::is_remote(&one.context) => Some(PathBuf::from(name)),
        Some(name) => Some(Path::new(&one.context).join(name)),
        None => None,
    };
    let mut tags = Vec::new();
    for name in std::iter::once(&name_of(project, one)).chain(&one.tags) {
        tags.push(to_give(name, options.allow_latest)?);
    }
    let network = match one.network.as_deref() {
        None | Some("default") => graph::Network::Bridge,
        Some("none") => graph::Network::None,
        Some(other) => {
            let reason = format!("service {}: a build cannot use the network `{other}`", one.service);
            return Err(Fault::usage(reason).hint("there are `default` and `none`"));
        }
    };
    // What another service builds lies in the store by then, under its name.
    let all = builds(project, &[]).map_err(|e| Fault::usage(e.to_string()))?;
    let mut contexts = one.contexts.clone();
    for place in contexts.values_mut() {
        if let Some(other) = place.strip_prefix("service:").and_then(|name| all.iter().find(|one| one.service == name))
        {
            *place = format!("docker-image://{}", name_of(project, other));
        }
    }
    let parse = |platform: &String| {
        let wrong = || Fault::usage(format!("service {}: `{platform}` is no platform", one.service));
        build::Platform::parse(platform).ok_or_else(wrong)
    };
    let platforms = if options.platform.is_empty() { &one.platforms } else { &options.platform };
    let mut platforms = platforms.iter().map(parse).collect::<Result<Vec<_>>>()?;
    platforms.dedup();
    let mut attest = crate::wiring::attest::Attest { sbom: one.sbom, provenance: None };
    if !one.provenance.is_empty() {
        attest.provenance(&one.provenance)?;
    }
    let mut labels = one.labels.clone();
    labels.insert("com.docker.compose.project".into(), project.name.clone());
    labels.insert("com.docker.compose.service".into(), one.service.clone());
    let mut outputs = Vec::new();
    if options.push && one.image.is_some() {
        outputs.push(Output { kind: OutputKind::Registry, dest: None, names: Vec::new() });
    }
    let told = |fault: Fault| Fault { message: format!("service {}: {}", one.service, fault.message), ..fault };
    Ok(Request {
        context: one.context.clone(),
        file,
        inline,
        target: one.target.clone(),
        build_args,
        labels,
        contexts,
        tags,
        steady: Vec::new(),
        platforms,
        secrets,
        network,
        pull: options.pull || one.pull,
        fresh: match options.no_cache || one.no_cache {
            true => Some(Vec::new()),
            false => Some(one.no_cache_filter.clone()).filter(|stages| !stages.is_empty()),
        },
        check: options.check,
        outputs,
        packing: crate::wiring::Packing::default(),
        hosts: settings::hosts(&one.hosts).map_err(told)?,
        ulimits: one.ulimits.iter().map(|text| settings::ulimit(text)).collect::<Result<_>>().map_err(told)?,
        shm_size: one.shm_size.as_deref().map(settings::shm_size).transpose().map_err(told)?.flatten(),
        cache_to: one.cache_to.iter().map(|text| cache::to(text)).collect::<Result<_>>()?,
        cache_from: one.cache_from.iter().map(|text| cache::from(text)).collect::<Result<_>>()?,
        attest,
        packs: crate::wiring::Packs::default(),
        ..Request::default()
    })
}
