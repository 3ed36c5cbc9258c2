//! The block cache: recently written and read bytes of strands, in memory, within an exact budget.
//!
//! A strand (a number) is cut into *pieces* of 4 MiB. A piece exists as far as it is used: in chunks of
//! 64 KiB, and those in pages of 4 KiB until they are half full. So a file of 10 KiB takes 12 KiB of
//! buffers and less than 1.5 KiB of bookkeeping.
//!
//! What holds:
//! - **Every byte is data, hole or cold**, to the byte, and a read tells them apart. Cold means "not here":
//!   somebody else knows. Nothing that is not here is ever shown as zeros.
//! - **Dirty bytes stay** until a generation that is at least that of their write is marked as saved
//!   ([`BlockCache::mark_saved`]); only clean pieces are evicted, the one unused for longest first.
//! - **The budget is exact**: it counts what is allocated, bookkeeping included, and is never passed. A
//!   writer that finds no room evicts, then waits in line up to its deadline, then is told [`CacheFull`].
//! - **A write over bytes that are here allocates nothing**, nor does a read of them.
//! - Older bytes that were on their way in while newer ones were written never win (`fill.rs`).
//!
//! What is where: `cache.rs` the shards and the calls that touch bytes; `table.rs` what a shard holds;
//! `piece.rs`, `chunk.rs`, `coverage.rs` what a piece is, from above to below; `budget.rs` memory;
//! `evict.rs` who goes; `room.rs` who waits; `dirty.rs` what is to be saved.
//!
//! Not here: where bytes come from and go to, and what a strand means. There is no I/O, no thread and no
//! runtime; time is an argument.

mod budget;
mod cache;
mod chunk;
mod coverage;
mod dirty;
mod error;
mod evict;
mod fill;
mod index;
mod piece;
mod room;
mod table;
mod types;

pub use cache::{BlockCache, Gap, GapKind, Options};
pub use dirty::{DirtyPiece, Saved, Stats};
pub use error::{CacheFull, WriteError};
pub use fill::Fill;
pub use room::{Grant, Room};
pub use types::{Generation, PIECE_BYTES, PieceId};
