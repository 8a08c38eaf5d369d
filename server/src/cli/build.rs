//! `shipway build`: what people know from `docker build`, without a server or a daemon.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::{build_progress, build_settings as settings};
use crate::{
    fault::{Class, Fault, Result},
    wiring::{
        Built, Home, Output, OutputKind, Packing, Place, Recorder, Request, Store, attest::Attest, build, cache,
        output::check_file,
    },
};

pub const EXAMPLES: &str = "\
Examples:
  shipway build -t app:1.0 .                                       the Dockerfile of this directory
  shipway build -t registry.example.org/app:1.0 --push --sbom .    push it, with the list of its packages
  shipway build -t app:1.0 --builder paketobuildpacks/builder-jammy-base .
                                                                   buildpacks in place of a Dockerfile
  shipway build -t app:1.0 --builder ./builder --buildpack ./mine --buildpack from=builder --env BP_X=1 .
  shipway rebase app:1.0 --pull                                    then: a newer run image under it, without a build";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory with the files to build from, an address of a git repository or of an archive, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: String,

    /// The Dockerfile [default: CONTEXT/Dockerfile, then CONTEXT/Containerfile]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Name of the image, as name:tag; can be given more than once
    #[arg(long, short, value_name = "NAME")]
    pub tag: Vec<String>,

    /// Let a tag be `latest`
    #[arg(long)]
    pub allow_latest: bool,

    #[command(flatten)]
    pub tags: super::tags::TagOptions,

    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value of an ARG, as NAME=VALUE; NAME alone takes it from the environment
    #[arg(long, value_name = "ARG")]
    pub build_arg: Vec<String>,

    /// Secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,

    /// SSH agent for RUN --mount=type=ssh: default, ID=SOCKET, or ID=KEY[,KEY]
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,

    /// Platforms to build for; with several the result is an index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub platform: Vec<String>,

    /// Where the result goes: type=registry|oci|docker|local|tar[,dest=PATH]; a directory; or - for a tar on standard output
    #[arg(long, short, value_name = "OUTPUT")]
    pub output: Vec<String>,

    /// Push the image under its names
    #[arg(long)]
    pub push: bool,

    /// The image goes into the local store, as it always does
    #[arg(long)]
    pub load: bool,

    /// Ask for base images again where they come from
    #[arg(long)]
    pub pull: bool,

    /// Take nothing from earlier builds
    #[arg(long)]
    pub no_cache: bool,

    /// Take nothing of these stages from earlier builds
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Write the digest of the image into a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write what was built into a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Label of the image, as NAME=VALUE
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,

    /// Annotation of the manifest, as NAME=VALUE; before it index:, manifest: or manifest-descriptor:, with [PLATFORM] for one of several
    #[arg(long, value_name = "ANNOTATION")]
    pub annotation: Vec<String>,

    /// Further context, as NAME=DIRECTORY, NAME=docker-image://IMAGE, NAME=oci-layout://DIRECTORY, or NAME=address of a git repository or of an archive
    #[arg(long, value_name = "CONTEXT")]
    pub build_context: Vec<String>,

    /// How to show what happens
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: build_progress::How,

    /// Build nothing: say what is unwise in the Dockerfile, and exit with 1 if something is
    #[arg(long)]
    pub check: bool,

    /// What commands reach that do not say it themselves: default or none
    #[arg(long, value_name = "NETWORK", default_value = "default")]
    pub network: String,

    /// Name that commands find in /etc/hosts, as NAME:ADDRESS; can be given more than once
    #[arg(long, value_name = "HOST")]
    pub add_host: Vec<String>,

    /// Limit of the processes of commands, as NAME=SOFT[:HARD], for example nofile=1024:4096
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,

    /// Size of /dev/shm of commands, for example 128m [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,

    /// Print the digest alone
    #[arg(long, short)]
    pub quiet: bool,

    /// Attach a list of the packages in the image (CycloneDX)
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub sbom: bool,

    /// Attach how it was built (SLSA v1): true, false, mode=min or mode=max
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub provenance: String,

    /// Attach type=sbom or type=provenance[,mode=max]
    #[arg(long, value_name = "ATTESTATION")]
    pub attest: Vec<String>,

    /// Take results from a cache: type=registry,ref=NAME, type=local,src=DIRECTORY, or a NAME at a registry
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,

    /// Write results into a cache: type=registry,ref=NAME or type=local,dest=DIRECTORY [,mode=max][,mounts=true]
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,

    /// Write where the time went into a file that Perfetto and chrome://tracing open
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    #[command(flatten)]
    pub packs: super::packs::PackOptions,

    #[command(flatten)]
    pub place: Place,
}

