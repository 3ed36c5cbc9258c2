//! The one place where a tree's error becomes an error number.

use file_tree::TreeError;
use fuser::Errno;

/// What a process is told. No catch-all: a new error does not compile until it has a number here.
pub(crate) fn errno(error: &TreeError) -> Errno {
    match error {
        TreeError::NotFound => Errno::ENOENT,
        TreeError::Stale => Errno::ESTALE,
        TreeError::Exists => Errno::EEXIST,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::IsADirectory => Errno::EISDIR,
        TreeError::NotEmpty => Errno::ENOTEMPTY,
        TreeError::AccessDenied => Errno::EACCES,
        TreeError::NotPermitted => Errno::EPERM,
        TreeError::Invalid(_) => Errno::EINVAL,
        TreeError::NameTooLong => Errno::ENAMETOOLONG,
        TreeError::TooLarge => Errno::EFBIG,
        TreeError::TooManyLinks => Errno::EMLINK,
        TreeError::NoSpace => Errno::ENOSPC,
        TreeError::NotSupported => Errno::EOPNOTSUPP,
        TreeError::Damaged(_) | TreeError::Failed(_) | TreeError::Unreachable(_) => Errno::EIO,
    }
}
