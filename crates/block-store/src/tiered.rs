//! A remote store behind this machine's disk: puts are durable at once and uploaded later, reads find on the
//! disk what they can.
//!
//! ```text
//! DIR/staging/      a `Directory`: blocks and objects that are not uploaded yet
//! DIR/cache/        blocks that the remote store has (`disk_cache`); may be deleted at any time
//! ```
//!
//! A block's life: durable in `staging` when put returns; uploaded by a worker; its file then moved to `cache`,
//! and there evicted some time. Whatever is found in `staging` at a start is uploaded again, which does no
//! harm: a block is put only if absent, and the same bytes count as done.
//!
//! A block that was put unsynced is uploaded only after it was synced. One that nobody syncs stays in `staging`, whole or
//! torn, until it is deleted.
//!
//! Objects that are put always go out in order: not before the blocks that were put before them. Those with a
//! condition are the store's own business, and go straight there.
//!
//! Invariants: a block's file leaves `staging` only when the store has said that it has the block, or when it
//! is deleted. Staging and cache stay within their bytes. One download per block or part is under way, however
//! many wait for it; whoever waits is told an end, be it that the store is away.
//!
//! Locks, in this order: `objects_io`, the state's, the cache's own. No I/O under the state's lock.
//!
//! Not here: the requests themselves (`crate::remote`), their order (`queue`), what a worker does with one
//! (`work`).

mod backoff;
mod circuit;
mod disk_cache;
mod objects;
mod options;
mod queue;
mod staging;
#[cfg(test)]
mod tests;
mod work;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use host::{Host, Monotonic};

use self::backoff::backoff;
use self::circuit::Circuit;
use self::disk_cache::DiskCache;
pub use self::options::{TieredOptions, TieredStats};
use self::queue::{Class, Queue};
use self::staging::{Phase, Staging};
use crate::directory::ObjectFiles;
use crate::format::BLOCK_FILE_BYTES_MAX;
use crate::objects::ObjectName;
use crate::recent::Recent;
use crate::remote::{Bucket, FetchError, Remote, Trouble, delete_error, list_error};
use crate::tally::Tally;
use crate::{
    Block, BlockName, BlockStore, DeleteError, Directory, Footer, ListError, Listed, Objects,
    OpenError, PutError, ReadError, SyncError, Usage,
};

/// Of how many blocks it is remembered that a part of them was read.
const TOUCHED_MAX: u64 = 4096;

/// From how many bytes on a part of a block is better read with the whole, if the cache keeps nothing.
const WHOLE_BYTES_WITHOUT_CACHE: u32 = 2 << 20;

/// A remote store behind this machine's disk.
#[derive(Debug)]
pub struct Tiered {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// Lets time pass, for simulations.
type Idle = Box<dyn Fn(Duration) + Send + Sync>;

struct Shared {
    host: Host,
    remote: Bucket,
    staging: Directory,
    staged_objects: ObjectFiles,
    cache: DiskCache,
    options: TieredOptions,
    /// Who waits does the work, and this passes the time.
    by_hand: Option<Idle>,
    state: Mutex<State>,
    /// For workers: there is something to do, or soon will be.
    work: Condvar,
    /// For all who wait: something is done.
    news: Condvar,
    /// Held while files of staged objects change.
    objects_io: Mutex<()>,
    tally: Tally,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("remote", &self.remote).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    queue: Queue<Job>,
    staging: Staging,
    /// Downloads that somebody asked for and that are not done.
    flights: HashMap<Part, Flight>,
    /// Blocks of which a part was read.
    touched: Recent<BlockName, ()>,
    reads: Circuit,
    writes: Circuit,
    /// Changes with each deletion.
    deletes: u64,
    closing: bool,
    counts: TieredStats,
}

/// What a worker may be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    Download(Part),
    Upload(BlockName),
    UploadObject(ObjectName),
}

/// A block, or a range of its payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    name: BlockName,
    range: Option<Range<u32>>,
}

