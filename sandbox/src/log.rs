//! Log lines in the format of the Kubernetes CRI: `<RFC 3339 time> <stdout|stderr> <P|F> <text>`. `P` marks a part of a line that
//! goes on in the next record of the same stream.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
};

use crate::LogFile;

/// One record. `text` has no line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// RFC 3339, UTC.
    pub time: &'a str,
    pub stderr: bool,
    /// The line goes on.
    pub partial: bool,
    pub text: &'a [u8],
}

/// Reads one line of a log, with or without its line end. `None` when it is not in the format.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stderr = match fields.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = match fields.next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Entry { time, stderr, partial, text: fields.next().unwrap_or_default() })
}

/// The longest text of one record.
const LONGEST: usize = 16 << 10;

/// Appends to a log file, and begins it anew when it is full.
pub(crate) struct Writer {
    log: LogFile,
    file: File,
    written: u64,
}

/// What one stream has given of a line that is not at its end yet.
#[derive(Default)]
pub(crate) struct Pending(Vec<u8>);

impl Writer {
    pub(crate) fn open(log: LogFile) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&log.path)?;
        let written = file.metadata()?.len();
        Ok(Self { log, file, written })
    }

    /// Takes what a stream gave. `now`: seconds and nanoseconds since 1970.
    pub(crate) fn take(
        &mut self,
        pending: &mut Pending,
        stderr: bool,
        bytes: &[u8],
        now: (i64, i32),
    ) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let time = format_time(now);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            pending.0.extend_from_slice(text);
            while pending.0.len() > LONGEST {
                let rest = pending.0.split_off(LONGEST);
                record(&mut out, &time, stderr, true, &pending.0);
                pending.0 = rest;
            }
            if ended {
                record(&mut out, &time, stderr, false, &pending.0);
                pending.0.clear();
            }
        }
        self.append(&out)
    }

    /// The last line of a stream may have no line end.
    pub(crate) fn finish(&mut self, pending: &mut Pending, stderr: bool, now: (i64, i32)) -> io::Result<()> {
        if pending.0.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        record(&mut out, &format_time(now), stderr, false, &pending.0);
        pending.0.clear();
        self.append(&out)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.written > 0 && self.written + bytes.len() as u64 > self.log.max_bytes {
            let mut old = self.log.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.log.path, old)?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.log.path)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn record(out: &mut Vec<u8>, time: &str, stderr: bool, partial: bool, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(if stderr { b" stderr " } else { b" stdout " });
    out.extend_from_slice(if partial { b"P " } else { b"F " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn format_time((seconds, nanoseconds): (i64, i32)) -> String {
    match jiff::Timestamp::new(seconds, nanoseconds) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => "1970-01-01T00:00:00.000000000Z".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(max_bytes: u64, inputs: &[(bool, &[u8])]) -> (Vec<String>, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = Writer::open(LogFile { path: path.clone(), max_bytes }).unwrap();
        let mut pending = [Pending::default(), Pending::default()];
        for (stderr, bytes) in inputs {
            writer.take(&mut pending[usize::from(*stderr)], *stderr, bytes, (1_700_000_000, 5)).unwrap();
        }
        for stderr in [false, true] {
            writer.finish(&mut pending[usize::from(stderr)], stderr, (1_700_000_000, 6)).unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        (lines, std::fs::read_to_string(directory.path().join("log.1")).ok())
    }

    #[test]
    fn streams_are_kept_apart_and_lines_whole() {
        let (lines, _) = written(1 << 20, &[(false, b"a"), (true, b"e\n"), (false, b"b\n\nlast")]);
        assert_eq!(
            lines,
            [
                "2023-11-14T22:13:20.000000005Z stderr F e",
                "2023-11-14T22:13:20.000000005Z stdout F ab",
                "2023-11-14T22:13:20.000000005Z stdout F ",
                "2023-11-14T22:13:20.000000006Z stdout F last",
            ]
        );
        let entry = parse(lines[1].as_bytes()).unwrap();
        assert_eq!((entry.time, entry.stderr, entry.partial, entry.text), (&lines[1][..30], false, false, &b"ab"[..]));
        assert_eq!(parse(lines[2].as_bytes()).unwrap().text, b"");
        assert!(parse(b"hello there").is_none());
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let long = vec![b'x'; LONGEST * 2 + 10];
        let (lines, _) = written(1 << 20, &[(false, &long), (false, b"\n")]);
        let parts: Vec<_> =
            lines.iter().map(|l| parse(l.as_bytes()).unwrap()).map(|e| (e.partial, e.text.len())).collect();
        assert_eq!(parts, [(true, LONGEST), (true, LONGEST), (false, 10)]);
    }

    #[test]
    fn a_full_file_is_begun_anew() {
        let (lines, old) = written(100, &[(false, b"one\n"), (false, b"two\n"), (false, b"three\n")]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("three"));
        assert!(old.unwrap().ends_with("two\n"));
    }
}
