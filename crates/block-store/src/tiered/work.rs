//! What workers do: one upload, one download, one try whether the store is back.
//!
//! Invariant: whatever comes of a job, also a panic, it is taken out of the count of running ones, and
//! whoever waits for it hears of it or it is in the queue again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use host::Monotonic;

use super::backoff::backoff;
use super::queue::{Class, Taken};
use super::staging::Phase;
use super::{FetchResult, Fetched, Job, Part, Shared, State, Way};
use crate::objects::ObjectName;
use crate::remote::{FetchError, Put, Trouble};
use crate::{Block, BlockName, FormatError, PutIf, ReadError};

/// How often a download that does not pass its checksums is tried.
const DAMAGED_TRIES: u32 = 3;

/// How long a worker without work waits before it looks again unasked.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Something to do.
#[derive(Debug)]
enum Task {
    /// Finds out whether the store can be read again.
    Probe,
    /// A job, and whether it is the try of the circuit for writing.
    Job(Taken<Job>, bool),
}

/// What came of an upload.
#[derive(Debug)]
enum Uploaded {
    Done,
    /// It can never be done.
    Stuck(&'static str),
    /// It can be done later.
    Later(Trouble),
    /// The local disk does not give the block; the store was not asked.
    NotRead(String),
    /// The object has to wait for others after all; the store was not asked.
    NotNow,
}

impl Uploaded {
    /// How long the store asked to be left alone.
    fn wait(&self) -> Duration {
        match self {
            Self::Later(trouble) => trouble.wait(),
            Self::Done | Self::Stuck(_) | Self::NotRead(_) | Self::NotNow => Duration::ZERO,
        }
    }
}

impl State {
    fn next_task(&mut self, now: Monotonic) -> Option<Task> {
        if self.closing {
            return None;
        }
        if self.reads.why_open().is_some() && self.reads.admits(now) {
            self.reads.ask();
            return Some(Task::Probe);
        }
        let may_write = self.writes.admits(now);
        let taken = self.queue.take(now, |class| class != Class::Upload || may_write)?;
        let probe = taken.class == Class::Upload && self.writes.ask();
        if let Job::Upload(name) = &taken.job
            && let Some(block) = self.staging.block_mut(*name)
        {
            block.phase = Phase::Uploading;
        }
        Some(Task::Job(taken, probe))
    }

    /// When a worker without work has to look again.
    fn wake_at(&self, now: Monotonic) -> Monotonic {
        self.next_at(now).unwrap_or(now + LOOK_AGAIN).min(now + LOOK_AGAIN)
    }
}

impl Shared {
    /// The life of a worker.
    pub(super) fn work_until_closed(&self) {
        loop {
            let now = self.now();
            let mut state = self.state();
            if state.closing {
                return;
            }
            match state.next_task(now) {
                Some(task) => {
                    drop(state);
                    // There may be more.
                    self.work.notify_one();
                    self.perform(task);
                }
                None => {
                    let wait = state.wake_at(now).since(now);
                    drop(
                        self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner),
                    );
                }
            }
        }
    }

    /// Does one thing that can be done now; says whether there was one.
    pub(super) fn step(&self) -> bool {
        let task = self.state().next_task(self.now());
        task.map(|task| self.perform(task)).is_some()
    }

    fn perform(&self, task: Task) {
        match task {
            Task::Probe => {
                let answer = catch_unwind(AssertUnwindSafe(|| self.remote.probe()));
                let answer = answer.unwrap_or_else(|_| Err(Trouble::Away(PANICKED.to_owned())));
                let mut state = self.state();
                match answer {
                    Ok(()) | Err(Trouble::Refused(_)) => {
                        tracing::info!(place = self.remote.place(), "the store is back");
                        state.reads.answered();
                    }
                    Err(away @ (Trouble::Away(_) | Trouble::Busy { .. })) => {
                        self.note_failure(&mut state, Way::Reads, &away, true);
                    }
                }
            }
            Task::Job(taken, probe) => {
                match taken.job.clone() {
                    Job::Download(part) => self.download(&taken, &part),
                    Job::Upload(name) => self.upload(&taken, name, probe),
                    Job::UploadObject(name) => self.upload_object(&taken, &name, probe),
                }
                self.work.notify_one();
            }
        }
        self.news.notify_all();
    }