/// What was downloaded.
#[derive(Clone, Debug)]
enum Fetched {
    Whole(Block),
    Range(Bytes),
}

type FetchResult = Result<Fetched, FetchError>;

/// A download that is not done, or of which the cache does not have the block yet.
#[derive(Debug)]
struct Flight {
    result: Arc<OnceLock<FetchResult>>,
    /// Threads that wait for it; none if it is read ahead.
    waiters: usize,
    failures: u32,
    /// Until when it is worth trying.
    deadline: Monotonic,
    /// How many deletions there had been when it began.
    deletes: u64,
}

/// Which of the two circuits a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Reads,
    Writes,
}

impl State {
    fn circuit(&mut self, way: Way) -> &mut Circuit {
        match way {
            Way::Reads => &mut self.reads,
            Way::Writes => &mut self.writes,
        }
    }

    /// Puts objects into the queue that nothing holds back any more.
    fn push_ready_objects(&mut self, now: Monotonic) {
        for (name, bytes) in self.staging.ready_objects() {
            self.queue.push(Job::UploadObject(name), Class::Upload, bytes, now);
        }
    }

    /// Ends downloads that wait in the queue, those that somebody waits for and those ahead.
    fn fail_queued(&mut self, why: &str) {
        let parts: Vec<Part> = self.flights.keys().cloned().collect();
        for part in parts {
            if self.queue.remove(&Job::Download(part.clone()))
                && let Some(flight) = self.flights.remove(&part)
            {
                let away = FetchError::Trouble(Trouble::Away(why.to_owned()));
                let _first = flight.result.set(Err(away));
            }
        }
    }
}

impl Tiered {
    /// Opens the store whose files are in `dir`, made if it is missing, and starts its workers. What was
    /// staged and not uploaded is uploaded from now on. The remote store is not asked.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`] when the disk refuses, or no thread can be started.
    pub fn open(
        host: &Host,
        dir: &Path,
        remote: Remote,
        options: TieredOptions,
    ) -> Result<Self, OpenError> {
        let store = Self::assemble(host, dir, remote, options, None)?;
        for _ in 0..store.shared.options.transfers_max.max(1) {
            let shared = Arc::clone(&store.shared);
            let worker = host::spawn("transfer", move || shared.work_until_closed())
                .map_err(|source| OpenError::Io { path: dir.into(), source })?;
            store.workers().push(worker);
        }
        Ok(store)
    }

    /// As [`Tiered::open`], but without threads, for simulations: who waits does the work, and where there
    /// is nothing to do but to wait, `idle` has to move the clock of `host` on by what it is given.
    ///
    /// # Errors
    ///
    /// As [`Tiered::open`].
    pub fn by_hand(
        host: &Host,
        dir: &Path,
        remote: Remote,
        options: TieredOptions,
        idle: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Self::assemble(host, dir, remote, options, Some(Box::new(idle)))
    }

    fn assemble(
        host: &Host,
        dir: &Path,
        remote: Remote,
        options: TieredOptions,
        by_hand: Option<Idle>,
    ) -> Result<Self, OpenError> {
        let staging_dir = dir.join("staging");
        let state = State {
            queue: Queue::new(options.transfers_max, options.transfer_bytes_max),
            staging: Staging::new(options.staging_bytes_max),
            flights: HashMap::new(),
            touched: Recent::new(TOUCHED_MAX),
            reads: Circuit::new(options.failures_max),
            writes: Circuit::new(options.failures_max),
            deletes: 0,
            closing: false,
            counts: TieredStats::default(),
        };
        let shared = Shared {
            remote: remote.into_bucket(),
            staging: Directory::open(host, &staging_dir)?,
            staged_objects: ObjectFiles::new(host, &staging_dir),
            cache: DiskCache::open(
                host,
                &dir.join("cache"),
                options.cache_bytes_max,
                options.disk_free_bytes_min,
            )?,
            options,
            by_hand,
            host: host.clone(),
            state: Mutex::new(state),
            work: Condvar::new(),
            news: Condvar::new(),
            objects_io: Mutex::new(()),
            tally: Tally::default(),
        };
        shared.find_staged(&staging_dir)?;
        Ok(Self { shared: Arc::new(shared), workers: Mutex::new(Vec::new()) })
    }

