//! A set of changes that become visible together.
//!
//! Invariant: at most one change per row, the last one asked for, so that an engine may apply them in
//! any order.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Applied, KEY_BYTES_MAX, MetaError, Table, VALUE_BYTES_MAX};

/// Changes for [`crate::MetaStore::commit`]. A later change of a row replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<(Table, Bytes), Option<Bytes>>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row's value.
    pub fn put(
        &mut self,
        table: Table,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> &mut Self {
        self.changes.insert((table, key.into()), Some(value.into()));
        self
    }

    /// Removes a row; one that does not exist is no error.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) -> &mut Self {
        self.changes.insert((table, key.into()), None);
        self
    }

    /// How many rows it changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in order of table and key; `None` removes the row.
    pub fn changes(&self) -> impl Iterator<Item = (Table, &Bytes, Option<&Bytes>)> {
        self.changes.iter().map(|((table, key), value)| (*table, key, value.as_ref()))
    }

    /// What every engine checks before it changes anything.
    pub(crate) fn check(&self, current: Applied, given: Applied) -> Result<(), MetaError> {
        if given < current {
            return Err(MetaError::AppliedBack { current, given });
        }
        for (_, key, value) in self.changes() {
            if key.len() > KEY_BYTES_MAX {
                return Err(MetaError::KeyTooLong { size: key.len(), limit: KEY_BYTES_MAX });
            }
            let size = value.map_or(0, Bytes::len);
            if size > VALUE_BYTES_MAX {
                return Err(MetaError::ValueTooLong { size, limit: VALUE_BYTES_MAX });
            }
        }
        Ok(())
    }
}
