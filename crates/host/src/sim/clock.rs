//! Time that passes only when told, and randomness that a seed decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{Clock, Monotonic, Random, WallTime};

/// 2026-01-01 00:00 UTC, when every simulation begins.
const START_NANOS: i64 = 1_767_225_600_000_000_000;

#[derive(Debug)]
pub(super) struct SimClock {
    now: Mutex<Now>,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    since_start: Duration,
    wall_nanos: i64,
}

impl SimClock {
    pub(super) fn new() -> Self {
        Self { now: Mutex::new(Now { since_start: Duration::ZERO, wall_nanos: START_NANOS }) }
    }

    pub(super) fn fork(&self) -> Self {
        Self { now: Mutex::new(self.with(|now| *now)) }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.with(|now| {
            now.since_start = now.since_start.saturating_add(by);
            now.wall_nanos =
                now.wall_nanos.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
        });
    }

    pub(super) fn set_wall(&self, wall: WallTime) {
        self.with(|now| now.wall_nanos = wall.nanos());
    }

    fn with<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_start(self.with(|now| now.since_start))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_nanos(self.with(|now| now.wall_nanos))
    }
}

/// The numbers of `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `options`, which is not 0.
    pub(super) fn below(&mut self, options: usize) -> usize {
        // The remainder is below `options`, so it fits.
        usize::try_from(self.next_u64() % options as u64).unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct SimRandom {
    numbers: Mutex<Numbers>,
}

impl SimRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self { numbers: Mutex::new(Numbers::new(seed)) }
    }

    pub(super) fn fork(&self) -> Self {
        Self {
            numbers: Mutex::new(
                self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ),
        }
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
