//! Goal: bytes that were read or packed lately come from memory, and never older ones than what was
//! committed before the read began, whatever is written, cut, packed and evicted meanwhile.
//!
//! Method: a store that counts its reads, changes made exactly between a fetch and its arrival, and a
//! model of versions under concurrent readers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;

use super::watched::{watched, with_cache};
use crate::{Commit, StrandId, Strands};

const MIB: u64 = 1 << 20;

fn write(strands: &Strands, strand: StrandId, at: u64, bytes: impl Into<Bytes>) {
    let mut commit = Commit::new();
    commit.write(strand, at, bytes.into());
    drop(strands.commit(commit).unwrap());
}

fn read(strands: &Strands, strand: StrandId, at: u64, len: u32) -> Bytes {
    strands.read_blocking(strand, at, len).unwrap()
}

#[test]
fn what_was_packed_is_still_at_hand() {
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for (part, chunk) in bytes.chunks(500_000).enumerate() {
        write(&strands, strand, part as u64 * 500_000, Bytes::copy_from_slice(chunk));
    }
    strands.pack_now().unwrap();
    assert_eq!(strands.status().unpacked_bytes, 0);
    assert_eq!(read(&strands, strand, 0, 5_000_000), bytes);
    assert_eq!(store.reads(), 0);
    let cache = strands.status().cache.unwrap();
    assert_eq!((cache.hit_bytes, cache.miss_bytes), (5_000_000, 0));
}

#[test]
fn a_round_of_packing_brings_the_newest_half_of_what_fits() {
    let (strands, store) = watched(with_cache(4 * MIB));
    let old = strands.mint().unwrap();
    let new = strands.mint().unwrap();
    for at in 0..8 {
        write(&strands, old, at * MIB, vec![1; 1 << 20]);
    }
    write(&strands, new, 0, vec![2; 1 << 20]);
    strands.pack_now().unwrap();
    assert_eq!(read(&strands, new, 0, 1 << 20), vec![2; 1 << 20]);
    assert_eq!(store.reads(), 0, "the newest is at hand");
    assert_eq!(read(&strands, old, 0, 1 << 20), vec![1; 1 << 20]);
    assert!(store.reads() > 0, "the oldest is not");
    let cache = strands.status().cache.unwrap();
    assert!(cache.allocated_bytes <= cache.budget_bytes);
}

#[test]
fn what_was_fetched_once_is_not_fetched_again_and_only_gaps_are() {
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 300_000]);
    strands.pack_now().unwrap();
    strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
    assert_eq!(read(&strands, strand, 100_000, 50_000), vec![1; 50_000]);
    assert_eq!(store.reads(), 1);
    assert_eq!(read(&strands, strand, 100_000, 50_000), vec![1; 50_000]);
    assert_eq!(store.reads(), 1);
    write(&strands, strand, 90_000, vec![2; 20_000]);
    let want = [vec![1; 20_000], vec![2; 20_000], vec![1; 50_000]].concat();
    assert_eq!(read(&strands, strand, 70_000, 90_000), want);
    assert_eq!(
        store.reads(),
        3,
        "what lies before and behind, and not what is in journal or cache"
    );
    let cache = strands.status().cache.unwrap();
    assert_eq!(cache.miss_bytes, 50_000 + 20_000 + 10_000);
}

#[test]
fn without_a_cache_every_read_asks_the_store() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 100]);
    strands.pack_now().unwrap();
    for reads in 1..3 {
        assert_eq!(read(&strands, strand, 0, 100), vec![1; 100]);
        assert_eq!(store.reads(), reads);
    }
    assert_eq!(strands.status().cache, None);
}

