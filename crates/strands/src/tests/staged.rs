//! Goal: large payload is written once, and is otherwise a write like any other: atomic with what is
//! committed beside it, ordered among journalled writes, cuts and packing, and there after a restart.
//!
//! Method: bytes that reach the simulated disk are counted; changes are made exactly while a block is put;
//! the random runs of this crate's other tests place payload as well.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use block_store::{PutError, SyncError};
use bytes::Bytes;
use host::sim::{Lost, Machine};

use super::watched::{watched, with_cache};
use super::{ROWS, options, power_cut};
use crate::{CollectOptions, Commit, CommitError, Options, ReadError, StrandId, Strands};

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

fn place_unsynced(strands: &Strands, strand: StrandId, at: u64, bytes: impl Into<Bytes>) {
    let staged = strands.stage_unsynced_blocking(strand, at, bytes.into()).unwrap();
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
fn after_a_kill_nothing_is_cut_off_for_a_block_that_was_collected() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = power_cut::open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    // All in one sync, so that no frame says of another that it is durable.
    for fill in 1..=3 {
        place_unsynced(&strands, strand, 0, vec![fill; MIB]);
    }
    let options = CollectOptions { grace: Duration::ZERO, ..CollectOptions::default() };
    assert_eq!(strands.collect(options).unwrap().deleted_blocks, 2);
    drop(strands);
    machine.kill();
    let strands = power_cut::open(&machine, &meta).unwrap();
    assert_eq!(strands.recovery().lost_block, None);
    assert_eq!(read(&strands, strand, MIB), vec![3; MIB]);
}

#[test]
fn a_sync_of_a_block_that_panics_ends_the_journal_and_leaves_nobody_waiting() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    store.on_sync(|_| panic!("in a test"));
    place_unsynced(&strands, strand, 0, vec![1; MIB]);
    assert!(strands.shared.log.sync().is_err());
    let staged = strands.stage_unsynced_blocking(strand, 0, vec![2; MIB].into());
    assert!(matches!(staged, Err(CommitError::Failed(_))), "{staged:?}");
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
fn only_large_payload_is_staged() {
    let (strands, _) = watched(options());
    assert!(strands.should_stage(MIB) && strands.should_stage(256 << 10));
    assert!(!strands.should_stage((256 << 10) - 1));
}

#[test]
fn an_unsynced_burst_reaches_the_disk_once() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = power_cut::open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    let before = machine.counts().bytes_written;
    for at in 0..16 {
        place_unsynced(&strands, strand, at * MIB as u64, vec![at.to_le_bytes()[0]; MIB]);
    }
    strands.commit(Commit::new()).unwrap().wait_durable().unwrap();
    strands.pack_now().unwrap();
    let written = machine.counts().bytes_written - before;
    let payload = 16 * MIB as u64;
    println!("{written} bytes for {payload}: {:.3}", written as f64 / payload as f64);
    assert!(written <= payload + payload / 10, "{written}");
    assert_eq!(strands.status().unsynced_block_bytes, 0);
    drop(strands);
    machine.crash(&mut Lost);
    let strands = power_cut::open(&machine, &meta).unwrap();
    let bytes = read(&strands, strand, 16 * MIB);
    assert!(bytes.chunks(MIB).zip(0..).all(|(chunk, fill)| chunk == vec![fill; MIB]));
}

#[test]
fn who_writes_on_waits_while_too_much_is_not_durable() {
    let max = 4 * MIB as u64;
    let (strands, _) = watched(Options { unsynced_blocks_bytes_max: max, ..options() });
    let strand = strands.mint().unwrap();
    for at in 0..64 {
        place_unsynced(&strands, strand, at * MIB as u64, vec![1; MIB]);
        assert!(strands.status().unsynced_block_bytes <= max + MIB as u64);
    }
}

#[test]
fn who_writes_on_is_refused_when_the_disk_hangs_and_goes_on_when_it_answers() {
    let patience = Duration::from_millis(50);
    let max = MIB as u64;
    let impatient =
        Options { unsynced_blocks_bytes_max: max, admit_patience: patience, ..options() };
    let (strands, store) = watched(impatient);
    let strand = strands.mint().unwrap();
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let hangs = Arc::clone(&gate);
    store.on_sync(move |_| {
        drop(hangs.1.wait_while(hangs.0.lock().unwrap(), |hangs| *hangs).unwrap());
        Ok(())
    });
    place_unsynced(&strands, strand, 0, vec![1; MIB]);
    let stage = |at: u64| strands.stage_unsynced_blocking(strand, at, vec![2; MIB].into());
    let refused = stage(max).unwrap_err();
    assert!(matches!(refused, CommitError::Overloaded { .. }), "{refused}");
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    strands.ticket(strands.positions().appended).wait_durable().unwrap();
    stage(max).unwrap();
    assert_eq!(read(&strands, strand, MIB), vec![1; MIB]);
}

