//! Goal: a buffered append allocates nothing once the log has warmed up, but for what describes a
//! segment that begins with it. Method: an allocator that counts the allocations of each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

use durable_log::{Log, Options};

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

/// Appends of 256 B until `bytes` were appended; how many allocations that took.
fn append(log: &Log, bytes: usize) -> u64 {
    let record = [7; 256];
    let before = ALLOCATIONS.get();
    for _ in 0..bytes / FRAME_BYTES - 1 {
        log.append(&[&record]).unwrap();
    }
    log.append_parts(&[&record[..100], &record[100..]]).unwrap();
    ALLOCATIONS.get() - before
}

const FRAME_BYTES: usize = 304;
/// Several chunks of the tail.
const ROUND_BYTES: usize = 5 << 18;

#[test]
fn a_buffered_append_allocates_nothing_in_steady_state() {
    let place = Place::with(Options::default());
    let log = place.open();
    append(&log, 2 * ROUND_BYTES);
    log.sync().unwrap();
    for _ in 0..6 {
        assert_eq!(append(&log, ROUND_BYTES), 0);
        log.sync().unwrap();
    }
}

#[test]
fn readers_that_keep_what_is_not_durable_cost_appends_no_allocation() {
    let place = Place::with(Options::default());
    let log = place.open();
    let mut kept = VecDeque::new();
    for round in 0..8 {
        let allocations = append(&log, ROUND_BYTES);
        assert!(round < 4 || allocations == 0, "{allocations} in round {round}");
        let at = log.append(&[&[round; 1000]]).unwrap().at;
        kept.push_back((round, log.slice(at, 1000).unwrap()));
        log.sync().unwrap();
        if kept.len() > 2 {
            let (round, slice) = kept.pop_front().unwrap();
            assert_eq!(slice.read().unwrap(), [round; 1000][..]);
        }
    }
}

/// What an append allocates when a segment begins with it: what all know about the segment, and its
/// index with the list of entries.
const SEGMENT_ALLOCATIONS: u64 = 3;

#[test]
fn an_append_that_begins_a_segment_allocates_what_describes_the_segment() {
    let place = Place::with(Options { segment_bytes: 1 << 20, ..Options::default() });
    let log = place.open();
    append(&log, 6 << 20);
    log.sync().unwrap();
    let segments = log.stats().segments;
    let allocations = append(&log, 4 << 20);
    log.sync().unwrap();
    let begun = log.stats().segments - segments;
    assert!(begun >= 3);
    assert_eq!(allocations, begun * SEGMENT_ALLOCATIONS);
}
