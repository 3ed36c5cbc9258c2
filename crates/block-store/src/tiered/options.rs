//! What can be chosen, and what can be seen.

use std::time::Duration;

/// Limits of a [`crate::Tiered`] store.
#[derive(Clone, Debug)]
pub struct TieredOptions {
    /// Most bytes that wait for their upload on this machine's disk. Beyond, puts wait.
    pub staging_bytes_max: u64,
    /// How long a put waits for room before it answers [`crate::PutError::Full`].
    pub put_patience: Duration,
    /// Most bytes of blocks that are kept on this machine's disk although the remote store has them; 0 for none.
    pub cache_bytes_max: u64,
    /// How many bytes of this machine's disk the cache leaves free, also if it has to shrink for that; an eighth of
    /// a disk for which that is less.
    pub disk_free_bytes_min: u64,
    /// Most requests for blocks at a time; as many threads are started. Uploads take at most three quarters,
    /// reading ahead at most half.
    pub transfers_max: usize,
    /// Most bytes of blocks in memory on their way.
    pub transfer_bytes_max: u64,
    /// A read of at least so many bytes of a block that is far away gets the whole block; a shorter one does
    /// when it is the second on that block.
    pub whole_read_bytes_min: u32,
    /// Most blocks that are waited for ahead of reads; more are not noted.
    pub ahead_blocks_max: usize,
    /// How long a read, a listing or a deletion tries before it says that the store is away.
    pub patience: Duration,
    /// After how many requests in a row without an answer nobody asks any more.
    pub failures_max: u32,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self {
            staging_bytes_max: 4 << 30,
            put_patience: Duration::from_secs(1),
            cache_bytes_max: 16 << 30,
            disk_free_bytes_min: 4 << 30,
            transfers_max: 16,
            transfer_bytes_max: 96 << 20,
            whole_read_bytes_min: 512 << 10,
            ahead_blocks_max: 32,
            patience: Duration::from_secs(60),
            failures_max: 6,
        }
    }
}

/// What a [`crate::Tiered`] store is doing and did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TieredStats {
    /// [`TieredOptions::staging_bytes_max`].
    pub staging_bytes_max: u64,
    /// [`TieredOptions::cache_bytes_max`].
    pub cache_bytes_max: u64,
    /// Blocks that are not uploaded yet.
    pub staged_blocks: u64,
    /// When the oldest of them was written, milliseconds since 1970.
    pub oldest_staged_ms: Option<i64>,
    /// Their bytes, with those of objects that are not uploaded yet.
    pub staged_bytes: u64,
    /// Blocks among them that cannot be uploaded: another block has their name, or they are damaged. Somebody
    /// has to look.
    pub stuck_blocks: u64,
    /// Objects that wait for the upload of blocks, or for their own.
    pub staged_objects: u64,
    /// Reads that wait for a place among the requests.
    pub queued_reads: u64,
    /// Uploads that do.
    pub queued_uploads: u64,
    /// Blocks to be read ahead that do.
    pub queued_ahead: u64,
    /// Requests under way, without those that list and delete.
    pub in_flight: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// How many uploads may run at a time now: fewer after some failed, more again with each that is done.
    pub uploads_width: u64,
    /// How many downloads may.
    pub downloads_width: u64,
    /// Blocks uploaded.
    pub uploaded_blocks: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Downloads, of whole blocks and of parts.
    pub downloads: u64,
    /// Their bytes.
    pub downloaded_bytes: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Blocks that were not read ahead since too many waited.
    pub ahead_dropped: u64,
    /// Why nobody reads from the store, while nobody does.
    pub reads_away: Option<String>,
    /// For how long.
    pub reads_away_for: Duration,
    /// Why nobody writes to the store, while nobody does.
    pub writes_away: Option<String>,
    /// For how long.
    pub writes_away_for: Duration,
    /// Reads that the disk cache answered.
    pub cache_hits: u64,
    /// Reads that it did not.
    pub cache_misses: u64,
    /// Blocks in it.
    pub cache_blocks: u64,
    /// Their bytes.
    pub cache_bytes: u64,
    /// Blocks that it lost to damage.
    pub cache_damaged: u64,
}
