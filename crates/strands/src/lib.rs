//! The data path: every change is one commit in one journal, and settles into blocks later.
//!
//! > **Append** to the log and acknowledge; later **pack** what is old into blocks; **commit** where it
//! > now is; then **trim** the log.
//!
//! What is where:
//! - [`Commit`] is a list of operations on strands (runs of bytes) and rows; `commit.rs` says how it
//!   lies in the journal.
//! - [`Strands::commit`] appends it, makes it visible and hands it to the operating system, in that
//!   order; a [`Ticket`] waits for durability.
//! - Large payload goes into a block at once and never into the journal (`staged.rs`); if nobody waits for it the block
//!   is synced later, and the commit is durable no earlier (`unsynced.rs`).
//! - Rows live in the meta store, which only ever receives commits that are durable in the journal;
//!   newer ones are in the overlay (`overlay.rs`), which reads consult first.
//! - Bytes live in the journal (`pieces.rs` indexes them) until `pack.rs` moves them into blocks
//!   (`extents.rs` says where); `read.rs` finds them again, and `cached.rs` keeps what was used lately.
//! - Blocks that nobody needs are found and deleted by `collect.rs`; `compact.rs` rewrites those of which
//!   little lives.
//! - `index_checkpoint.rs` keeps what `pieces.rs` holds in a file from time to time (`index_file.rs`), so that a
//!   start need not read all of the journal.
//! - `recover.rs` builds all of it from the journal and the meta store, at every start.
//!
//! Invariants: state changes in a journal append and nowhere else; nothing lower is deleted before what
//! replaces it is durable; the meta store never runs ahead of what is durable in the journal.
//!
//! Not here: what a row or a strand means (`broker`, `volume`), and any protocol.

mod admit;
mod apply;
mod cached;
mod checkpoint;
mod collect;
mod commit;
mod compact;
mod error;
mod extents;
mod frames;
mod fsck;
mod index_checkpoint;
mod index_file;
mod inspect;
mod ledger;
mod options;
mod overlay;
mod owner;
mod pack;
mod pieces;
mod publish;
mod read;
mod recover;
mod restore;
mod root;
mod run;
mod shared;
mod staged;
mod status;
mod strands;
#[cfg(test)]
mod tests;
mod ticket;
mod types;
mod unsynced;

pub use cached::CacheStatus;
pub use collect::{
    CollectOptions, CollectPhase, CollectProgress, CollectRound, Collected, Collection, Effort,
};
pub use commit::Commit;
pub use error::{CollectError, CommitError, OpenError, ReadError};
pub use frames::StreamError;
pub use fsck::{Checked, FsckInput, FsckProgress, delete_unnamed, fsck};
pub use index_file::{FILE_BYTES_MAX as INDEX_FILE_BYTES_MAX, IndexFileError};
pub use inspect::{
    InspectLedgerError, InspectedEntry, InspectedIndex, InspectedOp, InspectedPiece, InspectedRoot,
    inspect_commit, inspect_index, inspect_ledger, inspect_owner, inspect_root,
};
pub use options::Options;
pub use owner::OwnerError;
pub use recover::Recovery;
pub use restore::{LoadError, Rebuilt, RestoreError, RestoreStep, Restored, SkippedRoot, restore};
pub use root::RootError;
pub use staged::Staged;
pub use status::Status;
pub use strands::Strands;
pub use ticket::Ticket;
pub use types::{Opening, Order, Position, Positions, StoreId, StrandId, Table};
pub use unsynced::LostBlock;
