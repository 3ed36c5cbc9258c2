//! Immutable blocks: named runs of at most 4 MiB that are written once, read in ranges, and deleted whole.
//!
//! A block packs pieces of many strands back to back and ends in a footer that names each piece and holds a
//! checksum per 64 KiB, so that a range read checks just what it touches. Whatever a store gives out it has checked on the
//! way out, each time; memory is believed. The bytes are described in
//! `docs/formats/block.md` and made and parsed in [`format`](mod@format).
//!
//! Four stores, one conformance suite ([`conformance`]): [`Directory`] on `host::Disk`, where a block is
//! durable when [`BlockStore::put`] returns; [`Memory`]; [`Remote`], a bucket of S3, each request by itself; and
//! [`Tiered`], a bucket behind this machine's disk, which is the one for a server.
//!
//! Beside the blocks, a store keeps small named objects that can be replaced ([`Objects`]).
//!
//! Not here: who uses a block, and when one may go.

pub mod conformance;
mod crc;
mod directory;
mod error;
mod files;
pub mod format;
mod memory;
mod name;
mod objects;
mod recent;
mod remote;
mod tally;
mod tiered;

use std::fmt::Debug;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;

pub use directory::Directory;
pub use error::{
    DeleteError, ListError, ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError,
    OpenError, OpenRemoteError, PutError, ReadError, SyncError,
};
pub use format::{Block, BlockBuilder, Footer, FormatError, Piece, Placed};
pub use memory::Memory;
pub use name::{BlockName, ParseNameError};
pub use objects::{
    OBJECT_BYTES_MAX, OBJECT_NAME_BYTES_MAX, Objects, PutIf, Version, inspect_object,
};
pub use remote::{Remote, S3Options};
pub use tiered::{Tiered, TieredOptions, TieredStats};

/// Most payload in one block.
pub const BLOCK_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Most pieces in one block.
pub const BLOCK_PIECES_MAX: u32 = 64 * 1024;

/// How many payload bytes one checksum covers; the last chunk of a block may be shorter.
pub const CHUNK_BYTES: u32 = 64 * 1024;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of blocks.
    pub blocks: u64,
    /// Their bytes, with headers and footers.
    pub bytes: u64,
}

/// A block as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: BlockName,
    /// Its bytes, with header and footer.
    pub bytes: u64,
    /// When it was put, by the time of day of the store's own clock: milliseconds since 1970.
    pub modified_ms: i64,
}

/// A place for blocks. All methods block until done and may be called from any thread that may block, which
/// a task of an async runtime may not.
pub trait BlockStore: Debug + Send + Sync {
    /// Stores a block. When it returns, the block survives whatever the store promises to survive (for
    /// [`Directory`] a power cut: bytes and name are synced).
    ///
    /// # Errors
    ///
    /// [`PutError::AlreadyExists`] leaves the earlier block as it is, whatever its bytes: a name is used
    /// once. After [`PutError::Full`] the block does not exist: wait, then try again. After
    /// [`PutError::NoSpace`] and [`PutError::Io`] it may or may not exist: try again under a new name,
    /// and let collection find this one.
    fn put(&self, block: &Block) -> Result<(), PutError>;

    /// Stores a block without waiting for the disk. When it returns, the block is there under its name and survives
    /// the process; a power cut may leave it whole, torn or not at all, and a torn one is an error to whoever reads
    /// it, never zeros. [`BlockStore::sync`] makes it durable; until then it stays where it was put.
    ///
    /// A store that cannot do less puts it as [`BlockStore::put`] does.
    ///
    /// # Errors
    ///
    /// As [`BlockStore::put`].
    fn put_unsynced(&self, block: &Block) -> Result<(), PutError> {
        self.put(block)
    }

    /// Makes blocks durable, bytes and names, that [`BlockStore::put_unsynced`] stored in this process or an earlier
    /// one. What an earlier one left is verified first, every checksum, and written again: a sync of it may have
    /// failed and left it in the page cache alone. Blocks that are durable stay as they are.
    ///
    /// # Errors
    ///
    /// [`SyncError`] names one of the blocks, and says nothing of the others. That block may be asked for again: it
    /// is verified and written again then.
    fn sync(&self, _names: &[BlockName]) -> Result<(), SyncError> {
        Ok(())
    }

    /// Reads `range` of a block's payload, its checksums verified.
    ///
    /// # Errors
    ///
    /// [`ReadError`], each naming the block; never zeros in place of bytes that are not there.
    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError>;

    /// Reads a block's footer: its pieces and where they lie.
    ///
    /// # Errors
    ///
    /// As [`BlockStore::read`].
    fn footer(&self, name: BlockName) -> Result<Footer, ReadError>;

    /// Deletes a block and says whether it existed. Not synced: after a power cut it may be back.
    ///
    /// # Errors
    ///
    /// [`DeleteError`] when the store refuses; the block is still there.
    fn delete(&self, name: BlockName) -> Result<bool, DeleteError>;

    /// Deletes blocks, in as few requests as the store can, and says how many of them existed. A store that
    /// is not told counts all.
    ///
    /// # Errors
    ///
    /// [`DeleteError`] names a block that is still there. Of the others, some are gone.
    fn delete_many(&self, names: &[BlockName]) -> Result<u64, DeleteError> {
        names.iter().try_fold(0, |existed, name| Ok(existed + u64::from(self.delete(*name)?)))
    }

    /// Shows `visit` each block, in order of name, until it breaks. Blocks that come or go meanwhile may be
    /// shown or not.
    ///
    /// # Errors
    ///
    /// [`ListError`] when the store cannot say what it holds; what was shown until then exists.
    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError>;

    /// Says that these blocks will be read soon, in this order. A store may prepare for it, or not.
    fn hint(&self, _names: &[BlockName]) {}

    /// The small objects beside the blocks.
    fn objects(&self) -> &dyn Objects;

    /// How many blocks and bytes there are; at once, from memory.
    fn usage(&self) -> Usage;

    /// Whether blocks end up on another machine, so that deleting them gives this one no room.
    fn is_remote(&self) -> bool {
        false
    }
}
