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

/// Why a remote store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenRemoteError {
    /// The address makes no sense.
    #[error("{address} is no address of a store: {why}")]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The options, or the environment, make no sense together.
    #[error("{place} cannot be used: {why}")]
    Refused {
        /// The store's address.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing says who asks.
    #[error(
        "{place} cannot be used without credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them \
         into ~/.aws/credentials"
    )]
    NoCredentials {
        /// The store's address.
        place: String,
    },
    /// No thread could be started.
    #[error("no thread for requests can be started")]
    Thread(#[source] io::Error),
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
    /// As many bytes wait for their upload as may. Nothing was written: wait, then try again.
    #[error("no room for block {name} until others are uploaded")]
    Full {
        /// The block that was to be written.
        name: BlockName,
    },
    /// The store refused. Whether the block exists is unknown: try again under a new name.
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
    /// The store cannot be reached, and was not asked. It will be there again some time.
    #[error("block {name} cannot be read while the store is away: {why}")]
    Away {
        /// The block.
        name: BlockName,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. It may be tried again.
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

/// Why a block was not made durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It is gone or torn, as a power cut leaves a block that was not synced. It will not be whole again.
    #[error("{0}")]
    NotWhole(#[source] ReadError),
    /// Whether it is whole cannot be told now.
    #[error("{0}")]
    Unreadable(#[source] ReadError),
    /// The disk refused. What it holds of the block is unknown.
    #[error("block {name} cannot be made durable: {source}")]
    Io {
        /// The block.
        name: BlockName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<ReadError> for SyncError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing { .. } | ReadError::Damaged { .. } => Self::NotWhole(error),
            ReadError::UnknownVersion { .. }
            | ReadError::OutOfRange { .. }
            | ReadError::Away { .. }
            | ReadError::Io { .. } => Self::Unreadable(error),
        }
    }
}

/// Why a block was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The store cannot be reached, and was not asked. It will be there again some time.
    #[error("block {name} cannot be deleted while the store is away: {why}")]
    Away {
        /// The block.
        name: BlockName,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. It may be tried again.
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
    /// The store cannot be reached, and was not asked. It will be there again some time.
    #[error("blocks cannot be listed while the store is away: {why}")]
    Away {
        /// How that was noticed.
        why: String,
    },
    /// The store refused.
    #[error("the blocks in {} cannot be listed", path.display())]
    Io {
        /// The directory, or the address, that it refused.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why an object was not got.
#[derive(Debug, thiserror::Error)]
pub enum ObjectGetError {
    /// No object can have that name.
    #[error("{name:?} is not the name of an object")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// The object exists, but is not what was put.
    #[error("object {name} is damaged: {why} at byte {at} of {place}")]
    Damaged {
        /// The object.
        name: String,
        /// File, or address, that holds it.
        place: String,
        /// Where in it.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// The object was put by a version that this one does not know. Use that version.
    #[error("object {name} has unknown version {found} at byte {at} of {place}")]
    UnknownVersion {
        /// The object.
        name: String,
        /// File, or address, that holds it.
        place: String,
        /// Where the version stands.
        at: u64,
        /// What stands there.
        found: u32,
    },
    /// The store cannot be reached, and was not asked. It will be there again some time.
    #[error("object {name} cannot be read while the store is away: {why}")]
    Away {
        /// The object.
        name: String,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. It may be tried again.
    #[error("object {name} cannot be read")]
    Io {
        /// The object.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ObjectGetError {
    /// What `source` means for the object `name` that `place` holds.
    pub(crate) fn from_format(name: &str, place: String, source: FormatError) -> Self {
        let name = name.to_owned();
        match source {
            FormatError::UnknownVersion { at, found } => {
                Self::UnknownVersion { name, place, at, found }
            }
            FormatError::Damaged { at, why } => Self::Damaged { name, place, at, why },
        }
    }
}

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
pub enum ObjectPutError {
    /// No object can have that name.
    #[error("{name:?} is not the name of an object")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// The object can never fit.
    #[error("object {name} has {bytes} bytes, more than an object may have")]
    TooLarge {
        /// The object.
        name: String,
        /// Its bytes.
        bytes: u64,
    },
    /// The object is not as the put demanded: somebody else was there.
    #[error("object {name} is not as expected")]
    Conflict {
        /// The object.
        name: String,
    },
    /// No room. Make some, then try again.
    #[error("no room for object {name}")]
    NoSpace {
        /// The object.
        name: String,
    },
    /// As many bytes wait for their upload as may. Nothing was written: wait, then try again.
    #[error("no room for object {name} until others are uploaded")]
    Full {
        /// The object.
        name: String,
    },
    /// The store cannot be reached. Whether the object was put may be unknown: get it, then decide.
    #[error("object {name} cannot be put while the store is away: {why}")]
    Away {
        /// The object.
        name: String,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. Whether the object was put is unknown: get it, then decide.
    #[error("object {name} cannot be put")]
    Io {
        /// The object.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why objects were not listed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectListError {
    /// No object's name can begin so.
    #[error("no object's name begins with {prefix:?}")]
    BadName {
        /// What was asked for.
        prefix: String,
    },
    /// The store cannot be reached, and was not asked. It will be there again some time.
    #[error("objects {prefix}* cannot be listed while the store is away: {why}")]
    Away {
        /// What was asked for.
        prefix: String,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. It may be tried again.
    #[error("objects {prefix}* cannot be listed")]
    Io {
        /// What was asked for.
        prefix: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why an object was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum ObjectDeleteError {
    /// No object can have that name.
    #[error("{name:?} is not the name of an object")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// The store cannot be reached. It will be there again some time.
    #[error("object {name} cannot be deleted while the store is away: {why}")]
    Away {
        /// The object.
        name: String,
        /// How that was noticed.
        why: String,
    },
    /// The store refused. It may be tried again.
    #[error("object {name} cannot be deleted")]
    Io {
        /// The object.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
