//! Waiting for room: first come, first served, up to a deadline, by threads and by futures alike.
//!
//! Who asks for room stands in a queue. Whatever may have made room (a piece was saved, something was
//! removed, memory was given back) serves the queue from its front ([`BlockCache::hand_on`]): the memory is
//! taken from the budget on behalf of who waits, clean pieces are evicted for it, and it is told. Nobody
//! who comes later overtakes: while there is a queue, a write that needs memory does not take any.
//!
//! Time comes from outside. A thread that waits looks at the clock it was given; a future is ended at its
//! deadline by whoever calls [`BlockCache::expire`] (or drops it, which takes nothing back and loses
//! nothing).
//!
//! No wake-up is lost: who joins the queue counts itself before it looks for room, and who frees something
//! does so before it looks whether anybody waits.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use host::{Clock, Monotonic};

use crate::budget::Purse;
use crate::cache::BlockCache;
use crate::error::{CacheFull, WriteError};
use crate::types::Generation;

/// Who waits for room.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: Mutex<VecDeque<Arc<Waiter>>>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Waiter {
    needed_bytes: u64,
    deadline: Monotonic,
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    /// So many bytes were taken for it.
    Granted(u64),
    /// It was too late.
    Expired,
    /// It was told.
    Done,
}

/// A place in the queue of those who wait for room. A future; a thread calls [`Room::wait`].
#[derive(Debug)]
#[must_use = "room is waited for, and then used"]
pub struct Room<'a> {
    cache: &'a BlockCache,
    waiter: Arc<Waiter>,
}

/// Memory that was set aside for one writer. What is not used goes back when it is dropped.
#[derive(Debug)]
pub struct Grant<'a> {
    cache: &'a BlockCache,
    /// Taken out only by `drop`.
    purse: Option<Purse<'a>>,
}

/// What became of a write with what was granted.
enum Attempt<'a> {
    Done(Result<(), WriteError>),
    Wait(Room<'a>),
}

