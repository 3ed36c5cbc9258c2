//! What there is to see of the data path.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cached::{Cache, CacheStatus};
use crate::recover::Recovery;
use crate::shared::{Shared, lock};
use crate::types::{Opening, Position, Positions};

/// A look at the data path, for people and metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// How far the journal has come.
    pub positions: Positions,
    /// Bytes of the journal's segments, as they lie on disk.
    pub journal_bytes: u64,
    /// Segments of the journal.
    pub journal_segments: u64,
    /// Bytes of strands that lie only in the journal.
    pub unpacked_bytes: u64,
    /// [`crate::Options::journal_bytes_max`]: with that many of them writers wait.
    pub unpacked_bytes_max: u64,
    /// Pieces in the journal's index.
    pub unpacked_pieces: usize,
    /// [`crate::Options::journal_pieces_max`]: with that many of them writers wait.
    pub unpacked_pieces_max: usize,
    /// Age of the oldest change that no round of packing has told of, also one that wrote no bytes.
    pub unpacked_age: Option<Duration>,
    /// Commits before this one are in the meta store.
    pub view_applied: Position,
    /// Rows waiting for the meta store, in bytes.
    pub overlay_bytes: usize,
    /// Blocks in the block store, and their bytes.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub block_bytes: u64,
    /// Blocks written since the start.
    pub packed_blocks: u64,
    /// Payload packed since the start.
    pub packed_bytes: u64,
    /// Payload that went into blocks of its own, and not through the journal, since the start.
    pub staged_bytes: u64,
    /// Payload in blocks of its own whose commits wait for the blocks to be durable.
    pub unsynced_block_bytes: u64,
    /// Why the last round of packing failed, if it did.
    pub pack_error: Option<String>,
    /// The block cache; `None`: there is none.
    pub cache: Option<CacheStatus>,
    /// Up to where, and of which time (milliseconds since 1970), a node could be restored from the store.
    pub restorable: Option<(Position, i64)>,
    /// Why the newest root is not in the store, if it is not.
    pub root_error: Option<String>,
    /// Syncs of the journal that failed since the start.
    pub failed_syncs: u64,
    /// Which opening this is.
    pub opening: Opening,
    /// What the start found.
    pub recovery: Recovery,
}

impl Shared {
    pub(crate) fn status(&self) -> Status {
        let log = self.log.stats();
        let usage = self.blocks.usage();
        let packed = lock(&self.pack_stats).clone();
        let restorable = self.published_roots().ok().and_then(|roots| roots.last().cloned());
        let restorable = restorable.map(|root| (root.position, root.time_ms));
        let now = self.host.clock.monotonic();
        let state = self.read_state();
        Status {
            positions: self.positions(),
            journal_bytes: log.segment_bytes,
            journal_segments: log.segments,
            unpacked_bytes: state.pieces.bytes(),
            unpacked_bytes_max: self.options.journal_bytes_max,
            unpacked_pieces: state.pieces.count(),
            unpacked_pieces_max: self.options.journal_pieces_max,
            unpacked_age: state.unpacked_since.map(|since| now.since(since)),
            view_applied: Position::new(self.meta.applied().0),
            overlay_bytes: state.overlay.bytes(),
            blocks: usage.blocks,
            block_bytes: usage.bytes,
            packed_blocks: packed.blocks,
            packed_bytes: packed.bytes,
            staged_bytes: self.staged_bytes.load(Ordering::Relaxed),
            unsynced_block_bytes: self.unsynced.bytes(),
            pack_error: packed.last_error.map(|trouble| trouble.why),
            cache: self.cache.as_ref().map(Cache::status),
            restorable,
            root_error: packed.root_error,
            failed_syncs: log.failed_syncs,
            opening: self.opening,
            recovery: self.recovery.clone(),
        }
    }

    pub(crate) fn positions(&self) -> Positions {
        let positions = self.log.positions();
        Positions {
            start: Position::of(positions.start),
            appended: Position::of(positions.appended),
            written: Position::of(positions.written),
            durable: Position::of(positions.durable),
        }
    }
}
