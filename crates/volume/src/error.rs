//! Why a call failed, and how failures of the data path become those of a tree.

use file_tree::TreeError;
use strands::{CommitError, ReadError};

use crate::rows::RowError;
use crate::volumes::VolumeName;

/// Why the store could not do its part, whatever was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was done; make room, then try again.
    #[error("no space left on the data disk; make room on it, then try again")]
    NoSpace,
    /// A row cannot be understood, or bytes are missing.
    #[error("the volume's rows are damaged: {0}")]
    Damaged(String),
    /// Storage failed; nothing more is acknowledged until the server restarts.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Why bytes are not the name of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a volume's name is 1 to 64 of the characters a-z, 0-9, '.', '_' and '-', but not '.' or '..'"
)]
pub struct VolumeNameError;

/// Why a volume was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The name is taken.
    #[error("volume {0} exists already")]
    Exists(VolumeName),
    /// All numbers that volumes can have were used.
    #[error("no more volumes can be made in this data directory")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a volume was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no such volume.
    #[error("volume {0} does not exist")]
    NotFound(VolumeName),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a volume was not found or not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// There is no such volume.
    #[error("volume {0} does not exist")]
    NotFound(VolumeName),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            // No room for data is what a program knows how to handle, whatever has no room.
            CommitError::NoSpace | CommitError::Overloaded { .. } => Self::NoSpace,
            CommitError::TooLarge { .. } | CommitError::Failed(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unresolvable { .. } => Self::Damaged(error.to_string()),
            ReadError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<StoreError> for TreeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace,
            StoreError::Damaged(why) => Self::Damaged(why),
            StoreError::Failed(why) => Self::Failed(why),
        }
    }
}

/// A row of `table` that makes no sense.
pub(crate) fn damaged(table: &'static str, key: &[u8], why: RowError) -> StoreError {
    StoreError::Damaged(format!("{table} row {}: {why}", key.escape_ascii()))
}