    /// The address of the remote store, for people.
    pub fn place(&self) -> &str {
        self.shared.remote.place()
    }

    /// What the store is doing.
    pub fn stats(&self) -> TieredStats {
        self.shared.stats()
    }

    /// Does all that can be done now, for simulations.
    pub fn work(&self) {
        while self.shared.step() {}
    }

    /// Waits until all is uploaded that can be, `patience` at most; says whether nothing is left.
    pub fn settle(&self, patience: Duration) -> bool {
        let deadline = self.shared.now() + patience;
        let settled =
            |state: &mut State| state.staging.is_settled().then(|| state.staging.is_empty());
        self.shared.wait_for(deadline, settled).unwrap_or(false)
    }

    /// Waits until all is uploaded, `patience` at most, then ends all requests and the workers. What is not
    /// uploaded stays staged, for the next start. Says whether all was. Reads of what is on this disk go on
    /// working, everything else says that the store is away.
    pub fn close(&self, patience: Duration) -> bool {
        let settled = self.settle(patience);
        self.stop();
        settled
    }

    fn stop(&self) {
        let mut state = self.shared.state();
        state.closing = true;
        state.fail_queued("the store is being closed");
        drop(state);
        self.shared.remote.stop();
        self.shared.work.notify_all();
        self.shared.news.notify_all();
        for worker in std::mem::take(&mut *self.workers()) {
            if worker.join().is_err() {
                tracing::error!("a transfer's thread panicked");
            }
        }
    }

