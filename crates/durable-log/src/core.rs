//! What all parts of an open log share: its state, its locks and their order.
//!
//! | lock | guards | held during I/O |
//! |---|---|---|
//! | `tail` | the append lock: what is in memory | never |
//! | `writer` | the order of writes to files, and which segment gets them | writes, rolls |
//! | `sync` | one sync at a time: of two at once on one file, the system tells only one of a failure | syncs |
//! | `progress` | how far the log is, who leads, who waits | never |
//! | `segments` | the list of segment files | never |
//! | `trim` | one trim at a time | unlinks |
//!
//! Order: `trim`, `writer`, `sync`, then `progress`, then `tail` or `segments`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use host::{DirLock, Host};

use crate::commit::Progress;
use crate::error::AppendError;
use crate::options::Options;
use crate::position::{Location, Offset};
use crate::segment::{Place, Segment};
use crate::tail::Tail;
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
    pub(crate) segments: RwLock<VecDeque<Arc<Segment>>>,
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
    pub(crate) failed: AtomicBool,
    pub(crate) committer_runs: AtomicBool,
}

impl Published {
    pub(crate) fn new(end: Place) -> Self {
        let published = Self::default();
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

    pub(crate) fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.read().expect(POISONED)
    }

    pub(crate) fn segments_mut(&self) -> RwLockWriteGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.write().expect(POISONED)
    }

    /// The segment file that a written location lies in; `None` if it was trimmed.
    pub(crate) fn segment_of(&self, at: Location) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.header.base.at <= at);
        segments.get(after.checked_sub(1)?).map(Arc::clone)
    }

    /// First record that is still there.
    pub(crate) fn start(&self) -> Offset {
        let first = self.segments().front().map(|segment| segment.header.base.offset);
        first.unwrap_or_else(|| self.published.durable())
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
