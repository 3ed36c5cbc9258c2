//! Limits and triggers of the data path.

use std::time::Duration;

use crate::collect::CollectOptions;
use crate::types::StoreId;

/// How much may pile up where, and when packing starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose block store it is: the data directory's id.
    pub store_id: StoreId,
    /// Take the block store over, whoever it belonged to.
    pub take_over: bool,
    /// Of the journal itself.
    pub log: durable_log::Options,
    /// Pack when the journal holds this many bytes.
    pub pack_after_bytes: u64,
    /// Pack when the oldest change that no round has told of, of bytes or of rows, is this old; `None`: age does
    /// not matter. It bounds how old the newest root is.
    pub pack_after_age: Option<Duration>,
    /// Writers wait for packing beyond this many bytes of journal.
    pub journal_bytes_max: u64,
    /// Writers wait for packing beyond this many pieces in the journal's index.
    pub journal_pieces_max: usize,
    /// Writers wait beyond this many bytes of rows that the meta store does not have yet.
    pub overlay_bytes_max: usize,
    /// How long writers wait at these limits; then their commits fail.
    pub admit_patience: Duration,
    /// A checkpoint of the journal's index is taken whenever so many bytes of journal came since the last one: a
    /// start reads about as much at most.
    pub checkpoint_every_bytes: u64,
    /// Memory for bytes of blocks that were read or packed lately; 0: none.
    pub cache_bytes: u64,
    /// Payload of this size and more goes into a block of its own.
    pub stage_bytes: u64,
    /// Who writes such payload without waiting for a sync waits while so many bytes of it are not durable, as long
    /// as `admit_patience` says.
    pub unsynced_blocks_bytes_max: u64,
    /// Payload is refused when the disk has less room than this; kept for deletes, packing and the
    /// meta store. `None`: 1 GiB, or a sixteenth of a disk below 16 GiB.
    pub reserve_bytes: Option<u64>,
    /// Time between two rounds of collection; `None`: only when asked for.
    pub collect_every: Option<Duration>,
    /// What such a round may do.
    pub collect: CollectOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store_id: StoreId::default(),
            take_over: false,
            log: durable_log::Options::default(),
            pack_after_bytes: 256 << 20,
            pack_after_age: None,
            journal_bytes_max: 1 << 30,
            journal_pieces_max: 1_000_000,
            overlay_bytes_max: 64 << 20,
            admit_patience: Duration::from_secs(60),
            checkpoint_every_bytes: 256 << 20,
            cache_bytes: 128 << 20,
            stage_bytes: 256 << 10,
            unsynced_blocks_bytes_max: 64 << 20,
            reserve_bytes: None,
            collect_every: Some(Duration::from_secs(15 * 60)),
            collect: CollectOptions::default(),
        }
    }
}

impl Options {
    /// The journal's options on a disk of `total_bytes`: segments reserve their room ahead, and on a
    /// small disk that must stay a small part of it; files of as many segments are used again as a round of
    /// packing trims, with the same restraint. Reads are copied, so that a page that the disk
    /// cannot deliver is an error of one request and not the end of the server.
    pub(crate) fn log_on(&self, total_bytes: u64) -> durable_log::Options {
        let most = (total_bytes / 64).max(SMALL_SEGMENT_BYTES);
        let segment_bytes = self.log.segment_bytes.min(most);
        let spares = self.pack_after_bytes.min(most).div_ceil(segment_bytes).min(SPARE_FILES_MAX);
        let spares = usize::try_from(spares).unwrap_or(0);
        durable_log::Options {
            segment_bytes,
            spare_files_max: self.log.spare_files_max.max(spares),
            reads: durable_log::Reads::Copied,
            ..self.log.clone()
        }
    }

    /// The reserve on a disk of `total_bytes`.
    pub(crate) fn reserve_on(&self, total_bytes: u64) -> u64 {
        self.reserve_bytes.unwrap_or_else(|| (1 << 30).min(total_bytes / 16))
    }
}

/// Files of trimmed segments that packing leaves to later ones, unless the log's own options say more.
const SPARE_FILES_MAX: u64 = 8;
/// A segment on a disk so small that a 64th of it would be less.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;
