//! The one error of a file tree: exhaustive, so that every door has an answer for each variant.

/// Why a call on a [`crate::FileTree`] failed. Each door maps these to its protocol without a catch-all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No such name (ENOENT).
    #[error("no such file or directory")]
    NotFound,
    /// The inode does not exist any more (ESTALE).
    #[error("the file is gone")]
    Stale,
    /// The name is taken (EEXIST).
    #[error("the name exists")]
    Exists,
    /// A directory was needed (ENOTDIR).
    #[error("not a directory")]
    NotADirectory,
    /// A directory was given where none may be (EISDIR).
    #[error("is a directory")]
    IsADirectory,
    /// The directory still has entries (ENOTEMPTY).
    #[error("directory not empty")]
    NotEmpty,
    /// The mode bits refuse it (EACCES).
    #[error("access denied")]
    AccessDenied,
    /// Only the owner or root may (EPERM).
    #[error("operation not permitted")]
    NotPermitted,
    /// An argument makes no sense here (EINVAL): a directory moved into itself, a read of a link.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// A name over 255 bytes or a link target over 4,095 (ENAMETOOLONG).
    #[error("name too long")]
    NameTooLong,
    /// Over the largest file, 8 EiB - 1 (EFBIG).
    #[error("file too large")]
    TooLarge,
    /// Over the largest number of names for one file (EMLINK).
    #[error("too many links")]
    TooManyLinks,
    /// The disk is full (ENOSPC). Nothing of this call was done.
    #[error("no space left")]
    NoSpace,
    /// The tree does not offer this (EOPNOTSUPP).
    #[error("not supported")]
    NotSupported,
    /// The bytes or rows that should be there cannot be found or do not match their checksum (EIO).
    #[error("damaged: {0}")]
    Damaged(String),
    /// The server's storage failed; nothing more is acknowledged until it restarts (EIO).
    #[error("storage failed: {0}")]
    Failed(String),
    /// The server cannot be reached within the time allowed (EIO to a process, retriable for a client).
    #[error("server cannot be reached: {0}")]
    Unreachable(String),
}
