//! Limits of a log, set when it is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::before_sync::BeforeSync;
use crate::error::OpenError;
use crate::frame;
use crate::segment;

/// A segment's index tells at most 2^32 records apart, and takes memory in proportion.
const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Least bytes of a segment: its header and a frame of nothing.
const SEGMENT_BYTES_MIN: u64 = (segment::HEADER_BYTES + frame::HEADER_BYTES) as u64;

/// Least room for an append: a record of one byte and the four of its length.
const APPEND_BYTES_MIN: u32 = 5;

/// What is shorter is as this: the log's times are in milliseconds.
const TIME_MIN: Duration = Duration::from_millis(1);

/// Limits of a log. The defaults suit a server's journal.
///
/// A size that makes no sense is refused by [`crate::Log::open`] with [`OpenError::Options`]. Where a field says
/// that something is *as* something else, it is taken so.
///
/// | field | unit | default | least | most |
/// |---|---|---|---|---|
/// | [`segment_bytes`](Self::segment_bytes) | bytes | 64 MiB | 168, or refused | 4 GiB, or refused |
/// | [`segment_age_max`](field@Self::segment_age_max) | time | none | 1 ms; less is as that | any |
/// | [`append_bytes_max`](Self::append_bytes_max) | bytes | 32 MiB | 5, or refused | 1 GiB, or refused |
/// | [`sync_ahead_bytes`](Self::sync_ahead_bytes) | bytes | 4 MiB | 1; 0 is as that | `unsynced_bytes_max`, or refused |
/// | [`sync_ahead_records`](Self::sync_ahead_records) | records | none | 1; 0 is as that | any |
/// | [`unsynced_bytes_max`](Self::unsynced_bytes_max) | bytes | 64 MiB | 1, or refused | any |
/// | [`sync_interval`](field@Self::sync_interval) | time | 1 s | 1 ms; less is as that | any |
/// | [`reads`](Self::reads) | | mapped | | |
/// | [`open_files_max`](Self::open_files_max) | files | 128 | 1; 0 is as that | any |
/// | [`spare_files_max`](Self::spare_files_max) | files | 2 | 0: none | any |
/// | [`before_sync`](Self::before_sync) | | none | | |
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment file in bytes, header included. A larger append gets a segment that fits it. Default 64
    /// MiB; at least 168, the header and a frame of nothing; at most 4 GiB.
    ///
    /// The index of a segment takes memory, a 128th of its size: for each segment that was written or read since the
    /// log was opened, until it is trimmed, and for the next one from when the last is half full. Its entries count
    /// up to 2^32 records of at least four bytes, so that each record of 4 GiB can be told.
    pub segment_bytes: u64,
    /// A segment whose first record is so old is ended: by the committer, or by the next append.
    /// `None`, the default: segments are ended by their size alone. Counted in milliseconds; less than one is as
    /// one, and there is no most.
    pub segment_age_max: Option<Duration>,
    /// Most bytes of one append: its records and four bytes for each record's length. Default 32 MiB; at least
    /// 5, a record of one byte; at most 1 GiB.
    pub append_bytes_max: u32,
    /// The committer starts a sync when so many bytes are not durable, so that a small sync that
    /// somebody waits for finds little left to do. What is left bounds how long that takes: beside
    /// 64 MiB/s of other appends, a record every 20 ms that is waited for took 1.5 ms with 4 MiB, 0.6 ms
    /// with 1 MiB, and with 256 KiB 0.3 ms as it did alone.
    ///
    /// Default 4 MiB; 0 is as 1: whatever was appended is synced at once; at most
    /// [`Options::unsynced_bytes_max`].
    pub sync_ahead_bytes: u64,
    /// The same by the number of records. `None`, the default, leaves it to the bytes; 0 is as 1, and there is no
    /// most.
    pub sync_ahead_records: Option<u64>,
    /// [`crate::Log::room`] makes writers wait while so many bytes are not durable. Default 64 MiB; at least 1,
    /// since with 0 they would wait for ever. There is no most but the memory, which holds these bytes.
    pub unsynced_bytes_max: u64,
    /// Longest time that the committer leaves appended bytes without a sync, and leaves a log idle before it
    /// marks it; `None`: until somebody asks, or they are many, and a second for the mark. After a sync that
    /// failed or found no room it tries again after this time. Default 1 s; less than 1 ms is as 1 ms, and
    /// there is no most.
    pub sync_interval: Option<Duration>,
    /// How durable records are read. Default [`Reads::Mapped`].
    pub reads: Reads,
    /// Most sealed segments whose files are open at once. One that is opened for a read
    /// closes the one that was opened first. Not counted are files that are kept open by a
    /// [`crate::Slice`], or by readers of a segment that was trimmed, and each thread may for a moment
    /// have one more. The mapping of a segment needs no open file. Default 128; 0 is as 1, and there is no most
    /// but that of the process.
    pub open_files_max: usize,
    /// Most files of trimmed segments that are kept for later ones, which cost less to write to than new files;
    /// each takes the room of a segment. As many as are trimmed at once are of use. None is kept while the disk
    /// has not the room for four more. Default 2; 0: none, and there is no most.
    pub spare_files_max: usize,
    /// Asked before records become durable, for files that they name. Default `None`: they name none.
    pub before_sync: Option<Arc<dyn BeforeSync>>,
}

