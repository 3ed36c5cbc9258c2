//! The committer: one thread that syncs what nobody leads a sync for.
//!
//! It syncs for futures, which cannot lead; ahead, when many bytes or records are not durable, so that
//! a small sync that somebody waits for finds little left to do; and what has not been durable for long.
//! When all is durable and nothing else happens, it says so in the log itself.
//!
//! Not here: how a sync is shared (`crate::commit`).

use std::io;
use std::time::Duration;

use host::Monotonic;

use crate::commit::Progress;
use crate::core::{Core, wait, wait_at_most};
use crate::error::Ended;
use crate::log::Log;
use crate::sync::{JoinHandle, MutexGuard, spawn};
use crate::tail::Payload;
use crate::waiters::Woken;

/// How long the committer waits to try again, and to mark an idle log, when no interval is set.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the log knows of its committer.
#[derive(Debug, Default)]
pub(crate) struct Duty {
    state: State,
    /// How many there have been.
    ever: u64,
    /// The one that runs is to end.
    ending: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Working,
    /// It looks again by itself.
    Dozing,
    /// It looks again when it is told to.
    Asleep,
}

impl Duty {
    /// Whether there is one.
    pub(crate) fn runs(&self) -> bool {
        self.state != State::Absent
    }
}

/// What the committer should do next.
#[derive(Clone, Copy, Debug)]
enum Due {
    Sync,
    Mark,
    Prepare,
    Roll,
    Later(Monotonic),
    Never,
}

impl Core {
    /// Called after an append that began an un-durable run of bytes or made it long.
    pub(crate) fn note_unsynced(&self, long: bool) {
        if !self.published.committer_runs() {
            return;
        }
        let now = self.host.clock.monotonic();
        let mut progress = self.progress();
        if progress.durable.at < self.published.appended_place().at {
            progress.unsynced_since.get_or_insert(now);
        }
        self.poke(&progress, long);
    }

    /// Leaves it to the committer to make the next segment's file; false if there is none.
    pub(crate) fn want_spare(&self) -> bool {
        let mut progress = self.progress();
        if !progress.committer.runs() || self.tail().no_spare {
            return false;
        }
        progress.spare_wanted = true;
        self.poke(&progress, true);
        true
    }

    /// Wakes the committer if it would not look in time by itself.
    pub(crate) fn poke(&self, progress: &Progress, urgent: bool) {
        match progress.committer.state {
            State::Asleep => self.committer_wanted.notify_one(),
            State::Dozing if urgent => self.committer_wanted.notify_one(),
            State::Absent | State::Working | State::Dozing => {}
        }
    }

    /// Whether so much is not durable that the committer begins a sync unasked.
    pub(crate) fn is_far_ahead(&self, bytes: u64, records: u64) -> bool {
        bytes >= self.options.sync_ahead_bytes.max(1)
            || self.options.sync_ahead_records.is_some_and(|limit| records >= limit.max(1))
    }

    /// Makes the caller the committer, and returns the number by which it is ended.
    fn begin_committer(&self) -> Result<u64, StartError> {
        let mut progress = self.progress();
        if matches!(progress.ended, Some(Ended::Replaced)) {
            return Err(StartError::Replaced);
        }
        if progress.stopped {
            return Err(StartError::Stopped);
        }
        if progress.committer.runs() {
            return Err(StartError::Runs);
        }
        progress.committer.state = State::Working;
        progress.committer.ending = false;
        progress.committer.ever += 1;
        self.published.set_committer_runs(true);
        Ok(progress.committer.ever)
    }

    /// The committer's work, until it is stopped. [`Core::begin_committer`] came before.
    fn commit_until_stopped(&self) {
        let mut progress = self.progress();
        while !progress.stopped && !progress.committer.ending {
            progress = match self.due(&mut progress) {
                Due::Sync => self.commit_once(progress),
                Due::Mark => {
                    drop(progress);
                    self.append_mark();
                    self.progress()
                }
                Due::Prepare => {
                    progress.spare_wanted = false;
                    drop(progress);
                    self.prepare_ahead();
                    self.progress()
                }
                Due::Roll => {
                    drop(progress);
                    self.end_old_segment();
                    self.progress()
                }
                Due::Later(then) => {
                    progress.committer.state = State::Dozing;
                    let time = then.since(self.host.clock.monotonic());
                    wait_at_most(&self.committer_wanted, progress, time)
                }
                Due::Never => {
                    self.tail().drain_pool();
                    progress.committer.state = State::Asleep;
                    wait(&self.committer_wanted, progress)
                }
            };
            progress.committer.state = State::Working;
        }
        drop(progress);
        self.finish_committer();
    }

    /// Says that there is no committer any more. Who waited for it has to do without.
    fn finish_committer(&self) {
        let mut woken = Woken::default();
        let mut progress = self.progress();
        progress.committer.state = State::Absent;
        self.published.set_committer_runs(false);
        progress.take_all(&mut woken);
        drop(progress);
        drop(woken);
    }

