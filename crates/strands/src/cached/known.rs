//! Where bytes lie that were looked up lately, so that a read need not ask the meta store each time.
//!
//! Invariant: what is found is what the extents say: a note counts only while no extent has changed since it was
//! made, of whatever strand ([`crate::shared::State::extent_changes`]).

use std::ops::Range;
use std::sync::Mutex;

use block_cache::PIECE_BYTES;

use crate::extents::Extent;
use crate::shared::lock;
use crate::types::StrandId;

/// Extents that are remembered; each takes about 100 bytes.
const EXTENTS_MAX: usize = 1024;

/// The extents, by hash of strand and 4 MiB of it; a newer one takes the place of an older one.
#[derive(Debug)]
pub(crate) struct KnownExtents {
    slots: Box<[Mutex<Option<Known>>]>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    strand: StrandId,
    extent: Extent,
    extent_changes: u64,
}

impl KnownExtents {
    pub(super) fn new() -> Self {
        Self { slots: (0..EXTENTS_MAX).map(|_| Mutex::new(None)).collect() }
    }

    /// The extent that holds all of a range, if it is known and nothing has moved since.
    pub(crate) fn find(
        &self,
        strand: StrandId,
        range: Range<u64>,
        extent_changes: u64,
    ) -> Option<Extent> {
        let known = (*lock(self.slot(strand, range.start)))?;
        let is_current = known.strand == strand && known.extent_changes == extent_changes;
        let holds = known.extent.start <= range.start && range.end <= known.extent.end();
        (is_current && holds).then_some(known.extent)
    }

    /// Notes an extent as of `extent_changes`.
    pub(crate) fn note(&self, strand: StrandId, extent: Extent, extent_changes: u64) {
        let known = Known { strand, extent, extent_changes };
        let last = extent.end() - 1;
        // It may reach into the next piece.
        *lock(self.slot(strand, extent.start)) = Some(known);
        *lock(self.slot(strand, last)) = Some(known);
    }

    fn slot(&self, strand: StrandId, at: u64) -> &Mutex<Option<Known>> {
        let place = (strand.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
            .wrapping_add(at / u64::from(PIECE_BYTES));
        &self.slots[usize::try_from(place % EXTENTS_MAX as u64).expect("below their number")]
    }
}
