//! Group commit: who syncs, and for whom.
//!
//! Whoever needs durability now and finds no sync running becomes its leader: it writes out, syncs
//! and tells everybody. Those who come while a sync runs queue up behind it, each parked by itself.
//! When the sync is over, the first of those that it did not serve is handed the lead, and exactly
//! those that it did serve are woken. A lone writer thus pays one sync, no timer and no hop; of many,
//! all that appended during one sync share the next one. Futures cannot lead: the committer does it
//! for them (`crate::committer`).
//!
//! Why not one condition variable: with 64 writers and a sync of 0.13 ms, waking everybody each time
//! took 106,000 commits a second, handing over and waking who was served 164,000.
//!
//! Invariants: leadership is with at most one thread, and never left with nobody while a thread is
//! queued. A position is published, and who waits for it taken from the queue, under one lock.
//!
//! Not here: what a sync does to files (`crate::writer`), waiting without asking for a sync
//! (`crate::wait`).

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use host::Monotonic;

use crate::committer::Duty;
use crate::core::{Core, Published, lock};
use crate::error::{Ended, SyncError, WriteError};
use crate::mutation::{self, Step, left_out};
use crate::position::Offset;
use crate::segment::{Place, Segment};
use crate::sync::{MutexGuard, current, park};
use crate::waiters::{WaiterId, Waiters, Wake, Woken};

/// How many classes of batch sizes are counted.
pub(crate) const BATCH_CLASSES: usize = 16;

/// How far the log is, and who wants it to be further.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) written: Place,
    pub(crate) durable: Place,
    /// The segment that is written to.
    pub(crate) active: Arc<Segment>,
    /// A sync of the active segment failed, and it was not replaced yet.
    pub(crate) suspect: bool,
    /// The first reason that was final.
    pub(crate) ended: Option<Ended>,
    leader: Leader,
    /// No committer runs any more, and nobody waits for what may never come.
    pub(crate) stopped: bool,
    pub(crate) committer: Duty,
    /// The committer is to make the next segment's file.
    pub(crate) spare_wanted: bool,
    /// Highest offset that a future waits for.
    pub(crate) demand: Offset,
    /// How often a sync found no room; who waits across one gives up.
    no_space: u64,
    /// When the oldest byte that is not durable was appended, roughly.
    pub(crate) unsynced_since: Option<Monotonic>,
    /// When the committer last had no luck.
    pub(crate) backed_off_at: Option<Monotonic>,
    pub(crate) last_sync: Monotonic,
    /// Threads that wait for a sync and can lead one.
    followers: Waiters,
    /// Those who wait for the durable position and cannot lead.
    pub(crate) for_durable: Waiters,
    pub(crate) for_written: Waiters,
    pub(crate) for_room: Waiters,
    pub(crate) counts: Counts,
}

/// What the statistics say of syncs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) waits: u64,
    pub(crate) records_per_sync: [u64; BATCH_CLASSES],
}

impl Counts {
    fn add_sync(&mut self, records: u64) {
        self.syncs += 1;
        if let Some(class) = records.checked_ilog2() {
            let class = usize::try_from(class).unwrap_or(usize::MAX);
            self.records_per_sync[class.min(BATCH_CLASSES - 1)] += 1;
        }
    }
}

/// Who syncs for all who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    Nobody,
    /// A thread that is at it.
    Leads,
    /// A thread that was queued, and is being woken for it.
    Handed(WaiterId),
}

impl Progress {
    pub(crate) fn new(end: Place, active: Arc<Segment>, now: Monotonic) -> Self {
        Self {
            written: end,
            durable: end,
            active,
            suspect: false,
            ended: None,
            leader: Leader::Nobody,
            stopped: false,
            committer: Duty::default(),
            spare_wanted: false,
            demand: end.offset,
            no_space: 0,
            unsynced_since: None,
            backed_off_at: None,
            last_sync: now,
            followers: Waiters::default(),
            for_durable: Waiters::default(),
            for_written: Waiters::default(),
            for_room: Waiters::default(),
            counts: Counts::default(),
        }
    }

    /// Takes out all who wait for anything but appends.
    pub(crate) fn take_all(&mut self, woken: &mut Woken) {
        self.followers.take_all(woken);
        self.for_durable.take_all(woken);
        self.for_written.take_all(woken);
        self.for_room.take_all(woken);
    }

    /// The error of everything that is refused, if it is.
    pub(crate) fn check_alive<E: From<Ended>>(&self) -> Result<(), E> {
        self.ended.clone().map_or(Ok(()), |why| Err(why.into()))
    }
}

/// A sync failed; what the file holds is unknown. Or the log has failed: then these are to be woken.
#[derive(Debug)]
pub(crate) struct Suspect(pub(crate) Woken);

/// Up to where somebody waits.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// The location counts; the offset is not above it.
    At(Place),
    Offset(Offset),
}

