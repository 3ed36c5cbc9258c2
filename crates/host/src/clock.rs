//! Time as an argument: a monotonic clock for intervals and a wall clock for stamps.

use std::fmt::Debug;
use std::ops::Add;
use std::time::Duration;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Monotonic;

    /// Time of day; may jump.
    fn wall(&self) -> WallTime;

    /// Time of day as the system last wrote it down: behind [`Clock::wall`] by one of the system's
    /// ticks at most, which is 1 to 10 ms, and several times cheaper to ask for.
    fn wall_coarse(&self) -> WallTime {
        self.wall()
    }
}

/// A moment on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The moment `since_start` after the clock's own beginning.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time that passed from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// A moment of the day: nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(i64);

impl WallTime {
    /// A moment by its nanoseconds since 1970.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970, as Kafka and the journal count.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}
