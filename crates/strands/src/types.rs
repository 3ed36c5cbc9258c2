//! Numbers that cross the crate's border.

use std::fmt;

use durable_log::Offset;
use host::SystemRun;

/// A place between two commits in the journal: everything below it happened before.
///
/// As the answer to a commit it is the exclusive end: the commit is durable when
/// [`crate::Positions::durable`] has reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The place before the first commit ever.
    pub const START: Self = Self(0);

    /// A position by its number of commits before it.
    pub const fn new(commits: u64) -> Self {
        Self(commits)
    }

    /// How many commits ever happened before this place.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn of(offset: Offset) -> Self {
        Self(offset.get())
    }

    pub(crate) fn offset(self) -> Offset {
        Offset::new(self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far the journal has come, in the three senses of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Oldest commit that the journal still holds.
    pub start: Position,
    /// In memory.
    pub appended: Position,
    /// Handed to the operating system: survives the process.
    pub written: Position,
    /// On stable storage: survives a power cut.
    pub durable: Position,
}

/// Names one strand: an ordered run of bytes. Minted once, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrandId(u64);

impl StrandId {
    /// The strand of a number that was kept in a row.
    pub const fn from_raw(number: u64) -> Self {
        Self(number)
    }

    /// The number to keep in a row.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it is one that the data path keeps for itself: the ledger and its checkpoints. They are not minted,
    /// and a root in the store names the blocks that they lie in, so that they must stay in those.
    pub const fn is_reserved(self) -> bool {
        self.0 > u64::MAX - 256
    }
}

impl fmt::Display for StrandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strand {}", self.0)
    }
}

/// Names the data directory that a block store belongs to, wherever it is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

/// 32 hexadecimal digits.
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A table of rows. 0 to 31 belong to this crate, 32 to 63 to `broker`, 64 to 95 to `volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// Which way [`crate::Strands::rows`] walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key.
    Ascending,
    /// From the largest key.
    Descending,
}

/// Which opening of the data directory this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Counts every opening, from 1; part of every block's name.
    pub epoch: u64,
    /// Counts the openings that followed an unclean stop: unsynced commits may have been replaced
    /// then, so `broker` uses it as the leader epoch.
    pub unclean_starts: u64,
    /// Counts the runs of the operating system in which the directory was opened, and the openings in one run that
    /// found a block lost: only between two of them can commits that were written, and not synced, have been lost.
    pub system_runs: u64,
    /// The run of the operating system, where it can be told.
    pub run: Option<SystemRun>,
}
