//! What files were when they were hashed, so that one that did not change is not read again.

use std::{
    collections::HashMap,
    fs::Metadata,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

/// A file as the kernel describes it. When nothing of it changed, the content did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970: of the last write, and of the last change of anything.
    modified: i64,
    changed: i64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Where known files are kept, and the time that it is. Without a file nothing is remembered.
#[derive(Debug, Clone, Default)]
pub struct StatCache {
    file: Option<PathBuf>,
    /// Nanoseconds since 1970.
    now: i64,
}

/// A file that changed less than this before it was hashed may change again without another time.
const FRESH: i64 = 1_000_000_000;
const MAGIC: &[u8; 8] = b"shipctx1";
/// The largest cache that is read.
const MOST: u64 = 256 << 20;

pub type Known = HashMap<String, (Stamp, [u8; 32])>;

impl StatCache {
    /// `now` in nanoseconds since 1970.
    pub fn new(file: PathBuf, now: i64) -> Self {
        Self { file: Some(file), now }
    }

    /// Whether a file with this stamp is old enough to be remembered.
    pub fn settled(&self, stamp: &Stamp) -> bool {
        stamp.changed.max(stamp.modified) < self.now - FRESH
    }

    /// What is known. A cache that is missing or broken is an empty one.
    pub fn load(&self) -> Known {
        let read = |path: &PathBuf| -> Option<Vec<u8>> {
            let mut bytes = Vec::new();
            std::fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        self.file.as_ref().and_then(read).and_then(|bytes| parse(&bytes)).unwrap_or_default()
    }

    /// Replaces what is written down. A failure costs the next build time and nothing else.
    pub fn save(&self, known: &Known) {
        let Some(path) = &self.file else { return };
        let write = || -> std::io::Result<()> {
            let directory = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
            std::fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(&encode(known))?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(path = %path.display(), %error, "what was hashed is not remembered");
        }
    }
}

fn encode(known: &Known) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (path, (stamp, digest)) in known {
        out.extend((path.len() as u32).to_le_bytes());
        out.extend(path.as_bytes());
        for number in [stamp.device, stamp.inode, stamp.size, stamp.modified as u64, stamp.changed as u64] {
            out.extend(number.to_le_bytes());
        }
        out.extend(digest);
    }
    // The end, so that a file that was cut short is not taken for the whole.
    out.extend(u32::MAX.to_le_bytes());
    out
}

fn parse(bytes: &[u8]) -> Option<Known> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut known = Known::with_capacity(rest.len() / 128);
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if length == u32::MAX {
            return after.is_empty().then_some(known);
        }
        let (path, after) = after.split_at_checked(length as usize)?;
        let (numbers, after) = after.split_first_chunk::<40>()?;
        let (digest, after) = after.split_first_chunk::<32>()?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&numbers[at * 8..at * 8 + 8]);
            u64::from_le_bytes(eight)
        };
        let stamp = Stamp {
            device: number(0),
            inode: number(1),
            size: number(2),
            modified: number(3) as i64,
            changed: number(4) as i64,
        };
        known.insert(String::from_utf8(path.to_vec()).ok()?, (stamp, *digest));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_broken_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/cache");
        let cache = StatCache::new(path.clone(), 10_000_000_000);
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: 4, changed: -5 };
        let known = Known::from([("a/b".to_owned(), (stamp, [7; 32]))]);
        cache.save(&known);
        assert_eq!(cache.load(), known);
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(cache.load().is_empty(), "{end}");
        }
        assert!(cache.settled(&stamp));
        assert!(!cache.settled(&Stamp { changed: 9_500_000_000, ..stamp }));
    }
}
