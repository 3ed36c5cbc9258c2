//! Goal: large payload is written once, and is otherwise a write like any other: atomic with what is
//! committed beside it, ordered among journalled writes, cuts and packing, and there after a restart.
//!
//! Method: bytes that reach the simulated disk are counted; changes are made exactly while a block is put;
//! the random runs of this crate's other tests place payload as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use block_store::PutError;
use bytes::Bytes;
use host::sim::Machine;

use super::watched::{watched, with_cache};
use super::{ROWS, options, power_cut};
use crate::{Commit, CommitError, Options, StrandId, Strands};

const MIB: usize = 1 << 20;

fn write(strands: &Strands, strand: StrandId, at: u64, bytes: impl Into<Bytes>) {
    let mut commit = Commit::new();
    commit.write(strand, at, bytes.into());
    drop(strands.commit(commit).unwrap());
}

fn place(strands: &Strands, strand: StrandId, at: u64, bytes: impl Into<Bytes>) {
    let staged = strands.stage_blocking(strand, at, bytes.into()).unwrap();
    assert!(staged.is_in_blocks());
    let mut commit = Commit::new();
    commit.place(strand, at, staged);
    drop(strands.commit(commit).unwrap());
}

fn read(strands: &Strands, strand: StrandId, len: usize) -> Bytes {
    strands.read_blocking(strand, 0, u32::try_from(len).unwrap()).unwrap()
}

#[test]
fn large_payload_reaches_the_disk_once() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = power_cut::open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    let before = machine.counts().bytes_written;
    for at in 0..16 {
        place(&strands, strand, at * MIB as u64, vec![at.to_le_bytes()[0]; MIB]);
    }
    strands.pack_now().unwrap();
    let written = machine.counts().bytes_written - before;
    let payload = 16 * MIB as u64;
    println!("{written} bytes for {payload}: {:.3}", written as f64 / payload as f64);
    assert!(written <= payload + payload / 100, "{written}");
    assert_eq!(strands.status().staged_bytes, payload);
    assert_eq!(strands.status().unpacked_bytes, 0);
    drop(strands);
    let strands = power_cut::open(&machine, &meta).unwrap();
    let bytes = read(&strands, strand, 16 * MIB);
    assert!(bytes.chunks(MIB).zip(0..).all(|(chunk, fill)| chunk == vec![fill; MIB]));
}

#[test]
fn random_overwrites_of_4_kib_cost_in_proportion() {
    const BYTES: u64 = 4096;
    let machine = Machine::new(1);
    let strands = power_cut::open(&machine, &Arc::default()).unwrap();
    let strand = strands.mint().unwrap();
    for at in 0..8 {
        place(&strands, strand, at * 4 * MIB as u64, vec![1; 4 * MIB]);
    }
    let before = machine.counts().bytes_written;
    let mut random = 1_u64;
    for _ in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        write(&strands, strand, (random >> 40) % 8192 * BYTES, vec![2; 4096]);
    }
    strands.pack_now().unwrap();
    let written = machine.counts().bytes_written - before;
    let payload = 2000 * BYTES;
    println!("{written} bytes for {payload}: {:.3}", written as f64 / payload as f64);
    assert!(written <= 3 * payload, "{written}");
}

#[test]
fn it_covers_what_was_journalled_before_and_is_covered_by_what_comes_after() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let mut strands = power_cut::open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 1000]);
    place(&strands, strand, 200, vec![2; 600]);
    write(&strands, strand, 400, vec![3; 100]);
    place(&strands, strand, 700, vec![4; 50]);
    let want =
        [[1; 200].as_slice(), &[2; 200], &[3; 100], &[2; 200], &[4; 50], &[2; 50], &[1; 200]];
    let want = want.concat();
    assert_eq!(read(&strands, strand, 1000), want);
    for pack in [false, true, false] {
        drop(strands);
        strands = power_cut::open(&machine, &meta).unwrap();
        assert_eq!(read(&strands, strand, 1000), want, "after a restart");
        if pack {
            strands.pack_now().unwrap();
            assert_eq!(read(&strands, strand, 1000), want, "packed");
        }
    }
}

