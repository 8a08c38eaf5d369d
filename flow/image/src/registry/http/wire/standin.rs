//! Slices that stand for pieces of files.

use std::{
    fs::File,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;

/// The most that one slice stands for.
pub const LONGEST: usize = 1 << 20;
/// Pieces on their way at the same time.
const PIECES: usize = 256;

/// Addresses that mean pieces of files. It is zeros that were never touched, so it takes no memory.
struct Region {
    zeros: Vec<u8>,
    pieces: Mutex<Pieces>,
}

struct Pieces {
    /// What each stands for.
    taken: Vec<Option<(Arc<File>, u64)>>,
    free: Vec<usize>,
}

/// A slice of the region; gives its place back.
struct StandIn {
    region: &'static Region,
    index: usize,
    length: usize,
}

static REGION: OnceLock<Region> = OnceLock::new();

impl Region {
    fn new() -> Self {
        let pieces = Pieces { taken: vec![None; PIECES], free: (0..PIECES).collect() };
        Self { zeros: vec![0; PIECES * LONGEST], pieces: Mutex::new(pieces) }
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        // Every change is whole before the lock is given back.
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for StandIn {
    fn as_ref(&self) -> &[u8] {
        let start = self.index * LONGEST;
        &self.region.zeros[start..start + self.length]
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let mut pieces = self.region.pieces();
        let file = pieces.taken[self.index].take();
        pieces.free.push(self.index);
        drop(pieces);
        // Closed, where it was the last use, when others can go on.
        drop(file);
    }
}

/// Bytes that stand for `length` bytes, [`LONGEST`] at most, of a file from `offset` on; `None` when too much is on its way already.
pub fn stand_in(file: &Arc<File>, offset: u64, length: usize) -> Option<Bytes> {
    let region = REGION.get_or_init(Region::new);
    if length > LONGEST {
        return None;
    }
    let mut pieces = region.pieces();
    let index = pieces.free.pop()?;
    pieces.taken[index] = Some((file.clone(), offset));
    drop(pieces);
    Some(Bytes::from_owner(StandIn { region, index, length }))
}

/// The file, and where in it, that the first byte of a slice stands for; `None` when the slice is what it looks like.
pub fn piece(slice: &[u8]) -> Option<(Arc<File>, u64)> {
    let region = REGION.get()?;
    let at = slice.as_ptr().addr().checked_sub(region.zeros.as_ptr().addr())?;
    if at >= region.zeros.len() || slice.is_empty() {
        return None;
    }
    let (file, offset) = region.pieces().taken[at / LONGEST].clone()?;
    Some((file, offset + (at % LONGEST) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_know_what_they_stand_for() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let whole = stand_in(&file, 70, 100).unwrap();
        assert_eq!(whole.len(), 100);
        assert_eq!(piece(&whole).map(|(_, offset)| offset), Some(70));
        assert_eq!(piece(&whole[33..]).map(|(_, offset)| offset), Some(103));
        assert!(piece(b"what it looks like").is_none());
        assert!(piece(&[]).is_none());
        assert!(stand_in(&file, 0, LONGEST + 1).is_none());
        drop(whole);
        assert_eq!(Arc::strong_count(&file), 1, "what is over holds no file open");
    }
}