/// `NAME=VALUE`; a name alone takes its value from the environment, and means nothing where it has none.
pub fn pairs(given: &[String], what: &str, environment: bool) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => return Err(Fault::usage(format!("{what} `{text}` has no name"))),
            Some((name, value)) => drop(pairs.insert(name.to_owned(), value.to_owned())),
            None if environment => {
                if let Ok(value) = std::env::var(text) {
                    pairs.insert(text.clone(), value);
                }
            }
            None => drop(pairs.insert(text.clone(), String::new())),
        }
    }
    Ok(pairs)
}

impl Options {
    pub fn request(&self) -> Result<Request> {
        let mut secrets = Store::default();
        self.secret.iter().try_for_each(|text| secrets.secret(text))?;
        self.ssh.iter().try_for_each(|text| secrets.agent(text))?;
        let (mut outputs, mut packing) = (Vec::new(), Packing::default());
        for text in &self.output {
            outputs.push(Output::parse(text, self.allow_latest, &mut packing)?);
        }
        packing.settle(&outputs)?;
        if self.push {
            outputs.push(Output { kind: OutputKind::Registry, dest: None, names: Vec::new() });
        }
        let (given, bare) = self.tags.split(&self.tag)?;
        let tags: Result<Vec<_>> =
            given.into_iter().map(|tag| crate::wiring::to_give(tag, self.allow_latest)).collect();
        let tags = tags?;
        if outputs.iter().any(|output| output.kind == OutputKind::Registry && output.names.is_empty())
            && tags.is_empty()
            && bare.is_empty()
        {
            return Err(
                Fault::usage("an image without a name cannot be pushed").hint("name it with -t registry/name:tag")
            );
        }
        let mut platforms = Vec::new();
        for text in &self.platform {
            let platform = ::build::Platform::parse(text).ok_or_else(|| {
                Fault::usage(format!("`{text}` is no platform")).hint("write os/architecture, for example linux/amd64")
            })?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if platforms.len() > 1 && outputs.iter().any(|output| output.kind == OutputKind::Docker) {
            return Err(Fault::usage("a Docker archive holds the image of one platform")
                .hint("use type=oci, which holds those of several"));
        }
        let mut attest = Attest { sbom: self.sbom, provenance: None };
        attest.provenance(&self.provenance)?;
        self.attest.iter().try_for_each(|text| attest.parse(text))?;
        let notes = settings::annotations(&self.annotation, &platforms)?;
        if packing.docker && !notes.is_empty() {
            return Err(Fault::usage("Docker's media types have no place for annotations")
                .hint("leave oci-mediatypes=false out"));
        }
        let network = match self.network.as_str() {
            "default" => graph::Network::Bridge,
            "none" => graph::Network::None,
            other => {
                return Err(Fault::usage(format!(
                    "--network={other} is not possible: a build never uses this machine's own network"
                ))
                .hint("there are `default` and `none`"));
            }
        };
        let contexts = pairs(&self.build_context, "--build-context", false)?;
        if let Some((name, _)) = contexts.iter().find(|(_, place)| place.is_empty()) {
            return Err(Fault::usage(format!("--build-context {name} names no place")).hint("write NAME=DIRECTORY"));
        }
        Ok(Request {
            context: self.context.clone(),
            file: self.file.clone(),
            inline: None,
            target: self.target.clone(),
            build_args: pairs(&self.build_arg, "--build-arg", true)?,
            labels: pairs(&self.label, "--label", false)?,
            annotations: notes.manifests,
            index_annotations: notes.index,
            platform_annotations: notes.platforms,
            descriptor_annotations: notes.descriptors,
            hosts: settings::hosts(&self.add_host)?,
            ulimits: self.ulimit.iter().map(|text| settings::ulimit(text)).collect::<Result<_>>()?,
            shm_size: self.shm_size.as_deref().map(settings::shm_size).transpose()?.flatten(),
            attest,
            contexts,
            tags,
            steady: Vec::new(),
            platforms,
            secrets,
            network,
            pull: self.pull,
            fresh: match (self.no_cache, self.no_cache_filter.is_empty()) {
                (true, _) => Some(Vec::new()),
                (false, false) => Some(self.no_cache_filter.clone()),
                (false, true) => None,
            },
            check: self.check,
            outputs,
            packing,
            packs: self.packs.read()?,
            cache_to: self.cache_to.iter().map(|text| cache::to(text)).collect::<Result<_>>()?,
            cache_from: self.cache_from.iter().map(|text| cache::from(text)).collect::<Result<_>>()?,
        })
    }
}

pub async fn main(options: Options) -> Result<ExitCode> {
    let recorder = options.trace.as_ref().map(|_| record());
    if recorder.is_none() {
        super::trace_to_stderr("error");
    }
    let mut request = options.request()?;
    // What cannot be written is said before anything is built.
    request.outputs.iter().try_for_each(Output::check)?;
    [&options.iidfile, &options.metadata_file, &options.trace]
        .into_iter()
        .flatten()
        .try_for_each(|path| check_file(path))?;
    let quiet = options.quiet || options.progress == build_progress::How::Quiet;
    let progress = build_progress::make(options.progress, quiet);
    let home = Home::open(&options.place, &|text| eprintln!("{text}")).await?;
    let (_, bare) = options.tags.split(&options.tag)?;
    let ended = match options.tags.names(&bare, &request.context, &home).await {
        Ok(named) => {
            request.tags.extend(named.tags);
            request.steady = named.steady;
            build(&home, &request, progress.clone()).await
        }
        Err(fault) => Err(fault),
    };
    progress.end();
    let closed = home.close().await;
    if let (Some(path), Some(recorder)) = (&options.trace, &recorder) {
        let written = recorder.write(path);
        written.map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))?;
    }
    let built = ended?;
    closed?;
    if let Some(path) = &options.iidfile {
        put(path, built.digest.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes())?;
    }
    if let Some(path) = &options.metadata_file {
        let text = serde_json::to_vec_pretty(&metadata(&built)).map_err(|e| Fault::from_error(Class::Internal, &e))?;
        put(path, &text)?;
    }
    if options.check {
        let found = built.warnings.len();
        match found {
            0 => println!("nothing is unwise in it"),
            1 => println!("1 warning"),
            _ => println!("{found} warnings"),
        }
        return Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let stdout = request
        .outputs
        .iter()
        .any(|output| output.dest.is_none() && output.kind != OutputKind::Store && output.kind != OutputKind::Registry);
    if let Some(digest) = built.digest.as_ref().filter(|_| !stdout) {
        let mut out = std::io::stdout().lock();
        let _ = match quiet {
            true => writeln!(out, "{digest}"),
            false => writeln!(out, "{}{digest}", built.names.iter().map(|name| format!("{name} ")).collect::<String>()),
        };
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes down spans from now on, and shows warnings as always.
fn record() -> Recorder {
    use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, prelude::*};
    let recorder = Recorder::new(crate::clock::system());
    let shown = EnvFilter::try_from_env("SHIPWAY_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    let shown = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).with_filter(shown);
    // A second subscriber in one process would be a defect; then there is no trace.
    let _ = tracing_subscriber::registry().with(shown).with(recorder.clone().with_filter(LevelFilter::INFO)).try_init();
    recorder
}

/// What `docker build --metadata-file` writes, as far as there is such a thing here.
fn metadata(built: &Built) -> serde_json::Value {
    serde_json::json!({
        "containerimage.digest": built.digest,
        "containerimage.config.digest": built.config,
        "image.name": built.names.join(","),
        "shipway.vertices.done": built.done,
        "shipway.vertices.cached": built.cached,
        "shipway.warnings": built.warnings,
    })
}

fn put(path: &std::path::Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content)
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: super::Options,
    }

    fn request(arguments: &[&str]) -> crate::fault::Result<crate::wiring::Request> {
        Cli::parse_from(["build"].iter().chain(arguments)).options.request()
    }

    #[test]
    fn habits_of_docker_build_are_understood() {
        let request = request(&[
            "-t",
            "app:1",
            "-f",
            "x/Dockerfile",
            "--build-arg",
            "A=1",
            "--target",
            "b",
            "--label",
            "l",
            "-o",
            "type=oci,dest=x.tar",
            "--no-cache-filter",
            "a,b",
            "--platform",
            "linux/amd64",
            "ctx",
        ]);
        let request = request.unwrap();
        assert_eq!(request.tags[0].to_string(), "app:1");
        assert_eq!(request.fresh, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((request.context.as_str(), request.labels["l"].as_str()), ("ctx", ""));
        // As with docker, their values stand behind `=`, so that what follows is the context.
        let request = super::tests::request(&["--sbom", "--provenance", "ctx"]).unwrap();
        assert!(request.context == "ctx" && request.attest.sbom && request.attest.provenance.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_done() {
        for (arguments, why) in [
            (&["-t", "app"][..], "latest"),
            (&["--push"], "without a name"),
            (&["--network", "host"], "--network=host"),
            (&["--platform", "x"], "no platform"),
            (&["--secret", "src=x"], "needs an id"),
            (&["--build-context", "x"], "names no place"),
            (&["-o", "type=docker,dest=x", "--platform", "linux/amd64,linux/arm64"], "of one platform"),
            (&["-o", "type=oci,dest=x,compression=zstd,oci-mediatypes=false"], "no zstd"),
        ] {
            let error = request(arguments).err().unwrap().message;
            assert!(error.contains(why), "{error}");
        }
    }
}