impl Until {
    fn is_met(self, durable: Place, published: &Published) -> bool {
        match self {
            Self::At(place) => durable.at >= place.at && !published.is_replaced(),
            Self::Offset(offset) => published.standing(durable.offset) >= offset,
        }
    }

    fn offset(self) -> Offset {
        match self {
            Self::At(place) => place.offset,
            Self::Offset(offset) => offset,
        }
    }
}

/// What one who needs a sync has to do.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Done,
    Lead,
}

impl Core {
    /// Makes everything that is appended now durable.
    pub(crate) fn sync_all(&self) -> Result<Offset, SyncError> {
        let end = self.published.appended_place();
        self.sync_until(Until::At(end), self.published.no_space())?;
        // Not what was read above: the offset of an append that was just being made may be ahead of its place.
        Ok(self.published.durable())
    }

    /// Returns when `until` is durable, or when it is known not to be: after a failure, or after a
    /// sync found no room since `no_space` was read.
    fn sync_until(&self, until: Until, no_space: u64) -> Result<(), SyncError> {
        loop {
            match self.queue(until, no_space)? {
                Turn::Done => return Ok(()),
                Turn::Lead => {
                    let result = self.lead();
                    if !until.is_met(self.published.durable_place(), &self.published) {
                        result?;
                    }
                }
            }
        }
    }

    /// Waits until `until` is durable or this thread has to lead.
    fn queue(&self, until: Until, no_space: u64) -> Result<Turn, SyncError> {
        let mut progress = self.progress();
        loop {
            if until.is_met(progress.durable, &self.published) {
                return Ok(Turn::Done);
            }
            progress.check_alive::<SyncError>()?;
            if progress.no_space != no_space {
                return Err(SyncError::NoSpace);
            }
            if progress.leader == Leader::Nobody {
                progress.leader = Leader::Leads;
                return Ok(Turn::Lead);
            }
            let id = progress.followers.add(until.offset(), Wake::Thread(current()));
            progress.counts.waits += 1;
            drop(progress);
            progress = match self.follow(until, id) {
                Some(progress) => progress,
                None => return Ok(Turn::Done),
            };
            if progress.leader == Leader::Handed(id) {
                progress.leader = Leader::Leads;
                return Ok(Turn::Lead);
            }
        }
    }

