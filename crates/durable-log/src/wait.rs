//! Waiting without asking for a sync: for a record to arrive, and for room to append.
//!
//! Not here: waiting for a sync (`crate::commit`).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::Core;
use crate::error::{AppendError, ArrivalError};
use crate::position::Offset;
use crate::sync::{current, park, park_timeout};
use crate::waiters::{WaiterId, Waiters, Wake};

/// How far a record has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// In memory: it can be read.
    Appended,
    /// Handed to the operating system: it survives the process.
    Written,
    /// Synced: it survives the power.
    Durable,
}

/// Becomes ready when a record has come so far; see [`crate::Log::wait_for`].
///
/// Asks for nothing: somebody else has to append, write out or sync.
#[must_use = "an arrival tells nothing until it is awaited or waited for"]
pub struct Arrival {
    core: Arc<Core>,
    offset: Offset,
    reached: Reached,
    registered: Option<WaiterId>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("offset", &self.offset)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

impl Arrival {
    pub(crate) fn new(core: Arc<Core>, offset: Offset, reached: Reached) -> Self {
        Self { core, offset, reached, registered: None }
    }

    /// Waits in this thread; returns how far the log is then: past the record.
    pub fn wait(mut self) -> Result<Offset, ArrivalError> {
        loop {
            match self.look(|| Wake::Thread(current())) {
                Some(answer) => return answer,
                None => park(),
            }
        }
    }

    /// [`Arrival::wait`], but no longer than `limit`. After [`ArrivalError::TimedOut`] it can be
    /// waited for again.
    pub fn wait_at_most(&mut self, limit: Duration) -> Result<Offset, ArrivalError> {
        let clock = Arc::clone(&self.core.host.clock);
        let end = clock.monotonic() + limit;
        loop {
            if let Some(answer) = self.look(|| Wake::Thread(current())) {
                return answer;
            }
            let rest = end.since(clock.monotonic());
            if rest.is_zero() {
                return Err(ArrivalError::TimedOut);
            }
            park_timeout(rest);
        }
    }

    fn position(&self) -> Offset {
        let published = &self.core.published;
        published.standing(match self.reached {
            Reached::Appended => published.appended(),
            Reached::Written => published.written(),
            Reached::Durable => published.durable(),
        })
    }

    /// The offset that the position must reach: one past the record.
    fn until(&self) -> Offset {
        Offset::new(self.offset.get().saturating_add(1))
    }

    fn answer(&self) -> Option<Offset> {
        Some(self.position()).filter(|position| *position >= self.until())
    }

    /// The answer, if there is one; otherwise `wake` is kept to be told.
    fn look(&mut self, wake: impl FnOnce() -> Wake) -> Option<Result<Offset, ArrivalError>> {
        if let Some(position) = self.answer() {
            return Some(Ok(position));
        }
        let core = Arc::clone(&self.core);
        // Dropped after the locks are.
        let _replaced;
        let mut progress = core.progress();
        let mut tail = core.tail();
        // Nothing is appended while the tail is locked, and nothing else goes on without `progress`.
        if let Some(position) = self.answer() {
            return Some(Ok(position));
        }
        if let Err(error) = progress.check_alive() {
            return Some(Err(error));
        }
        let closed = matches!(tail.refusal, Some(AppendError::Closed));
        if progress.stopped || (closed && self.until() > tail.next().offset) {
            return Some(Err(ArrivalError::Ended));
        }
        progress.counts.waits += u64::from(self.registered.is_none());
        let waiters = match self.reached {
            Reached::Appended => &mut tail.waiters,
            Reached::Written => &mut progress.for_written,
            Reached::Durable => &mut progress.for_durable,
        };
        let (until, registered) = (self.until(), &mut self.registered);
        _replaced = register(waiters, until, registered, wake());
        None
    }
}

/// Adds one who waits, or changes how it is woken. The result is to be dropped with no lock held.
#[must_use = "a waker is not dropped under a lock"]
fn register(
    waiters: &mut Waiters,
    offset: Offset,
    id: &mut Option<WaiterId>,
    wake: Wake,
) -> Option<Wake> {
    match id {
        Some(id) => waiters.renew(offset, *id, wake),
        None => {
            *id = Some(waiters.add(offset, wake));
            None
        }
    }
}

impl Future for Arrival {
    type Output = Result<Offset, ArrivalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.look(|| Wake::Task(context.waker().clone())).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let Some(id) = self.registered else { return };
        let (core, until) = (&*self.core, self.until());
        // Each lock is let go before the result is dropped.
        let removed = match self.reached {
            Reached::Appended => {
                let mut tail = core.tail();
                tail.waiters.remove(until, id)
            }
            Reached::Written => {
                let mut progress = core.progress();
                progress.for_written.remove(until, id)
            }
            Reached::Durable => {
                let mut progress = core.progress();
                progress.for_durable.remove(until, id)
            }
        };
        drop(removed);
    }
}

impl Core {
    /// Whether a writer may go on: there is room, or the append will say why not.
    pub(crate) fn has_room(&self) -> bool {
        self.published.unsynced_bytes() < self.options.unsynced_bytes_max || self.refuses()
    }

    fn refuses(&self) -> bool {
        let tail = self.tail();
        tail.refusal.is_some() || tail.stuck
    }
}

/// Ready when a writer may go on; see [`crate::Log::room`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Room {
    core: Arc<Core>,
    registered: Option<WaiterId>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

impl Room {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, registered: None }
    }

    /// Waits in this thread.
    pub(crate) fn wait(mut self) {
        while !self.look(|| Wake::Thread(current())) {
            park();
        }
    }

    /// Whether there is room; otherwise `wake` is kept to be told.
    fn look(&mut self, wake: impl FnOnce() -> Wake) -> bool {
        if self.core.has_room() {
            return true;
        }
        let core = Arc::clone(&self.core);
        // Dropped after the lock is.
        let _replaced;
        let mut progress = core.progress();
        if core.has_room() {
            return true;
        }
        if !progress.committer.runs() {
            drop(progress);
            // An error shows in the append that follows.
            if let Err(error) = core.sync_all() {
                tracing::debug!(%error, "no room");
            }
            return true;
        }
        progress.counts.waits += u64::from(self.registered.is_none());
        let waiters = &mut progress.for_room;
        _replaced = register(waiters, Offset::ZERO, &mut self.registered, wake());
        core.poke(&progress, true);
        false
    }
}

impl Future for Room {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.look(|| Wake::Task(context.waker().clone())) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(id) = self.registered {
            let removed = self.core.progress().for_room.remove(Offset::ZERO, id);
            drop(removed);
        }
    }
}
