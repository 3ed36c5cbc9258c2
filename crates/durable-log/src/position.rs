//! The two ways to point into a log: [`Offset`] counts records, [`Location`] counts bytes; and
//! [`Epoch`], which tells two lives of one offset apart.
//!
//! The first two are dense over the whole life of a log: neither restarts after a trim, a crash or
//! a new segment. They go back only when the end of the log is lost in a crash or cut off, and then
//! the epoch goes up.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Number of a record in one log: the first record ever appended has offset 0.
///
/// Offsets are dense and never reused, also not after everything was trimmed. An exclusive end is
/// an `Offset` too: "durable 7" means that records 0 to 6 are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset of the first record ever.
    pub const ZERO: Self = Self(0);

    /// The offset with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// [`Offset::new`].
impl From<u64> for Offset {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// Reads what `Display` writes: a decimal number.
impl FromStr for Offset {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The offset so many records later.
impl Add<u64> for Offset {
    type Output = Self;

    fn add(self, records: u64) -> Self {
        Self(self.0 + records)
    }
}

/// How many records lie between two offsets. Panics when `earlier` is the later one.
impl Sub for Offset {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        assert!(earlier <= self, "offset {earlier} is after {self}");
        self.0 - earlier.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A byte of the log: its distance from the first byte that the log ever held, frame headers
/// included and segment headers not.
///
/// A location stays good for as long as its record is not trimmed, whichever file the byte lies
/// in; after a failed sync that file may change, the location does not. Ordered as the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// The location with this distance from the log's first byte, as [`Location::get`] gave it.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the first byte that the log ever held.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The location so many bytes later; meaningful within one record.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of the log's end a record belongs to; goes up by at least one whenever records may
/// have vanished that somebody saw: at every opening that no [`crate::Log::close`] went before, and
/// with every cut of the end.
///
/// So (epoch, offset) names one record for ever, while an offset alone may be used again for a record
/// that replaces one that was never promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a log that was never opened before.
    pub const FIRST: Self = Self(1);

    /// The epoch with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in one log that was durable: tells that log, with all that was before the place, from any other, and
/// from itself after an end that was lost or cut off. [`crate::Log::landmark`] takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landmark {
    /// One past the record that it lies behind.
    pub next: Offset,
    /// The segment that holds that record.
    pub segment: u64,
    /// That segment's random number; no other segment ever has the same.
    pub salt: u64,
}

const _: () = assert!(size_of::<Offset>() == size_of::<u64>());
const _: () = assert!(size_of::<Location>() == size_of::<u64>());