    /// Parks until this follower is no longer queued; `None` when it was served.
    fn follow(&self, until: Until, id: WaiterId) -> Option<MutexGuard<'_, Progress>> {
        loop {
            park();
            // In this order: it was handed the lead before the position was published, or never.
            let served = until.is_met(self.published.durable_place(), &self.published);
            if served && self.published.handed() != id.get() {
                return None;
            }
            let progress = self.progress();
            if !progress.followers.holds(until.offset(), id) {
                return Some(progress);
            }
        }
    }

    /// Syncs for all who wait, and hands the lead over.
    fn lead(&self) -> Result<(), SyncError> {
        let mut woken = Woken::default();
        let result = self.sync_once(&mut woken);
        // The next sync begins before those whom this one served go on.
        self.hand_over();
        drop(woken);
        result
    }

    fn hand_over(&self) {
        let mut next = Woken::default();
        let mut progress = self.progress();
        progress.leader = match progress.followers.take_first() {
            Some((id, wake)) => {
                self.published.set_handed(id.get());
                next.add(wake);
                Leader::Handed(id)
            }
            None => Leader::Nobody,
        };
        drop(progress);
        drop(next);
    }

    /// One round: writes out and syncs what was appended by then. Tasks are woken when `woken` is dropped, with
    /// the lead handed over: one that runs at once, in this thread, may want a sync.
    fn sync_once(&self, woken: &mut Woken) -> Result<(), SyncError> {
        let wrote = self.write_out_quietly(woken);
        woken.wake_threads();
        let suspect = {
            let sync = lock(&self.sync);
            let synced = self.sync_written(&sync);
            let is_suspect = synced.is_err();
            woken.append(synced.unwrap_or_else(|Suspect(told)| told));
            is_suspect
        };
        if suspect {
            let mut writer = self.writer();
            let sync = lock(&self.sync);
            let rescued = self.rescue(&mut writer, &sync);
            woken.append(mem::take(&mut writer.woken));
            rescued?;
        }
        match wrote {
            Ok(_) => Ok(()),
            Err(WriteError::NoSpace) => {
                self.tell_no_space(woken);
                Err(SyncError::NoSpace)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Syncs what the active segment holds. Everything in older segments is durable already.
    pub(crate) fn sync_written(&self, _sync: &MutexGuard<'_, ()>) -> Result<Woken, Suspect> {
        let (active, written) = {
            let progress = self.progress();
            if progress.suspect || progress.ended.is_some() {
                return Err(Suspect(Woken::default()));
            }
            if progress.durable.at >= progress.written.at {
                return Ok(Woken::default());
            }
            (Arc::clone(&progress.active), progress.written)
        };
        let mut woken = Woken::default();
        // After the place was taken: what those records need was told before they were appended.
        if !left_out(Step::AskBeforeSync)
            && self.ask_before_sync(written.offset, &mut woken).is_err()
        {
            return Err(Suspect(woken));
        }
        let file = active.file();
        match file.and_then(|file| mutation::sync_data(Step::SyncCommit, &*file)) {
            Ok(()) => Ok(self.publish_durable(written)),
            Err(error) => {
                self.note_failed_sync(&active, &error);
                Err(Suspect(woken))
            }
        }
    }

    fn note_failed_sync(&self, active: &Segment, error: &io::Error) {
        tracing::error!(segment = %active.path.display(), %error, "a sync of the log failed");
        let mut progress = self.progress();
        progress.suspect = !left_out(Step::SuspectAfterFailedSync);
        progress.counts.failed_syncs += 1;
        active.set_suspect();
    }

    /// Says that the log is durable up to `end`; who waited for that is woken when the result is
    /// dropped.
    pub(crate) fn publish_durable(&self, end: Place) -> Woken {
        let now = self.host.clock.monotonic();
        let mut woken = Woken::default();
        let mut progress = self.progress();
        let records = end.offset - progress.durable.offset;
        progress.counts.add_sync(records);
        progress.durable = end;
        progress.last_sync = now;
        self.published.set_durable(end);
        let (unsynced, unsynced_records) = {
            let mut tail = self.tail();
            (tail.set_durable(end.at), tail.next().offset - end.offset)
        };
        progress.unsynced_since = (unsynced > 0).then_some(now);
        self.poke(&progress, self.is_far_ahead(unsynced, unsynced_records));
        progress.followers.take_reached(end.offset, &mut woken);
        progress.for_durable.take_reached(end.offset, &mut woken);
        if self.has_room() {
            progress.for_room.take_all(&mut woken);
        }
        woken
    }

    fn tell_no_space(&self, woken: &mut Woken) {
        let mut progress = self.progress();
        progress.no_space += 1;
        self.published.set_no_space(progress.no_space);
        progress.take_all(woken);
    }
}

/// Becomes ready when the log is durable up to a place; see [`crate::Log::ticket`].
#[must_use = "a ticket tells nothing until it is awaited or waited for"]
pub struct Ticket {
    core: Arc<Core>,
    up_to: Offset,
    /// How often there had been no room when the ticket was made.
    no_space: u64,
    registered: Option<WaiterId>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("up_to", &self.up_to).finish_non_exhaustive()
    }
}

impl Ticket {
    pub(crate) fn new(core: Arc<Core>, up_to: Offset) -> Self {
        let up_to = up_to.min(core.published.appended());
        let no_space = core.published.no_space();
        Self { core, up_to, no_space, registered: None }
    }

    /// Waits in this thread, which leads the sync if nobody does.
    pub fn wait(self) -> Result<(), SyncError> {
        self.core.wait_synced(self.up_to, self.no_space)
    }

    /// The answer, if there is one.
    fn answer(&self, progress: &Progress) -> Option<Result<(), SyncError>> {
        if self.core.is_durable(self.up_to) {
            return Some(Ok(()));
        }
        if let Err(error) = progress.check_alive() {
            return Some(Err(error));
        }
        (progress.no_space != self.no_space).then_some(Err(SyncError::NoSpace))
    }
}

impl Core {
    /// Whether everything below `up_to` is durable, and was not cut off.
    fn is_durable(&self, up_to: Offset) -> bool {
        self.published.standing(self.published.durable()) >= up_to
    }

    /// Returns when everything below `up_to`, which must be appended, is durable.
    pub(crate) fn wait_synced(&self, up_to: Offset, no_space: u64) -> Result<(), SyncError> {
        if self.is_durable(up_to) {
            return Ok(());
        }
        self.sync_until(Until::Offset(up_to), no_space)
    }
}

impl Future for Ticket {
    type Output = Result<(), SyncError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.core.is_durable(self.up_to) {
            return Poll::Ready(Ok(()));
        }
        let core = Arc::clone(&self.core);
        // Dropped after the lock is.
        let _replaced;
        let mut progress = core.progress();
        if let Some(answer) = self.answer(&progress) {
            return Poll::Ready(answer);
        }
        if !progress.committer.runs() {
            drop(progress);
            return Poll::Ready(core.wait_synced(self.up_to, self.no_space));
        }
        let wake = Wake::Task(context.waker().clone());
        match self.registered {
            Some(id) => _replaced = progress.for_durable.renew(self.up_to, id, wake),
            None => {
                self.registered = Some(progress.for_durable.add(self.up_to, wake));
                progress.counts.waits += 1;
            }
        }
        progress.demand = progress.demand.max(self.up_to);
        core.poke(&progress, true);
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.registered {
            let removed = self.core.progress().for_durable.remove(self.up_to, id);
            drop(removed);
        }
    }
}
