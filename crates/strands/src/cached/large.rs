//! Which large reads are kept: those that are made again while the cache would still have them.
//!
//! Bytes of a large read cost little to fetch beside what it costs to copy them here and to lose what was here
//! before: a file that is read once from front to end would drive out everything, and gain nothing. So the first
//! of two such reads only leaves a note, and the second one, if it comes before as many bytes were read as the
//! cache holds, brings. Small reads are always kept.

use std::sync::Mutex;

use crate::shared::lock;
use crate::types::StrandId;

/// A read of this size or more is large.
pub(super) const LARGE_BYTES: u64 = 1 << 20;
/// Where two reads begin in the same so many bytes of a strand, they are the same read: less than a large one, so
/// that of large reads that follow each other each has its own.
const PLACE_BYTES: u64 = LARGE_BYTES / 2;
/// Notes, by the size of the cache: several for each large read that would fit.
const NOTES_PER_READ: u64 = 4;
const NOTES_MIN: u64 = 64;
const NOTES_MAX: u64 = 64 << 10;

/// The large reads of late.
#[derive(Debug)]
pub(super) struct LargeReads {
    budget_bytes: u64,
    notes: Mutex<Notes>,
}

#[derive(Debug)]
struct Notes {
    /// By hash; a newer note takes the place of an older one.
    notes: Box<[Note]>,
    /// Bytes of large reads so far.
    read_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Note {
    /// 0: no note.
    strand: u64,
    place: u64,
    /// [`Notes::read_bytes`] after the read.
    at: u64,
}

impl LargeReads {
    pub(super) fn new(budget_bytes: u64) -> Self {
        let count = (budget_bytes / LARGE_BYTES * NOTES_PER_READ).clamp(NOTES_MIN, NOTES_MAX);
        let count = usize::try_from(count).expect("at most their most");
        let notes = vec![Note::default(); count].into_boxed_slice();
        Self { budget_bytes, notes: Mutex::new(Notes { notes, read_bytes: 0 }) }
    }

    /// Notes a read of `bytes` bytes and says whether they are to be kept.
    pub(super) fn admits(&self, strand: StrandId, start: u64, bytes: u64) -> bool {
        if bytes < LARGE_BYTES {
            return true;
        }
        let (strand, place) = (strand.get(), start / PLACE_BYTES);
        let mut notes = lock(&self.notes);
        let before = notes.read_bytes;
        notes.read_bytes += bytes;
        let now = Note { strand, place, at: notes.read_bytes };
        let slot = slot(strand, place, notes.notes.len());
        let then = std::mem::replace(&mut notes.notes[slot], now);
        (then.strand, then.place) == (strand, place) && before - then.at <= self.budget_bytes
    }
}

fn slot(strand: u64, place: u64, slots: usize) -> usize {
    let mixed = (strand.rotate_left(32) ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed >> 32) % slots as u64).expect("below their number")
}

#[cfg(test)]
mod tests {
    //! Goal: what is read once is not kept, what is read again soon is. Method: reads in order, by hand.

    use super::*;

    const MIB: u64 = 1 << 20;

    fn strand(id: u64) -> StrandId {
        StrandId::from_raw(id)
    }

    #[test]
    fn small_reads_are_kept_at_once_and_large_ones_the_second_time() {
        let reads = LargeReads::new(64 * MIB);
        assert!(reads.admits(strand(1), 0, MIB - 1));
        assert!(!reads.admits(strand(1), 0, 4 * MIB));
        assert!(!reads.admits(strand(2), 0, 4 * MIB));
        assert!(reads.admits(strand(1), 0, 4 * MIB));
        assert!(reads.admits(strand(1), 0, 4 * MIB));
    }

    #[test]
    fn a_reader_from_front_to_end_leaves_notes_alone_also_at_odd_places() {
        let reads = LargeReads::new(64 * MIB);
        for step in [MIB, MIB + 1, 3 * MIB + 77] {
            assert!((0..20).all(|n| !reads.admits(strand(step), 5 + n * step, step)));
        }
    }

    #[test]
    fn what_would_be_gone_by_now_is_not_kept() {
        let reads = LargeReads::new(8 * MIB);
        for _ in 0..3 {
            assert!((0..4).all(|n| !reads.admits(strand(1), n * 4 * MIB, 4 * MIB)));
        }
        reads.admits(strand(2), 0, 4 * MIB);
        reads.admits(strand(3), 0, 4 * MIB);
        reads.admits(strand(4), 0, 4 * MIB);
        assert!(reads.admits(strand(2), 0, 4 * MIB));
    }
}
