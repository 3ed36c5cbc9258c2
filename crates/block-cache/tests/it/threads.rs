//! Goal: with many at work the budget holds at every moment, every thread finds its own bytes, and nobody
//! waits for ever. Each writer owns a strand; all of them share a small cache and those who save.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use block_cache::{BlockCache, Gap};
use host::{Host, Monotonic};

use crate::support::{MIB, PIECE, Rng, cache, generation, piece};

const WRITERS: u64 = 6;
const BUDGET: u64 = 6 * MIB;
const STEPS: u64 = 300;
/// What a strand is long.
const LEN: u64 = PIECE + MIB;

/// Byte `at` of a strand as of its newest write, which a writer keeps per 4 KiB.
fn value(strand: u64, at: u64, version: u64) -> u8 {
    (strand * 31 + at / 64 * 7 + version * 13).to_le_bytes()[0]
}

fn write_and_check(cache: &BlockCache, strand: u64, done: &AtomicU64) {
    let mut rng = Rng::new(strand);
    let clock = Host::real().clock;
    let mut versions = vec![0; usize::try_from(LEN / 4096).unwrap()];
    let (mut to, mut gaps) = (vec![0; 60_000], Vec::new());
    for step in 1..=STEPS {
        let most = if rng.one_in(20) { 60 } else { 3 };
        let pages = 1 + rng.below(most);
        let first = rng.below(LEN / 4096 - pages);
        let bytes: Vec<u8> =
            (first * 4096..(first + pages) * 4096).map(|at| value(strand, at, step)).collect();
        let far = clock.monotonic() + std::time::Duration::from_secs(600);
        let number = generation(step);
        cache.write_waiting(&*clock, strand, first * 4096, &bytes, number, far).unwrap();
        versions[first as usize..(first + pages) as usize].fill(step);
        check(cache, strand, rng.below(LEN - 60_000), &versions, &mut to, &mut gaps);
        if rng.one_in(50) {
            cache.punch_hole(strand, first * 4096..first * 4096 + 4096);
            versions[first as usize] = 0;
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[track_caller]
fn check(
    cache: &BlockCache,
    strand: u64,
    offset: u64,
    versions: &[u64],
    to: &mut [u8],
    gaps: &mut Vec<Gap>,
) {
    cache.read(strand, offset, to, gaps);
    let mut gaps = gaps.iter().peekable();
    for (at, got) in (offset..).zip(&*to) {
        while gaps.next_if(|gap| gap.range.end <= at).is_some() {}
        if gaps.peek().is_some_and(|gap| gap.range.contains(&at)) {
            continue;
        }
        let version = versions[(at / 4096) as usize];
        // Without room to note a hole, zeros stand for it.
        let right = if version == 0 { 0 } else { value(strand, at, version) };
        assert_eq!(*got, right, "strand {strand}, byte {at}, version {version}");
    }
}

/// Saves what is dirty until told to stop, and looks at the budget.
fn save(cache: &BlockCache, stop: &AtomicBool) {
    let (mut found, mut ranges) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        cache.dirty(4, &mut found);
        for dirty in &found {
            if let Some(newest) = cache.dirty_ranges(dirty.id, &mut ranges) {
                cache.mark_saved(dirty.id, newest);
            }
        }
        let stats = cache.stats();
        assert!(stats.allocated_bytes <= BUDGET, "{stats:?}");
        std::thread::yield_now();
    }
}

/// Reads everywhere, fills nothing, evicts at times.
fn disturb(cache: &BlockCache, stop: &AtomicBool) {
    let mut rng = Rng::new(99);
    let (mut to, mut gaps) = (vec![0; 10_000], Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let strand = rng.below(WRITERS);
        cache.read(strand, rng.below(LEN), &mut to, &mut gaps);
        cache.is_covered(strand, 0..LEN);
        if rng.one_in(10) {
            cache.evict(50_000);
        }
        if rng.one_in(10) {
            drop(cache.fill(piece(strand, rng.below(2))));
        }
        cache.expire(Monotonic::from_start(std::time::Duration::ZERO));
    }
}

#[test]
fn the_budget_holds_and_nobody_loses_a_byte() {
    let cache = Arc::new(cache(BUDGET));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|strand| {
            let (cache, done) = (Arc::clone(&cache), Arc::clone(&done));
            host::spawn("writer", move || write_and_check(&cache, strand, &done)).unwrap()
        })
        .collect();
    let helpers: Vec<_> = [save, disturb]
        .into_iter()
        .map(|help| {
            let (cache, stop) = (Arc::clone(&cache), Arc::clone(&stop));
            host::spawn("helper", move || help(&cache, &stop)).unwrap()
        })
        .collect();
    let ended: Vec<_> = writers.into_iter().map(std::thread::JoinHandle::join).collect();
    stop.store(true, Ordering::SeqCst);
    for helper in helpers {
        helper.join().unwrap();
    }
    ended.into_iter().for_each(|ended| ended.unwrap());
    assert_eq!(done.load(Ordering::SeqCst), WRITERS * STEPS);
    assert!(cache.stats().evicted_pieces > 0, "the cache was too large for this test");
    for strand in 0..WRITERS {
        cache.remove(strand);
    }
    let stats = cache.stats();
    assert_eq!((stats.pieces, stats.dirty_pieces, stats.waiting), (0, 0, 0));
    assert!(stats.allocated_bytes - stats.pooled_bytes < 64 << 10, "{stats:?}");
}
