//! Pseudo-random numbers from a seed.

/// xorshift64*, for the jitter of retries: quality matters less than that a seed replays.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Any seed will do; the generator's state must not be zero.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Seeds a generator that goes on from this one.
    pub fn seed(&self) -> u64 {
        self.0
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