    fn download(&self, taken: &Taken<Job>, part: &Part) {
        let fetched = catch_unwind(AssertUnwindSafe(|| match &part.range {
            Some(range) => self.remote.range(part.name, range).map(Fetched::Range),
            None => self.remote.block(part.name).map(Fetched::Whole),
        }));
        let fetched = fetched
            .unwrap_or_else(|_| Err(FetchError::Trouble(Trouble::Refused(PANICKED.to_owned()))));
        let mut state = self.state();
        state.queue.done(taken);
        match &fetched {
            Err(FetchError::Trouble(away @ (Trouble::Away(_) | Trouble::Busy { .. }))) => {
                self.note_failure(&mut state, Way::Reads, away, false);
                state.queue.narrow(taken.class);
            }
            Ok(_) | Err(_) => {
                state.reads.answered();
                state.queue.widen(taken.class);
            }
        }
        if self.tries_again(&mut state, part, taken, &fetched) {
            return;
        }
        if let Ok(fetched) = &fetched {
            state.counts.downloads += 1;
            state.counts.downloaded_bytes += match fetched {
                Fetched::Whole(block) => block.bytes().len() as u64,
                Fetched::Range(bytes) => bytes.len() as u64,
            };
        }
        let Some(flight) = state.flights.get(part) else { return };
        let (result, deletes) = (Arc::clone(&flight.result), flight.deletes);
        let _first = result.set(fetched.clone());
        if let Ok(Fetched::Whole(block)) = fetched {
            drop(state);
            self.news.notify_all();
            self.cache.put(&block);
            state = self.state();
        }
        // Not before the cache has it: who asks meanwhile shares the answer.
        if state.flights.get(part).is_some_and(|flight| Arc::ptr_eq(&flight.result, &result)) {
            state.flights.remove(part);
        }
        // Looked at last: a deletion that comes later than this finds the block in the cache.
        let something_went = state.deletes != deletes;
        drop(state);
        self.news.notify_all();
        if something_went {
            self.cache.remove(part.name);
        }
    }

    /// Puts a download that came to nothing into the queue again, if that may help.
    fn tries_again(
        &self,
        state: &mut State,
        part: &Part,
        taken: &Taken<Job>,
        fetched: &FetchResult,
    ) -> bool {
        let is_open = state.reads.why_open().is_some();
        let Some(flight) = state.flights.get_mut(part) else { return false };
        flight.failures += 1;
        let (may_help, wait) = match fetched {
            Err(FetchError::Trouble(away @ (Trouble::Away(_) | Trouble::Busy { .. }))) => {
                (!is_open, away.wait())
            }
            Err(FetchError::Format(FormatError::Damaged { .. })) => {
                (flight.failures < DAMAGED_TRIES && !is_open, Duration::ZERO)
            }
            Ok(_) | Err(_) => (false, Duration::ZERO),
        };
        let at = self.now() + backoff(flight.failures, &*self.host.random).max(wait);
        if !may_help || state.closing || at >= flight.deadline {
            return false;
        }
        let class = if flight.waiters > 0 { Class::Demand } else { Class::Ahead };
        state.counts.retries += 1;
        state.queue.push(taken.job.clone(), class, taken.bytes(), at);
        true
    }

    fn upload(&self, taken: &Taken<Job>, name: BlockName, probe: bool) {
        let uploaded = catch_unwind(AssertUnwindSafe(|| self.upload_now(name)));
        let uploaded =
            uploaded.unwrap_or_else(|_| Uploaded::Later(Trouble::Refused(PANICKED.to_owned())));
        if let Uploaded::Done = uploaded {
            // While the block counts as staged, nobody else touches its file.
            let keep = |bytes, file: &std::path::Path| self.cache.take(name, bytes, file);
            if let Err(error) = self.staging.give_up(name, keep) {
                tracing::warn!(block = %name, %error, "an uploaded block stays staged");
            }
        }
        let now = self.now();
        let mut state = self.state();
        state.queue.done(taken);
        self.note_upload(&mut state, &uploaded, probe);
        match uploaded {
            Uploaded::Done => {
                state.counts.uploaded_blocks += 1;
                state.counts.uploaded_bytes += taken.bytes();
                state.staging.remove(name);
                state.push_ready_objects(now);
            }
            Uploaded::Stuck(why) => {
                tracing::error!(block = %name, path = %self.staging_path(name).display(), why,
                    "a block cannot be uploaded and stays here");
                if let Some(block) = state.staging.block_mut(name) {
                    block.phase = Phase::Stuck(why);
                    // What is there under this name is not ours, also not to delete.
                    block.tried &= why != TAKEN;
                }
            }
            again @ (Uploaded::Later(_) | Uploaded::NotRead(_) | Uploaded::NotNow) => {
                let Some(block) = state.staging.block_mut(name) else { return };
                block.phase = Phase::Waiting;
                block.failures = block.failures.saturating_add(1);
                let at = now + backoff(block.failures, &*self.host.random).max(again.wait());
                state.counts.retries += 1;
                state.queue.push(taken.job.clone(), Class::Upload, taken.bytes(), at);
            }
        }
    }

