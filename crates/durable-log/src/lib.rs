//! A durable log: records appended at the end, kept in segment files, trimmed at the beginning.
//!
//! Not here: what a record means.

mod error;
mod log;
mod options;
mod position;

pub use error::{AppendError, OpenError, ReadError, SyncError, TrimError, WriteError};
pub use log::{
    Appended, Log, Positions, Record, Recovery, Room, SegmentInfo, Slice, Stats, Ticket, Torn,
};
pub use options::Options;
pub use position::{Location, Offset};
