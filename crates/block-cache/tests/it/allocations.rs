//! Goal: the budget counts exactly what is allocated, and the hot calls allocate nothing. Method: an
//! allocator that counts for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use block_cache::BlockCache;

use crate::support::{MIB, PIECE, Rng, cache, generation, piece, write};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are allocated, as far as this thread allocated and freed them.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

#[expect(unsafe_code, reason = "only an allocator sees every allocation")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.set(LIVE.get() + size(layout));
        PEAK.set(PEAK.get().max(LIVE.get()));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - size(layout));
        // SAFETY: `ptr` came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What the cache says it has, less what was live before it.
#[track_caller]
fn check(cache: &BlockCache, before: i64) {
    let said = i64::try_from(cache.stats().allocated_bytes).unwrap();
    assert_eq!(LIVE.get() - before, said);
}

#[test]
fn the_budget_is_what_the_allocator_gave() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let budget = (3 + rng.below(20)) * MIB;
        let source = vec![7; 6 * MIB as usize];
        let mut found = Vec::with_capacity(4096);
        let before = LIVE.get();
        PEAK.set(before);
        let cache = cache(budget);
        check(&cache, before);
        for step in 0..400 {
            let strand = rng.below(40);
            let offset = rng.below(3) * PIECE + rng.below(PIECE);
            let len = match rng.below(4) {
                0 => rng.below(100),
                1 => 4096,
                2 => rng.below(200_000),
                _ => rng.below(5 * MIB),
            };
            match rng.below(12) {
                0 => cache.truncate(strand, offset),
                1 => cache.remove(strand),
                2 => cache.punch_hole(strand, offset..offset + len),
                3 => cache.forget(strand, offset..offset + len),
                4 => {
                    cache.dirty(3, &mut found);
                    for dirty in &found {
                        cache.mark_saved(dirty.id, dirty.newest);
                    }
                }
                5 => drop(cache.evict(len)),
                6 => {
                    let fill = cache.fill(piece(strand, offset / PIECE));
                    fill.map(|fill| fill.bring(offset, &source[..len as usize]));
                }
                _ => {
                    let bytes = &source[..len as usize];
                    let _ = cache.write(strand, offset, bytes, generation(step));
                }
            }
            check(&cache, before);
            assert!(cache.stats().allocated_bytes <= budget, "seed {seed}, step {step}");
        }
        let peak = u64::try_from(PEAK.get() - before).unwrap();
        assert!(peak <= budget, "seed {seed}: {peak} bytes at the peak of {budget}");
        drop(cache);
        assert_eq!(LIVE.get(), before, "everything is given back");
    }
}

#[test]
fn a_small_file_takes_little_more_than_its_bytes() {
    let cache = cache(64 * MIB);
    for strand in 0..1000 {
        write(&cache, strand, 0, &[1; 10 << 10], 1);
    }
    let before = cache.stats().allocated_bytes;
    for strand in 1000..2000 {
        write(&cache, strand, 0, &[1; 10 << 10], 1);
    }
    let each = (cache.stats().allocated_bytes - before) / 1000;
    assert!(each < (12 << 10) + 1536, "{each} bytes for a file of 10 KiB");
}

#[test]
fn a_sparse_write_takes_its_page_and_little_more() {
    let cache = cache(64 * MIB);
    let mut rng = Rng::new(1);
    for _ in 0..100 {
        write(&cache, 1, rng.below(1 << 50) / 4096 * 4096, &[1; 4096], 1);
    }
    let before = cache.stats().allocated_bytes;
    for _ in 0..1000 {
        write(&cache, 1, rng.below(1 << 50) / 4096 * 4096, &[1; 4096], 1);
    }
    let each = (cache.stats().allocated_bytes - before) / 1000;
    assert!(each < 4096 + 1536, "{each} bytes for a random page");
}

#[test]
fn a_large_file_takes_two_percent_more_than_its_bytes() {
    let cache = cache(64 * MIB);
    let before = cache.stats().allocated_bytes;
    for at in 0..512 {
        write(&cache, 1, at * 32768, &[1; 32768], 1);
    }
    let taken = cache.stats().allocated_bytes - before;
    assert!(taken < 16 * MIB * 102 / 100, "{taken} bytes for 16 MiB");
}

#[test]
fn a_file_of_any_length_takes_at_most_a_page_more_than_twice_its_bytes() {
    for len in [33_000, 66_000, 70_000, 140_000, 300_000] {
        let cache = cache(64 * MIB);
        write(&cache, 2, 0, b"x", 1);
        let before = cache.stats();
        for at in (0..len).step_by(4096) {
            write(&cache, 1, at, &[1; 4096][..4096.min((len - at) as usize)], 1);
        }
        let after = cache.stats();
        let taken = after.allocated_bytes - after.pooled_bytes - before.allocated_bytes;
        assert!(taken < 2 * len + 4096, "{taken} bytes for a file of {len}");
    }
}

#[test]
fn a_write_over_bytes_that_are_here_allocates_nothing() {
    let cache = cache(64 * MIB);
    let bytes = vec![3; 32 << 10];
    for at in 0..256 {
        write(&cache, 1, at * 32768, &bytes, 1);
    }
    let before = ALLOCATIONS.get();
    let mut rng = Rng::new(2);
    for number in 2..2000 {
        let len = 1 + rng.below(32 << 10);
        write(&cache, 1, rng.below(8 * MIB - len), &bytes[..len as usize], number);
        if number % 7 == 0 {
            cache.mark_saved(piece(1, rng.below(2)), generation(number));
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn a_read_into_the_callers_buffer_allocates_nothing() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &vec![3; 8 * MIB as usize], 1);
    let (mut to, mut gaps) = (vec![0; 128 << 10], Vec::new());
    let before = ALLOCATIONS.get();
    for at in 0..1000 {
        cache.read(1, at * 7777 % (8 * MIB - (128 << 10)), &mut to, &mut gaps);
        assert!(gaps.is_empty() && cache.is_covered(1, at * 7000..at * 7000 + 32768));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
