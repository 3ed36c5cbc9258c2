//! What can go wrong, sorted by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use crate::Applied;

/// Why a read, commit or sync did not happen.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The key can never fit. Nothing was changed.
    #[error("a key of {size} bytes is over the limit of {limit}")]
    KeyTooLong {
        /// Bytes in the key.
        size: usize,
        /// [`crate::KEY_BYTES_MAX`].
        limit: usize,
    },
    /// The value can never fit. Nothing was changed.
    #[error("a value of {size} bytes is over the limit of {limit}")]
    ValueTooLong {
        /// Bytes in the value.
        size: usize,
        /// [`crate::VALUE_BYTES_MAX`].
        limit: usize,
    },
    /// The commit would move the applied position back. Nothing was changed; the caller is confused.
    #[error("applied position {given} is before the store's {current}")]
    AppliedBack {
        /// The store's position.
        current: Applied,
        /// The commit's position.
        given: Applied,
    },
    /// The disk refused a read. The store is as it was; the read may be tried again.
    #[error("the meta store cannot be read")]
    Io(#[source] io::Error),
    /// What is on disk is not what was written. Rebuild the store.
    #[error("the meta store is damaged: {why}; restart the server, which rebuilds it")]
    Damaged {
        /// What the engine found.
        why: String,
    },
    /// A write or sync failed, so what is on disk is unknown. Reopen the store and apply again.
    #[error("the meta store takes no more commits since a write failed: {why}")]
    Stopped {
        /// What the engine said.
        why: String,
    },
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, has the store open.
    #[error("the meta store in {} is in use by another server", path.display())]
    Locked {
        /// Directory of the store.
        path: PathBuf,
    },
    /// The store was written by a version that this one does not know. Use that version.
    #[error("the meta store in {} has unknown version {found} ({at})", path.display())]
    UnknownVersion {
        /// Directory of the store.
        path: PathBuf,
        /// Which file or row says so, and where in it.
        at: &'static str,
        /// What it says there.
        found: String,
    },
    /// What is on disk is not what was written. Rebuild the store.
    #[error("the meta store in {} is damaged: {why}", path.display())]
    Damaged {
        /// Directory of the store.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The disk refused.
    #[error("the meta store in {} cannot be opened", path.display())]
    Io {
        /// Directory of the store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
