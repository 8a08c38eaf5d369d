//! Logs of steps: files beside the records, one a step, followed live.
//!
//! A line is `<timestamp> <o|e|n> <text>`: standard output, standard error, or a note by Shipway.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use graph::StreamKind;
use records::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::fault::{Class, Fault, Result};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    pub stream: StreamKind,
    pub text: String,
}

/// The most that one step may write; what follows is dropped with a note.
const STEP_LIMIT: u64 = 64 << 20;

/// All logs of a server. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    directory: Arc<Path>,
    /// Counts writes; followers wait for it to move.
    written: Arc<watch::Sender<u64>>,
}

impl Logs {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory: directory.into(), written: Arc::new(watch::Sender::new(0)) }
    }

    fn path(&self, run: &RunId, step: &str) -> PathBuf {
        // Step names may have `/` (image repositories); anything else that a path could not hold is escaped too.
        let mut name = String::new();
        for c in step.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => name.push(c),
                c => name.push_str(&format!("%{:x}", u32::from(c))),
            }
        }
        self.directory.join(run.project.as_str()).join(run.build.to_string()).join(format!("{name}.log"))
    }

    /// Appends text, split into lines. A log is no record: it is not synced, and a full disk loses only the log.
    pub fn append(&self, run: &RunId, step: &str, stream: StreamKind, text: &str, now: Timestamp) -> Result<()> {
        let path = self.path(run, step);
        let failed = |e: std::io::Error| {
            Fault::new(Class::Unavailable, format!("cannot write the log of step {step} of run {run}: {e}"))
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > STEP_LIMIT {
            return Ok(());
        }
        let letter = match stream {
            StreamKind::Stdout => 'o',
            StreamKind::Stderr => 'e',
            StreamKind::Note => 'n',
        };
        let mut out = String::new();
        for line in text.lines() {
            out.push_str(&format!("{now} {letter} {line}\n"));
        }
        file.write_all(out.as_bytes()).map_err(failed)?;
        self.written.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Whole lines from a byte offset on, at most about 1 MiB, and the offset behind them.
    pub fn read(&self, run: &RunId, step: &str, offset: u64) -> Result<(Vec<Line>, u64)> {
        let path = self.path(run, step);
        let failed = |e: std::io::Error| {
            Fault::new(Class::Unavailable, format!("cannot read the log of step {step} of run {run}: {e}"))
        };
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), offset)),
            Err(e) => return Err(failed(e)),
        };
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        Ok((text.lines().filter_map(parse).collect(), offset + whole as u64))
    }

    /// Moves whenever any log was written.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut parts = line.splitn(3, ' ');
    let at = parts.next()?.parse().ok()?;
    let stream = match parts.next()? {
        "o" => StreamKind::Stdout,
        "e" => StreamKind::Stderr,
        _ => StreamKind::Note,
    };
    Some(Line { at, stream, text: parts.next().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::new(directory.path().to_owned());
        let run: RunId = "journal/1".parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        logs.append(&run, "journal/../x", StreamKind::Stdout, "one\ntwo words", now).unwrap();
        let (lines, offset) = logs.read(&run, "journal/../x", 0).unwrap();
        assert_eq!(lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["one", "two words"]);
        logs.append(&run, "journal/../x", StreamKind::Note, "three", now).unwrap();
        let (lines, _) = logs.read(&run, "journal/../x", offset).unwrap();
        assert_eq!(lines, [Line { at: now, stream: StreamKind::Note, text: "three".into() }]);
        assert!(directory.path().join("journal/1").is_dir(), "the step's name stays inside its run's directory");
        assert_eq!(std::fs::read_dir(directory.path().join("journal/1")).unwrap().count(), 1);
    }
}
