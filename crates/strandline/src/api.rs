//! What the admin API says: the JSON that the server sends and its commands read, as described in docs/http.md.
//!
//! Fields are only ever added. A size in bytes is `bytes` or ends in `_bytes`; a time ends in `_ms` and is in
//! milliseconds, since 1970 where it is a moment; positions are commits of the journal counted from 0.

use serde::{Deserialize, Serialize};

/// A refusal or a failure: one sentence that says what to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
}

/// Why something that was named cannot be used: there is none of that name.
pub(crate) fn missing(kind: &str, name: &str) -> String {
    format!("{kind} {name} does not exist; `strandline {kind} list` shows those that do")
}

/// `GET /api/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    /// The data directory, as an absolute path.
    pub(crate) data: String,
    pub(crate) doors: Doors,
    pub(crate) journal: Journal,
    pub(crate) blocks: Blocks,
    pub(crate) store: Store,
    pub(crate) cache: Option<Cache>,
    pub(crate) collection: Collection,
    pub(crate) meta: Meta,
    pub(crate) topics: Topics,
    pub(crate) volumes: Volumes,
    pub(crate) memory: Memory,
    pub(crate) recovery: Recovery,
}

/// Where the server is reached; absent doors are `null`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Doors {
    pub(crate) kafka: Option<KafkaDoor>,
    pub(crate) http: Option<String>,
    pub(crate) control: String,
    pub(crate) files: String,
}

/// Where Kafka clients connect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KafkaDoor {
    /// Where it listens.
    pub(crate) address: String,
    /// Where clients are told to connect.
    pub(crate) advertised: String,
}

/// The journal: what every change is written to first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    /// The oldest commit still in the journal.
    pub(crate) start: u64,
    /// Commits below are on stable storage.
    pub(crate) durable: u64,
    /// Commits below are with the operating system.
    pub(crate) written: u64,
    /// Commits below are in memory at least.
    pub(crate) appended: u64,
    /// Payload that lies in no block yet.
    pub(crate) unpacked_bytes: u64,
    /// With so many of them writers wait for packing.
    pub(crate) unpacked_bytes_max: u64,
    /// Pieces that this payload lies in.
    pub(crate) unpacked_pieces: u64,
    /// With so many of them writers wait for packing.
    pub(crate) unpacked_pieces_max: u64,
    /// How old the oldest change is that no round of packing has told of.
    pub(crate) unpacked_age_ms: Option<u64>,
    /// Syncs that failed since the start.
    pub(crate) failed_syncs: u64,
}

/// Packed data.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blocks {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Why the last packing failed, if it did.
    pub(crate) pack_error: Option<String>,
}

/// Where the blocks lie, and how far it is with them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    /// As `--store` names it: `own` for the data directory.
    pub(crate) url: String,
    /// Its address, where it is a bucket.
    pub(crate) place: Option<String>,
    /// Up to where a node could be restored from the store alone.
    pub(crate) restorable: Option<Restorable>,
    /// Why the newest point to restore from is not in the store, if it is not.
    pub(crate) restorable_error: Option<String>,
    /// Transfers, where it is a bucket.
    pub(crate) transfers: Option<Transfers>,
}

/// A point to restore from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Restorable {
    /// All commits before this one.
    pub(crate) commit: u64,
    /// When the last of them was made.
    pub(crate) time_ms: i64,
}

/// What goes to a bucket and comes from it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Transfers {
    /// Why nobody writes to the bucket, while nobody does.
    pub(crate) uploads_away: Option<Away>,
    /// Why nobody reads from the bucket, while nobody does.
    pub(crate) downloads_away: Option<Away>,
    /// Blocks on this machine's disk alone: they wait for their upload.
    pub(crate) waiting_blocks: u64,
    /// Their bytes, and those of small objects that wait.
    pub(crate) waiting_bytes: u64,
    /// With so many of them writers wait.
    pub(crate) waiting_bytes_max: u64,
    /// How old the oldest of them is.
    pub(crate) waiting_age_ms: Option<u64>,
    /// Blocks that can never be uploaded; the log says why.
    pub(crate) stuck_blocks: u64,
    pub(crate) uploaded_blocks: u64,
    pub(crate) uploaded_bytes: u64,
    /// Downloads, of whole blocks and of parts.
    pub(crate) downloads: u64,
    pub(crate) downloaded_bytes: u64,
    /// Reads that wait for a download.
    pub(crate) waiting_reads: u64,
    /// Requests that were sent again.
    pub(crate) retries: u64,
    pub(crate) disk_cache: DiskCache,
}

/// The bucket does not answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Away {
    pub(crate) why: String,
    /// For how long.
    pub(crate) for_ms: u64,
}

/// Copies of blocks of the bucket on this machine's disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskCache {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    /// Reads that it answered.
    pub(crate) hits: u64,
    /// Reads that it did not.
    pub(crate) misses: u64,
    /// Blocks that it lost to damage; they were fetched again.
    pub(crate) damaged_blocks: u64,
}

/// Bytes of blocks in memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cache {
    /// Memory that it takes.
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    /// Bytes that reads found in it.
    pub(crate) hit_bytes: u64,
    /// Bytes that reads had to fetch from blocks.
    pub(crate) miss_bytes: u64,
    /// Bytes that were fetched before somebody asked for them.
    pub(crate) ahead_bytes: u64,
    /// Pieces of 4 MiB that made room for others.
    pub(crate) evicted_pieces: u64,
}

