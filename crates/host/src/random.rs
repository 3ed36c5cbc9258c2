//! Unpredictable numbers, so that a simulation can predict them.

use std::fmt::Debug;

/// A source of random bits.
pub trait Random: Debug + Send + Sync {
    /// Sixty-four random bits.
    fn next_u64(&self) -> u64;
}