    fn commit_once<'a>(&'a self, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        drop(progress);
        // Errors reach those who wait; here they only mean to try again later.
        let wrote = self.write_out().is_ok();
        let synced = self.sync_all().is_ok();
        let mut progress = self.progress();
        let trouble = !wrote || !synced || self.tail().no_spare;
        progress.backed_off_at = trouble.then(|| self.host.clock.monotonic());
        progress
    }

    /// Ends the active segment because of its age.
    fn end_old_segment(&self) {
        if let Err(error) = self.roll() {
            tracing::debug!(%error, "an old segment could not be ended");
            let later = i64::try_from(INTERVAL.as_millis()).unwrap_or(i64::MAX);
            self.tail().expire_at(self.now_ms().saturating_add(later));
        }
    }

    fn due(&self, progress: &mut Progress) -> Due {
        let due = self.due_for_syncs(progress);
        let Some(left) = self.tail().expires_in(self.now_ms()) else { return due };
        let then = self.host.clock.monotonic() + left;
        match due {
            Due::Later(_) | Due::Never if left.is_zero() => Due::Roll,
            Due::Later(earlier) => Due::Later(earlier.min(then)),
            Due::Never => Due::Later(then),
            due => due,
        }
    }

    fn due_for_syncs(&self, progress: &mut Progress) -> Due {
        if progress.ended.is_some() {
            return Due::Never;
        }
        let now = self.host.clock.monotonic();
        let interval = self.options.sync_interval();
        let idle = interval.unwrap_or(INTERVAL);
        let at = |then: Monotonic| if then <= now { Due::Sync } else { Due::Later(then) };
        let tail = self.tail();
        let retry = progress.backed_off_at.map_or(now, |then| then + idle);
        if tail.stuck {
            return at(retry);
        }
        if progress.spare_wanted {
            return Due::Prepare;
        }
        let unsynced = tail.next().at.get() - progress.durable.at.get();
        let records = tail.next().offset - progress.durable.offset;
        if progress.demand > progress.durable.offset || self.is_far_ahead(unsynced, records) {
            return Due::Sync;
        }
        if unsynced > 0 {
            let since = *progress.unsynced_since.get_or_insert(now);
            return interval.map_or(Due::Never, |interval| at(since + interval));
        }
        if tail.no_spare {
            return at(retry);
        }
        if tail.claimed() < tail.next().offset && tail.can_mark() {
            let then = progress.last_sync + idle;
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
        if next.at == self.published.durable_place().at && tail.can_mark() {
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

    /// The body of the committer thread of a server.
    pub(crate) fn run_committer(&self) {
        if self.begin_committer().is_ok() {
            self.commit_until_stopped();
        }
    }

    /// Ends the committer, for good, and those waits that nothing but a sync would end.
    pub(crate) fn stop_committer(&self) {
        let mut woken = Woken::default();
        let mut progress = self.progress();
        progress.stopped = true;
        progress.for_durable.take_all(&mut woken);
        progress.for_written.take_all(&mut woken);
        self.tail().waiters.take_all(&mut woken);
        drop(progress);
        self.committer_wanted.notify_all();
        drop(woken);
    }

    fn end_committer(&self, number: u64) {
        let mut progress = self.progress();
        if progress.committer.ever == number {
            progress.committer.ending = true;
            self.committer_wanted.notify_all();
        }
    }
}

/// Why no committer was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One runs already; one is all that a log needs.
    #[error("the log has a committer already; one is enough")]
    Runs,
    /// [`Log::stop_committer`] stopped it for good. Open the log again.
    #[error("the log's committer was stopped for good; open the log again to have one")]
    Stopped,
    /// The end of the log was cut with [`Log::truncate_after`]. Use the log that came out of that.
    #[error(
        "this handle ended when the log's end was cut; use the one that truncate_after returned"
    )]
    Replaced,
    /// There is no thread to be had.
    #[error("no thread for the committer: {0}")]
    Thread(#[source] io::Error),
}

/// A committer that runs in a thread of its own, until this is dropped; see [`Log::start_committer`].
#[derive(Debug)]
#[must_use = "the committer stops when this is dropped"]
pub struct Committer {
    log: Log,
    number: u64,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(log: &Log) -> Result<Self, StartError> {
        let core = log.core();
        let number = core.begin_committer()?;
        let of_thread = log.clone();
        match spawn("log-committer", move || of_thread.core().commit_until_stopped()) {
            Ok(thread) => Ok(Self { log: log.clone(), number, thread: Some(thread) }),
            Err(error) => {
                core.finish_committer();
                Err(StartError::Thread(error))
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.log.core().end_committer(self.number);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the committer of the log panicked");
        }
    }
}
