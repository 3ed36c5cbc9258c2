//! Why a call failed: one enum per operation, each variant asking something different of the caller.

use strands::{CommitError, ReadError};

use crate::batch::BatchError;
use crate::types::{RecordOffset, TopicName};

/// Why text is not a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Nothing there.
    #[error("a topic's name cannot be empty")]
    Empty,
    /// `.` or `..`.
    #[error("a topic cannot be named '.' or '..'")]
    Reserved,
    /// Over the limit.
    #[error("a topic's name has at most {} characters", TopicName::BYTES_MAX)]
    TooLong,
    /// A character outside the alphabet.
    #[error("a topic's name holds only a-z, A-Z, 0-9, '.', '_' and '-'")]
    BadCharacter,
}

/// Why the broker did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A row about topics cannot be read by this version. Nothing was changed.
    #[error("topics cannot be loaded: {0}; nothing was changed")]
    Damaged(String),
    /// Storage failed: rows could not be read, or the deletion that a crash interrupted not be finished.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Why a batch was not stored, or is not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The topic was deleted: look it up again.
    #[error("the topic does not exist any more")]
    UnknownTopic,
    /// The topic has fewer partitions.
    #[error("the topic has no partition {0}")]
    UnknownPartition(u32),
    /// The batch can never be stored as it is. Nothing was stored.
    #[error(transparent)]
    Refused(#[from] AppendFault),
    /// The disk is full. Nothing was stored; works again when there is room.
    #[error("no space left on the data disk; make room on it, then try again")]
    NoSpace,
    /// There was no room for it within the time that it may wait. Nothing was stored; works again later.
    #[error("{0}")]
    Busy(String),
    /// What is stored of this partition cannot be read, so its end is unknown.
    #[error("the partition is damaged: {0}")]
    Damaged(String),
    /// Storage failed: whether the batch is stored is unknown, and it is not acknowledged.
    #[error("storage failed ({0}); restart the server after checking the disk")]
    Failed(String),
}

/// What is wrong with a batch that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendFault {
    /// Bytes were damaged on the way: the checksum or a length does not match.
    #[error("the record batch is corrupt: {0}")]
    Corrupt(BatchError),
    /// A message format before version 2.
    #[error("message format {0} is not supported, only 2 is")]
    UnsupportedFormat(i8),
    /// Over [`crate::Options::batch_bytes_max`].
    #[error("a batch of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the batch.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Well formed, but not what a producer may send.
    #[error("the record batch is not acceptable: {0}")]
    Invalid(&'static str),
}

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The topic was deleted: look it up again.
    #[error("the topic does not exist any more")]
    UnknownTopic,
    /// The topic has fewer partitions.
    #[error("the topic has no partition {0}")]
    UnknownPartition(u32),
    /// There is no record of that offset and it is not the next one either.
    #[error("offset is not between {log_start} and {high_watermark}")]
    OutOfRange {
        /// First record that is still there.
        log_start: RecordOffset,
        /// One past the last record that may be seen.
        high_watermark: RecordOffset,
    },
    /// What is stored cannot be read.
    #[error("the partition is damaged: {0}")]
    Damaged(String),
    /// Storage failed.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Why an offset was not found out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    /// The topic was deleted: look it up again.
    #[error("the topic does not exist any more")]
    UnknownTopic,
    /// The topic has fewer partitions.
    #[error("the topic has no partition {0}")]
    UnknownPartition(u32),
    /// What is stored cannot be read.
    #[error("the partition is damaged: {0}")]
    Damaged(String),
    /// Storage failed.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Why the end of an epoch was not found out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// The topic was deleted: look it up again.
    #[error("the topic does not exist any more")]
    UnknownTopic,
    /// The topic has fewer partitions.
    #[error("the topic has no partition {0}")]
    UnknownPartition(u32),
    /// What is stored cannot be read.
    #[error("the partition is damaged: {0}")]
    Damaged(String),
    /// Storage failed.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// There is one of that name.
    #[error("topic {0} exists already")]
    Exists(TopicName),
    /// Topics are not created on first use here.
    #[error("topic {0} does not exist, and topics are not created on first use here")]
    AutoCreateOff(TopicName),
    /// Zero partitions, or over the limit.
    #[error("a topic has 1 to {limit} partitions, not {asked}")]
    Partitions {
        /// How many were asked for.
        asked: u32,
        /// The limit.
        limit: u32,
    },
    /// The server holds as many topics or partitions as it may: delete some.
    #[error("the server holds {limit} {what} already, and that is its limit")]
    TooMany {
        /// Topics or partitions.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The disk is full. Nothing was created; works again when there is room.
    #[error("no space left on the data disk; make room on it, then try again")]
    NoSpace,
    /// Storage failed: whether the topic exists after a restart is unknown.
    #[error("storage failed ({0}); restart the server after checking the disk")]
    Failed(String),
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is none of that name.
    #[error("topic {0} does not exist")]
    UnknownTopic(TopicName),
    /// The disk is so full that not even a deletion can be recorded.
    #[error("no space left on the data disk; make room, then try again")]
    NoSpace,
    /// Storage failed: whether the topic exists after a restart is unknown.
    #[error("storage failed ({0}); restart the server after checking the disk")]
    Failed(String),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::Damaged(why),
            Fault::Failed(why) => Self::Failed(why),
            // No topic is asked for while they are loaded.
            Fault::UnknownTopic | Fault::UnknownPartition(_) => {
                Self::Failed("no such topic".to_owned())
            }
        }
    }
}

/// What can be wrong with a partition, whatever is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    UnknownTopic,
    UnknownPartition(u32),
    Damaged(String),
    Failed(String),
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unresolvable { .. } => Self::Damaged(error.to_string()),
            ReadError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Fault> for ProduceError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownTopic => Self::UnknownTopic,
            Fault::UnknownPartition(number) => Self::UnknownPartition(number),
            Fault::Damaged(why) => Self::Damaged(why),
            Fault::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Fault> for FetchError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownTopic => Self::UnknownTopic,
            Fault::UnknownPartition(number) => Self::UnknownPartition(number),
            Fault::Damaged(why) => Self::Damaged(why),
            Fault::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Fault> for OffsetError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownTopic => Self::UnknownTopic,
            Fault::UnknownPartition(number) => Self::UnknownPartition(number),
            Fault::Damaged(why) => Self::Damaged(why),
            Fault::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Fault> for EpochError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownTopic => Self::UnknownTopic,
            Fault::UnknownPartition(number) => Self::UnknownPartition(number),
            Fault::Damaged(why) => Self::Damaged(why),
            Fault::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<CommitError> for ProduceError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge { size, limit } => AppendFault::TooLarge { size, limit }.into(),
            CommitError::NoSpace => Self::NoSpace,
            error @ CommitError::Overloaded { .. } => Self::Busy(error.to_string()),
            CommitError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<CommitError> for CreateTopicError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge { .. } | CommitError::Overloaded { .. } => {
                Self::Failed(error.to_string())
            }
            CommitError::NoSpace => Self::NoSpace,
            CommitError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<CommitError> for DeleteTopicError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge { .. } | CommitError::Overloaded { .. } => {
                Self::Failed(error.to_string())
            }
            CommitError::NoSpace => Self::NoSpace,
            CommitError::Failed(why) => Self::Failed(why),
        }
    }
}
