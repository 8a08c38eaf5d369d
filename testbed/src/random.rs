//! Random numbers that can be had again: SplitMix64.

/// A stream of numbers from a seed.
pub struct Random(u64);

impl Random {
    /// From the variable, so that a failure can be repeated; otherwise another one each time. The seed is printed.
    pub fn seeded_by(variable: &str) -> Self {
        let given = std::env::var(variable).ok().map(|text| {
            let text = text.trim();
            text.parse().unwrap_or_else(|_| panic!("{variable}=`{text}` is not a number"))
        });
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            aws_lc_rs::rand::fill(&mut bytes).unwrap_or_else(|_| panic!("the system gives no random numbers"));
            u64::from(u32::from_le_bytes(bytes))
        });
        crate::say(&format!("{variable}={seed}"));
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of the range.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }
}
