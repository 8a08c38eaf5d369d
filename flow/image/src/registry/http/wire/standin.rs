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

    fn stand_in(&'static self, file: &Arc<File>, offset: u64, length: usize) -> Option<Bytes> {
        if length > LONGEST {
            return None;
        }
        let mut pieces = self.pieces();
        let index = pieces.free.pop()?;
        pieces.taken[index] = Some((file.clone(), offset));
        drop(pieces);
        Some(Bytes::from_owner(StandIn { region: self, index, length }))
    }

    fn piece(&self, slice: &[u8]) -> Option<(Arc<File>, u64)> {
        let at = slice.as_ptr().addr().checked_sub(self.zeros.as_ptr().addr())?;
        if at >= self.zeros.len() || slice.is_empty() {
            return None;
        }
        let (file, offset) = self.pieces().taken[at / LONGEST].clone()?;
        Some((file, offset + (at % LONGEST) as u64))
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
    REGION.get_or_init(Region::new).stand_in(file, offset, length)
}

/// The file, and where in it, that the first byte of a slice stands for; `None` when the slice is what it looks like.
pub fn piece(slice: &[u8]) -> Option<(Arc<File>, u64)> {
    REGION.get()?.piece(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_know_what_they_stand_for() {
        // Its own: those of the process may all be taken by the connections of another test.
        let region: &Region = Box::leak(Box::new(Region::new()));
        let file = Arc::new(tempfile::tempfile().unwrap());
        let whole = region.stand_in(&file, 70, 100).unwrap();
        assert_eq!(whole.len(), 100);
        assert_eq!(region.piece(&whole).map(|(_, offset)| offset), Some(70));
        assert_eq!(region.piece(&whole[33..]).map(|(_, offset)| offset), Some(103));
        assert!(region.piece(b"what it looks like").is_none());
        assert!(region.piece(&[]).is_none());
        assert!(region.stand_in(&file, 0, LONGEST + 1).is_none());
        let all: Vec<Bytes> = (1..PIECES).map(|_| region.stand_in(&file, 0, 1).unwrap()).collect();
        assert!(region.stand_in(&file, 0, 1).is_none(), "no more than there is room for");
        drop(all);
        drop(whole);
        assert_eq!(Arc::strong_count(&file), 1, "what is over holds no file open");
    }
}
