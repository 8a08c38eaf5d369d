//! The time between a file's rename and the sync of its directory: its name is there and may be gone after a loss of power. Its writer goes
//! on meanwhile, and nobody else is told of it.

use std::sync::Arc;

use records::Digest;
use tokio::sync::oneshot;

use super::{Inner, cut_short, io};
use crate::{Naming, Result};

/// Content whose name has to be made durable.
pub(super) struct Unsettled {
    inner: Arc<Inner>,
    digest: Digest,
    inode: u64,
    settled: bool,
    /// Whether it is this one's name, and not that of somebody who wrote the same.
    own: bool,
}

impl Unsettled {
    /// From now on nobody is told that a file of this inode is there.
    pub(super) fn new(inner: &Arc<Inner>, digest: &Digest, inode: u64) -> Self {
        inner.unsettled().insert(inode);
        Self { inner: inner.clone(), digest: digest.clone(), inode, settled: false, own: true }
    }

    /// What was there already, perhaps from somebody who is about to settle it.
    pub(super) fn of_another(inner: &Arc<Inner>, digest: &Digest, inode: u64) -> Self {
        let settled = !inner.unsettled().contains(&inode);
        Self { inner: inner.clone(), digest: digest.clone(), inode, settled, own: false }
    }

    /// Brings the name to the disk. From then on everybody is told.
    pub(super) fn settle(self) -> Result<()> {
        if self.settled {
            return Ok(());
        }
        let [sha256, sha512] = &self.inner.names;
        let names = if self.digest.algorithm() == "sha512" { sha512 } else { sha256 };
        names.sync().map_err(|e| io(e, format!("cannot write blob {}", self.digest)))?;
        self.inner.unsettled().remove(&self.inode);
        Ok(())
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if self.own {
            self.inner.unsettled().remove(&self.inode);
        }
    }
}

/// Runs work whose first part is answered while the second goes on.
pub(super) async fn in_two_parts(
    work: impl FnOnce() -> Result<Option<(Digest, Unsettled)>> + Send + 'static,
) -> Result<Option<(Digest, Naming)>> {
    let (placed, place) = oneshot::channel();
    let working = tokio::task::spawn_blocking(move || {
        let Some((digest, unsettled)) = work()? else { return Ok(()) };
        // Who does not wait any more does not need the answer.
        let _ = placed.send((digest, unsettled.settled));
        unsettled.settle()
    });
    let settled = async move { working.await.map_err(cut_short)? };
    match place.await {
        Ok((digest, true)) => Ok(Some((digest, Naming::done()))),
        Ok((digest, false)) => Ok(Some((digest, Naming::under_way(settled)))),
        Err(_) => settled.await.map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::{Blobs, DirectoryBlobs};

    #[tokio::test]
    async fn nobody_is_told_of_a_name_that_may_be_lost() {
        let home = tempfile::tempdir().unwrap();
        let blobs = DirectoryBlobs::open(home.path()).await.unwrap();
        let digest = crate::blobs::sum(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"abc"));
        let written = || {
            let mut file = blobs.inner.temporary().unwrap();
            file.write_all(b"abc").unwrap();
            blobs.inner.keep(file, &digest).unwrap()
        };
        let first = written();
        assert!(blobs.path(&digest).unwrap().exists());
        assert_eq!(blobs.size(&digest).await.unwrap(), None);
        let second = written();
        assert!(!second.settled, "who brings the same has to wait for the disk, too");
        second.settle().unwrap();
        assert_eq!(blobs.size(&digest).await.unwrap(), Some(3), "and is told the truth");
        first.settle().unwrap();
        let third = written();
        assert!(third.settled);
        assert_eq!(blobs.size(&digest).await.unwrap(), Some(3), "what is settled stays so whoever brings it again");
        drop(third);
        assert!(blobs.inner.unsettled().is_empty());
        let failed = home.path().join("sha256");
        std::fs::remove_dir_all(&failed).unwrap();
        let file = blobs.inner.temporary().unwrap();
        assert!(blobs.inner.keep(file, &digest).is_err());
        assert!(blobs.inner.unsettled().is_empty(), "nothing is left of what failed");
    }
}
