//! A durable log: records appended at the end, kept in segment files, trimmed at the beginning.
//!
//! A log is a directory. [`Log::append`] copies records into memory, [`Log::write_out`] hands them
//! to the operating system, [`Log::sync`] puts them on the disk; each of the three positions is
//! published. Many who wait for the disk share one sync. Records are found by [`Offset`] (their
//! number) in order, or by [`Location`] (their place) directly.
//!
//! Another process follows the log with a [`Follower`], which reads its files without a lock.
//!
//! ```
//! use durable_log::host::Host;
//! use durable_log::{Log, Options, Reached};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path();
//! let (log, _) = Log::open(&Host::real(), dir, Options::default())?;
//! let first = log.append(&[b"together", b"or not at all"])?.first;
//! assert_eq!(*log.read(first + 1)?, *b"or not at all");
//!
//! // This thread leads a sync, unless another does that will serve both.
//! log.append(&[b"durable"])?.wait_synced()?;
//!
//! // Futures, of any executor, leave it to the committer.
//! async fn write(log: &Log) -> Result<(), Box<dyn std::error::Error>> {
//!     log.append(&[b"awaited"])?.await?;
//!     Ok(())
//! }
//! let committer = log.start_committer()?;
//!
//! // Who follows the log is told without asking for a sync.
//! assert!(log.wait_for(first, Reached::Durable).wait()? >= first + 3);
//! drop(committer);
//! log.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! What holds at any time, whatever crashes:
//!
//! - Every record that was ever said to be durable is there, byte for byte, or opening is an error
//!   that names file and position.
//! - What is there is a prefix of what was appended, less what was trimmed. An append is there
//!   whole or not at all. Offsets are never reused for durable records, and with their [`Epoch`] for
//!   none at all.
//! - After a failed sync nothing is believed that the page cache says.
//!
//! The files are described in `docs/formats/log.md`, and with the code in `frame`, `segment` and
//! `marker`. Of the other modules, `tail` holds what is in memory, in chunks (`chunk`) that are
//! found and read without a lock (`ring`), `writer` brings it to files, `commit` decides who syncs
//! for whom, `committer` does what nobody leads, `wait` is for who only wants to be told, `recovery`
//! opens what was left, `before_sync` is for files that records name, `core` has the locks.
//!
//! Not here: what a record means, and any network.

mod access;
mod before_sync;
mod chunk;
mod commit;
mod committer;
mod core;
mod crc;
mod error;
mod files;
mod find;
mod follow;
mod frame;
mod index;
mod index_file;
mod inspect;
mod log;
mod low_water;
mod mapped;
mod marker;
mod mutation;
mod options;
mod position;
mod read;
mod records;
mod recovery;
mod ring;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
mod seal;
mod segment;
mod spare;
mod sync;
mod tail;
mod trim;
mod truncate;
mod wait;
mod waiters;
mod walk;
mod writer;

/// The machine below: [`host::Host::real`] is the operating system's, [`host::sim::Machine`] a simulated one.
pub use host;

pub use before_sync::BeforeSync;
pub use commit::Ticket;
pub use committer::{Committer, StartError};
pub use error::{
    AppendError, ArrivalError, FollowError, OpenError, ReadError, SyncError, TrimError,
    TruncateError, WriteError,
};
pub use follow::{Followed, Follower};
pub use inspect::{
    InspectedEntry, InspectedFrame, InspectedIndex, InspectedLowWater, InspectedMarker,
    InspectedNext, InspectedSegment, Promise, SegmentEnd, inspect, inspect_index,
    inspect_low_water, inspect_marker,
};
pub use log::{Appended, Log, Positions, SegmentInfo, Stats};
#[cfg(feature = "mutation")]
#[doc(hidden)]
pub use mutation::steps as mutation_steps;
pub use options::{Options, Reads};
pub use position::{Epoch, Landmark, Location, Offset};
pub use read::{Record, RecordRef, Slice};
pub use records::{Batch, BatchIter, Records};
pub use recovery::{Recovery, Torn};
pub use trim::Retention;
pub use wait::{Arrival, Reached, Room};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
