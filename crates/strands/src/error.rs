//! Why a call failed, one enum per kind of call.

use std::path::PathBuf;
use std::time::Duration;

use crate::owner::OwnerError;
use crate::types::{Position, StrandId};

/// Why the data path did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] durable_log::OpenError),
    /// The journal holds what this version cannot read.
    #[error("{}: commit {position}: {why}; nothing was changed", path.display())]
    Commit {
        /// The journal's directory.
        path: PathBuf,
        /// Which commit.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// The meta store has seen commits that the journal does not hold: they are not of one server,
    /// or the journal was cut by hand.
    #[error(
        "the meta store is ahead of the journal ({applied} > {end}); restore both from the same moment"
    )]
    ViewAhead {
        /// Up to where the meta store has come.
        applied: Position,
        /// Where the journal ends.
        end: Position,
    },
    /// The meta store lacks commits that the journal has already let go.
    #[error("the meta store is behind the journal ({applied} < {start}); {why}")]
    ViewBehind {
        /// Up to where the meta store has come.
        applied: Position,
        /// Where the journal begins.
        start: Position,
        /// Why it was not rebuilt from the block store.
        why: String,
    },
    /// The block store belongs to somebody else.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The meta store failed.
    #[error(transparent)]
    Meta(#[from] meta_store::MetaError),
    /// The disk failed.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The first commit of this opening failed.
    #[error(transparent)]
    FirstCommit(#[from] CommitError),
    /// A row that this crate wrote cannot be read.
    #[error(transparent)]
    Row(#[from] ReadError),
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It can never fit; split it.
    #[error("a commit of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the commit.
        size: u64,
        /// [`crate::Strands::COMMIT_BYTES_MAX`].
        limit: u64,
    },
    /// The disk is full, or below the reserve kept for deletes and packing. Nothing was acknowledged;
    /// works again when there is room.
    #[error("no space left on the data disk; make room on it, then try again")]
    NoSpace,
    /// A limit was not kept for so long that nobody waits for it any longer. Nothing was changed; try again.
    #[error("no room came free within {} s: {why}; try again later", waited.as_secs())]
    Overloaded {
        /// [`crate::Options::admit_patience`].
        waited: Duration,
        /// What there is too much of, and why it does not get less.
        why: String,
    },
    /// Storage failed; nothing more is acknowledged until the server is restarted.
    #[error("storage failed ({0}); restart the server after checking the disk")]
    Failed(String),
}

/// Why a round of collection ended before it deleted anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// Another round runs.
    #[error("a round of collection is running already")]
    Busy,
    /// Not every extent could be read, so nobody knows what is needed.
    #[error("collection cannot read what is needed: {0}")]
    Mark(#[from] ReadError),
    /// The store holds a block that a later opening made: another server uses it.
    #[error(
        "block {block} was made by a later start of the server than this one, so the store belongs to \
         another server now; nothing was deleted"
    )]
    NotOurs {
        /// One of its blocks.
        block: String,
    },
    /// The block store failed.
    #[error("collection cannot use the block store: {0}")]
    Store(String),
    /// The block store belongs to somebody else.
    #[error("nothing was deleted: {0}")]
    Owner(#[from] OwnerError),
    /// What the mark has seen could not be made durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The server stops; the next start goes on.
    #[error("the server is stopping")]
    Stopping,
}

/// Why bytes or rows could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They should be there, and are not, or do not match their checksum. Never answered with zeros.
    #[error("{strand}, offset {offset}: {why}")]
    Unresolvable {
        /// Which strand.
        strand: StrandId,
        /// Where in it.
        offset: u64,
        /// What was found instead.
        why: String,
    },
    /// Storage failed.
    #[error("storage failed: {0}")]
    Failed(String),
}

impl From<meta_store::MetaError> for ReadError {
    fn from(error: meta_store::MetaError) -> Self {
        Self::Failed(error.to_string())
    }
}