#[test]
fn a_block_that_cannot_be_synced_is_an_error_to_all_who_wait_and_to_all_who_come() {
    let (strands, store) = watched(with_cache(0));
    let strand = strands.mint().unwrap();
    strands.commit(Commit::new()).unwrap().wait_durable().unwrap();
    let durable = strands.positions().durable;
    let epoch = strands.write_epoch();
    let io = || std::io::Error::other("the disk is broken");
    store.on_sync(move |name| Err(SyncError::Io { name, source: io() }));
    let staged = strands.stage_unsynced_blocking(strand, 0, vec![7; MIB].into()).unwrap();
    let mut commit = Commit::new();
    commit.place(strand, 0, staged);
    let ticket = strands.commit(commit).unwrap();
    assert_eq!(read(&strands, strand, MIB), vec![7; MIB], "written is written");
    let failed = ticket.wait_durable();
    assert!(
        matches!(&failed, Err(CommitError::Failed(why)) if why.contains("the disk is broken")),
        "{failed:?}"
    );
    store.on_sync(|_| Ok(()));
    assert!(strands.ticket(strands.positions().appended).wait_durable().is_err(), "it is final");
    assert!(strands.commit(Commit::new()).is_err());
    assert!(strands.stage_unsynced_blocking(strand, 0, vec![7; MIB].into()).is_err());
    assert!(strands.pack_now().is_err());
    assert_ne!(strands.write_epoch(), epoch, "who kept its writes sends them again");
    assert_eq!(strands.positions().durable, durable);
    assert!(strands.close().is_err());
}

/// A life whose commits 0 to 2 are a row, a placed block that nobody synced, and another row, of which as many as
/// `synced` says are known to be durable when the process ends.
fn leave(machine: &Machine, meta: &Arc<power_cut::Synced>, synced: bool) -> StrandId {
    let log = durable_log::Options { sync_interval: None, ..options().log };
    let options = Options { log, ..options() };
    let strands = power_cut::open_with(machine, meta, options).unwrap();
    let strand = strands.mint().unwrap();
    let put = |value: u8| {
        let mut commit = Commit::new();
        commit.put(ROWS, vec![value], vec![value]);
        strands.commit(commit).unwrap()
    };
    put(0).wait_durable().unwrap();
    let staged = strands.stage_unsynced_blocking(strand, 0, vec![7; MIB].into()).unwrap();
    // Nobody syncs the block ahead.
    strands.shared.unsynced.stop();
    let mut commit = Commit::new();
    commit.put(ROWS, &[1][..], &[1][..]).place(strand, 0, staged);
    let placed = strands.commit(commit).unwrap();
    if synced {
        placed.wait_durable().unwrap();
    }
    drop(put(2));
    drop(strands);
    machine.kill();
    strand
}

/// The file of the block with these ending.
fn block_file(machine: &Machine, ending: &str) -> Option<PathBuf> {
    let disk = machine.host().disk;
    let mut folders = vec![PathBuf::from("/blocks")];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap() {
            let path = folder.join(&entry.name);
            if entry.is_dir {
                folders.push(path);
            } else if entry.name.ends_with(ending) && entry.bytes > MIB as u64 {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn a_commit_whose_block_did_not_survive_ends_the_journal_and_what_came_before_stays() {
    for is_gone in [false, true] {
        let machine = Machine::new(1);
        let meta = Arc::default();
        let strand = leave(&machine, &meta, false);
        let file = block_file(&machine, ".unsynced").unwrap();
        if is_gone {
            machine.host().disk.unlink(&file).unwrap();
        } else {
            machine.flip_bit(&file, 8 * 500_000).unwrap();
        }
        let strands = power_cut::open(&machine, &meta).unwrap();
        let lost = strands.recovery().lost_block.clone().unwrap();
        assert!(file.to_str().unwrap().contains(&lost.block), "{lost:?}");
        assert!(strands.recovery().torn.as_ref().is_some_and(|torn| torn.kept_as.is_some()));
        let rows = [0, 1, 2].map(|key| strands.row(ROWS, &[key]).unwrap().is_some());
        assert_eq!(rows, [true, false, false]);
        assert_eq!(strands.end(strand), Ok(0));
        assert_eq!(strands.opening().system_runs, 2, "who kept its writes sends them again");
        drop(strands);
        let strands = power_cut::open(&machine, &meta).unwrap();
        assert!(strands.recovery().lost_block.is_none());
        assert_eq!(strands.opening().system_runs, 2);
    }
}

#[test]
fn a_block_that_was_not_synced_and_is_whole_stays_and_is_durable_from_the_start_on() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strand = leave(&machine, &meta, false);
    for _ in 0..2 {
        let strands = power_cut::open(&machine, &meta).unwrap();
        assert!(strands.recovery().torn.is_none());
        assert_eq!(read(&strands, strand, MIB), vec![7; MIB]);
        assert!(strands.row(ROWS, &[2]).unwrap().is_some());
        drop(strands);
        machine.crash(&mut Lost);
    }
}

#[test]
fn damage_to_a_block_whose_commit_was_durable_is_an_error_and_cuts_nothing() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strand = leave(&machine, &meta, true);
    assert!(block_file(&machine, ".unsynced").is_none());
    machine.flip_bit(&block_file(&machine, ".blk").unwrap(), 8 * 500_000).unwrap();
    let strands = power_cut::open(&machine, &meta).unwrap();
    assert!(strands.recovery().torn.is_none());
    assert!(strands.row(ROWS, &[2]).unwrap().is_some());
    let read = strands.read_blocking(strand, 0, 1 << 20);
    assert!(matches!(&read, Err(ReadError::Unresolvable { why, .. }) if why.contains("damaged")));
}
