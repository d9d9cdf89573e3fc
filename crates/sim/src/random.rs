//! Chance from a seed: the same numbers on every machine and in every build.

/// A source of chance.
#[derive(Clone, Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds shall have nothing in common.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(fastrand::Rng::with_seed(mixed ^ (mixed >> 29)))
    }

    /// A number from 0 up to, and without, `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.0.usize(..limit) }
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn pick<T: Copy, const N: usize>(&mut self, among: &[T; N]) -> T {
        const { assert!(N > 0, "there is something to pick from") };
        among[self.below(N)]
    }
}
