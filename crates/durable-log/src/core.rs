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
//! | `spares` | the files that trimmed segments left | never |
//! | `loading` of a segment (`crate::access`) | who reads or makes its index | reads of its files |
//!
//! The locks of `crate::files` are taken last.
//!
//! What is in memory is changed under the append lock, and read without it (`crate::ring`).
//!
//! Order: `trim`, `writer`, `sync`, then `progress`, then `tail`. While one of `changing_segments`, `spares` and
//! `loading` is held, no other lock is taken.
//!
//! Nobody is woken and no waker is dropped while a lock is held: a waker is foreign code, and may come back here.

use std::hint;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use host::{DirLock, Host};

use crate::commit::Progress;
use crate::error::{AppendError, Ended};
use crate::files::Files;
use crate::options::Options;
use crate::position::{Epoch, Location, Offset};
use crate::ring::{ChunkRef, Ring};
use crate::segment::{Place, Segment};
use crate::spare::Spares;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, point};
use crate::tail::{Stretch, Tail};
use crate::waiters::Woken;
use crate::writer::Writer;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) tail: Mutex<Tail>,
    /// What of the tail is found without its lock.
    pub(crate) ring: Arc<Ring>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: Mutex<()>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) segments: ArcSwap<SegmentList>,
    pub(crate) changing_segments: Mutex<()>,
    pub(crate) trim: Mutex<()>,
    pub(crate) spares: Mutex<Spares>,
    pub(crate) files: Arc<Files>,
    /// There is something for the committer to look at.
    pub(crate) committer_wanted: Condvar,
    pub(crate) published: Published,
    /// What was cut when the log was opened.
    pub(crate) torn_bytes: u64,
    /// Kept until the log goes.
    pub(crate) lock: Arc<dyn DirLock>,
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

    /// Which segment file a durable record lies in; `None` if it was trimmed.
    #[inline]
    pub(crate) fn holder(&self, offset: Offset) -> Option<usize> {
        let after = self.files.partition_point(|segment| segment.header.base.offset <= offset);
        after.checked_sub(1)
    }

    /// The segment file that a written location lies in; `None` if it was trimmed.
    pub(crate) fn of(&self, at: Location) -> Option<&Arc<Segment>> {
        let after = self.files.partition_point(|segment| segment.header.base.at <= at);
        self.files.get(after.checked_sub(1)?)
    }
}

/// Copies of what is read without a lock. The positions only go up, and the offset before its
/// location: who sees the location sees at least its offset.
#[derive(Debug)]
pub(crate) struct Published {
    appended: AtomicU64,
    appended_at: AtomicU64,
    written: AtomicU64,
    written_at: AtomicU64,
    durable: AtomicU64,
    durable_at: AtomicU64,
    epoch: AtomicU64,
    failed: AtomicBool,
    /// Records from here on were cut off, in a log that goes on in another handle.
    cut: AtomicU64,
    committer_runs: AtomicBool,
    /// Who was handed the lead last.
    handed: AtomicU64,
    no_space: AtomicU64,
}

impl Published {
    pub(crate) fn new(end: Place, epoch: Epoch) -> Self {
        let (offset, at) = (end.offset.get(), end.at.get());
        Self {
            appended: AtomicU64::new(offset),
            appended_at: AtomicU64::new(at),
            written: AtomicU64::new(offset),
            written_at: AtomicU64::new(at),
            durable: AtomicU64::new(offset),
            durable_at: AtomicU64::new(at),
            epoch: AtomicU64::new(epoch.get()),
            failed: AtomicBool::new(false),
            cut: AtomicU64::new(u64::MAX),
            committer_runs: AtomicBool::new(false),
            handed: AtomicU64::new(0),
            no_space: AtomicU64::new(0),
        }
    }

    /// How much of a position still stands: nothing of what was cut off.
    pub(crate) fn standing(&self, position: Offset) -> Offset {
        position.min(Offset::new(self.cut.load(Ordering::Acquire)))
    }

    /// Whether the log goes on in another handle.
    pub(crate) fn is_replaced(&self) -> bool {
        self.cut.load(Ordering::Acquire) != u64::MAX
    }

    pub(crate) fn set_cut(&self, end: Offset) {
        self.cut.store(end.get(), Ordering::Release);
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

    /// The end of what is appended. The two may be a moment apart, either way.
    pub(crate) fn appended_place(&self) -> Place {
        let offset = self.appended();
        Place { offset, at: self.appended_at() }
    }

    /// The end of what is durable. The two may be a moment apart, either way.
    pub(crate) fn durable_place(&self) -> Place {
        let offset = self.durable();
        Place { offset, at: self.durable_at() }
    }

    /// Bytes that were appended and are not durable.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        // Durable first: it never passes what is then read as appended.
        let durable = self.durable_at();
        self.appended_at().get() - durable.get()
    }

    pub(crate) fn committer_runs(&self) -> bool {
        self.committer_runs.load(Ordering::Acquire)
    }

    pub(crate) fn set_committer_runs(&self, runs: bool) {
        self.committer_runs.store(runs, Ordering::Release);
    }

    /// Who was handed the lead last, by its number; 0 before the first.
    pub(crate) fn handed(&self) -> u64 {
        self.handed.load(Ordering::Acquire)
    }