/// How records that are durable are read from their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Segment files are mapped, and records are borrowed where they lie. A page that the disk cannot
    /// deliver ends the process (SIGBUS). Where files cannot be mapped, as [`Reads::Copied`].
    ///
    /// Checksums are looked at when a record is first read, not each time.
    Mapped,
    /// Each read asks the operating system, copies, and checks every checksum. A page that the disk
    /// cannot deliver is the error of one read.
    Copied,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age_max: None,
            append_bytes_max: 32 << 20,
            sync_ahead_bytes: 4 << 20,
            sync_ahead_records: None,
            unsynced_bytes_max: 64 << 20,
            sync_interval: Some(Duration::from_secs(1)),
            reads: Reads::Mapped,
            open_files_max: 128,
            spare_files_max: 2,
            before_sync: None,
        }
    }
}

impl Options {
    /// Sees whether the limits make sense together.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.segment_bytes < SEGMENT_BYTES_MIN {
            return Err(OpenError::Options { why: "segment_bytes must be at least 168" });
        }
        if self.segment_bytes > SEGMENT_BYTES_MAX {
            return Err(OpenError::Options { why: "segment_bytes must be at most 4 GiB" });
        }
        if self.append_bytes_max < APPEND_BYTES_MIN {
            return Err(OpenError::Options { why: "append_bytes_max must be at least 5" });
        }
        if self.append_bytes_max > frame::PAYLOAD_BYTES_MAX {
            return Err(OpenError::Options { why: "append_bytes_max must be at most 1 GiB" });
        }
        if self.unsynced_bytes_max == 0 {
            return Err(OpenError::Options { why: "unsynced_bytes_max must be at least 1" });
        }
        if self.sync_ahead_bytes > self.unsynced_bytes_max {
            return Err(OpenError::Options {
                why: "sync_ahead_bytes must be at most unsynced_bytes_max",
            });
        }
        Ok(())
    }

    /// `sync_interval` as it is taken.
    pub(crate) fn sync_interval(&self) -> Option<Duration> {
        self.sync_interval.map(|interval| interval.max(TIME_MIN))
    }

    /// `segment_age_max` as it is taken.
    pub(crate) fn segment_age_max(&self) -> Option<Duration> {
        self.segment_age_max.map(|age| age.max(TIME_MIN))
    }
}

const _: () = assert!(SEGMENT_BYTES_MIN == 168);
const _: () = assert!(APPEND_BYTES_MIN as u64 == frame::RECORD_PREFIX_BYTES + 1);
