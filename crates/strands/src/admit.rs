//! Admission: who may commit now, who waits, and who is refused.
//!
//! Waiting happens here, before any lock is taken, so that a commit itself never blocks for room.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::error::CommitError;
use crate::shared::{DiskRoom, Shared, lock};

/// A limit that new commits wait for.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// Packing makes room.
    Journal,
    /// The applier makes room.
    Overlay,
}

impl Shared {
    /// Waits until a commit with this much payload may go ahead.
    ///
    /// Payload is refused below the disk's reserve; a commit without payload (a delete) is not.
    pub(crate) async fn admit(&self, payload_bytes: usize) -> Result<(), CommitError> {
        if payload_bytes > 0 && !self.disk_has_room(payload_bytes as u64) {
            return Err(CommitError::NoSpace);
        }
        let mut since = None;
        loop {
            let mut moved = pin!(self.progress.notified());
            moved.as_mut().enable();
            if self.stopping.load(Ordering::Acquire) {
                return Err(CommitError::Failed("the server is stopping".to_owned()));
            }
            let Some(over) = self.over_limits() else { break };
            match self.hopeless(over) {
                // Deletes are how room is made.
                Some(CommitError::NoSpace) if payload_bytes == 0 => break,
                Some(error) => return Err(error),
                None if payload_bytes == 0 && self.is_within_reserve(over) => break,
                None => {}
            }
            let now = self.host.clock.monotonic();
            let waited = now.since(*since.get_or_insert(now));
            if waited >= self.options.admit_patience {
                return Err(CommitError::Overloaded { waited, why: self.trouble(over) });
            }
            // The packer tells at least once a second, whatever comes of its tries.
            moved.await;
        }
        if !self.log.has_room() {
            self.log.room().await;
        }
        Ok(())
    }

    /// Which limit is passed, if one is. Asks for packing where that helps.
    fn over_limits(&self) -> Option<Over> {
        let journal_bytes = self.log.stats().segment_bytes;
        if journal_bytes >= self.options.pack_after_bytes {
            self.want_packing();
        }
        let state = self.read_state();
        let is_journal_full = journal_bytes > self.options.journal_bytes_max
            || state.pieces.count() > self.options.journal_pieces_max;
        if is_journal_full {
            self.want_packing();
            return Some(Over::Journal);
        }
        (state.overlay.bytes() > self.options.overlay_bytes_max).then_some(Over::Overlay)
    }

    /// Whether the journal still has the room that is kept for changes without payload, so that they do not
    /// wait behind bulk data.
    fn is_within_reserve(&self, over: Over) -> bool {
        let max = self.options.journal_bytes_max;
        match over {
            Over::Journal => self.log.stats().segment_bytes <= max.saturating_add(max / 4),
            Over::Overlay => false,
        }
    }

    /// Why there is no use in waiting until a limit is kept again.
    fn hopeless(&self, over: Over) -> Option<CommitError> {
        if self.log.has_failed() {
            return Some(CommitError::Failed("the journal failed".to_owned()));
        }
        match over {
            Over::Journal => lock(&self.pack_stats)
                .last_error
                .as_ref()
                .and_then(|trouble| trouble.answer.clone()),
            Over::Overlay => lock(&self.view_error).clone().map(CommitError::Failed),
        }
    }

    /// What there is too much of, for people.
    fn trouble(&self, over: Over) -> String {
        match over {
            Over::Journal => match &lock(&self.pack_stats).last_error {
                Some(trouble) => format!("the journal is full ({})", trouble.why),
                None => "the journal is full and packing is behind".to_owned(),
            },
            Over::Overlay => "the meta store is behind".to_owned(),
        }
    }

    /// Whether the disk has room above its reserve for this payload and what is on its way.
    fn disk_has_room(&self, payload_bytes: u64) -> bool {
        let mut room = lock(&self.disk_room);
        let taken = room.reserve_bytes.saturating_add(room.admitted_bytes);
        let left = room.available_bytes.saturating_sub(taken);
        if left < LOOK_AGAIN_BYTES || room.admitted_bytes >= LOOK_AGAIN_BYTES {
            match self.look_at_disk() {
                Ok(seen) => *room = seen,
                // A disk that cannot be asked is left to say so when it is written to.
                Err(error) => tracing::warn!(%error, "the disk's free space cannot be read"),
            }
        }
        let taken = room.reserve_bytes.saturating_add(room.admitted_bytes);
        if room.available_bytes < taken.saturating_add(payload_bytes) {
            return false;
        }
        room.admitted_bytes += payload_bytes;
        true
    }

    fn look_at_disk(&self) -> io::Result<DiskRoom> {
        let space = self.host.disk.space(&self.dir)?;
        Ok(DiskRoom {
            available_bytes: space.available_bytes,
            reserve_bytes: self.options.reserve_on(space.total_bytes),
            admitted_bytes: 0,
        })
    }

    /// Whether packing should go in small steps, because the disk is nearly full.
    pub(crate) fn is_disk_low(&self) -> bool {
        self.look_at_disk().is_ok_and(|room| room.available_bytes / 2 < room.reserve_bytes)
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Payload after which the disk is asked again how much room it has.
const LOOK_AGAIN_BYTES: u64 = 4 << 20;