/// Collection since the start of the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Collection {
    /// Rounds that ended.
    pub(crate) rounds: u64,
    /// Blocks deleted by all of them.
    pub(crate) deleted_blocks: u64,
    /// Bytes of these.
    pub(crate) deleted_bytes: u64,
    /// Bytes that they moved into new blocks.
    pub(crate) rewritten_bytes: u64,
    /// The last of them.
    pub(crate) last: Option<LastRound>,
}

/// The round of collection that ended last; `GET /api/gc` says more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastRound {
    /// When it ended.
    pub(crate) ended_ms: i64,
    /// Why it deleted nothing, or left something undone.
    pub(crate) error: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) dead_blocks: u64,
    pub(crate) deleted_blocks: u64,
    pub(crate) deleted_bytes: u64,
    pub(crate) rewritten_bytes: u64,
}

/// The meta store: a view of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Commits below are in the view.
    pub(crate) applied: u64,
}

/// Streams.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Topics {
    pub(crate) count: u64,
    pub(crate) partitions: u64,
    pub(crate) records: u64,
}

/// Files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Volumes {
    pub(crate) count: u64,
}

/// Memory of the server's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident memory that no file backs.
    pub(crate) anonymous_bytes: u64,
}

/// How the last start went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// How often the data directory was opened, this time included.
    pub(crate) opening: u64,
    /// Whether the server before had stopped cleanly.
    pub(crate) clean: bool,
    /// Commits of the journal that were read.
    pub(crate) commits: u64,
    /// Bytes of those commits.
    pub(crate) bytes: u64,
    /// Commits that the meta store lacked and got.
    pub(crate) replayed: u64,
    /// An end of the journal that nobody was promised, cut and kept aside.
    pub(crate) torn: Option<Torn>,
    /// Milliseconds from the start of the process until all doors were open.
    pub(crate) ready_ms: u64,
}

/// What was cut from the journal's end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Torn {
    /// The segment.
    pub(crate) file: String,
    /// Where in it, in bytes.
    pub(crate) at: u64,
    /// How many bytes.
    pub(crate) bytes: u64,
    /// The file that keeps them.
    pub(crate) kept_as: Option<String>,
}

/// A volume in `GET /api/volumes`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) durability: Durability,
    /// Files, directories and all else in it; its root is not counted.
    pub(crate) files: u64,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: i64,
}

/// `POST /api/volumes`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVolume {
    pub(crate) name: String,
    #[serde(default = "written")]
    pub(crate) durability: Durability,
}

/// A topic in `GET /api/topics`, and `GET /api/topics/NAME`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) durability: Durability,
    pub(crate) partitions: Vec<Partition>,
}

/// A partition of a topic; only its number and why when it cannot be used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Partition {
    pub(crate) partition: u32,
    /// The oldest record's offset.
    pub(crate) start: Option<i64>,
    /// One past the newest record that consumers may see.
    pub(crate) end: Option<i64>,
    /// Bytes of its record batches.
    pub(crate) bytes: Option<u64>,
    /// Why it cannot be used.
    pub(crate) error: Option<String>,
}

/// When a record or a write counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// On stable storage.
    #[default]
    Synced,
    /// With the operating system; synced within a second.
    Written,
}

/// `POST /api/topics`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    #[serde(default = "one")]
    pub(crate) partitions: u32,
    #[serde(default)]
    pub(crate) durability: Durability,
}

fn written() -> Durability {
    Durability::Written
}

fn one() -> u32 {
    1
}

/// `POST /api/gc`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGc {
    /// Only look; change nothing.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Blocks younger than this are left alone; the server's own setting when absent.
    #[serde(default)]
    pub(crate) grace_ms: Option<u64>,
}

/// The answer to `POST /api/gc`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GcStarted {
    /// The number of the round.
    pub(crate) round: u64,
}

/// `GET /api/gc`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Gc {
    /// The round that runs.
    pub(crate) running: Option<GcProgress>,
    /// Rounds that ended since the start of the server; the first has number 1.
    pub(crate) ended: u64,
    /// What the last of them found and did.
    pub(crate) last: Option<GcRound>,
    /// Why the last of them deleted nothing, if it failed.
    pub(crate) error: Option<String>,
    /// Blocks deleted by all of them.
    pub(crate) deleted_blocks: u64,
    /// Bytes of these.
    pub(crate) deleted_bytes: u64,
}

/// How far a round of collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GcProgress {
    pub(crate) phase: GcPhase,
    /// Extents, blocks or bytes done in this phase.
    pub(crate) done: u64,
    /// Of how many, where that is known.
    pub(crate) total: Option<u64>,
}

/// What a round of collection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GcPhase {
    /// Reads extents.
    Mark,
    /// Lists blocks.
    List,
    /// Deletes blocks.
    Sweep,
    /// Rewrites blocks; counted in bytes.
    Rewrite,
}

/// What a round of collection found and did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GcRound {
    pub(crate) dry_run: bool,
    pub(crate) live_blocks: u64,
    pub(crate) live_extents: u64,
    pub(crate) live_bytes: u64,
    pub(crate) stored_blocks: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) dead_blocks: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) deleted_blocks: u64,
    pub(crate) deleted_bytes: u64,
    /// Needed by nobody, but younger than the grace period.
    pub(crate) young_blocks: u64,
    pub(crate) young_bytes: u64,
    /// Needed, but not in the store.
    pub(crate) missing_blocks: u64,
    pub(crate) sparse_blocks: u64,
    pub(crate) scattered_stretches: u64,
    pub(crate) rewritten_bytes: u64,
    /// New blocks that hold these.
    pub(crate) rewritten_into_blocks: u64,
    /// What rounds in the background may rewrite before more is written.
    pub(crate) allowance_bytes: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) took_ms: u64,
}
