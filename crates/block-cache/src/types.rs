//! Numbers that cross the crate's border.

use std::fmt;
use std::ops::Range;

/// Bytes of a piece: what is listed, evicted and marked as saved at once.
pub const PIECE_BYTES: u32 = 4 << 20;

/// Names one piece: the run of [`PIECE_BYTES`] bytes of a strand that begins at `index * PIECE_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceId {
    /// Number of the strand.
    pub strand: u64,
    /// Which of its pieces, from 0.
    pub index: u64,
}

impl PieceId {
    /// The piece of a strand that holds the byte at `offset`.
    pub const fn at(strand: u64, offset: u64) -> Self {
        Self { strand, index: offset / PIECE_BYTES as u64 }
    }

    /// Offset in the strand of the piece's first byte.
    pub const fn start(self) -> u64 {
        self.index * PIECE_BYTES as u64
    }

    /// The piece's bytes in the strand. The last piece of all is a byte short.
    pub const fn range(self) -> Range<u64> {
        self.start()..self.start().saturating_add(PIECE_BYTES as u64)
    }
}

impl fmt::Display for PieceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {} of strand {}", self.index, self.strand)
    }
}

/// When a write was accepted: later writes of a strand have larger generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// A generation by its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
