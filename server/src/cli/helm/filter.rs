//! Post-renderers: programs that change documents on their way.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use chart::Flavor;
use clap::Args;

use super::plugin::{self, Plugin};
use crate::fault::Result;

/// Bytes that a post-renderer may write.
const LARGEST: u64 = 1 << 30;

// The flags that name a post-renderer.
#[derive(Debug, Args)]
pub struct PostRenderer {
    /// A program that changes the documents on their way (standard input to standard output), or a plugin of helm 4 by its name
    #[arg(long, value_name = "PROGRAM|PLUGIN")]
    post_renderer: Option<PathBuf>,
    /// Arguments for it; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    post_renderer_args: Vec<String>,
}

impl PostRenderer {
    /// The post-renderer that is wanted, if one is.
    pub fn filter(&self, flavor: Flavor) -> Result<Option<helm::Filter>> {
        let Some(program) = self.post_renderer.clone().filter(|program| !program.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let arguments = self.post_renderer_args.clone();
        // Helm 4 takes names of plugins only, Helm 3 programs only. What has a slash is a path.
        let name = program.to_str().filter(|name| flavor == Flavor::Helm4 && !name.contains('/'));
        if let Some(plugin) = name.map(plugin::find).transpose()?.flatten() {
            let (command, arguments) = plugin.command(&arguments)?;
            return Ok(Some(Arc::new(move |text: &str| through(&plugin, &command, &arguments, text))));
        }
        Ok(Some(Arc::new(move |text: &str| filtered(&program, &arguments, text))))
    }
}

/// What a plugin makes of a text.
fn through(plugin: &Plugin, command: &str, arguments: &[String], text: &str) -> std::result::Result<String, String> {
    let name = &plugin.name;
    let mut program = Command::new(command);
    program.args(arguments).envs(plugin.environment());
    let failed = |why: String| format!("failed to invoke post-renderer plugin {name:?}: {why}");
    let (ended, answer) = piped(program, text).map_err(|error| failed(format!("cannot run {command}: {error}")))?;
    if !ended.success() {
        return Err(failed(format!("plugin {name:?} exited with error: {ended}")));
    }
    whole(name, answer)
}

/// What the program makes of a text.
fn filtered(program: &Path, arguments: &[String], text: &str) -> std::result::Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let (ended, answer) = piped(command, text).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "cannot run {0}: there is no such program, and no plugin of this name and of type postrenderer/v1 in {1}",
            program.display(),
            super::places::plugins().display()
        ),
        _ => format!("cannot run {}: {error}", program.display()),
    })?;
    if !ended.success() {
        return Err(format!("error while running command {}: {ended}", program.display()));
    }
    whole(&program.display().to_string(), answer)
}

fn whole(name: &str, answer: Vec<u8>) -> std::result::Result<String, String> {
    if answer.len() as u64 > LARGEST {
        return Err(format!("post-renderer {name:?} wrote more than {LARGEST} bytes"));
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    if text.trim().is_empty() {
        return Err(format!("post-renderer {name:?} produced empty output"));
    }
    Ok(text)
}

/// Runs a program on a text. Its standard error is this program's.
fn piped(mut command: Command, text: &str) -> std::io::Result<(std::process::ExitStatus, Vec<u8>)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let input = child.stdin.take();
    let text = text.to_owned();
    // Written from a thread of its own: the program may answer before it has read everything.
    let writer = std::thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(text.as_bytes())));
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(LARGEST + 1).read_to_end(&mut answer)?;
        if answer.len() as u64 > LARGEST {
            child.kill()?;
        }
    }
    let ended = child.wait()?;
    // One that does not read everything has what it wants.
    let _ = writer.join();
    Ok((ended, answer))
}
