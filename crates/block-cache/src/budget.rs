//! The byte budget: every byte that the cache has allocated, and no other.
//!
//! What is about to be allocated is taken from the budget first, as a [`Purse`]; each allocation spends
//! from the purse, each deallocation puts back into it, and what is left when the purse goes returns to the
//! budget. So the count is what the allocator gave, tables and bookkeeping included, and never more than
//! the limit. Only what a truncate or a forget needs to note where it cut (some bytes each) is taken in any
//! case; a small reserve is kept for it.
//!
//! Buffers and pages that become free are kept in a small pool, which counts as allocated, and which gives way
//! before anything is evicted: a full cache lives on what it evicts, and the allocator would hand much of it
//! to the system and back.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::coverage::{CHUNK_BYTES, PAGE_BYTES};

/// The buffer of a whole chunk: its capacity is [`CHUNK_BYTES`], its length how far it was ever written, so
/// that nothing is zeroed only to be overwritten.
pub(crate) type Buffer = Vec<u8>;

/// The buffer of a page.
pub(crate) type Page = Box<[u8; PAGE_BYTES as usize]>;

const BUFFER_BYTES: u64 = CHUNK_BYTES as u64;
const PAGE_COST: u64 = PAGE_BYTES as u64;
/// Most buffers in the pool: as many as one piece gives back.
const POOL_BUFFERS_MAX: usize = 64;
/// Most pages in the pool.
const POOL_PAGES_MAX: usize = 512;
/// The pool holds at most this part of the budget in buffers, and as much in pages.
const POOL_SHARE: u64 = 16;
/// Most of the budget that is kept for what is taken in any case.
const RESERVE_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    /// What [`Self::try_take`] leaves alone.
    reserve: u64,
    allocated: AtomicU64,
    pool: Mutex<Pool>,
}

/// Memory that nobody uses. The lists have all the room that they ever may need.
#[derive(Debug)]
struct Pool {
    buffers: Vec<Buffer>,
    pages: Vec<Page>,
}

impl Pool {
    fn new(limit: u64) -> Self {
        let fitting = |bytes, max: usize| {
            usize::try_from(limit / POOL_SHARE / bytes).map_or(max, |fitting| fitting.min(max))
        };
        Self {
            buffers: Vec::with_capacity(fitting(BUFFER_BYTES, POOL_BUFFERS_MAX)),
            pages: Vec::with_capacity(fitting(PAGE_COST, POOL_PAGES_MAX)),
        }
    }

    fn own_bytes(&self) -> u64 {
        let buffers = self.buffers.capacity() * size_of::<Buffer>();
        (buffers + self.pages.capacity() * size_of::<Page>()) as u64
    }

    fn bytes(&self) -> u64 {
        self.buffers.len() as u64 * BUFFER_BYTES + self.pages.len() as u64 * PAGE_COST
    }
}

impl Budget {
    /// `fixed`: bytes that are allocated already and stay so.
    pub(crate) fn new(limit: u64, fixed: u64) -> Self {
        let pool = Pool::new(limit);
        Self {
            limit,
            reserve: RESERVE_BYTES.min(limit / 16),
            allocated: AtomicU64::new(fixed + pool.own_bytes()),
            pool: Mutex::new(pool),
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
        self.pool().bytes()
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

    /// Frees what the pool holds until `bytes` fit, as far as there are any.
    pub(crate) fn trim_pool(&self, bytes: u64) {
        let mut pool = self.pool();
        while self.allocated().saturating_add(bytes) > self.takable() {
            if pool.buffers.pop().is_some() {
                self.release(BUFFER_BYTES);
            } else if pool.pages.pop().is_some() {
                self.release(PAGE_COST);
            } else {
                break;
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
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

    /// Bytes that were freed with this purse, what went into the pool included.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// A buffer for a whole chunk. What is in it means nothing.
    pub(crate) fn buffer(&mut self) -> Buffer {
        // What the pool holds is counted already.
        let pooled = self.budget.pool().buffers.pop();
        pooled.unwrap_or_else(|| {
            self.spend(BUFFER_BYTES);
            Vec::with_capacity(CHUNK_BYTES as usize)
        })
    }

    /// Puts a page into each place. What is in it means nothing.
    pub(crate) fn pages<'b>(&mut self, places: impl Iterator<Item = &'b mut Option<Page>>) {
        let mut pool = self.budget.pool();
        for place in places {
            *place = Some(pool.pages.pop().unwrap_or_else(|| {
                self.spend(PAGE_COST);
                zeroed_page()
            }));
        }
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.freed += BUFFER_BYTES;
        let mut pool = self.budget.pool();
        if pool.buffers.len() < pool.buffers.capacity() {
            pool.buffers.push(buffer);
        } else {
            drop(pool);
            drop(buffer);
            self.left += BUFFER_BYTES;
        }
    }

    /// Takes pages back.
    pub(crate) fn recycle_pages(&mut self, pages: impl Iterator<Item = Page>) {
        let mut pool = self.budget.pool();
        for page in pages {
            self.freed += PAGE_COST;
            if pool.pages.len() < pool.pages.capacity() {
                pool.pages.push(page);
            } else {
                drop(page);
                self.left += PAGE_COST;
            }
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

/// A page on the heap, without a copy on the stack.
fn zeroed_page() -> Page {
    let bytes = vec![0; PAGE_BYTES as usize].into_boxed_slice();
    bytes.try_into().expect("as long as a page")
}
