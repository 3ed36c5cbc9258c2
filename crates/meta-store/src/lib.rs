//! Ordered tables with atomic commits: the view of the journal that reads consult.
//!
//! A store holds rows, `(table, key) -> value`, ordered by key within a table, and one [`Applied`]
//! position: how far into the journal the rows are up to date. Rows and position change together or not
//! at all. Commits are not synced; [`MetaStore::sync`] says up to which position a power cut loses
//! nothing. The store is a view, never the truth: what a power cut takes is applied again from the journal.
//!
//! Two engines, one conformance suite ([`conformance`]): [`Fjall`] on disk, described in
//! `docs/formats/meta.md`, and [`Memory`] for simulations and servers that keep nothing.
//!
//! Not here: what a row means, and when to sync.

mod batch;
pub mod conformance;
mod disk;
mod error;
mod memory;

use std::fmt;
use std::fmt::Debug;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

pub use batch::Batch;
pub use disk::Fjall;
pub use error::{MetaError, OpenError};
pub use memory::Memory;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Number of a table. Tables need no creation; one without rows takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// A position in the journal: everything below it is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Applied(pub u64);

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// In which order [`MetaStore::scan`] visits rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Keys between two bounds, compared byte by byte. A range whose end is before its start is empty.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// What a scan shows rows to, key and value; it breaks to end the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Rows in tables, changed by atomic commits. All methods may be called from any thread.
pub trait MetaStore: Debug + Send + Sync {
    /// The value of one row, as of the latest commit that returned before the call, or a later one.
    ///
    /// # Errors
    ///
    /// [`MetaError::Io`] and [`MetaError::Damaged`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, MetaError>;

    /// Shows `visit` each row of `range`, key and value, until it breaks.
    ///
    /// All rows come from one moment: a commit during the scan is not seen, also not in part. `visit` may
    /// use the store.
    ///
    /// # Errors
    ///
    /// [`MetaError::Io`] and [`MetaError::Damaged`].
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError>;

    /// Makes all changes of `batch`, and moves the applied position to `applied`, in one atomic step.
    ///
    /// Visible when it returns, but neither synced nor necessarily handed to the operating system: a
    /// crash may take the latest commits, always whole ones and from the end. An empty batch just
    /// moves the position.
    ///
    /// # Errors
    ///
    /// [`MetaError::KeyTooLong`], [`MetaError::ValueTooLong`] and [`MetaError::AppliedBack`] leave the
    /// store as it was. [`MetaError::Stopped`] is final for this handle.
    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError>;

    /// The position of the latest commit; [`Applied`]`(0)` for a new store.
    fn applied(&self) -> Applied;

    /// The rows as they are now, to be read while the store goes on. Cheap to take; what is changed or
    /// deleted meanwhile keeps its room until it is dropped.
    ///
    /// # Errors
    ///
    /// [`MetaError::Io`] and [`MetaError::Damaged`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MetaError>;

    /// Returns when every commit that returned before the call survives a power cut, with the position
    /// that this covers.
    ///
    /// # Errors
    ///
    /// [`MetaError::Stopped`], final for this handle: after a failed sync nobody knows what the disk holds.
    fn sync(&self) -> Result<Applied, MetaError>;
}

/// The rows of one moment, whatever the store became since: what [`MetaStore::snapshot`] gives.
pub trait Snapshot: Debug + Send + Sync {
    /// The position of the last commit that is in it.
    fn applied(&self) -> Applied;

    /// As [`MetaStore::scan`], of that moment.
    ///
    /// # Errors
    ///
    /// [`MetaError::Io`] and [`MetaError::Damaged`].
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError>;
}
