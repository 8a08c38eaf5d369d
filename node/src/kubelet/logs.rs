//! Reading what containers printed. A log is a file in the format of the container runtime interface
//! (`<time> <stdout|stderr> <P|F> <text>`); when it is full it becomes `<file>.1`, and a new one begins.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;

use crate::api::streams::LogOptions;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(50);
const CHUNK: usize = 64 << 10;
/// The longest line that is kept together.
const LONGEST: usize = 1 << 20;

/// One record of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: &'a [u8],
    /// The line goes on in the next record.
    pub partial: bool,
    pub text: &'a [u8],
}

/// A record without its line end; `None` when it is not one.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = fields.next()?;
    matches!(fields.next()?, b"stdout" | b"stderr").then_some(())?;
    let tag = fields.next()?;
    matches!(tag, b"P" | b"F").then_some(())?;
    Some(Record { time, partial: tag == b"P", text: fields.next().unwrap_or_default() })
}

/// Turns records into what was printed, as far as the options ask for it.
pub struct Printer {
    options: LogOptions,
    rest: BytesMut,
    in_line: bool,
    sent: u64,
}

impl Printer {
    pub fn new(options: LogOptions) -> Self {
        Self { options, rest: BytesMut::new(), in_line: false, sent: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.options.limit_bytes.is_some_and(|limit| self.sent >= limit)
    }

    /// Takes the next bytes of the file.
    pub fn take(&mut self, bytes: &[u8]) -> Bytes {
        self.rest.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1);
            self.line(&line[..end], &mut out);
        }
        if self.rest.len() > LONGEST {
            // Not a log of ours: nothing in one is as long.
            self.rest.clear();
        }
        self.bounded(out)
    }

    fn line(&mut self, line: &[u8], out: &mut BytesMut) {
        let Some(record) = parse(line) else { return };
        if let Some(since) = self.options.since
            && time(record.time).is_some_and(|at| at < since)
        {
            return;
        }
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(record.time);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(record.text);
        if !record.partial {
            out.extend_from_slice(b"\n");
        }
        self.in_line = record.partial;
    }

    fn bounded(&mut self, mut out: BytesMut) -> Bytes {
        if let Some(limit) = self.options.limit_bytes {
            let room = usize::try_from(limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            out.truncate(room);
        }
        self.sent += out.len() as u64;
        out.freeze()
    }
}