#[test]
fn what_changes_while_bytes_are_fetched_wins() {
    for change in 0..4 {
        let (strands, store) = watched(with_cache(64 * MIB));
        let strand = strands.mint().unwrap();
        write(&strands, strand, 0, vec![1; 100_000]);
        strands.pack_now().unwrap();
        strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
        let other = strands.clone();
        let mut is_first = true;
        store.on_read(move || {
            if !std::mem::replace(&mut is_first, false) {
                return;
            }
            match change {
                0 => write(&other, strand, 10, vec![2; 10]),
                1 => {
                    drop(other.commit(std::mem::take(Commit::new().truncate(strand, 20))).unwrap())
                }
                2 => {
                    write(&other, strand, 10, vec![2; 10]);
                    other.pack_now().unwrap();
                }
                _ => {
                    drop(other.commit(std::mem::take(Commit::new().truncate(strand, 5))).unwrap());
                    write(&other, strand, 50_000, vec![3; 10]);
                    other.pack_now().unwrap();
                }
            }
        });
        read(&strands, strand, 0, 100_000);
        let mut want = vec![1; 100_000];
        match change {
            0 | 2 => want[10..20].fill(2),
            1 => want[20..].fill(0),
            _ => {
                want[5..].fill(0);
                want[50_000..50_010].fill(3);
            }
        }
        for _ in 0..3 {
            assert_eq!(read(&strands, strand, 0, 100_000), want, "change {change}");
        }
    }
}

#[test]
fn a_sequential_reader_finds_the_next_piece_already_here() {
    const PIECE: u64 = 4 * MIB;
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    for at in 0..16 {
        write(&strands, strand, at * MIB, vec![u8::try_from(at).unwrap(); 1 << 20]);
    }
    strands.pack_now().unwrap();
    strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
    let (tell, told) = mpsc::channel();
    store.on_read(move || tell.send(()).unwrap());
    read(&strands, strand, 0, 1 << 19);
    told.recv().unwrap();
    read(&strands, strand, MIB / 2, 1 << 19);
    told.recv().unwrap();
    // The third read is the reader ahead, at the next piece.
    told.recv().unwrap();
    let ahead = || strands.status().cache.unwrap().ahead_bytes;
    while ahead() < PIECE {
        std::thread::yield_now();
    }
    let reads = store.reads();
    let next = u32::try_from(PIECE).unwrap();
    let bytes = read(&strands, strand, PIECE, next);
    assert!(bytes.chunks(1 << 20).zip(4..).all(|(chunk, fill)| chunk == vec![fill; 1 << 20]));
    assert_eq!(store.reads(), reads);
    assert!(ahead() <= 2 * PIECE);
}

#[test]
fn the_store_hears_which_blocks_a_sequential_reader_will_want_each_once_and_in_order() {
    for step in [MIB / 4, MIB] {
        let (strands, store) = watched(with_cache(64 * MIB));
        let strand = strands.mint().unwrap();
        for at in 0..32 {
            write(&strands, strand, at * MIB, vec![1; 1 << 20]);
        }
        strands.pack_now().unwrap();
        strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
        let mut want = 0;
        for at in (0..16 * MIB).step_by(usize::try_from(step).unwrap()) {
            read(&strands, strand, at, u32::try_from(step).unwrap());
            // Four pieces ahead of the one in which the reader is, from its second or third read on.
            want = if at < 2 * step { want } else { (at + step) / (4 * MIB) + 5 };
            while store.hinted().len() + 1 < usize::try_from(want.min(8)).unwrap() {
                std::thread::yield_now();
            }
        }
        let hinted = store.hinted();
        let mut once = hinted.clone();
        once.dedup();
        assert_eq!((once.len(), &once), (7, &hinted), "all but the first, at {step}");
        assert!(hinted.is_sorted(), "{hinted:?}");
    }
}

#[test]
fn a_large_read_is_kept_when_it_is_made_again() {
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    for at in 0..4 {
        write(&strands, strand, at * MIB, vec![1; 1 << 20]);
    }
    strands.pack_now().unwrap();
    let cache = strands.shared.cache.as_ref().unwrap();
    cache.forget(strand, 0..u64::MAX);
    for reads in [1, 2, 2, 2] {
        assert_eq!(read(&strands, strand, 0, 4 << 20), vec![1; 4 << 20]);
        assert_eq!(store.reads(), reads);
        assert_eq!(cache.holds_some(strand, 0, 4 * MIB), reads == 2);
    }
}