    /// Plain pushes and takes only, so a poisoned lock guards a whole list.
    fn workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tiered {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn now(&self) -> Monotonic {
        self.host.clock.monotonic()
    }

    /// A panic under the lock would leave counts wrong, not bytes: what it guards is asked again of the disk at
    /// the next start.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds what an earlier process staged.
    fn find_staged(&self, dir: &Path) -> Result<(), OpenError> {
        let refused = |source| OpenError::Io { path: dir.into(), source };
        let now = self.now();
        let mut state = self.state();
        let found = self.staging.list(&mut |Listed { name, bytes, modified_ms }| {
            // As much as there is has to fit.
            if !state.staging.reserve(bytes) {
                state.staging.exceed(bytes);
            }
            if self.staging.is_unsynced(name) {
                state.staging.add_unsynced(name, bytes, modified_ms);
            } else {
                state.staging.add(name, bytes, modified_ms, true);
                state.queue.push(Job::Upload(name), Class::Upload, bytes, now);
            }
            self.tally.added(bytes);
            ControlFlow::Continue(())
        });
        match found {
            Ok(()) => {}
            Err(ListError::Io { path, source }) => return Err(OpenError::Io { path, source }),
            Err(error @ ListError::Away { .. }) => return Err(refused(io::Error::other(error))),
        }
        self.find_staged_objects(&mut state).map_err(refused)?;
        state.push_ready_objects(now);
        Ok(())
    }

    /// Waits until `check` has something, or the deadline has passed.
    fn wait_for<T>(
        &self,
        deadline: Monotonic,
        mut check: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(found) = check(&mut state) {
                return Some(found);
            }
            let now = self.now();
            let left = deadline.since(now);
            if left.is_zero() {
                return None;
            }
            state = match &self.by_hand {
                None => {
                    let waited = self.news.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(idle) => {
                    let next = state.next_at(now).map_or(left, |at| at.since(now).min(left));
                    drop(state);
                    if !self.step() {
                        idle(next);
                        if self.now() == now {
                            return None;
                        }
                    }
                    self.state()
                }
            };
        }
    }

    /// Sends a request from the thread that asks for it, again and again until there is an answer, patience
    /// is at its end, or the circuit is open.
    fn ask<T>(
        &self,
        way: Way,
        request: impl Fn(&Bucket) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let deadline = self.now() + self.options.patience;
        let mut failures = 0;
        loop {
            let probe = self.admit(way)?;
            let answer = request(&self.remote);
            let now = self.now();
            let mut state = self.state();
            let why = match answer {
                Ok(answer) => {
                    state.circuit(way).answered();
                    return Ok(answer);
                }
                Err(Trouble::Refused(why)) => {
                    state.circuit(way).answered();
                    return Err(Trouble::Refused(why));
                }
                Err(away @ (Trouble::Away(_) | Trouble::Busy { .. })) => away,
            };
            self.note_failure(&mut state, way, &why, probe);
            failures += 1;
            let again = now + backoff(failures, &*self.host.random).max(why.wait());
            if again >= deadline {
                return Err(why);
            }
            state.counts.retries += 1;
            drop(state);
            // Nothing but the end of the pause, or of everything.
            self.wait_for(again, |state| state.closing.then_some(()));
        }
    }

    /// Lets a request through, or says why not; says whether it is the try of an open circuit.
    fn admit(&self, way: Way) -> Result<bool, Trouble> {
        let now = self.now();
        let mut state = self.state();
        if state.closing {
            return Err(Trouble::Away("the store is being closed".to_owned()));
        }
        let circuit = state.circuit(way);
        match circuit.why_open() {
            Some(why) if !circuit.admits(now) => Err(Trouble::Away(why.to_owned())),
            Some(_) | None => Ok(circuit.ask()),
        }
    }

    /// A request came to nothing; if that opens the circuit, nobody goes on waiting for it.
    fn note_failure(&self, state: &mut State, way: Way, trouble: &Trouble, probe: bool) {
        let why = trouble.to_string();
        let (now, wait) = (self.now(), trouble.wait());
        let opened = state.circuit(way).failed(now, wait, &why, probe, &*self.host.random);
        if opened {
            tracing::warn!(place = self.remote.place(), ?way, why, "the store is away");
            if way == Way::Reads {
                state.fail_queued(&why);
                self.news.notify_all();
            }
        }
    }

    fn stats(&self) -> TieredStats {
        let (cache_blocks, cache_bytes) = self.cache.usage();
        let state = self.state();
        let blocks = state.staging.blocks();
        let stuck = blocks.values().filter(|block| matches!(block.phase, Phase::Stuck(_)));
        let (in_flight, in_flight_bytes) = state.queue.in_flight();
        let waiting = |class| state.queue.waiting(class) as u64;
        let now = self.now();
        let open_for = |circuit: &Circuit| {
            circuit.open_since().map_or(Duration::ZERO, |since| now.since(since))
        };
        TieredStats {
            staging_bytes_max: self.options.staging_bytes_max,
            cache_bytes_max: self.options.cache_bytes_max,
            staged_blocks: blocks.len() as u64,
            oldest_staged_ms: blocks.values().map(|block| block.modified_ms).min(),
            staged_bytes: state.staging.bytes(),
            stuck_blocks: stuck.count() as u64,
            staged_objects: state.staging.objects().len() as u64,
            queued_reads: waiting(Class::Demand),
            queued_uploads: waiting(Class::Upload),
            queued_ahead: waiting(Class::Ahead),
            in_flight: in_flight as u64,
            in_flight_bytes,
            uploads_width: state.queue.width(Class::Upload) as u64,
            downloads_width: state.queue.width(Class::Demand) as u64,
            reads_away: state.reads.why_open().map(str::to_owned),
            reads_away_for: open_for(&state.reads),
            writes_away: state.writes.why_open().map(str::to_owned),
            writes_away_for: open_for(&state.writes),
            cache_blocks,
            cache_bytes,
            cache_damaged: self.cache.damaged(),
            ..state.counts.clone()
        }
    }

    /// Downloads a block or a part of it, together with all who want the same.
    fn fetch(&self, name: BlockName, range: &Range<u32>) -> FetchResult {
        let now = self.now();
        let deadline = now + self.options.patience;
        let mut state = self.state();
        if state.closing {
            let why = "the store is being closed".to_owned();
            return Err(FetchError::Trouble(Trouble::Away(why)));
        }
        let part = self.part_to_get(&mut state, name, range);
        let result = if let Some(flight) = state.flights.get_mut(&part) {
            flight.waiters += 1;
            flight.deadline = flight.deadline.max(deadline);
            let result = Arc::clone(&flight.result);
            state.queue.promote(&Job::Download(part.clone()), Class::Demand);
            result
        } else {
            if let Some(why) = state.reads.why_open() {
                return Err(FetchError::Trouble(Trouble::Away(why.to_owned())));
            }
            state.take_off(&part, Class::Demand, 1, deadline, now)
        };
        drop(state);
        self.work.notify_one();
        // A request may end some time after the last moment at which it may begin.
        let end = deadline + self.remote.patience() + Duration::from_secs(1);
        let done = self.wait_for(end, |_| result.get().cloned());
        done.unwrap_or_else(|| self.give_up(&part, &result))
    }

    /// Reads all of the block, or the range alone.
    fn part_to_get(&self, state: &mut State, name: BlockName, range: &Range<u32>) -> Part {
        let len = range.end.saturating_sub(range.start);
        let whole = Part { name, range: None };
        let is_whole = if self.cache.is_on() {
            len >= self.options.whole_read_bytes_min || state.touched.get(name).is_some()
        } else {
            len >= WHOLE_BYTES_WITHOUT_CACHE
        };
        if is_whole || state.flights.contains_key(&whole) {
            return whole;
        }
        state.touched.keep(name, (), 1);
        Part { name, range: Some(range.clone()) }
    }

    /// Nobody answered in time: the others who wait, if there are any, go on.
    fn give_up(&self, part: &Part, result: &Arc<OnceLock<FetchResult>>) -> FetchResult {
        let mut state = self.state();
        if let Some(done) = result.get() {
            return done.clone();
        }
        let mut is_last = false;
        if let Some(flight) = state.flights.get_mut(part).filter(|f| Arc::ptr_eq(&f.result, result))
        {
            flight.waiters -= 1;
            is_last = flight.waiters == 0;
        }
        if is_last && state.queue.remove(&Job::Download(part.clone())) {
            state.flights.remove(part);
        }
        Err(FetchError::Trouble(Trouble::Away("no answer in time".to_owned())))
    }

    /// Reads what is on this disk; `None` if the block is not.
    fn read_here(&self, name: BlockName, range: &Range<u32>) -> Option<Result<Bytes, ReadError>> {
        let is_staged = self.state().staging.blocks().contains_key(&name);
        if is_staged {
            match self.staging.read(name, range.clone()) {
                // Uploaded a moment ago.
                Err(ReadError::Missing { .. }) => {}
                read => return Some(read),
            }
        }
        let found = self.cache.read(name, range);
        let mut state = self.state();
        match found {
            Some(_) => state.counts.cache_hits += 1,
            None => state.counts.cache_misses += 1,
        }
        found
    }

    /// Waits until none of the blocks is being uploaded, and holds back those that are staged. Says which.
    fn hold(&self, names: &[BlockName]) -> Result<Vec<(BlockName, bool)>, DeleteError> {
        let deadline = self.now() + self.options.patience;
        let mut held = Vec::new();
        for name in names {
            let done = self.wait_for(deadline, |state| {
                let Some(block) = state.staging.block_mut(*name) else { return Some(None) };
                if matches!(block.phase, Phase::Uploading | Phase::Held) {
                    return None;
                }
                block.phase = Phase::Held;
                let tried = block.tried;
                state.queue.remove(&Job::Upload(*name));
                Some(Some(tried))
            });
            match done {
                Some(Some(tried)) => held.push((*name, tried)),
                Some(None) => {}
                None => {
                    self.let_go(&held);
                    let why = "the block is being uploaded".to_owned();
                    return Err(DeleteError::Away { name: *name, why });
                }
            }
        }
        Ok(held)
    }

    /// The blocks are not deleted after all.
    fn let_go(&self, held: &[(BlockName, bool)]) {
        let now = self.now();
        let mut state = self.state();
        for (name, _) in held {
            if let Some(block) = state.staging.block_mut(*name) {
                block.phase = Phase::Waiting;
                let bytes = block.bytes;
                if block.unsynced {
                    continue;
                }
                state.queue.push(Job::Upload(*name), Class::Upload, bytes, now);
            }
        }
        drop(state);
        self.work.notify_all();
        self.news.notify_all();
    }

    /// Deletes blocks from the store, this disk, and all that is remembered.
    fn delete_all(&self, names: &[BlockName]) -> Result<(), DeleteError> {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let names = &names[..];
        let held = self.hold(names)?;
        let never_sent = |name: &BlockName| held.contains(&(*name, false));
        let there: Vec<_> = names.iter().copied().filter(|name| !never_sent(name)).collect();
        let deleted = self.delete_there(&there).and_then(|()| {
            held.iter().try_for_each(|(name, _)| self.staging.delete(*name).map(drop))
        });
        if let Err(error) = deleted {
            self.let_go(&held);
            return Err(error);
        }
        let now = self.now();
        let mut state = self.state();
        for name in names {
            state.staging.remove(*name);
            state.touched.remove(*name);
        }
        state.deletes += 1;
        // Nobody shares what was answered before.
        state.flights.retain(|_, flight| flight.result.get().is_none());
        state.push_ready_objects(now);
        drop(state);
        for name in names {
            self.cache.remove(*name);
        }
        self.work.notify_all();
        self.news.notify_all();
        Ok(())
    }

    fn delete_there(&self, names: &[BlockName]) -> Result<(), DeleteError> {
        for batch in names.chunks(crate::remote::BATCH) {
            let deleted = self.ask(Way::Writes, |remote| {
                remote.delete_blocks(batch).map_err(|(_, trouble)| trouble)
            });
            deleted.map_err(|trouble| delete_error(batch[0], trouble))?;
        }
        Ok(())
    }
}

impl State {
    /// When something can be done that cannot be done yet.
    fn next_at(&self, now: Monotonic) -> Option<Monotonic> {
        let tries = [self.reads.tries_at(), self.writes.tries_at()];
        let queued = self.queue.next_at(now, |_| true);
        tries.into_iter().flatten().filter(|at| *at > now).chain(queued).min()
    }