fn time(text: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The file before the log was begun anew.
pub fn older(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Where the last `lines` whole lines of a file begin, and how many it has if they are fewer.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let length = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok((length, 0));
    }
    let (mut at, mut ends) = (length, 0_u64);
    let mut buffer = vec![0; CHUNK];
    while at > 0 {
        let size = at.min(CHUNK as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(part).await?;
        for (offset, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The one at the very end closes the last line.
            if at + offset as u64 + 1 == length {
                continue;
            }
            ends += 1;
            // Lines that go on in several records count once for each: a tail may then begin inside a long line.
            if ends == lines {
                return Ok((at + offset as u64 + 1, lines));
            }
        }
    }
    Ok((0, ends + u64::from(length > 0)))
}

/// A container's log as a stream. `ended` says whether the container has ended: then a followed log ends where it ends.
pub fn stream<F>(log: PathBuf, options: LogOptions, ended: F) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    F: Fn() -> bool + Send + 'static,
{
    let (send, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = pump(&log, options, ended, &send).await {
            let _ = send.send(Err(error)).await;
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receive)
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

async fn pump<F: Fn() -> bool>(log: &Path, options: LogOptions, ended: F, send: &Sender) -> io::Result<()> {
    let follow = options.follow;
    let mut printer = Printer::new(options.clone());
    let mut file = open(log).await?;
    let mut left = options.tail_lines;
    let mut start = 0;
    if let (Some(lines), Some(file)) = (left, &mut file) {
        let (at, found) = tail_start(file, lines).await?;
        start = at;
        left = Some(lines - found);
    }
    if left.is_none_or(|left| left > 0)
        && start == 0
        && let Some(mut before) = open(&older(log)).await?
    {
        let at = match left {
            Some(lines) => tail_start(&mut before, lines).await?.0,
            None => 0,
        };
        before.seek(SeekFrom::Start(at)).await?;
        copy(&mut before, &mut printer, send).await?;
    }
    if let Some(file) = &mut file {
        file.seek(SeekFrom::Start(start)).await?;
        copy(file, &mut printer, send).await?;
    }
    while follow && !printer.is_full() && !send.is_closed() {
        // Asked before the last look, so that nothing written before the end is missed.
        let over = ended();
        if file.is_none() {
            file = open(log).await?;
        }
        if let Some(current) = &mut file {
            copy(current, &mut printer, send).await?;
            if was_replaced(log, current).await {
                copy(current, &mut printer, send).await?;
                file = None;
                continue;
            }
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = send.closed() => {}
        }
    }
    Ok(())
}

async fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the name stands for another file by now.
async fn was_replaced(log: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata().await, tokio::fs::metadata(log).await) {
        (Ok(open), Ok(named)) => open.ino() != named.ino(),
        (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

async fn copy(file: &mut File, printer: &mut Printer, send: &Sender) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while !printer.is_full() {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let text = printer.take(&buffer[..read]);
        if !text.is_empty() && send.send(Ok(text)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The last lines of a log, at most `lines` and `bytes`, for a message.
pub fn last_lines(log: &Path, lines: usize, bytes: usize) -> String {
    use std::io::{Read, Seek};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4 * bytes as u64)))?;
        let mut all = Vec::new();
        file.take(4 * bytes as u64).read_to_end(&mut all)?;
        Ok(all)
    };
    let all = read().unwrap_or_default();
    let printed = Printer::new(LogOptions::default()).take(&all);
    let text = String::from_utf8_lossy(&printed);
    let kept: Vec<&str> = text.lines().rev().take(lines).collect();
    let text = kept.into_iter().rev().collect::<Vec<_>>().join("\n");
    let from = text.len().saturating_sub(bytes);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::StreamExt;

    use super::*;

    fn records(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("2026-01-01T00:00:{:02}.000000000Z stdout F line {n}\n", n % 60)).collect()
    }

    async fn read(log: &Path, options: LogOptions) -> String {
        let parts: Vec<_> = stream(log.to_owned(), options, || true).collect().await;
        parts.into_iter().map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_asked_for_part_of_a_log_is_read_across_its_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        std::fs::write(older(&log), records(0..3)).unwrap();
        std::fs::write(&log, records(3..5)).unwrap();
        let all = read(&log, LogOptions::default()).await;
        assert_eq!(all, "line 0\nline 1\nline 2\nline 3\nline 4\n");
        let tail = |n| LogOptions { tail_lines: Some(n), ..Default::default() };
        assert_eq!(read(&log, tail(1)).await, "line 4\n");
        assert_eq!(read(&log, tail(3)).await, "line 2\nline 3\nline 4\n");
        assert_eq!(read(&log, tail(0)).await, "");
        assert_eq!(read(&log, tail(99)).await, all);
        let since = LogOptions { since: Some("2026-01-01T00:00:04Z".parse().unwrap()), ..Default::default() };
        assert_eq!(read(&log, since).await, "line 4\n");
        let stamped = LogOptions { timestamps: true, ..tail(1) };
        assert_eq!(read(&log, stamped).await, "2026-01-01T00:00:04.000000000Z line 4\n");
        let limited = LogOptions { limit_bytes: Some(9), ..Default::default() };
        assert_eq!(read(&log, limited).await, "line 0\nli");
        assert_eq!(last_lines(&log, 1, 100), "line 4");
    }

    #[test]
    fn parts_of_long_lines_are_put_together() {
        let mut printer = Printer::new(LogOptions { timestamps: true, ..Default::default() });
        let out = printer.take(b"T stdout P long \nT stdout F line\nnonsense\nT stderr F x\nT stdout F cut");
        assert_eq!(&out[..], b"T long line\nT x\n");
        assert_eq!(&printer.take(b" off\n")[..], b"T cut off\n");
    }

    #[tokio::test]
    async fn following_sees_new_lines_and_rotations_and_ends_with_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        std::fs::write(&log, records(0..1)).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let options = LogOptions { follow: true, ..Default::default() };
        let mut lines = Box::pin(stream(log.clone(), options, move || flag.load(Ordering::SeqCst)));
        let next = async |lines: &mut std::pin::Pin<Box<_>>| -> String {
            let part: Option<io::Result<Bytes>> = futures::StreamExt::next(lines).await;
            String::from_utf8(part.unwrap().unwrap().to_vec()).unwrap()
        };
        assert_eq!(next(&mut lines).await, "line 0\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(records(1..2).as_bytes()).unwrap();
        assert_eq!(next(&mut lines).await, "line 1\n");
        std::fs::rename(&log, older(&log)).unwrap();
        std::fs::write(&log, records(2..3)).unwrap();
        assert_eq!(next(&mut lines).await, "line 2\n");
        ended.store(true, Ordering::SeqCst);
        assert!(lines.next().await.is_none());
    }
}
