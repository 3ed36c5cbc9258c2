//! Why an operation on the log did not happen: one enum per operation, each variant named for
//! what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::position::Offset;

/// Why a log did not open. Nothing that was promised has been changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the log open. Stop them first.
    #[error("the log in {} is open in another process", dir.display())]
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
    #[error("{}: damaged at byte {at}: {why}", path.display())]
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
    #[error("no room in {} to begin a segment", dir.display())]
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
    #[error("records before offset {start} were trimmed")]
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
    #[error("append of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the records, with four for each record's length.
        size: u64,
        /// [`crate::Options::append_bytes_max`].
        limit: u64,
    },
    /// The disk is full. Make room, then retry.
    #[error("no room on the disk for more records")]
    NoSpace,
    /// The end of the log is being cut. Retry with the log that comes out of that.
    #[error("the end of the log is being cut")]
    Truncating,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

/// Why appended records were not handed to the operating system. They stay queued in order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full. The records stay in memory; a later call tries again.
    #[error("no room on the disk to write the log")]
    NoSpace,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}")]
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
    #[error("no room on the disk to write the log")]
    NoSpace,
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
}

impl From<WriteError> for SyncError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace => Self::NoSpace,
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
    /// Storage failed; the log refuses everything until it is opened again.
    #[error("the log failed: {why}")]
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
    #[error("{}: damaged at byte {at}: {why}", path.display())]
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
    /// Storage failed, or the log goes on in another handle; this one refuses everything.
    #[error("the log failed: {why}")]
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
    #[error("no room on the disk to cut the log")]
    NoSpace,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Bytes before the cut do not match their checksum.
    #[error("{}: damaged at byte {at}: {why}", path.display())]
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
    /// Storage failed; the log refuses everything until it is opened again. It is cut or not.
    #[error("the log failed: {why}")]
    Failed {
        /// The first failure.
        why: Arc<str>,
    },
    /// The cut is decided, but the log could not be opened again. Open it again.
    #[error("the log is cut, but does not open: {0}")]
    Open(#[source] OpenError),
}
