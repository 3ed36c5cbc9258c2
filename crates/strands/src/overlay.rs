//! Rows that the meta store does not have yet.
//!
//! The meta store is a view of what is durable in the journal, so rows of newer commits live here first,
//! and every read looks here first. The applier moves them over once their commit is durable.
//!
//! Invariant: an entry leaves only after the meta store holds it (or a newer version of it), so a reader
//! that looks here first and there second never misses a row.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::types::{Order, Position, Table};

/// One change of a row; no value means that the row was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowChange {
    pub(crate) table: Table,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// The newest state of a row and the commit that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) at: Position,
    pub(crate) value: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Overlay {
    newest: BTreeMap<(Table, Bytes), Version>,
    /// Changes in commit order, for the applier.
    waiting: VecDeque<(Position, RowChange)>,
    /// Memory of `waiting` and `newest`, roughly.
    bytes: usize,
}

impl Overlay {
    /// Adds the changes of the commit at `at`. Commits come in order.
    pub(crate) fn push(&mut self, at: Position, change: RowChange) {
        debug_assert!(self.waiting.back().is_none_or(|(last, _)| *last <= at));
        self.bytes += weight(&change);
        let version = Version { at, value: change.value.clone() };
        self.newest.insert((change.table, change.key.clone()), version);
        self.waiting.push_back((at, change));
    }

    /// The newest version of a row, if it is here.
    pub(crate) fn find(&self, table: Table, key: &[u8]) -> Option<&Version> {
        // A lookup by borrowed parts would need a key type of its own; a static-free copy of a short
        // key is cheaper than that.
        self.newest.get(&(table, Bytes::copy_from_slice(key)))
    }

    /// Rows in `range` in `order`, until `limit` of them exist (deleted ones are listed but not
    /// counted). The flag says whether the range was walked to its end.
    pub(crate) fn range(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> (Vec<(Bytes, Version)>, bool) {
        let start = match range.0 {
            Bound::Unbounded => Bound::Included((table, Bytes::new())),
            Bound::Included(key) => Bound::Included((table, Bytes::copy_from_slice(key))),
            Bound::Excluded(key) => Bound::Excluded((table, Bytes::copy_from_slice(key))),
        };
        let end = match range.1 {
            Bound::Unbounded => match table.0.checked_add(1) {
                Some(next) => Bound::Excluded((Table(next), Bytes::new())),
                None => Bound::Unbounded,
            },
            Bound::Included(key) => Bound::Included((table, Bytes::copy_from_slice(key))),
            Bound::Excluded(key) => Bound::Excluded((table, Bytes::copy_from_slice(key))),
        };
        if is_empty_range(&start, &end) {
            return (Vec::new(), true);
        }
        let walk = self.newest.range((start, end));
        match order {
            Order::Ascending => take(walk, limit),
            Order::Descending => take(walk.rev(), limit),
        }
    }

    /// Changes of commits before `durable`, oldest first, at most `max` of them, whole commits only.
    pub(crate) fn ready(&self, durable: Position, max: usize) -> Vec<(Position, RowChange)> {
        let mut ready = Vec::new();
        for (at, change) in &self.waiting {
            let new_commit = ready.last().is_none_or(|(last, _)| last != at);
            if *at >= durable || (new_commit && ready.len() >= max) {
                break;
            }
            ready.push((*at, change.clone()));
        }
        ready
    }

    /// Drops the first `count` waiting changes, which the meta store now holds.
    pub(crate) fn applied(&mut self, count: usize) {
        for (at, change) in self.waiting.drain(..count) {
            self.bytes -= weight(&change);
            let key = (change.table, change.key);
            if self.newest.get(&key).is_some_and(|version| version.at <= at) {
                self.newest.remove(&key);
            }
        }
    }

    /// Memory that the waiting rows take, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn weight(change: &RowChange) -> usize {
    CHANGE_BYTES + change.key.len() + change.value.as_ref().map_or(0, Bytes::len)
}

/// What a change takes besides its key and value: an entry of the queue and one of the tree.
const CHANGE_BYTES: usize = 256;

fn take<'a>(
    walk: impl Iterator<Item = (&'a (Table, Bytes), &'a Version)>,
    limit: usize,
) -> (Vec<(Bytes, Version)>, bool) {
    let mut found = Vec::new();
    let mut live = 0;
    for ((_, key), version) in walk {
        if live == limit {
            return (found, false);
        }
        live += usize::from(version.value.is_some());
        found.push((key.clone(), version.clone()));
    }
    (found, true)
}

/// `BTreeMap::range` panics on a range that is upside down; such a range holds nothing.
fn is_empty_range<K: Ord>(start: &Bound<K>, end: &Bound<K>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}
