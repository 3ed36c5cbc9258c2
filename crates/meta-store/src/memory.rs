//! The store in memory: for simulations, tests, and servers that keep nothing.
//!
//! It keeps two images: what readers see, and what the last [`MetaStore::sync`] covered, together with
//! the commits since then in order. [`Memory::after_crash`] is what a power cut would leave.
//!
//! Tables are shared copy-on-write maps, so that a scan walks one moment without holding a lock.

mod short;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{Applied, Batch, KeyRange, MetaError, MetaStore, Order, Snapshot, Table, Visit};

use short::Short;

/// Keys and values that are as short as most lie in the map itself.
type Rows = BTreeMap<Short<30>, Short<62>>;

/// A store that lives as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Image,
    durable: Image,
    unsynced: Vec<(Batch, Applied)>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    tables: BTreeMap<Table, Arc<Rows>>,
    applied: Applied,
}

impl Image {
    fn apply(&mut self, batch: &Batch, applied: Applied) {
        for (table, key, value) in batch.changes() {
            let rows = Arc::make_mut(self.tables.entry(table).or_default());
            match value {
                Some(value) => rows.insert(Short::new(key), Short::new(value)),
                None => rows.remove(&key[..]),
            };
        }
        self.applied = applied;
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commits a power cut could take.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// The store as a power cut would leave it if the first `kept` of the unsynced commits had reached
    /// the disk by chance. This one goes on as it is.
    pub fn after_crash(&self, kept: usize) -> Self {
        let state = self.state();
        let mut image = state.durable.clone();
        for (batch, applied) in state.unsynced.iter().take(kept) {
            image.apply(batch, *applied);
        }
        Self {
            state: Mutex::new(State { live: image.clone(), durable: image, unsynced: Vec::new() }),
        }
    }

    /// No caller's code runs under the lock, so a poisoned one still guards whole commits.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetaStore for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        Ok(self.state().live.tables.get(&table).and_then(|rows| rows.get(key)).map(Short::to_bytes))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        let Some(rows) = self.state().live.tables.get(&table).cloned() else { return Ok(()) };
        show(&rows, range, order, visit);
        Ok(())
    }

    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError> {
        let mut state = self.state();
        batch.check(state.live.applied, applied)?;
        state.live.apply(batch, applied);
        state.unsynced.push((batch.clone(), applied));
        Ok(())
    }

    fn applied(&self) -> Applied {
        self.state().live.applied
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MetaError> {
        Ok(Box::new(self.state().live.clone()))
    }

    fn sync(&self) -> Result<Applied, MetaError> {
        let mut state = self.state();
        state.unsynced.clear();
        state.durable = state.live.clone();
        Ok(state.live.applied)
    }
}

impl Snapshot for Image {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        if let Some(rows) = self.tables.get(&table) {
            show(rows, range, order, visit);
        }
        Ok(())
    }
}

fn show(rows: &Rows, range: KeyRange<'_>, order: Order, visit: &mut Visit<'_>) {
    if is_empty(range) {
        return;
    }
    let mut show = |(key, value): (&Short<30>, &Short<62>)| visit(key.as_slice(), value.as_slice());
    let _stopped = match order {
        Order::Ascending => rows.range::<[u8], _>(range).try_for_each(&mut show),
        Order::Descending => rows.range::<[u8], _>(range).rev().try_for_each(&mut show),
    };
}

/// Whether no key can lie in `range`. Maps refuse such ranges, so they are answered before.
pub(crate) fn is_empty((start, end): KeyRange<'_>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: memory behaves as every store does, and its crash takes unsynced commits from the end only.

    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::check_all(&|| Box::new(Memory::new()));
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let store = Memory::new();
        for n in 1..=4u8 {
            store.commit(Batch::new().put(Table(1), vec![n], vec![n]), Applied(n.into())).unwrap();
            if n == 2 {
                assert_eq!(store.sync().unwrap(), Applied(2));
            }
        }
        assert_eq!(store.unsynced(), 2);
        for kept in 0..=2u8 {
            let crashed = store.after_crash(kept.into());
            assert_eq!(crashed.applied(), Applied(2 + u64::from(kept)));
            for n in 1..=4 {
                assert_eq!(crashed.get(Table(1), &[n]).unwrap().is_some(), n <= 2 + kept);
            }
        }
        assert_eq!(store.applied(), Applied(4));
    }
}
