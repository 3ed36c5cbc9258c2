//! The mark: which blocks extents name, and how much of each.
//!
//! All extents are read in order, a page at a time, as of all commits so far; what is kept of them is a
//! number per block, and the stretches of strands that lie in many parts.

use std::collections::HashMap;

use block_store::BlockName;

use crate::collect::{CollectPhase, InFlight};
use crate::error::CollectError;
use crate::extents::{self, Extent};
use crate::shared::Shared;
use crate::types::StrandId;

/// What the mark found.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Bytes of strands in each block.
    pub(super) blocks: HashMap<BlockName, u32>,
    pub(super) extents: u64,
    pub(super) bytes: u64,
    /// Stretches of strands that lie in many parts: the first of them, at most [`SCATTERED_MAX`].
    pub(crate) scattered: Vec<Stretch>,
    /// All of them.
    pub(super) scattered_count: u64,
    here: Option<Parts>,
}

/// [`STRETCH_BYTES`] of a strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) strand: StrandId,
    pub(crate) start: u64,
}

/// The extents of one stretch, counted.
#[derive(Debug)]
struct Parts {
    stretch: Stretch,
    count: u32,
    /// How many of them do not begin where another one ends: less than this rewriting cannot make it.
    least: u32,
    end: u64,
}

impl Live {
    fn add(&mut self, strand: StrandId, extent: &Extent) {
        let bytes = self.blocks.entry(extent.block).or_default();
        *bytes = bytes.saturating_add(extent.len);
        self.extents += 1;
        self.bytes += u64::from(extent.len);
        if strand.is_reserved() {
            return;
        }
        let stretch = Stretch { strand, start: extent.start / STRETCH_BYTES * STRETCH_BYTES };
        if self.here.as_ref().is_none_or(|parts| parts.stretch != stretch) {
            self.end_stretch();
        }
        let parts = self.here.get_or_insert(Parts { stretch, count: 0, least: 0, end: u64::MAX });
        parts.count += 1;
        parts.least += u32::from(parts.end != extent.start);
        parts.end = extent.end();
    }

    fn end_stretch(&mut self) {
        let Some(parts) = self.here.take() else { return };
        // Where rewriting would not help, as in a file with holes, it would be done for ever.
        if parts.count > STRETCH_PARTS_MAX && parts.least <= parts.count / 2 {
            self.scattered_count += 1;
            if self.scattered.len() < SCATTERED_MAX {
                self.scattered.push(parts.stretch);
            }
        }
    }
}

impl Shared {
    /// Reads all extents.
    pub(super) fn mark(&self, in_flight: &InFlight) -> Result<Live, CollectError> {
        let mut live = Live::default();
        let mut last = None;
        loop {
            self.go_on_marking()?;
            self.tell_collecting(CollectPhase::Mark, live.extents, None);
            let page = extents::page(self, last, PAGE_ROWS)?;
            for (strand, extent) in &page {
                if in_flight.is_later(extent.block) {
                    return Err(CollectError::NotOurs { block: extent.block.to_string() });
                }
                live.add(*strand, extent);
            }
            last = page.last().map(|(strand, extent)| (*strand, extent.start));
            if page.len() < PAGE_ROWS {
                live.end_stretch();
                return Ok(live);
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
const SCATTERED_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    //! Goal: a stretch is rewritten when it lies in many parts that can be joined, and not otherwise.

    use super::*;
    use crate::types::Position;

    /// `count` extents of 1 KiB, one every `step` bytes.
    fn live(count: u64, step: u64) -> Live {
        let mut live = Live::default();
        let block = BlockName { domain: 0, epoch: 1, counter: 0 };
        for n in 0..count {
            let extent =
                Extent { start: n * step, len: 1024, block, at: 0, generation: Position::START };
            live.add(StrandId::from_raw(1), &extent);
        }
        live.end_stretch();
        live
    }

    #[test]
    fn a_stretch_of_more_than_64_parts_is_scattered_unless_holes_keep_them_apart() {
        assert_eq!(live(64, 1024).scattered_count, 0);
        assert_eq!(live(65, 1024).scattered, [Stretch { strand: StrandId::from_raw(1), start: 0 }]);
        assert_eq!(live(65, 2048).scattered_count, 0, "a hole after each");
        assert_eq!(live(12_000, 1024).scattered_count, 3);
        assert_eq!(live(1000, 128 << 10).scattered_count, 0);
    }

    #[test]
    fn the_bytes_of_a_block_are_those_of_its_extents() {
        let live = live(10, 4096);
        assert_eq!((live.extents, live.bytes), (10, 10 * 1024));
        assert_eq!(live.blocks.into_values().collect::<Vec<_>>(), [10 * 1024]);
    }
}
