//! Which of the two families a seed is of: both are lived in one run.

/// A family of releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Rollouts.
    Rollout,
    /// Canaries.
    Canary,
}

/// Of so many seeds one is a Canary.
const ONE_IN: u64 = 4;

impl Family {
    /// The family of a seed.
    pub fn of(seed: u64) -> Self {
        if seed % ONE_IN == ONE_IN - 1 {
            Self::Canary
        } else {
            Self::Rollout
        }
    }
}
