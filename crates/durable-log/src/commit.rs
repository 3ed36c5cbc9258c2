//! Group commit: who syncs, who waits, who is told.
//!
//! Whoever needs durability now and finds no sync running becomes its leader: it writes out, syncs
//! and tells everybody. Those who come while a sync runs wait, and one of them leads the next for
//! all. A lone writer thus pays one sync, no timer and no hop. Futures cannot lead; the committer
//! thread does it for them, and syncs in the background what nobody waits for.
//!
//! Not here: what a sync does to files (`crate::writer`).

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use host::Monotonic;

use crate::core::{Core, lock, wait, wait_at_most};
use crate::error::{SyncError, WriteError};
use crate::position::{Location, Offset};
use crate::segment::{Place, Segment};
use crate::tail::Payload;

/// How far the log is, and who wants it to be further.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) written: Place,
    pub(crate) durable: Place,
    /// The segment that is written to.
    pub(crate) active: Arc<Segment>,
    /// A sync of the active segment failed, and it was not replaced yet.
    pub(crate) suspect: bool,
    /// The first failure that was final.
    pub(crate) failed: Option<Arc<str>>,
    /// Somebody is syncing for all who wait.
    leading: bool,
    stopped: bool,
    committer: Committer,
    /// Highest offset that a future waits for.
    demand: Offset,
    /// How often a sync found no room; a future that waits across one gives up.
    no_space: u64,
    /// When the oldest byte that is not durable was appended, roughly.
    unsynced_since: Option<Monotonic>,
    /// When the committer last had no luck.
    backed_off_at: Option<Monotonic>,
    last_sync: Monotonic,
    waiters: BTreeMap<(Offset, u64), Waker>,
    room_waiters: BTreeMap<u64, Waker>,
    waiters_ever: u64,
    pub(crate) syncs: u64,
    pub(crate) failed_syncs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committer {
    Absent,
    Working,
    /// It looks again by itself, in at most one sync interval.
    Dozing,
    /// It looks again when it is told to.
    Asleep,
}

impl Progress {
    pub(crate) fn new(end: Place, active: Arc<Segment>, now: Monotonic) -> Self {
        Self {
            written: end,
            durable: end,
            active,
            suspect: false,
            failed: None,
            leading: false,
            stopped: false,
            committer: Committer::Absent,
            demand: end.offset,
            no_space: 0,
            unsynced_since: None,
            backed_off_at: None,
            last_sync: now,
            waiters: BTreeMap::new(),
            room_waiters: BTreeMap::new(),
            waiters_ever: 0,
            syncs: 0,
            failed_syncs: 0,
        }
    }

    /// Takes the wakers of all who wait for anything.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        let waiters = mem::take(&mut self.waiters).into_values();
        waiters.chain(mem::take(&mut self.room_waiters).into_values()).collect()
    }

    /// Takes the wakers of those whom the durable position satisfies, and of those who want room.
    fn wake_durable(&mut self) -> Vec<Waker> {
        let later = self.waiters.split_off(&(self.durable.offset + 1, 0));
        let ready = mem::replace(&mut self.waiters, later).into_values();
        ready.chain(mem::take(&mut self.room_waiters).into_values()).collect()
    }

    fn check_alive(&self) -> Result<(), SyncError> {
        match &self.failed {
            Some(why) => Err(SyncError::Failed { why: Arc::clone(why) }),
            None => Ok(()),
        }
    }
}

/// A sync failed; what the file holds is unknown.
#[derive(Debug)]
pub(crate) struct Suspect;

/// Up to where somebody waits.
#[derive(Clone, Copy, Debug)]
enum Until {
    At(Location),
    Offset(Offset),
}

impl Until {
    fn is_met(self, durable: Place) -> bool {
        match self {
            Self::At(at) => durable.at >= at,
            Self::Offset(offset) => durable.offset >= offset,
        }
    }
}

/// What the committer should do next.
#[derive(Clone, Copy, Debug)]
enum Due {
    Sync,
    Mark,
    Later(Monotonic),
    Never,
}