#[test]
fn where_bytes_lie_is_looked_up_once_until_something_moves() {
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 2 << 20]);
    strands.pack_now().unwrap();
    let cache = strands.shared.cache.as_ref().unwrap();
    cache.forget(strand, 0..u64::MAX);
    let known = |at: u64| {
        let changes = strands.shared.read_state().extent_changes;
        cache.known().find(strand, at..at + 10, changes).is_some()
    };
    assert!(!known(0));
    read(&strands, strand, 5000, 10);
    assert!(known(0) && known(MIB) && !known(2 * MIB - 9));
    write(&strands, strand, 100, vec![2; 10]);
    assert_eq!(read(&strands, strand, 99, 12)[..2], [1, 2]);
    assert!(known(0), "what lies in the journal is asked for first");
    strands.pack_now().unwrap();
    assert!(!known(0));
    cache.forget(strand, 0..u64::MAX);
    assert_eq!(read(&strands, strand, 99, 12)[..], [&[1][..], &[2; 10], &[1]].concat());
    assert!(store.reads() > 0);
}

#[test]
fn random_readers_read_nothing_ahead() {
    let (strands, store) = watched(with_cache(64 * MIB));
    let strand = strands.mint().unwrap();
    for at in 0..16 {
        write(&strands, strand, at * MIB, vec![1; 1 << 20]);
    }
    strands.pack_now().unwrap();
    strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
    for at in [9, 3, 12, 1, 7, 15] {
        read(&strands, strand, at * MIB, 1 << 20);
    }
    assert_eq!((store.reads(), strands.status().cache.unwrap().ahead_bytes), (6, 0));
}

/// Cells of eight bytes that only ever grow.
const CELLS: usize = 20_000;

/// A run of cells, by chance.
fn some_cells(random: &mut u64) -> std::ops::Range<usize> {
    let mut next = |below: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(*random >> 33).unwrap() % below
    };
    let first = next(CELLS - 600);
    first..first + 1 + next(600)
}

fn check_cells(strands: &Strands, strand: StrandId, floors: &[AtomicU64], random: &mut u64) {
    let cells = some_cells(random);
    let before: Vec<_> =
        floors[cells.clone()].iter().map(|floor| floor.load(Ordering::SeqCst)).collect();
    let len = u32::try_from(8 * cells.len()).unwrap();
    let bytes = read(strands, strand, 8 * cells.start as u64, len);
    for ((got, floor), cell) in bytes.chunks_exact(8).zip(before).zip(cells) {
        let got = u64::from_le_bytes(got.try_into().unwrap());
        assert!(got >= floor, "cell {cell}: {got} was read, {floor} was committed before");
    }
}

#[test]
fn no_byte_is_older_than_what_was_committed_before_the_read_began() {
    let (strands, store) = watched(with_cache(96 << 10));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![0; 8 * CELLS]);
    let floors: Arc<Vec<AtomicU64>> = Arc::new((0..CELLS).map(|_| AtomicU64::new(0)).collect());
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3_u64)
        .map(|reader| {
            let (strands, floors, done) = (strands.clone(), Arc::clone(&floors), Arc::clone(&done));
            let body = move || {
                let mut random = reader;
                while !done.load(Ordering::Relaxed) {
                    check_cells(&strands, strand, &floors, &mut random);
                }
            };
            host::spawn("reader", body).unwrap()
        })
        .collect();
    let mut random = 7;
    for version in 1..3_000_u64 {
        let cells = some_cells(&mut random);
        let bytes = version.to_le_bytes().repeat(cells.len());
        write(&strands, strand, 8 * cells.start as u64, bytes);
        floors[cells].iter().for_each(|floor| floor.store(version, Ordering::SeqCst));
        if version % 40 == 0 {
            strands.pack_now().unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let cache = strands.status().cache.unwrap();
    println!("{cache:?}, {} reads of blocks", store.reads());
    assert!(cache.hit_bytes > 0 && cache.miss_bytes > 0);
    assert!(cache.allocated_bytes <= cache.budget_bytes);
}
