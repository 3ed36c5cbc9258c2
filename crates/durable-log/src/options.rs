//! Limits of a log, set when it is opened.

use std::time::Duration;

use crate::error::OpenError;
use crate::frame;
use crate::segment;

/// A segment's index tells at most 2^32 records apart, and takes memory in proportion.
const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Limits of a log. The defaults suit a server's journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment file, header included; at most 4 GiB. A larger append gets a segment that fits it.
    ///
    /// Memory is taken for the index of a segment that is written to, a 128th of its size. Its entries count
    /// up to 2^32 records of at least four bytes, so that in 4 GiB each record has its entry.
    pub segment_bytes: u64,
    /// A segment whose first record is so old is ended: by the committer, or by the next append.
    /// `None`: segments are ended by their size alone.
    pub segment_age_max: Option<Duration>,
    /// Most bytes of one append: its records and four bytes for each record's length.
    pub append_bytes_max: u32,
    /// The committer starts a sync when so many bytes are not durable, so that a small sync that
    /// somebody waits for finds little left to do. What is left bounds how long that takes: beside
    /// 64 MiB/s of other appends, a record every 20 ms that is waited for took 1.5 ms with 4 MiB, 0.6 ms
    /// with 1 MiB, and with 256 KiB 0.3 ms as it did alone.
    ///
    /// 0 is as 1: whatever was appended is synced at once.
    pub sync_ahead_bytes: u64,
    /// The same by the number of records; `None` leaves it to the bytes.
    pub sync_ahead_records: Option<u64>,
    /// [`crate::Log::room`] makes writers wait while so many bytes are not durable. Not 0: they would wait for
    /// ever.
    pub unsynced_bytes_max: u64,
    /// Longest time that the committer leaves appended bytes without a sync; `None`: until somebody
    /// asks, or they are many.
    pub sync_interval: Option<Duration>,
    /// How durable records are read.
    pub reads: Reads,
    /// Most sealed segments whose files are open at once, at least one. One that is opened for a read
    /// closes the one that was opened first. Not counted are files that are kept open by a
    /// [`crate::Slice`], or by readers of a segment that was trimmed, and each thread may for a moment
    /// have one more. The mapping of a segment needs no open file.
    pub open_files_max: usize,
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
        }
    }
}

impl Options {
    /// Sees whether the limits make sense together.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let least = segment::HEADER_BYTES as u64 + frame::frame_bytes(0);
        if self.segment_bytes < least {
            return Err(OpenError::Options { why: "segment_bytes must hold at least one frame" });
        }
        if self.segment_bytes > SEGMENT_BYTES_MAX {
            return Err(OpenError::Options { why: "segment_bytes must be at most 4 GiB" });
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
}