    /// Begins a download.
    fn take_off(
        &mut self,
        part: &Part,
        class: Class,
        waiters: usize,
        deadline: Monotonic,
        now: Monotonic,
    ) -> Arc<OnceLock<FetchResult>> {
        let result = Arc::new(OnceLock::new());
        let flight = Flight {
            result: Arc::clone(&result),
            waiters,
            failures: 0,
            deadline,
            deletes: self.deletes,
        };
        self.flights.insert(part.clone(), flight);
        let bytes = match &part.range {
            Some(range) => u64::from(range.end.saturating_sub(range.start)),
            None => BLOCK_FILE_BYTES_MAX as u64,
        };
        self.queue.push(Job::Download(part.clone()), class, bytes, now);
        result
    }
}

impl BlockStore for Tiered {
    /// Durable in the staging area when it returns; uploaded later.
    fn put(&self, block: &Block) -> Result<(), PutError> {
        self.shared.stage(block, |staging| staging.put(block), false)
    }

    /// In the staging area when it returns; uploaded when it was synced.
    fn put_unsynced(&self, block: &Block) -> Result<(), PutError> {
        self.shared.stage(block, |staging| staging.put_unsynced(block), true)
    }

    fn sync(&self, names: &[BlockName]) -> Result<(), SyncError> {
        self.shared.sync_staged(names)
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        let shared = &self.shared;
        if let Some(read) = shared.read_here(name, &range) {
            return read;
        }
        let place = || format!("block {name} in {}", shared.remote.place());
        let fetched = shared.fetch(name, &range);
        match fetched.map_err(|error| error.into_read_error(name, &place(), &range))? {
            Fetched::Range(bytes) => Ok(bytes),
            Fetched::Whole(block) => slice(&block, range),
        }
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        self.shared.footer_of(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        let shared = &self.shared;
        let staged = shared.state().staging.blocks().get(&name).map(|block| block.bytes);
        let bytes = match staged {
            Some(bytes) => Some(bytes),
            None => {
                let size = shared.ask(Way::Reads, |remote| remote.size_of(name));
                size.map_err(|trouble| delete_error(name, trouble))?
            }
        };
        let Some(bytes) = bytes else {
            shared.cache.remove(name);
            return Ok(false);
        };
        shared.delete_all(&[name])?;
        shared.tally.removed(bytes);
        Ok(true)
    }

    fn delete_many(&self, names: &[BlockName]) -> Result<u64, DeleteError> {
        self.shared.delete_all(names)?;
        self.shared.tally.removed_some(names.len() as u64);
        Ok(names.len() as u64)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        let shared = &self.shared;
        let counting = shared.tally.count();
        let mut usage = Usage::default();
        let mut visit = |listed: Listed| {
            usage.blocks += 1;
            usage.bytes += listed.bytes;
            visit(listed)
        };
        // Looked at first: what is uploaded after this is found twice, what was before is found there.
        let mut here = shared.staged_blocks().into_iter().peekable();
        let mut after = None;
        loop {
            let page = shared.ask(Way::Reads, |remote| remote.page(after.as_ref()));
            let page = page.map_err(|trouble| list_error(shared.remote.place(), trouble))?;
            for there in page.blocks {
                while let Some(staged) = here.next_if(|staged| staged.name <= there.name) {
                    if staged.name < there.name && visit(staged).is_break() {
                        return Ok(());
                    }
                }
                if visit(there).is_break() {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if here.try_for_each(visit).is_continue() {
            shared.tally.counted(counting, usage);
        }
        Ok(())
    }

    fn hint(&self, names: &[BlockName]) {
        self.shared.read_ahead(names);
    }

    fn objects(&self) -> &dyn Objects {
        &*self.shared
    }

    /// As of the last complete listing, and what was put and deleted through this store since.
    fn usage(&self) -> Usage {
        self.shared.tally.usage()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl Shared {
    /// Puts a block into the staging area, when there is room.
    fn stage(
        &self,
        block: &Block,
        put: impl FnOnce(&Directory) -> Result<(), PutError>,
        unsynced: bool,
    ) -> Result<(), PutError> {
        let (name, bytes) = (block.name(), block.bytes().len() as u64);
        if self.cache.contains(name) {
            return Err(PutError::AlreadyExists { name });
        }
        let deadline = self.now() + self.options.put_patience;
        let room = |state: &mut State| state.staging.reserve(bytes).then_some(());
        self.wait_for(deadline, room).ok_or(PutError::Full { name })?;
        if let Err(error) = put(&self.staging) {
            self.state().staging.release(bytes);
            self.news.notify_all();
            return Err(error);
        }
        let (now, now_ms) = (self.now(), self.host.clock.wall().millis());
        let mut state = self.state();
        if unsynced {
            state.staging.add_unsynced(name, bytes, now_ms);
        } else {
            state.staging.add(name, bytes, now_ms, false);
            state.queue.push(Job::Upload(name), Class::Upload, bytes, now);
        }
        drop(state);
        self.tally.added(bytes);
        self.work.notify_one();
        Ok(())
    }

    /// Makes staged blocks durable, and lets them be uploaded. Of the others it is seen whether they are there.
    fn sync_staged(&self, names: &[BlockName]) -> Result<(), SyncError> {
        let (staged, elsewhere) = loop {
            let (staged, elsewhere): (Vec<_>, Vec<_>) = {
                let state = self.state();
                names.iter().partition(|name| state.staging.blocks().contains_key(name))
            };
            match self.staging.sync(&staged) {
                // It was durable then.
                Err(SyncError::NotWhole(ReadError::Missing { name })) if self.has_left(name) => {}
                synced => break synced.map(|()| (staged, elsewhere))?,
            }
        };
        let now = self.now();
        let mut state = self.state();
        for name in staged {
            if let Some(bytes) = state.staging.synced(name) {
                state.queue.push(Job::Upload(name), Class::Upload, bytes, now);
            }
        }
        drop(state);
        self.work.notify_all();
        for name in elsewhere {
            if !self.cache.contains(name) {
                self.footer_of(name)?;
            }
        }
        Ok(())
    }

    /// Whether a block whose file is gone was uploaded. It counts as staged until a moment after its file has gone:
    /// that moment is waited for.
    fn has_left(&self, name: BlockName) -> bool {
        let deadline = self.now() + self.options.patience;
        let left = |state: &mut State| match state.staging.block_mut(name).map(|block| &block.phase)
        {
            None => Some(true),
            Some(Phase::Uploading) => None,
            Some(Phase::Waiting | Phase::Held | Phase::Stuck(_)) => Some(false),
        };
        // Who still uploads after that long is asked again.
        self.wait_for(deadline, left).unwrap_or(true)
    }

    fn footer_of(&self, name: BlockName) -> Result<Footer, ReadError> {
        let is_staged = self.state().staging.blocks().contains_key(&name);
        if is_staged {
            match self.staging.footer(name) {
                Err(ReadError::Missing { .. }) => {}
                footer => return footer,
            }
        }
        if let Some(footer) = self.cache.footer(name) {
            return footer;
        }
        // What is wrong with the block is an answer, not a trouble.
        let asked = self.ask(Way::Reads, |remote| match remote.footer_of(name) {
            Err(FetchError::Trouble(trouble)) => Err(trouble),
            answer => Ok(answer),
        });
        let place = format!("block {name} in {}", self.remote.place());
        asked
            .unwrap_or_else(|trouble| Err(FetchError::Trouble(trouble)))
            .map_err(|error| error.into_read_error(name, &place, &(0..0)))
    }

    fn staged_blocks(&self) -> Vec<Listed> {
        let state = self.state();
        let listed = state.staging.blocks().iter().map(|(name, block)| Listed {
            name: *name,
            bytes: block.bytes,
            modified_ms: block.modified_ms,
        });
        listed.collect()
    }

    fn read_ahead(&self, names: &[BlockName]) {
        if !self.cache.is_on() {
            return;
        }
        let now = self.now();
        let deadline = now + self.options.patience;
        let mut state = self.state();
        if state.closing || state.reads.why_open().is_some() {
            return;
        }
        for name in names {
            let part = Part { name: *name, range: None };
            let is_here = state.staging.blocks().contains_key(name) || self.cache.contains(*name);
            if is_here || state.flights.contains_key(&part) {
                continue;
            }
            if state.queue.waiting(Class::Ahead) >= self.options.ahead_blocks_max {
                state.counts.ahead_dropped += 1;
                continue;
            }
            state.take_off(&part, Class::Ahead, 0, deadline, now);
        }
        drop(state);
        self.work.notify_all();
    }

    fn staging_path(&self, name: BlockName) -> PathBuf {
        self.staging.path_of(name)
    }
}

/// A range of a block that was downloaded whole; a small one does not keep the rest in memory.
fn slice(block: &Block, range: Range<u32>) -> Result<Bytes, ReadError> {
    let payload_len = block.footer().payload_len();
    if range.start > range.end || range.end > payload_len {
        return Err(ReadError::OutOfRange { name: block.name(), range, payload_len });
    }
    let part = block.payload().slice(range.start as usize..range.end as usize);
    Ok(if part.len() * 2 < block.bytes().len() { Bytes::copy_from_slice(&part) } else { part })
}
