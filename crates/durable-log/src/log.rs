//! The handle to a log.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use host::Host;

use crate::error::{AppendError, OpenError, ReadError, SyncError, TrimError, WriteError};
use crate::options::Options;
use crate::position::{Location, Offset};

#[derive(Debug)]
struct Inner;

/// A log that is open. Cheap to clone; all clones are one log.
#[derive(Clone, Debug)]
pub struct Log {
    _inner: Arc<Inner>,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first: Offset,
    /// One past the offset of the last record.
    pub next: Offset,
    /// First byte of the first record.
    pub at: Location,
}

/// How far the log is. All but `start` are exclusive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// First record that was not trimmed.
    pub start: Offset,
    /// In memory.
    pub appended: Offset,
    /// Handed to the operating system: survives the process.
    pub written: Offset,
    /// Synced: survives the power.
    pub durable: Offset,
}

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The log was closed in order, so its frames were not checked again.
    pub clean: bool,
    /// Records in the log.
    pub records: u64,
    /// Bytes of the log, frame headers included.
    pub bytes: u64,
    /// Segment files found.
    pub segments: u64,
    /// The end that nobody was promised and that was cut off.
    pub torn: Option<Torn>,
}

/// A torn tail: bytes after the last good frame that were never promised.
#[derive(Clone, Debug)]
pub struct Torn {
    /// The segment that was cut.
    pub path: PathBuf,
    /// Where it was cut: bytes from the beginning of the file.
    pub at: u64,
    /// How many bytes were cut off, trailing zeros not counted.
    pub bytes: u64,
    /// The copy of the bytes; `None` when there was no room for one and they stay, unread, where they were.
    pub kept_as: Option<PathBuf>,
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// Its number; never reused.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Offset of its first record.
    pub first: Offset,
    /// One past its last record.
    pub next: Offset,
    /// Bytes of its frames.
    pub bytes: u64,
    /// Whether it will get no more records.
    pub sealed: bool,
    /// Its first byte.
    pub begin: Location,
    /// One past its last byte.
    pub end: Location,
}

/// A record as [`Log::scan`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its number.
    pub offset: Offset,
    /// Its first byte.
    pub at: Location,
    /// When it was appended: milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What was appended.
    pub bytes: &'a [u8],
}

/// Counters since the log was opened, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `append` and `append_parts`.
    pub appends: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes appended, frame headers included.
    pub bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Segment files now.
    pub segments: u64,
    /// Bytes in segment files now, room that was reserved but not written not counted.
    pub segment_bytes: u64,
    /// Bytes appended and not yet durable.
    pub unsynced_bytes: u64,
}

impl Log {
    /// Opens the log in `dir`, or begins one.
    pub fn open(
        _host: &Host,
        _dir: &Path,
        _options: Options,
    ) -> Result<(Self, Recovery), OpenError> {
        unimplemented!()
    }
    /// Appends records as one unit.
    pub fn append(&self, _records: &[&[u8]]) -> Result<Appended, AppendError> {
        unimplemented!()
    }
    /// Appends one record gathered from parts.
    pub fn append_parts(&self, _parts: &[&[u8]]) -> Result<Appended, AppendError> {
        unimplemented!()
    }
    /// Whether fewer than `unsynced_bytes_max` bytes are unsynced.
    pub fn has_room(&self) -> bool {
        unimplemented!()
    }
    /// Ready when there is room, or when appends are refused anyway.
    pub fn room(&self) -> Room {
        unimplemented!()
    }
    /// [`Log::room`] for threads.
    pub fn wait_room(&self) {
        unimplemented!()
    }
    /// Hands everything appended to the operating system; returns the written position.
    pub fn write_out(&self) -> Result<Offset, WriteError> {
        unimplemented!()
    }
    /// Makes everything appended durable; returns the durable position.
    pub fn sync(&self) -> Result<Offset, SyncError> {
        unimplemented!()
    }
    /// A promise to be told when everything below `up_to` is durable.
    pub fn ticket(&self, _up_to: Offset) -> Ticket {
        unimplemented!()
    }
    /// Body of the committer thread.
    pub fn run_committer(&self) {
        unimplemented!()
    }
    /// Makes `run_committer` return.
    pub fn stop_committer(&self) {
        unimplemented!()
    }
    /// Blocks until more than `seen` is durable; `None` after a stop or a failure.
    pub fn wait_durable_beyond(&self, _seen: Offset) -> Option<Offset> {
        unimplemented!()
    }
    /// How far the log is.
    pub fn positions(&self) -> Positions {
        unimplemented!()
    }
    /// A range of bytes of one record, whose file stays readable while the slice lives.
    pub fn slice(&self, _at: Location, _len: u32) -> Result<Slice, ReadError> {
        unimplemented!()
    }
    /// Visits records in order from `from` to the end.
    pub fn scan(
        &self,
        _from: Offset,
        _visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        unimplemented!()
    }
    /// Seals the active segment and begins the next one, durably.
    pub fn roll(&self) -> Result<(), SyncError> {
        unimplemented!()
    }
    /// Removes whole sealed segments that lie below `before`; returns the new start.
    pub fn trim(&self, _before: Offset) -> Result<Offset, TrimError> {
        unimplemented!()
    }
    /// All segments, oldest first.
    pub fn oldest_segments(&self) -> Vec<SegmentInfo> {
        unimplemented!()
    }
    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// Syncs and leaves a mark that lets the next open skip its checks.
    pub fn close(self) -> Result<(), SyncError> {
        unimplemented!()
    }
}

/// See [`Log::room`].
#[derive(Debug)]
#[must_use]
pub struct Room;

impl Future for Room {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }
}

/// See [`Log::ticket`].
#[derive(Debug)]
#[must_use]
pub struct Ticket;

impl Ticket {
    /// Waits in this thread.
    pub fn wait(self) -> Result<(), SyncError> {
        unimplemented!()
    }
}

impl Future for Ticket {
    type Output = Result<(), SyncError>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

/// See [`Log::slice`].
#[derive(Clone, Debug)]
pub struct Slice;

impl Slice {
    /// Length in bytes.
    pub fn len(&self) -> u32 {
        unimplemented!()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Reads all of it.
    pub fn read(&self) -> io::Result<Bytes> {
        unimplemented!()
    }
    /// Reads all of it into `to`, which must have the slice's length.
    pub fn read_into(&self, _to: &mut [u8]) -> io::Result<()> {
        unimplemented!()
    }
}
