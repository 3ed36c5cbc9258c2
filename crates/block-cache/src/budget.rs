//! The byte budget: every byte that the cache has allocated, and no other.
//!
//! What is about to be allocated is taken from the budget first, as a [`Purse`]; each allocation spends
//! from the purse, each deallocation puts back into it, and what is left when the purse goes returns to the
//! budget. So the count is what the allocator gave, tables and bookkeeping included, and never more than
//! the limit. Only what a truncate or a forget needs to note where it cut (some bytes each) is taken in any
//! case; a small reserve is kept for it.
//!
//! Buffers of whole chunks that become free are kept in a small pool, which counts as allocated, and which
//! gives way before anything is evicted.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::coverage::CHUNK_BYTES;

/// The buffer of a whole chunk.
pub(crate) type Buffer = Box<[u8]>;

const BUFFER_BYTES: u64 = CHUNK_BYTES as u64;
/// Most buffers in the pool: as many as one piece gives back.
const POOL_MAX: usize = 64;
/// Most of the budget that is kept for what is taken in any case.
const RESERVE_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    /// What [`Self::try_take`] leaves alone.
    reserve: u64,
    allocated: AtomicU64,
    pool: Mutex<Vec<Buffer>>,
    pool_max: usize,
}

impl Budget {
    /// `fixed`: bytes that are allocated already and stay so.
    pub(crate) fn new(limit: u64, fixed: u64) -> Self {
        let pool_max =
            usize::try_from(limit / 8 / BUFFER_BYTES).map_or(POOL_MAX, |n| n.min(POOL_MAX));
        let pool = Vec::with_capacity(pool_max);
        let fixed = fixed + (pool.capacity() * size_of::<Buffer>()) as u64;
        Self {
            limit,
            reserve: RESERVE_BYTES.min(limit / 16),
            allocated: AtomicU64::new(fixed),
            pool: Mutex::new(pool),
            pool_max,
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Most that can be taken at once, when nothing else is here.
    pub(crate) fn takable(&self) -> u64 {
        self.limit - self.reserve
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::SeqCst)
    }

    pub(crate) fn pooled(&self) -> u64 {
        self.pool().len() as u64 * BUFFER_BYTES
    }

    /// Takes `bytes` if they fit.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let taken = self.allocated.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |allocated| {
            allocated.checked_add(bytes).filter(|sum| *sum <= self.takable())
        });
        taken.is_ok()
    }

    /// Takes `bytes`, whatever the limit says.
    fn take(&self, bytes: u64) {
        self.allocated.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives `bytes` back.
    pub(crate) fn release(&self, bytes: u64) {
        let before = self.allocated.fetch_sub(bytes, Ordering::SeqCst);
        debug_assert!(before >= bytes, "more was given back than taken");
    }

    /// Frees buffers of the pool until `bytes` fit, as far as there are any.
    pub(crate) fn trim_pool(&self, bytes: u64) {
        let mut pool = self.pool();
        while self.allocated().saturating_add(bytes) > self.takable() {
            let Some(buffer) = pool.pop() else { break };
            drop(buffer);
            self.release(BUFFER_BYTES);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the budget in the hands of one operation.
#[derive(Debug)]
pub(crate) struct Purse<'a> {
    budget: &'a Budget,
    left: u64,
    freed: u64,
}

impl<'a> Purse<'a> {
    pub(crate) fn empty(budget: &'a Budget) -> Self {
        Self { budget, left: 0, freed: 0 }
    }

    /// A purse with bytes that were taken before.
    pub(crate) fn holding(budget: &'a Budget, bytes: u64) -> Self {
        Self { budget, left: bytes, freed: 0 }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes from the budget until `bytes` are in here. What could not be had is the error.
    pub(crate) fn fill_to(&mut self, bytes: u64) -> Result<(), u64> {
        let missing = bytes.saturating_sub(self.left);
        if missing > 0 {
            if !self.budget.try_take(missing) {
                return Err(missing);
            }
            self.left += missing;
        }
        Ok(())
    }

    /// Something of `bytes` is about to be allocated.
    pub(crate) fn spend(&mut self, bytes: u64) {
        let missing = bytes.saturating_sub(self.left);
        if missing > 0 {
            self.budget.take(missing);
            self.left += missing;
        }
        self.left -= bytes;
    }

    /// Something of `bytes` was freed.
    pub(crate) fn put_back(&mut self, bytes: u64) {
        self.left += bytes;
        self.freed += bytes;
    }

    /// Bytes that were freed with this purse, those of buffers that went into the pool included.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// A buffer for a whole chunk. What is in it means nothing.
    pub(crate) fn buffer(&mut self) -> Buffer {
        // What the pool holds is counted already.
        let pooled = self.budget.pool().pop();
        pooled.unwrap_or_else(|| {
            self.spend(BUFFER_BYTES);
            vec![0; CHUNK_BYTES as usize].into_boxed_slice()
        })
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        let mut pool = self.budget.pool();
        if pool.len() < self.budget.pool_max {
            pool.push(buffer);
            self.freed += BUFFER_BYTES;
        } else {
            drop(pool);
            drop(buffer);
            self.put_back(BUFFER_BYTES);
        }
    }

    /// Takes everything out; the caller answers for it.
    pub(crate) fn take_all(&mut self) -> u64 {
        mem::take(&mut self.left)
    }
}

impl Drop for Purse<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.budget.release(self.left);
        }
    }
}