impl Core {
    /// Makes everything that is appended now durable.
    pub(crate) fn sync_all(&self) -> Result<Offset, SyncError> {
        let offset = self.published.appended();
        self.sync_until(Until::At(self.published.appended_at()))?;
        Ok(offset.max(self.published.durable()))
    }

    fn sync_until(&self, until: Until) -> Result<(), SyncError> {
        let mut progress = self.progress();
        loop {
            if until.is_met(progress.durable) {
                return Ok(());
            }
            progress.check_alive()?;
            if progress.leading {
                progress = wait(&self.led, progress);
                continue;
            }
            progress.leading = true;
            drop(progress);
            let result = self.sync_once();
            progress = self.progress();
            progress.leading = false;
            self.led.notify_all();
            if !until.is_met(progress.durable) {
                result?;
            }
        }
    }

    /// One round: writes out and syncs what was appended by then.
    fn sync_once(&self) -> Result<(), SyncError> {
        let wrote = self.write_out();
        let suspect = {
            let sync = lock(&self.sync);
            self.sync_written(&sync).is_err()
        };
        if suspect {
            let mut writer = lock(&self.writer);
            let sync = lock(&self.sync);
            self.rescue(&mut writer, &sync)?;
        }
        match wrote {
            Ok(_) => Ok(()),
            Err(WriteError::NoSpace) => {
                self.tell_no_space();
                Err(SyncError::NoSpace)
            }
            Err(WriteError::Failed { why }) => Err(SyncError::Failed { why }),
        }
    }

    /// Syncs what the active segment holds. Everything in older segments is durable already.
    pub(crate) fn sync_written(&self, _sync: &MutexGuard<'_, ()>) -> Result<(), Suspect> {
        let (active, written) = {
            let progress = self.progress();
            if progress.suspect || progress.failed.is_some() {
                return Err(Suspect);
            }
            if progress.durable.at >= progress.written.at {
                return Ok(());
            }
            (Arc::clone(&progress.active), progress.written)
        };
        match active.file.sync_data() {
            Ok(()) => {
                self.publish_durable(written);
                Ok(())
            }
            Err(error) => {
                self.note_failed_sync(&active, &error);
                Err(Suspect)
            }
        }
    }

    fn note_failed_sync(&self, active: &Segment, error: &io::Error) {
        tracing::error!(segment = %active.path.display(), %error, "a sync of the log failed");
        let mut progress = self.progress();
        progress.suspect = true;
        progress.failed_syncs += 1;
    }

    /// Tells everybody that the log is durable up to `end`.
    pub(crate) fn publish_durable(&self, end: Place) {
        let now = self.host.clock.monotonic();
        let mut progress = self.progress();
        progress.durable = end;
        progress.syncs += 1;
        progress.last_sync = now;
        self.published.set_durable(end);
        let unsynced = self.tail().set_durable(end.at);
        progress.unsynced_since = (unsynced > 0).then_some(now);
        self.poke(&progress, unsynced >= self.options.sync_ahead_bytes);
        let woken = progress.wake_durable();
        drop(progress);
        self.durable_moved.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }

    fn tell_no_space(&self) {
        let mut progress = self.progress();
        progress.no_space += 1;
        let woken = progress.wake_all();
        drop(progress);
        self.durable_moved.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Called after an append that began an un-durable run of bytes or made it long.
    pub(crate) fn note_unsynced(&self, long: bool) {
        if !self.published.committer_runs.load(Ordering::Acquire) {
            return;
        }
        let now = self.host.clock.monotonic();
        let mut progress = self.progress();
        if progress.durable.at < self.published.appended_at() {
            progress.unsynced_since.get_or_insert(now);
        }
        self.poke(&progress, long);
    }

    /// Wakes the committer if it would not look in time by itself.
    fn poke(&self, progress: &Progress, urgent: bool) {
        match progress.committer {
            Committer::Asleep => self.committer_wanted.notify_one(),
            Committer::Dozing if urgent => self.committer_wanted.notify_one(),
            Committer::Absent | Committer::Working | Committer::Dozing => {}
        }
    }

    /// The committer thread: syncs for futures, syncs ahead, and syncs what is old.
    pub(crate) fn run_committer(&self) {
        let mut progress = self.progress();
        progress.committer = Committer::Working;
        self.published.committer_runs.store(true, Ordering::Release);
        while !progress.stopped {
            progress = match self.due(&mut progress) {
                Due::Sync => self.commit_once(progress),
                Due::Mark => {
                    drop(progress);
                    self.append_mark();
                    self.progress()
                }
                Due::Later(then) => {
                    progress.committer = Committer::Dozing;
                    let time = then.since(self.host.clock.monotonic());
                    wait_at_most(&self.committer_wanted, progress, time)
                }
                Due::Never => {
                    self.tail().drain_pool();
                    progress.committer = Committer::Asleep;
                    wait(&self.committer_wanted, progress)
                }
            };
            progress.committer = Committer::Working;
        }
        progress.committer = Committer::Absent;
        self.published.committer_runs.store(false, Ordering::Release);
        let woken = progress.wake_all();
        drop(progress);
        // Who waited for the committer has to lead from now on.
        self.durable_moved.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }

    fn commit_once<'a>(&'a self, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        drop(progress);
        // Errors reach those who wait; here they only mean to try again later.
        let wrote = self.write_out().is_ok();
        let synced = self.sync_until(Until::At(self.published.appended_at())).is_ok();
        let mut progress = self.progress();
        let trouble = !wrote || !synced || self.tail().no_spare;
        progress.backed_off_at = trouble.then(|| self.host.clock.monotonic());
        progress
    }

    fn due(&self, progress: &mut Progress) -> Due {
        if progress.failed.is_some() {
            return Due::Never;
        }
        let now = self.host.clock.monotonic();
        let interval = self.options.sync_interval;
        let at = |then: Monotonic| if then <= now { Due::Sync } else { Due::Later(then) };
        let tail = self.tail();
        let retry = progress.backed_off_at.map_or(now, |then| then + interval);
        if tail.stuck {
            return at(retry);
        }
        let unsynced = tail.next().at.get() - progress.durable.at.get();
        if progress.demand > progress.durable.offset || unsynced >= self.options.sync_ahead_bytes {
            return Due::Sync;
        }
        if unsynced > 0 {
            return at(*progress.unsynced_since.get_or_insert(now) + interval);
        }
        if tail.no_spare {
            return at(retry);
        }
        if tail.claimed() < tail.next().offset && tail.can_mark() {
            let then = progress.last_sync + interval;
            return if then <= now { Due::Mark } else { Due::Later(then) };
        }
        Due::Never
    }

    /// Says in the log itself that all of it is durable, so that damage to its last records is
    /// known as damage.
    fn append_mark(&self) {
        let mark = Payload::Mark.measure(0, self.now_ms());
        let mut tail = self.tail();
        let next = tail.next();
        if next.at == self.published.durable_at() && tail.can_mark() {
            // A refusal is found out and reported by the sync that follows.
            let marked = tail.append(mark, next.offset, &|| self.host.random.next_u64());
            if marked.is_ok() {
                self.published.set_appended(tail.next());
            }
        }
        drop(tail);
        if let Err(error) = self.sync_all() {
            tracing::debug!(%error, "the idle log could not be marked as durable");
        }
    }

    pub(crate) fn stop_committer(&self) {
        self.progress().stopped = true;
        self.committer_wanted.notify_all();
        self.durable_moved.notify_all();
    }

    pub(crate) fn wait_durable_beyond(&self, seen: Offset) -> Option<Offset> {
        let mut progress = self.progress();
        loop {
            if progress.durable.offset > seen {
                return Some(progress.durable.offset);
            }
            if progress.stopped || progress.failed.is_some() {
                return None;
            }
            progress = wait(&self.durable_moved, progress);
        }
    }