#[test]
fn it_is_atomic_with_the_rows_beside_it() {
    let (strands, _) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    let staged = strands.stage_blocking(strand, 0, Bytes::from_static(b"placed")).unwrap();
    assert_eq!(strands.end(strand), Ok(0), "staged is not written yet");
    let mut commit = Commit::new();
    commit.put(ROWS, &b"k"[..], &b"v"[..]).place(strand, 0, staged);
    drop(strands.commit(commit).unwrap());
    assert_eq!(read(&strands, strand, 6), &b"placed"[..]);
    assert_eq!(strands.row(ROWS, b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn beside_other_changes_of_the_strand_it_is_what_comes_last_that_counts() {
    let (strands, _) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    place(&strands, strand, 0, vec![1; 100]);
    let mut commit = Commit::new();
    let staged = |at, fill| strands.stage_blocking(strand, at, vec![fill; 50].into()).unwrap();
    let (one, two) = (staged(20, 2), staged(40, 3));
    commit.place(strand, 20, one).truncate(strand, 60).place(strand, 40, two);
    drop(strands.commit(commit).unwrap());
    let want = [[1; 20].as_slice(), &[2; 20], &[3; 50], &[0; 10]].concat();
    assert_eq!(read(&strands, strand, 100), want);
    strands.pack_now().unwrap();
    assert_eq!(read(&strands, strand, 100), want);
}

#[test]
fn payload_staged_for_another_place_is_journalled() {
    let (strands, _) = watched(with_cache(0));
    let (one, other) = (strands.mint().unwrap(), strands.mint().unwrap());
    let staged = strands.stage_blocking(one, 0, vec![7; 10].into()).unwrap();
    let mut commit = Commit::new();
    commit.place(other, 5, staged);
    drop(strands.commit(commit).unwrap());
    assert_eq!(read(&strands, other, 15), [[0; 5].as_slice(), &[7; 10]].concat());
    assert_eq!(strands.end(one), Ok(0));
}

#[test]
fn a_round_of_packing_that_is_under_way_does_not_bring_back_what_was_placed_over() {
    let (strands, store) = watched(with_cache(64 << 20));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 1000]);
    let (other, is_first) = (strands.clone(), AtomicBool::new(true));
    store.on_put(move |_| {
        if is_first.swap(false, Ordering::SeqCst) {
            place(&other, strand, 300, vec![2; 400]);
        }
        Ok(())
    });
    strands.pack_now().unwrap();
    let want = [[1; 300].as_slice(), &[2; 400], &[1; 300]].concat();
    for _ in 0..2 {
        assert_eq!(read(&strands, strand, 1000), want);
        strands.pack_now().unwrap();
    }
}

#[test]
fn large_writes_side_by_side_do_not_wait_for_each_other() {
    let (strands, store) = watched(with_cache(0));
    let both = Arc::new(Barrier::new(2));
    // Each put returns only when the other one is under way as well.
    store.on_put(move |_| {
        both.wait();
        Ok(())
    });
    let strand = strands.mint().unwrap();
    let writers: Vec<_> = [0, MIB as u64]
        .map(|at| {
            let strands = strands.clone();
            host::spawn("writer", move || place(&strands, strand, at, vec![1; MIB])).unwrap()
        })
        .into_iter()
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(store.puts(), 2);
    assert_eq!(read(&strands, strand, 2 * MIB), vec![1; 2 * MIB]);
}

#[test]
fn a_store_that_takes_no_block_leaves_the_payload_to_the_journal() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    store.on_put(|name| Err(PutError::Io { name, source: std::io::Error::other("away") }));
    let staged = strands.stage_blocking(strand, 0, vec![1; MIB].into()).unwrap();
    assert!(!staged.is_in_blocks());
    let mut commit = Commit::new();
    commit.place(strand, 0, staged);
    drop(strands.commit(commit).unwrap());
    assert_eq!(read(&strands, strand, MIB), vec![1; MIB]);
    assert_eq!(strands.status().unpacked_bytes, MIB as u64);
}

#[test]
fn a_full_disk_refuses_and_nothing_has_changed() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    store.on_put(|name| Err(PutError::NoSpace { name }));
    let refused = strands.stage_blocking(strand, 0, vec![1; MIB].into());
    assert!(matches!(refused, Err(CommitError::NoSpace)), "{refused:?}");
    assert_eq!(strands.end(strand), Ok(0));
}

#[test]
fn payload_larger_than_a_block_gets_several() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    let bytes: Vec<u8> = (0..9 * MIB).map(|at| (at / 1000).to_le_bytes()[0]).collect();
    place(&strands, strand, 77, bytes.clone());
    assert_eq!(store.puts(), 3);
    assert!(store.put_bytes() < 9 * MIB as u64 + 10_000);
    assert_eq!(read(&strands, strand, 77 + 9 * MIB)[77..], bytes);
}

#[test]
fn only_large_payload_is_staged_and_only_where_that_pays() {
    let (strands, _) = watched(options());
    assert!(!strands.should_stage(MIB, false), "a burst is faster through the journal");
    assert!(strands.should_stage(MIB, true));
    assert!(!strands.should_stage(4096, true));
    let pressed = Options { stage_above_journal_bytes: 0, ..options() };
    let (strands, _) = watched(pressed);
    assert!(strands.should_stage(MIB, false));
    assert!(!strands.should_stage(4096, false));
}
