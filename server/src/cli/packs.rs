//! What `shipway build` can be told about buildpacks.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    fault::{Fault, Result},
    wiring::{Packs, Volume, default_builder},
};

/// The most bytes of a file of variables.
const MOST: u64 = 1 << 20;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Buildpacks")]
pub struct PackOptions {
    /// Buildpack to build with, in place of a Dockerfile: a directory, an archive, an image, an address, an id[@version] of the builder, or
    /// from=builder for all of its; can be given more than once
    #[arg(long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub buildpack: Vec<String>,

    /// The builder: an image, or a directory with builder.toml [default: that of project.toml, then $SHIPWAY_BUILDER]
    #[arg(long, value_name = "BUILDER")]
    pub builder: Option<String>,

    /// The image to stand on [default: what the builder names]
    #[arg(long, value_name = "IMAGE")]
    pub run_image: Option<String>,

    /// Variable for buildpacks, as NAME=VALUE; NAME alone takes it from the environment
    #[arg(long, short, value_name = "ENV")]
    pub env: Vec<String>,

    /// File of variables for buildpacks, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// The project's file [default: CONTEXT/project.toml]
    #[arg(long, value_name = "FILE")]
    pub descriptor: Option<PathBuf>,

    /// The process that the image starts [default: what the buildpacks say]
    #[arg(long, visible_alias = "default-process", value_name = "TYPE")]
    pub process: Option<String>,

    /// The image to take unchanged layers of [default: the one before of the same name]
    #[arg(long, value_name = "IMAGE")]
    pub previous_image: Option<String>,

    /// What the image is for [default: production]
    #[arg(long, value_name = "NAME")]
    pub exec_env: Option<String>,

    /// Directory or file that buildpacks see, as HOST:TARGET[:ro|rw]; below /platform/bindings it is a service binding
    #[arg(long, value_name = "VOLUME")]
    pub volume: Vec<String>,
}

impl PackOptions {
    pub fn read(&self) -> Result<Packs> {
        let mut lines = Vec::new();
        for path in &self.env_file {
            let failed = |e: std::io::Error| Fault::usage(format!("cannot read {}: {e}", path.display()));
            let (file, mut text) = (std::fs::File::open(path).map_err(failed)?, String::new());
            std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST), &mut text).map_err(failed)?;
            let used = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.extend(used.map(str::to_owned));
        }
        let mut env: BTreeMap<String, String> = super::build::pairs(&lines, "--env-file", true)?;
        env.extend(super::build::pairs(&self.env, "--env", true)?);
        Ok(Packs {
            automatic: true,
            buildpacks: self.buildpack.clone(),
            builder: self.builder.clone(),
            default_builder: default_builder(),
            run_image: self.run_image.clone(),
            env,
            descriptor: self.descriptor.clone(),
            process: self.process.clone(),
            previous: self.previous_image.clone(),
            exec_env: self.exec_env.clone(),
            volumes: self.volume.iter().map(|text| Volume::parse(text)).collect::<Result<_>>()?,
        })
    }
}
