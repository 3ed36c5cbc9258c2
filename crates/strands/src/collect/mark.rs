//! The mark: which blocks extents name, and how much of each.
//!
//! All extents are read in order, a page at a time, as of all commits so far; what is kept of them is a
//! number per block, and the stretches of strands that lie in many parts.

use crate::collect::best::{Best, gain_per_byte};
use crate::collect::live_blocks::{LiveBlocks, SortedBlocks};
use crate::collect::{CollectPhase, InFlight};
use crate::error::CollectError;
use crate::extents::{self, Extent};
use crate::shared::Shared;
use crate::types::{Position, StrandId};

/// What the mark found.
#[derive(Debug)]
pub(crate) struct Live {
    /// Bytes of strands in each block.
    pub(super) blocks: SortedBlocks,
    pub(super) extents: u64,
    pub(super) bytes: u64,
    /// Stretches of strands that lie in many parts and are in peace: those that gain most from being rewritten.
    pub(crate) scattered: Vec<Stretch>,
    /// All that lie in many parts.
    pub(super) scattered_count: u64,
}

/// [`STRETCH_BYTES`] of a strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stretch {
    pub(crate) strand: StrandId,
    pub(crate) start: u64,
    /// Bytes in it.
    pub(crate) bytes: u64,
}

/// The extents of one stretch, counted.
#[derive(Debug)]
struct Parts {
    stretch: Stretch,
    count: u32,
    /// How many of them do not begin where another one ends: less than this rewriting cannot make it.
    least: u32,
    end: u64,
    /// The newest commit whose bytes are among them.
    newest: Position,
}

/// A mark under way.
#[derive(Debug)]
struct Marking {
    blocks: LiveBlocks,
    extents: u64,
    bytes: u64,
    scattered: Best<Stretch>,
    scattered_count: u64,
    /// What was last written before this position is in peace.
    cold_before: Position,
    here: Option<Parts>,
}

impl Marking {
    fn new(cold_before: Position) -> Self {
        Self {
            blocks: LiveBlocks::default(),
            extents: 0,
            bytes: 0,
            scattered: Best::new(SCATTERED_MAX),
            scattered_count: 0,
            cold_before,
            here: None,
        }
    }

    fn add(&mut self, strand: StrandId, extent: &Extent) {
        let bytes = u64::from(extent.len);
        self.blocks.add(extent.block, bytes);
        self.extents += 1;
        self.bytes += bytes;
        if strand.is_reserved() {
            return;
        }
        let start = extent.start / STRETCH_BYTES * STRETCH_BYTES;
        let is_there =
            |parts: &Parts| (parts.stretch.strand, parts.stretch.start) == (strand, start);
        if !self.here.as_ref().is_some_and(is_there) {
            self.end_stretch();
        }
        let parts = self.here.get_or_insert(Parts {
            stretch: Stretch { strand, start, bytes: 0 },
            count: 0,
            least: 0,
            end: u64::MAX,
            newest: Position::START,
        });
        parts.count += 1;
        parts.least += u32::from(parts.end != extent.start);
        parts.end = extent.end();
        parts.stretch.bytes += bytes;
        parts.newest = parts.newest.max(extent.generation);
    }

    fn end_stretch(&mut self) {
        let Some(parts) = self.here.take() else { return };
        // Where rewriting would not help, as in a file with holes, it would be done for ever.
        if parts.count > STRETCH_PARTS_MAX && parts.least <= parts.count / 2 {
            self.scattered_count += 1;
            if parts.newest < self.cold_before {
                let gain = gain_per_byte((parts.count - parts.least).into(), parts.stretch.bytes);
                self.scattered.add(gain, parts.stretch);
            }
        }
    }

    fn end(mut self) -> Live {
        self.end_stretch();
        Live {
            blocks: self.blocks.into_sorted(),
            extents: self.extents,
            bytes: self.bytes,
            scattered: self.scattered.into_sorted(),
            scattered_count: self.scattered_count,
        }
    }
}

impl Shared {
    /// Reads all extents.
    pub(super) fn mark(
        &self,
        in_flight: &InFlight,
        cold_before: Position,
    ) -> Result<Live, CollectError> {
        let mut marking = Marking::new(cold_before);
        let mut last = None;
        loop {
            self.go_on_marking()?;
            self.tell_collecting(CollectPhase::Mark, marking.extents, None);
            let (mut count, mut later) = (0, None);
            extents::page(self, last, PAGE_ROWS, |strand, extent| {
                if in_flight.is_later(extent.block) {
                    later.get_or_insert(extent.block);
                }
                marking.add(strand, &extent);
                last = Some((strand, extent.start));
                count += 1;
            })?;
            if let Some(block) = later {
                return Err(CollectError::NotOurs { block: block.to_string() });
            }
            if count < PAGE_ROWS {
                return Ok(marking.end());
            }
        }
    }
}

/// Rows that are read at once.
const PAGE_ROWS: usize = 4096;
/// How strands are divided to see whether they lie in many parts: as much as a block holds.
pub(crate) const STRETCH_BYTES: u64 = block_store::BLOCK_BYTES_MAX as u64;
/// Parts in which a stretch may lie.
const STRETCH_PARTS_MAX: u32 = 64;
/// Stretches that one round remembers; there is another round.
const SCATTERED_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    //! Goal: a stretch is rewritten when it lies in many parts that can be joined, and not otherwise.

    use block_store::BlockName;

    use super::*;

    /// `count` extents of 1 KiB, one every `step` bytes, the last written at 7.
    fn live(count: u64, step: u64, cold_before: u64) -> Live {
        let mut marking = Marking::new(Position::new(cold_before));
        let block = BlockName { domain: 0, epoch: 1, counter: 0 };
        for n in 0..count {
            let generation = Position::new(if n + 1 == count { 7 } else { 0 });
            let extent = Extent { start: n * step, len: 1024, block, at: 0, generation };
            marking.add(StrandId::from_raw(1), &extent);
        }
        marking.end()
    }

    #[test]
    fn a_stretch_of_more_than_64_parts_is_scattered_unless_holes_keep_them_apart() {
        assert_eq!(live(64, 1024, 8).scattered_count, 0);
        let stretch = Stretch { strand: StrandId::from_raw(1), start: 0, bytes: 65 << 10 };
        assert_eq!(live(65, 1024, 8).scattered, [stretch]);
        assert_eq!(live(65, 2048, 8).scattered_count, 0, "a hole after each");
        assert_eq!(live(12_000, 1024, 8).scattered_count, 3);
        assert_eq!(live(1000, 128 << 10, 8).scattered_count, 0);
    }

    #[test]
    fn a_stretch_that_is_written_to_is_left_alone() {
        let hot = live(65, 1024, 7);
        assert_eq!((hot.scattered_count, hot.scattered), (1, vec![]));
    }

    #[test]
    fn the_bytes_of_a_block_are_those_of_its_extents() {
        let live = live(10, 4096, 0);
        assert_eq!((live.extents, live.bytes, live.blocks.len()), (10, 10 * 1024, 1));
        let block = BlockName { domain: 0, epoch: 1, counter: 0 };
        assert_eq!(live.blocks.walk().find(block), Some(10 * 1024));
    }
}