    pub(crate) fn set_handed(&self, number: u64) {
        self.handed.store(number, Ordering::Release);
    }

    /// How often a sync found no room.
    pub(crate) fn no_space(&self) -> u64 {
        self.no_space.load(Ordering::Acquire)
    }

    pub(crate) fn set_no_space(&self, times: u64) {
        self.no_space.store(times, Ordering::Release);
    }
}

impl Core {
    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }

    /// Copies appended bytes from `at` on, as many as are in memory; `None` if that one is not.
    pub(crate) fn copy_tail(&self, to: &mut [u8], at: Location) -> Option<usize> {
        let mut copied = 0;
        while copied < to.len() {
            let Some(bytes) = self.tail_bytes(at.plus(copied as u64)) else { break };
            let n = bytes.len().min(to.len() - copied);
            to[copied..copied + n].copy_from_slice(&bytes[..n]);
            copied += n;
        }
        (copied > 0).then_some(copied)
    }

    /// The append lock, for an append. It is held for some 30 ns, so whoever finds it taken looks away
    /// for longer and longer before it sleeps: less often than the holder takes it again, so that the
    /// tail's memory need not move between processors for each append.
    #[inline]
    pub(crate) fn tail_to_append(&self) -> MutexGuard<'_, Tail> {
        match self.tail.try_lock() {
            Ok(tail) => tail,
            Err(_) => self.tail_soon(),
        }
    }

    #[cold]
    fn tail_soon(&self) -> MutexGuard<'_, Tail> {
        for pauses in [8, 16, 32, 64, 128, 256] {
            (0..pauses).for_each(|_| hint::spin_loop());
            if let Ok(tail) = self.tail.try_lock() {
                return tail;
            }
        }
        self.tail()
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// The segment files as they are now. Without a lock; the guard keeps them alive.
    pub(crate) fn segments(&self) -> Guard<Arc<SegmentList>> {
        point();
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

    /// The appended bytes from `at` on that are in memory in one piece: at least one byte. Everything
    /// that is appended and not durable is there, and a frame of at most
    /// [`crate::chunk::OVERHANG_BYTES`] is in one piece. `None`: either it is durable by now or it
    /// is not appended. Takes no lock and does not allocate.
    pub(crate) fn tail_bytes(&self, at: Location) -> Option<ChunkRef> {
        // First how far it goes: what is found then reaches at least there, or to the end of a chunk.
        let appended = self.published.appended_at().get().checked_sub(at.get())?;
        let bytes = self.ring.get(at).filter(|_| appended > 0)?;
        Some(bytes.cut(usize::try_from(appended).unwrap_or(usize::MAX)))
    }

    /// First record that is still there.
    pub(crate) fn start(&self) -> Offset {
        self.segments().start()
    }

    /// Whether everything is refused.
    pub(crate) fn has_ended(&self) -> bool {
        self.published.failed.load(Ordering::Acquire)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.host.clock.wall().millis()
    }

    /// Refuses appends from now on, because the log is being closed.
    pub(crate) fn refuse_appends(&self) {
        let mut woken = Woken::default();
        let mut progress = self.progress();
        {
            let mut tail = self.tail();
            // A cut that turns out to change nothing must not admit appends again.
            if matches!(tail.refusal, None | Some(AppendError::Truncating)) {
                tail.refusal = Some(AppendError::Closed);
            }
            tail.waiters.take_all(&mut woken);
        }
        // Who waits for a record that will not come is to look again.
        progress.take_all(&mut woken);
        drop(progress);
        drop(woken);
    }

    /// The write lock. Who is woken because of what is done under it goes on after it was let go.
    pub(crate) fn writer(&self) -> Writing<'_> {
        Writing(Some(lock(&self.writer)))
    }

    /// Refuses everything from now on. What was not durable never will be through this handle. Whoever
    /// waits is woken when `woken` is dropped, which must be with no lock held.
    pub(crate) fn fail(&self, why: String, woken: &mut Woken) -> Ended {
        let failed = || {
            tracing::error!(dir = %self.dir.display(), %why, "the log failed; it refuses everything until it is opened again");
            Ended::Failed(why.into())
        };
        self.end(failed, woken)
    }

    /// As [`Core::fail`], for this reason unless there was one.
    pub(crate) fn end(&self, why: impl FnOnce() -> Ended, woken: &mut Woken) -> Ended {
        let mut progress = self.progress();
        let why = progress.ended.get_or_insert_with(why).clone();
        {
            let mut tail = self.tail();
            tail.refusal = Some(AppendError::from(why.clone()));
            tail.waiters.take_all(woken);
        }
        self.published.failed.store(true, Ordering::Release);
        progress.take_all(woken);
        drop(progress);
        self.committer_wanted.notify_all();
        why
    }
}

/// The write lock, held. On its end those whom the writer has to wake are woken, with the lock let go:
/// what is woken may be a task that runs at once, in this thread, and writes out itself.
#[derive(Debug)]
pub(crate) struct Writing<'a>(Option<MutexGuard<'a, Writer>>);

const HELD: &str = "the lock is held until the end";

impl Deref for Writing<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.0.as_ref().expect(HELD)
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        self.0.as_mut().expect(HELD)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let woken = mem::take(&mut self.woken);
        self.0 = None;
        drop(woken);
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
