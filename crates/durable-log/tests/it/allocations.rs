//! Goal: a buffered append allocates nothing once the log has warmed up. Method: an allocator that
//! counts the allocations of each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use durable_log::Options;

use crate::support::Place;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static ALLOCATED_BYTES: Cell<u64> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The most bytes that `work` allocates in one piece in this thread.
pub(crate) fn largest_allocation(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(unsafe_code, reason = "only an allocator sees every allocation")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        ALLOCATED_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size() as u64));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Does `work` and says how many bytes this thread allocated for it, freed ones included.
pub(crate) fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATED_BYTES.get();
    let result = work();
    (result, ALLOCATED_BYTES.get() - before)
}

#[test]
fn a_buffered_append_allocates_nothing_in_steady_state() {
    let place = Place::with(Options::default());
    let log = place.open();
    let record = [7; 256];
    let mut allocations = 0;
    for round in 0..6 {
        let before = ALLOCATIONS.get();
        for _ in 0..4096 {
            log.append(&[&record]).unwrap();
        }
        log.append_parts(&[&record, &record]).unwrap();
        if round >= 2 {
            allocations += ALLOCATIONS.get() - before;
        }
        log.sync().unwrap();
    }
    assert_eq!(allocations, 0);
}
