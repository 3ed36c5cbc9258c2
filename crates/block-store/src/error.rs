//! What can go wrong, per operation, sorted by what the caller can do about it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::{BlockName, FormatError};

/// Why a directory store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("the block directory {} cannot be opened", path.display())]
    Io {
        /// The file or directory that it refused.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a block was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// A block of that name exists, or is being written. It is left as it is.
    #[error("block {name} exists already")]
    AlreadyExists {
        /// The name.
        name: BlockName,
    },
    /// No room. Make some, then try again under a new name.
    #[error("no room for block {name}")]
    NoSpace {
        /// The block that was to be written.
        name: BlockName,
    },
    /// The disk refused. Whether the block exists is unknown: try again under a new name.
    #[error("block {name} cannot be written")]
    Io {
        /// The block that was to be written.
        name: BlockName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a block was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such block: it was deleted or lost.
    #[error("block {name} does not exist")]
    Missing {
        /// The name that was asked for.
        name: BlockName,
    },
    /// The block exists, but is not what was written. Other ranges may still be sound.
    #[error("block {name} is damaged: {why} at byte {at} of {place}")]
    Damaged {
        /// The block.
        name: BlockName,
        /// File, or store, that holds it.
        place: String,
        /// Where in it.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// The block was written by a version that this one does not know. Use that version.
    #[error("block {name} has unknown version {found} at byte {at} of {place}")]
    UnknownVersion {
        /// The block.
        name: BlockName,
        /// File, or store, that holds it.
        place: String,
        /// Where the version stands.
        at: u64,
        /// What stands there.
        found: u32,
    },
    /// The range ends behind the payload: the caller's extents are wrong.
    #[error("block {name} has {payload_len} bytes of payload, so {range:?} does not exist")]
    OutOfRange {
        /// The block.
        name: BlockName,
        /// What was asked for.
        range: Range<u32>,
        /// What there is.
        payload_len: u32,
    },
    /// The disk refused. It may be tried again.
    #[error("block {name} cannot be read")]
    Io {
        /// The block.
        name: BlockName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    /// What `source` means for the block `name` that `place` holds.
    pub fn from_format(name: BlockName, place: impl Into<String>, source: FormatError) -> Self {
        let place = place.into();
        match source {
            FormatError::UnknownVersion { at, found } => {
                Self::UnknownVersion { name, place, at, found }
            }
            FormatError::Damaged { at, why } => Self::Damaged { name, place, at, why },
        }
    }
}

/// Why a block was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The disk refused. It may be tried again.
    #[error("block {name} cannot be deleted")]
    Io {
        /// The block.
        name: BlockName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why blocks were not listed to the end.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The disk refused.
    #[error("the block directory {} cannot be listed", path.display())]
    Io {
        /// The directory that it refused.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