impl BlockCache {
    /// Asks for `needed_bytes` of memory, as [`CacheFull`] names them, until `deadline`.
    pub fn room(&self, needed_bytes: u64, deadline: Monotonic) -> Room<'_> {
        let waiter = Arc::new(Waiter {
            needed_bytes,
            deadline,
            state: Mutex::new(State::Waiting(None)),
            told: Condvar::new(),
        });
        if needed_bytes > self.budget.takable() {
            // There never will be, and nobody waits yet.
            *waiter.lock() = State::Expired;
        } else {
            let mut queue = self.waiters.lock();
            queue.push_back(Arc::clone(&waiter));
            self.waiters.count.store(queue.len(), Ordering::SeqCst);
            drop(queue);
            self.hand_on();
        }
        Room { cache: self, waiter }
    }

    /// [`Self::write`] with memory that was waited for. What it does not need stays in the grant.
    ///
    /// # Errors
    ///
    /// As [`Self::write`]: it may need more than was granted, if what it writes into was evicted meanwhile.
    pub fn write_granted(
        &self,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
        grant: &mut Grant<'_>,
    ) -> Result<(), WriteError> {
        match &mut grant.purse {
            Some(purse) => self.write_from(strand, offset, bytes, generation, purse),
            None => self.write(strand, offset, bytes, generation),
        }
    }

    /// [`Self::write`] that waits for room. Needs somebody who calls [`Self::expire`], or who drops it at
    /// the deadline: nothing is written then.
    ///
    /// # Errors
    ///
    /// [`WriteError::CacheFull`] if there was no room until `deadline`. Nothing has changed then.
    pub async fn write_when_room(
        &self,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
        deadline: Monotonic,
    ) -> Result<(), WriteError> {
        let mut grant = Grant::empty(self);
        loop {
            match self.attempt(strand, offset, bytes, generation, grant, deadline) {
                Attempt::Done(written) => return written,
                Attempt::Wait(room) => grant = room.await?,
            }
        }
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`Self::write_when_room`].
    pub fn write_waiting(
        &self,
        clock: &dyn Clock,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
        deadline: Monotonic,
    ) -> Result<(), WriteError> {
        let mut grant = Grant::empty(self);
        loop {
            match self.attempt(strand, offset, bytes, generation, grant, deadline) {
                Attempt::Done(written) => return written,
                Attempt::Wait(room) => grant = room.wait(clock)?,
            }
        }
    }

    /// Writes with what was granted, or begins to wait for as much more as that was too little.
    fn attempt<'a>(
        &'a self,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
        mut grant: Grant<'a>,
        deadline: Monotonic,
    ) -> Attempt<'a> {
        let written = self.write_granted(strand, offset, bytes, generation, &mut grant);
        let Err(WriteError::CacheFull(full)) = written else { return Attempt::Done(written) };
        let needed_bytes = full.needed_bytes + grant.bytes();
        drop(grant);
        Attempt::Wait(self.room(needed_bytes, deadline))
    }

    /// Ends the waiting of all whose deadline has come; returns the next deadline, if anybody waits on.
    pub fn expire(&self, now: Monotonic) -> Option<Monotonic> {
        let mut wakers = Vec::new();
        let mut queue = self.waiters.lock();
        queue.retain(|waiter| {
            let in_time = waiter.deadline > now;
            if !in_time {
                wakers.extend(waiter.tell(State::Expired));
            }
            in_time
        });
        self.waiters.count.store(queue.len(), Ordering::SeqCst);
        let next = queue.iter().map(|waiter| waiter.deadline).min();
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        // Who came behind somebody that was too large may fit.
        self.hand_on();
        next
    }

    /// Gives room to those who wait, in their order, as far as there is any. No shard is locked.
    pub(crate) fn hand_on(&self) {
        if !self.waiters.any() {
            return;
        }
        let mut wakers = Vec::new();
        let mut queue = self.waiters.lock();
        while let Some(first) = queue.front() {
            let mut purse = Purse::empty(&self.budget);
            if !self.make_room(first.needed_bytes, &mut purse) {
                break;
            }
            wakers.extend(first.tell(State::Granted(purse.take_all())));
            queue.pop_front();
            self.waiters.count.store(queue.len(), Ordering::SeqCst);
        }
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Waiters {
    pub(crate) fn any(&self) -> bool {
        self.len() > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the news to a thread that waits, or gives the waker of a task that does: it is woken when no
    /// lock is held.
    #[must_use = "somebody may have to be woken"]
    fn tell(&self, news: State) -> Option<Waker> {
        let before = mem::replace(&mut *self.lock(), news);
        self.told.notify_all();
        match before {
            State::Waiting(waker) => waker,
            State::Granted(_) | State::Expired | State::Done => None,
        }
    }
}

impl<'a> Room<'a> {
    /// Blocks until there is room, or `clock` has reached the deadline.
    ///
    /// # Errors
    ///
    /// [`CacheFull`] if the deadline came first.
    pub fn wait(self, clock: &dyn Clock) -> Result<Grant<'a>, CacheFull> {
        loop {
            let mut state = self.waiter.lock();
            if let Some(result) = self.outcome(&mut state) {
                return result;
            }
            let left = self.waiter.deadline.since(clock.monotonic());
            if left.is_zero() {
                drop(state);
                self.cache.expire(self.waiter.deadline);
            } else {
                drop(self.waiter.told.wait_timeout(state, left));
            }
        }
    }

    fn outcome(&self, state: &mut State) -> Option<Result<Grant<'a>, CacheFull>> {
        match *state {
            State::Waiting(_) => None,
            State::Granted(bytes) => {
                *state = State::Done;
                let purse = Purse::holding(&self.cache.budget, bytes);
                Some(Ok(Grant { cache: self.cache, purse: Some(purse) }))
            }
            State::Expired | State::Done => Some(Err(self.cache.full(self.waiter.needed_bytes))),
        }
    }
}

impl<'a> Future for Room<'a> {
    type Output = Result<Grant<'a>, CacheFull>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.waiter.lock();
        if let Some(result) = self.outcome(&mut state) {
            return Poll::Ready(result);
        }
        *state = State::Waiting(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if matches!(*self.waiter.lock(), State::Expired | State::Done) {
            return;
        }
        let mut queue = self.cache.waiters.lock();
        queue.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        self.cache.waiters.count.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        // It is out of the queue, so this is its last state.
        if let State::Granted(bytes) = *self.waiter.lock() {
            self.cache.budget.release(bytes);
        }
        self.cache.hand_on();
    }
}

impl<'a> Grant<'a> {
    fn empty(cache: &'a BlockCache) -> Self {
        Self { cache, purse: Some(Purse::empty(&cache.budget)) }
    }

    /// Bytes of memory that are left in it.
    pub fn bytes(&self) -> u64 {
        self.purse.as_ref().map_or(0, Purse::left)
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        drop(self.purse.take());
        self.cache.hand_on();
    }
}
