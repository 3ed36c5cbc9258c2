//! Why an operation on the log did not happen: one enum per operation, each variant named for
//! what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::position::Offset;

/// Why a log did not open. Nothing that was promised has been changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody has the log open, maybe this process. Stop or drop that first: every clone of the [`crate::Log`],
    /// and what was made from it (iterators, tickets, a committer), keeps the lock. A [`crate::Follower`] needs none.
    #[error("the log in {} is open already, in this process or another; stop or drop that first (a Follower reads without the lock)", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The file was written by a version that this one does not know. Use that version.
    #[error("{}: format version {version} at byte {at} is not known to this version", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Where in the file the version stands.
        at: u64,
        /// What it says.
        version: u32,
    },
    /// Bytes that were promised to be durable are damaged or missing. Restore the file.
    #[error("{}: damaged at byte {at}: {why}; restore the file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file the first damage is.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// The options contradict each other. Correct them.
    #[error("log options: {why}")]
    Options {
        /// What is wrong.
        why: &'static str,
    },
    /// There is no room to begin a segment. Make room and open again.
    #[error("no room in {} to begin a segment; make room and open again", dir.display())]
    NoSpace {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why a [`crate::Follower`] cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The next record was trimmed. Seek to `start`, or further. What was read before the gap may have been
    /// lost and replaced before it was trimmed; that is not told.
    #[error("records before offset {start} were trimmed; seek to {start} or further")]
    Trimmed {
        /// First record that is still there.
        start: Offset,
    },
    /// Damage, an unknown version, or what the operating system says: what opening the log would say too.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
}

/// Why an append did not happen. The log is as it was before.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The records can never fit. Do not retry.
    #[error("append of {size} bytes is over Options::append_bytes_max, {limit}")]
    TooLarge {
        /// Bytes of the records, with four for each record's length.
        size: u64,
        /// [`crate::Options::append_bytes_max`].
        limit: u64,
    },
    /// The disk is full. Make room, then retry.
    #[error("no room on the disk for more records; make room, then retry")]
    NoSpace,
    /// The end of the log is being cut. Retry with the log that comes out of that.
    #[error("the end of the log is being cut; retry with the log that comes out of that")]
    Truncating,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

/// Why appended records were not handed to the operating system. They stay queued in order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full. The records stay in memory; a later call tries again.
    #[error("no room on the disk to write the log; make room, then retry")]
    NoSpace,
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

/// Why records are not known to be durable. Whether they survive is open until a later sync
/// succeeds or the log is opened again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SyncError {
    /// The disk is full. The records stay in memory; a later call tries again.
    #[error("no room on the disk to write the log; make room, then retry")]
    NoSpace,
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

/// Why a handle refuses everything.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// Storage failed.
    Failed(Arc<str>),
    /// The log goes on in another handle.
    Replaced,
}

macro_rules! from_ended {
    ($($error:ident),*) => {
        $(impl From<Ended> for $error {
            fn from(ended: Ended) -> Self {
                match ended {
                    Ended::Failed(why) => Self::Failed { why },
                    Ended::Replaced => Self::Replaced,
                }
            }
        })*
    };
}

from_ended!(AppendError, WriteError, SyncError, ArrivalError, TrimError, TruncateError);

impl From<WriteError> for SyncError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace => Self::NoSpace,
            WriteError::Replaced => Self::Replaced,
            WriteError::Failed { why } => Self::Failed { why },
        }
    }
}

/// Why a record that was waited for did not arrive.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArrivalError {
    /// It was not there in time. Wait again.
    #[error("nothing arrived in time")]
    TimedOut,
    /// The log was closed, or its committer was stopped for good.
    #[error("the log ended before it")]
    Ended,
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was trimmed; the log now begins later.
    #[error("trimmed: the log begins at offset {start}")]
    Trimmed {
        /// First offset that is still there.
        start: Offset,
    },
    /// The range is not within what was appended, or not within one record.
    #[error("nothing was appended there: the log ends at offset {end}")]
    Beyond {
        /// One past the last appended record.
        end: Offset,
    },
    /// The bytes on disk do not match their checksum.
    #[error("{}: damaged at byte {at}: {why}; restore the file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why old segments were not removed. What was removed before the error stays removed.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
    /// The operating system said no. Retry later.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why the end of the log was not cut off.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// The cut would be before the log's beginning.
    #[error("trimmed: the log begins at offset {start}")]
    Trimmed {
        /// First offset that is still there.
        start: Offset,
    },
    /// The disk is full. Make room, then retry.
    #[error("no room on the disk to cut the log; make room, then retry")]
    NoSpace,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Bytes before the cut do not match their checksum.
    #[error("{}: damaged at byte {at}: {why}; restore the file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The end of the log was cut with [`crate::Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// Storage failed; the log refuses everything until it is opened again. It is cut or not.
    #[error("the log failed: {why}; open it again")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
    /// The cut is decided, but the log could not be opened again. Open it again.
    #[error("the log is cut, but does not open: {0}")]
    Open(#[source] OpenError),
}
