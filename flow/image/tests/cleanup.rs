//! Clean-up against pushes, mounts, deletions and itself, in thousands of orders: no content that anybody can ask for is ever deleted, and
//! no push fails for it. The real registry runs on stores that hand over to another task at every call; which goes on is drawn from a seed,
//! which is printed when something does not hold (`CLEANUP_SEED` runs one alone).

mod cleanup {
    pub mod stores;
    pub mod world;
}

use cleanup::world::World;

/// A small generator of random numbers (SplitMix64), so that a seed means the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

fn explore(seed: u64) -> cleanup::world::Counts {
    let run = std::panic::catch_unwind(|| World::new(seed).run());
    match run {
        Ok(counts) => counts,
        Err(panic) => {
            eprintln!("seed {seed} (CLEANUP_SEED={seed} runs it alone)");
            std::panic::resume_unwind(panic)
        }
    }
}

#[test]
fn nothing_that_can_be_asked_for_is_ever_deleted() {
    if let Some(seed) = std::env::var("CLEANUP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", explore(seed));
        return;
    }
    let rounds = std::env::var("CLEANUP_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut total = cleanup::world::Counts::default();
    for seed in 0..rounds {
        total.add(&explore(seed));
    }
    println!("{total:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(total.pushes > rounds && total.mounts > rounds / 20 && total.deletions > rounds / 8, "{total:?}");
    assert!(total.cleanups > rounds && total.deleted_blobs > rounds / 3 && total.waited > 0, "{total:?}");
}

/// Without the leases the same simulation finds the loss at once: it can fail.
#[test]
fn without_leases_the_loss_is_found() {
    let lost = (0..200).any(|seed| std::panic::catch_unwind(|| World::careless(seed).run()).is_err());
    assert!(lost, "a store that forgets its users loses content somewhere");
}
