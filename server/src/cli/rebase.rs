//! `shipway rebase`: an image that buildpacks made, on a newer run image.

use std::process::ExitCode;

use super::build_progress;
use crate::{
    fault::Result,
    wiring::{Home, Place, rebase, to_give},
};

pub const EXAMPLES: &str = "\
Examples:
  shipway rebase app:1.0 --pull                        the newest state of the run image that app:1.0 stands on
  shipway rebase app:1.0 --run-image run:2 -t app:1.1  another one, and the result by another name";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The image, of the local store or of a registry; buildpacks made it
    pub image: String,

    /// The image to stand on [default: the one that the image names]
    #[arg(long, value_name = "IMAGE")]
    pub run_image: Option<String>,

    /// Name of the result [default: that of the image]; can be given more than once
    #[arg(long, short, value_name = "NAME")]
    pub tag: Vec<String>,

    /// Let a tag be `latest`
    #[arg(long)]
    pub allow_latest: bool,

    /// Also onto an image that the image does not know, or that is for another distribution
    #[arg(long)]
    pub force: bool,

    /// Ask for the images again where they come from
    #[arg(long)]
    pub pull: bool,

    /// Push the result under its names
    #[arg(long)]
    pub push: bool,

    /// Print the digest alone
    #[arg(long, short)]
    pub quiet: bool,

    #[command(flatten)]
    pub place: Place,
}

pub async fn main(options: Options) -> Result<ExitCode> {
    super::trace_to_stderr("warn");
    let tags = options.tag.iter().map(|tag| to_give(tag, options.allow_latest)).collect::<Result<_>>()?;
    let wanted = rebase::Rebase {
        image: options.image.clone(),
        run_image: options.run_image.clone(),
        tags,
        force: options.force,
        pull: options.pull,
        push: options.push,
    };
    let progress = build_progress::make(build_progress::How::Auto, options.quiet);
    let home = Home::open(&options.place, &|text| eprintln!("{text}")).await?;
    let ended = rebase::rebase(&home, &wanted, progress.clone()).await;
    progress.end();
    let closed = home.close().await;
    let built = ended?;
    closed?;
    let names = if options.quiet { String::new() } else { built.names.iter().map(|name| format!("{name} ")).collect() };
    println!("{names}{}", built.digest.map(|digest| digest.to_string()).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}
