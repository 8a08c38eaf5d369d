//! Post-renderers: programs that change documents on their way.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// What the program makes of a text.
pub fn filtered(program: &Path, arguments: &[String], text: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "cannot run {0}: there is no such program; plugins, which helm 4 wants here, are not run: give the path of the program that the plugin's plugin.yaml names",
            program.display()
        ),
        _ => format!("cannot run {}: {error}", program.display()),
    };
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let input = child.stdin.take();
    let text = text.to_owned();
    // Written from a thread of its own: the program may answer before it has read everything.
    let writer = std::thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(text.as_bytes())));
    let output = child.wait_with_output().map_err(failed)?;
    let _ = writer.join();
    if !output.status.success() {
        return Err(format!("error while running command {}: {}", program.display(), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.trim().is_empty() {
        return Err(format!("post-renderer {:?} produced empty output", program.display().to_string()));
    }
    Ok(text)
}
