//! What all parts of an open log share: its state, its locks and their order.
//!
//! | lock | guards | held during I/O |
//! |---|---|---|
//! | `tail` | the append lock: what is in memory | never |
//! | `writer` | the order of writes to files, and which segment gets them | writes, rolls |
//! | `sync` | one sync at a time: of two at once on one file, the system tells only one of a failure | syncs |
//! | `progress` | how far the log is, who leads, who waits | never |
//! | `changing_segments` | who changes the list of segment files; readers take no lock | never |
//! | `trim` | one trim at a time | unlinks |
//!
//! Order: `trim`, `writer`, `sync`, then `progress`, then `tail`, then `changing_segments`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use arc_swap::{ArcSwap, Guard};
use host::{DirLock, Host};

use crate::commit::Progress;
use crate::error::AppendError;
use crate::options::Options;
use crate::position::{Epoch, Location, Offset};
use crate::segment::{Place, Segment};
use crate::tail::{Stretch, Tail};
use crate::writer::Writer;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: Mutex<()>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) segments: ArcSwap<SegmentList>,
    pub(crate) changing_segments: Mutex<()>,
    pub(crate) trim: Mutex<()>,
    /// A leader has finished.
    pub(crate) led: Condvar,
    /// The durable position moved, or never will again.
    pub(crate) durable_moved: Condvar,
    /// There is something for the committer to look at.
    pub(crate) committer_wanted: Condvar,
    pub(crate) published: Published,
    /// Kept until the log goes.
    pub(crate) _lock: Box<dyn DirLock>,
}

/// The segment files of a log, oldest first; the last one is the active one.
#[derive(Clone, Debug)]
pub(crate) struct SegmentList {
    pub(crate) files: Vec<Arc<Segment>>,
    /// What the active segment holds; stretches that have no file yet follow it.
    pub(crate) stretch: Arc<Stretch>,
}

impl SegmentList {
    /// First record that is still there.
    pub(crate) fn start(&self) -> Offset {
        self.files.first().map_or(self.stretch.base.offset, |first| first.header.base.offset)
    }

    /// The segment file that a written location lies in; `None` if it was trimmed.
    pub(crate) fn of(&self, at: Location) -> Option<&Arc<Segment>> {
        let after = self.files.partition_point(|segment| segment.header.base.at <= at);
        self.files.get(after.checked_sub(1)?)
    }
}

/// Copies of the positions that are read without a lock. Each only goes up, and the offset before
/// its location: who sees the location sees at least its offset.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) appended: AtomicU64,
    pub(crate) appended_at: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) written_at: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) durable_at: AtomicU64,
    pub(crate) epoch: AtomicU64,
    pub(crate) failed: AtomicBool,
    pub(crate) committer_runs: AtomicBool,
}

impl Published {
    pub(crate) fn new(end: Place, epoch: Epoch) -> Self {
        let published = Self::default();
        published.epoch.store(epoch.get(), Ordering::Release);
        published.set_appended(end);
        published.set_written(end);
        published.set_durable(end);
        published
    }

    pub(crate) fn set_appended(&self, place: Place) {
        self.appended.store(place.offset.get(), Ordering::Release);
        self.appended_at.store(place.at.get(), Ordering::Release);
    }

    pub(crate) fn set_written(&self, place: Place) {
        self.written.store(place.offset.get(), Ordering::Release);
        self.written_at.store(place.at.get(), Ordering::Release);
    }

    pub(crate) fn set_durable(&self, place: Place) {
        self.durable.store(place.offset.get(), Ordering::Release);
        self.durable_at.store(place.at.get(), Ordering::Release);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch.load(Ordering::Acquire))
    }

    pub(crate) fn appended(&self) -> Offset {
        Offset::new(self.appended.load(Ordering::Acquire))
    }

    pub(crate) fn written(&self) -> Offset {
        Offset::new(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Offset {
        Offset::new(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn appended_at(&self) -> Location {
        Location::new(self.appended_at.load(Ordering::Acquire))
    }

    pub(crate) fn written_at(&self) -> Location {
        Location::new(self.written_at.load(Ordering::Acquire))
    }

    pub(crate) fn durable_at(&self) -> Location {
        Location::new(self.durable_at.load(Ordering::Acquire))
    }

    /// Bytes that were appended and are not durable.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        // Durable first: it never passes what is then read as appended.
        let durable = self.durable_at();
        self.appended_at().get() - durable.get()
    }
}

impl Core {
    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// The segment files as they are now. Without a lock; the guard keeps them alive.
    pub(crate) fn segments(&self) -> Guard<Arc<SegmentList>> {
        self.segments.load()
    }

    /// Changes the list of segment files. Who reads meanwhile sees the list before or after.
    pub(crate) fn change_segments<T>(&self, change: impl FnOnce(&mut SegmentList) -> T) -> T {
        let _one_at_a_time = lock(&self.changing_segments);
        let mut list = SegmentList::clone(&self.segments.load());
        let result = change(&mut list);
        self.segments.store(Arc::new(list));
        result
    }

    /// The segment file that a written location lies in; `None` if it was trimmed.
    pub(crate) fn segment_of(&self, at: Location) -> Option<Arc<Segment>> {
        self.segments().of(at).map(Arc::clone)
    }

    /// First record that is still there.
    pub(crate) fn start(&self) -> Offset {
        self.segments().start()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.published.failed.load(Ordering::Acquire)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.host.clock.wall().millis()
    }

    /// Refuses everything from now on. What was not durable never will be through this handle.
    pub(crate) fn fail(&self, why: String) -> Arc<str> {
        let mut progress = self.progress();
        let why = Arc::clone(progress.failed.get_or_insert_with(|| {
            tracing::error!(dir = %self.dir.display(), %why, "the log failed; it refuses everything until it is opened again");
            why.into()
        }));
        self.tail().refusal = Some(AppendError::Failed { why: Arc::clone(&why) });
        self.published.failed.store(true, Ordering::Release);
        let woken = progress.wake_all();
        drop(progress);
        self.led.notify_all();
        self.durable_moved.notify_all();
        self.committer_wanted.notify_all();
        woken.into_iter().for_each(std::task::Waker::wake);
        why
    }
}

const POISONED: &str = "no thread panics while it holds a lock of the log";

/// Takes a lock. A panic under a lock of the log would leave it half changed: nobody goes on then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(POISONED)
}

/// Waits on a condition, as [`lock`] locks.
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).expect(POISONED)
}

/// Waits at most so long.
pub(crate) fn wait_at_most<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    time: std::time::Duration,
) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, time).expect(POISONED).0
}