    /// What the store's answer to an upload says about the store.
    fn note_upload(&self, state: &mut State, uploaded: &Uploaded, probe: bool) {
        match uploaded {
            Uploaded::Done | Uploaded::Stuck(_) => {
                state.writes.answered();
                state.queue.widen(Class::Upload);
            }
            Uploaded::Later(trouble) => {
                // What is refused to one is refused to all.
                self.note_failure(state, Way::Writes, trouble, probe);
                state.queue.narrow(Class::Upload);
            }
            Uploaded::NotRead(why) => {
                tracing::warn!(why, "a staged block cannot be read");
                if probe {
                    state.writes.abandoned();
                }
            }
            Uploaded::NotNow => {
                if probe {
                    state.writes.abandoned();
                }
            }
        }
    }

    fn upload_now(&self, name: BlockName) -> Uploaded {
        let block = match self.read_staged(name) {
            Ok(block) => block,
            Err(ReadError::Io { source, .. }) => return Uploaded::NotRead(source.to_string()),
            Err(ReadError::Missing { .. }) => return Uploaded::Stuck("its file is gone"),
            Err(_) => return Uploaded::Stuck("its file is damaged"),
        };
        if let Some(staged) = self.state().staging.block_mut(name) {
            staged.tried = true;
        }
        match self.remote.put_block(&block) {
            Ok(Put::Done) => Uploaded::Done,
            Ok(Put::Taken) => Uploaded::Stuck(TAKEN),
            Err(trouble) => Uploaded::Later(trouble),
        }
    }

    /// A whole staged block, every checksum verified: what is damaged is not sent.
    fn read_staged(&self, name: BlockName) -> Result<Block, ReadError> {
        let bytes = self.staging.read_whole(name)?;
        Block::decode(bytes).map_err(|source| {
            ReadError::from_format(name, self.staging_path(name).display().to_string(), source)
        })
    }

    fn upload_object(&self, taken: &Taken<Job>, name: &ObjectName, probe: bool) {
        let uploaded = catch_unwind(AssertUnwindSafe(|| self.upload_object_now(name)));
        let uploaded =
            uploaded.unwrap_or_else(|_| Uploaded::Later(Trouble::Refused(PANICKED.to_owned())));
        let now = self.now();
        let mut state = self.state();
        state.queue.done(taken);
        self.note_upload(&mut state, &uploaded, probe);
        let Some(object) = state.staging.object_mut(name) else { return };
        match uploaded {
            // Not the last one of its name any more.
            Uploaded::Done | Uploaded::Stuck(_) | Uploaded::NotNow => {
                object.asked = false;
                state.push_ready_objects(now);
            }
            again @ (Uploaded::Later(_) | Uploaded::NotRead(_)) => {
                object.failures = object.failures.saturating_add(1);
                let at = now + backoff(object.failures, &*self.host.random).max(again.wait());
                state.counts.retries += 1;
                state.queue.push(taken.job.clone(), Class::Upload, taken.bytes(), at);
            }
        }
    }

    fn upload_object_now(&self, name: &ObjectName) -> Uploaded {
        let state = self.state();
        let object = state.staging.objects().get(name);
        let Some(object) = object.filter(|object| state.staging.is_ready(object)) else {
            return Uploaded::NotNow;
        };
        let (sealed, stamp) = (object.sealed.clone(), object.stamp);
        drop(state);
        match self.remote.put_object(name, &sealed, stamp, &PutIf::Always) {
            Ok(true) => {}
            Ok(false) => {
                let why = "the object was not put, though it should have been always";
                return Uploaded::Later(Trouble::Refused(why.to_owned()));
            }
            Err(trouble) => return Uploaded::Later(trouble),
        }
        match self.unstage_object(name, Some(stamp)) {
            Ok(()) => Uploaded::Done,
            // The same object is put again, some time.
            Err(error) => Uploaded::NotRead(error.to_string()),
        }
    }
}

/// Why a block is stuck whose name somebody else has used.
const TAKEN: &str = "the store has another block of that name";

/// What is said in place of the panic's own message, which was printed.
const PANICKED: &str = "the transfer panicked";
