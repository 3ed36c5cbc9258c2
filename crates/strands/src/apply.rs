//! The applier: moves rows of durable commits from the overlay into the meta store.
//!
//! Invariant: a batch reaches the meta store only when every commit in it is durable in the journal, and
//! batches reach it in commit order, each with the position that it completes. So the view never outruns
//! the log, and what it lacks is always a suffix.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use durable_log::Reached;
use meta_store::{Applied, Batch, MetaError};

use crate::shared::{Shared, lock, stamped};
use crate::types::Position;

impl Shared {
    /// Body of the applier's thread: runs until the journal stops or fails.
    pub(crate) fn run_applier(&self) {
        // What became durable before this thread ran has to be told and applied as well.
        let mut seen = self.log.positions().durable;
        loop {
            self.durable.send_replace(Some(Position::of(seen)));
            self.apply_at_last(Position::of(seen));
            match self.log.wait_for(seen, Reached::Durable).wait() {
                Ok(durable) => seen = durable,
                Err(_) => break,
            }
        }
        self.durable.send_replace(None);
        self.progress.notify_waiters();
    }

    /// [`Shared::apply`], again and again until it succeeds or the server stops.
    fn apply_at_last(&self, durable: Position) {
        while let Err(error) = self.apply(durable) {
            tracing::error!(%error, "the meta store refuses rows; trying again");
            *lock(&self.view_error) = Some(error.to_string());
            self.progress.notify_waiters();
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            self.pause(RETRY);
        }
        *lock(&self.view_error) = None;
    }

    /// Brings the rows of all commits before `durable`, which must be durable, into the meta store.
    pub(crate) fn apply(&self, durable: Position) -> Result<(), MetaError> {
        self.apply_in_order(&lock(&self.applying), durable)
    }

    /// The same for who holds the lock already.
    pub(crate) fn apply_in_order(
        &self,
        _in_order: &MutexGuard<'_, ()>,
        durable: Position,
    ) -> Result<(), MetaError> {
        loop {
            let ready = self.read_state().overlay.ready(durable, BATCH_ROWS);
            let Some((last, _)) = ready.last() else { return Ok(()) };
            let applied = Applied(last.get() + 1);
            // Only the last change of each row: a batch has no order within itself.
            let newest: BTreeMap<_, _> = ready
                .iter()
                .map(|(at, change)| ((change.table, &change.key), (*at, &change.value)))
                .collect();
            let mut batch = Batch::new();
            for ((table, key), (at, value)) in newest {
                let table = meta_store::Table(table.0);
                match value {
                    Some(value) => batch.put(table, key.clone(), stamped(at, value)),
                    None => batch.delete(table, key.clone()),
                };
            }
            self.meta.commit(&batch, applied)?;
            self.write_state().overlay.applied(ready.len());
            self.progress.notify_waiters();
        }
    }

    /// Makes the meta store durable up to `position`, which must be durable in the journal.
    pub(crate) fn settle_view(&self, position: Position) -> Result<(), MetaError> {
        self.apply(position)?;
        {
            let _in_order = lock(&self.applying);
            if self.meta.applied().0 < position.get() {
                self.meta.commit(&Batch::new(), Applied(position.get()))?;
            }
        }
        self.meta.sync().map(|_| ())
    }

    /// Waits, but not when the server stops.
    pub(crate) fn pause(&self, wait: Duration) {
        let goes_on = |_: &mut bool| !self.stopping.load(Ordering::Acquire);
        drop(self.pack_wake.wait_timeout_while(lock(&self.pack_wanted), wait, goes_on));
    }
}

/// Rows in one batch, so that a batch stays small in memory.
const BATCH_ROWS: usize = 4096;
/// Between tries when the meta store refuses, as on a full disk.
const RETRY: Duration = Duration::from_millis(500);