    /// Whether a writer may go on: there is room, or the append will say why not.
    pub(crate) fn has_room(&self) -> bool {
        self.published.unsynced_bytes() < self.options.unsynced_bytes_max || self.refuses()
    }

    fn refuses(&self) -> bool {
        let tail = self.tail();
        tail.refusal.is_some() || tail.stuck
    }

    pub(crate) fn wait_room(&self) {
        if self.has_room() {
            return;
        }
        if !self.published.committer_runs.load(Ordering::Acquire) {
            // An error shows in the append that follows.
            self.sync_all().map_or_else(|error| tracing::debug!(%error, "no room"), drop);
            return;
        }
        let mut progress = self.progress();
        while !self.has_room() && progress.committer != Committer::Absent {
            progress = wait(&self.durable_moved, progress);
        }
    }
}

/// Ready when a writer may go on; see [`crate::Log::room`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Room {
    core: Arc<Core>,
    registered: Option<u64>,
}

impl Room {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, registered: None }
    }
}

impl Future for Room {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.has_room() {
            return Poll::Ready(());
        }
        let core = Arc::clone(&self.core);
        let mut progress = core.progress();
        if core.has_room() {
            return Poll::Ready(());
        }
        if progress.committer == Committer::Absent {
            drop(progress);
            core.wait_room();
            return Poll::Ready(());
        }
        let id = match self.registered {
            Some(id) => id,
            None => {
                progress.waiters_ever += 1;
                progress.waiters_ever
            }
        };
        progress.room_waiters.insert(id, context.waker().clone());
        self.registered = Some(id);
        Poll::Pending
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(id) = self.registered {
            self.core.progress().room_waiters.remove(&id);
        }
    }
}

/// Becomes ready when the log is durable up to a place; see [`crate::Log::ticket`].
#[derive(Debug)]
#[must_use = "a ticket tells nothing until it is awaited or waited for"]
pub struct Ticket {
    core: Arc<Core>,
    up_to: Offset,
    /// How often there had been no room when the ticket was made.
    no_space: u64,
    registered: Option<u64>,
}

impl Ticket {
    pub(crate) fn new(core: Arc<Core>, up_to: Offset) -> Self {
        let up_to = up_to.min(core.published.appended());
        let no_space = if core.published.durable() >= up_to { 0 } else { core.progress().no_space };
        Self { core, up_to, no_space, registered: None }
    }

    /// Waits in this thread, which leads the sync if nobody does.
    pub fn wait(self) -> Result<(), SyncError> {
        if self.core.published.durable() >= self.up_to {
            return Ok(());
        }
        self.core.sync_until(Until::Offset(self.up_to))
    }

    /// The answer, if there is one.
    fn answer(&self, progress: &Progress) -> Option<Result<(), SyncError>> {
        if progress.durable.offset >= self.up_to {
            return Some(Ok(()));
        }
        if let Err(error) = progress.check_alive() {
            return Some(Err(error));
        }
        (progress.no_space != self.no_space).then_some(Err(SyncError::NoSpace))
    }
}

impl Future for Ticket {
    type Output = Result<(), SyncError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.core.published.durable() >= self.up_to {
            return Poll::Ready(Ok(()));
        }
        let core = Arc::clone(&self.core);
        let mut progress = core.progress();
        if let Some(answer) = self.answer(&progress) {
            return Poll::Ready(answer);
        }
        if progress.committer == Committer::Absent {
            drop(progress);
            return Poll::Ready(core.sync_until(Until::Offset(self.up_to)));
        }
        let id = match self.registered {
            Some(id) => id,
            None => {
                progress.waiters_ever += 1;
                progress.waiters_ever
            }
        };
        progress.waiters.insert((self.up_to, id), context.waker().clone());
        progress.demand = progress.demand.max(self.up_to);
        core.poke(&progress, true);
        drop(progress);
        self.registered = Some(id);
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.registered {
            self.core.progress().waiters.remove(&(self.up_to, id));
        }
    }
}
