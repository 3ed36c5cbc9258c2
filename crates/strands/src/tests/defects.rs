//! Goal: the defects that were found in an earlier cache of this kind, one test for each, do not exist here.
//!
//! Method: each defect's own steps, on the simulated disk where a crash is part of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use host::sim::{Lost, Machine};

use super::power_cut::{Synced, open};
use super::watched::{watched, with_cache};
use super::{ROWS, options};
use crate::{Commit, Options, ReadError, StrandId, Strands};

const BLOCK: usize = 4 << 20;

fn write(strands: &Strands, strand: StrandId, at: u64, bytes: impl Into<Bytes>) {
    let mut commit = Commit::new();
    commit.write(strand, at, bytes.into());
    drop(strands.commit(commit).unwrap());
}

/// Everything leaves the cache, as if it had been evicted.
fn evict(strands: &Strands, strand: StrandId) {
    strands.shared.cache.as_ref().unwrap().forget(strand, 0..u64::MAX);
}

fn read(strands: &Strands, strand: StrandId, len: usize) -> Bytes {
    strands.read_blocking(strand, 0, u32::try_from(len).unwrap()).unwrap()
}

/// The original kept a list of uploaded blocks that an overwrite did not clear: the block was marked
/// clean without being sent, and the store kept the old bytes.
#[test]
fn d1_overwrite_after_upload_is_not_lost() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; BLOCK]);
    strands.pack_now().unwrap();
    write(&strands, strand, 0, vec![2; 4096]);
    strands.pack_now().unwrap();
    assert_eq!(strands.status().unpacked_bytes, 0);
    evict(&strands, strand);
    let want = [vec![2; 4096], vec![1; BLOCK - 4096]].concat();
    assert_eq!(read(&strands, strand, BLOCK), want);
    strands.close().unwrap();
    drop(strands);
    assert_eq!(read(&open(&machine, &meta).unwrap(), strand, BLOCK), want);
}

/// A block that was overwritten while its upload was under way was marked clean when the upload ended.
#[test]
fn d1_overwrite_during_upload_is_not_lost() {
    let (strands, store) = watched(with_cache(64 << 20));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; BLOCK]);
    let (other, is_first) = (strands.clone(), AtomicBool::new(true));
    store.on_put(move |_| {
        if is_first.swap(false, Ordering::SeqCst) {
            write(&other, strand, 100, vec![2; 5]);
        }
        Ok(())
    });
    strands.pack_now().unwrap();
    assert_eq!(strands.status().unpacked_bytes, 5, "still to be packed");
    strands.pack_now().unwrap();
    evict(&strands, strand);
    let want = [vec![1; 100], vec![2; 5], vec![1; BLOCK - 105]].concat();
    assert_eq!(read(&strands, strand, BLOCK), want);
}

/// The original sent what it had of a block as the whole block: five bytes written into 4 MiB that were not
/// at hand left a block of 105 bytes that began with zeros.
#[test]
fn d2_a_partial_write_to_a_block_that_is_not_at_hand_keeps_the_rest() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; BLOCK]);
    strands.pack_now().unwrap();
    strands.close().unwrap();
    drop(strands);
    let strands = open(&machine, &meta).unwrap();
    write(&strands, strand, 100, vec![2; 5]);
    let want = [vec![1; 100], vec![2; 5], vec![1; BLOCK - 105]].concat();
    strands.pack_now().unwrap();
    assert_eq!(strands.end(strand), Ok(BLOCK as u64));
    evict(&strands, strand);
    assert_eq!(read(&strands, strand, BLOCK), want);
}

/// At a restart the original dropped every write of a name that was ever removed, also those made after the
/// removal.
#[test]
fn d3_what_is_made_again_after_a_removal_survives_a_restart() {
    let machine = Machine::new(1);
    let meta = Arc::default();
    let strands = open(&machine, &meta).unwrap();
    let first = strands.mint().unwrap();
    write(&strands, first, 0, vec![1; 1000]);
    let mut commit = Commit::new();
    commit.remove(first).delete(ROWS, &b"name"[..]);
    drop(strands.commit(commit).unwrap());
    let second = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(second, 0, vec![2; 500].into());
    commit.put(ROWS, &b"name"[..], second.get().to_le_bytes().to_vec());
    drop(strands.commit(commit).unwrap());
    drop(strands);
    let strands = open(&machine, &meta).unwrap();
    let named = strands.row(ROWS, b"name").unwrap().unwrap();
    assert_eq!(named[..], second.get().to_le_bytes());
    assert_eq!(read(&strands, second, 500), vec![2; 500]);
    let gone = strands.read_blocking(first, 0, 1);
    assert!(matches!(gone, Err(ReadError::Unresolvable { .. })), "{gone:?}");
}

/// The original did not log truncates: 8 KiB cut to 100 bytes were 8 KiB again after a restart.
#[test]
fn d4_a_truncate_survives_a_restart() {
    for packed in [false, true] {
        let machine = Machine::new(1);
        let meta = Arc::default();
        let strands = open(&machine, &meta).unwrap();
        let strand = strands.mint().unwrap();
        write(&strands, strand, 0, vec![1; 8192]);
        if packed {
            strands.pack_now().unwrap();
        }
        drop(strands.commit(std::mem::take(Commit::new().truncate(strand, 100))).unwrap());
        drop(strands);
        let strands = open(&machine, &meta).unwrap();
        assert_eq!(strands.end(strand), Ok(100));
        assert_eq!(read(&strands, strand, 8192), [vec![1; 100], vec![0; 8092]].concat());
    }
}

/// The original's mark "uploaded" had no order: it also covered what was written after it, which was then
/// clean, evictable and never sent.
#[test]
fn d5_what_is_written_after_packing_is_still_to_be_packed_after_a_restart() {
    let machine = Machine::new(1);
    let mut meta: Arc<Synced> = Arc::default();
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 10_000]);
    strands.pack_now().unwrap();
    write(&strands, strand, 0, vec![2; 10_000]);
    strands.commit(Commit::new()).unwrap().wait_durable().unwrap();
    drop(strands);
    machine.crash(&mut Lost);
    meta = meta.after_power_cut();
    let strands = open(&machine, &meta).unwrap();
    assert_eq!(strands.status().unpacked_bytes, 10_000);
    assert_eq!(read(&strands, strand, 10_000), vec![2; 10_000]);
    strands.pack_now().unwrap();
    evict(&strands, strand);
    assert_eq!(read(&strands, strand, 10_000), vec![2; 10_000]);
}

/// The original knew what was at hand in units of 64 bytes: one byte written made 63 others zeros.
#[test]
fn d6_one_byte_at_hand_is_one_byte() {
    let (strands, store) = watched(with_cache(64 << 20));
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 64]);
    strands.pack_now().unwrap();
    evict(&strands, strand);
    assert_eq!(strands.read_blocking(strand, 10, 1).unwrap()[..], [1]);
    write(&strands, strand, 40, vec![2; 1]);
    let want = [vec![1; 40], vec![2; 1], vec![1; 23]].concat();
    assert_eq!(read(&strands, strand, 64), want);
    assert_eq!(store.reads(), 4, "the byte, and the three runs around those that are at hand");
    assert_eq!(read(&strands, strand, 64), want);
    assert_eq!(store.reads(), 4);
}

/// The original's sync did nothing: no sync reached the system in a hundred thousand calls.
#[test]
fn d7_every_sync_that_is_answered_reached_the_disk() {
    let machine = Machine::new(1);
    let meta: Arc<Synced> = Arc::default();
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    for at in 0..100_u8 {
        let before = machine.counts().syncs;
        let mut commit = Commit::new();
        commit.write(strand, at.into(), vec![at; 1].into());
        strands.commit(commit).unwrap().wait_durable().unwrap();
        assert!(machine.counts().syncs > before);
    }
    machine.crash(&mut Lost);
    drop(strands);
    let strands = open(&machine, &meta.after_power_cut()).unwrap();
    assert_eq!(read(&strands, strand, 100), (0..100).collect::<Vec<u8>>());
}

/// Reads of the original could return whatever the caller's buffer held before where a block was missing.
#[test]
fn nothing_is_made_up_where_bytes_are_missing() {
    let (strands, store) = watched(Options { cache_bytes: 0, ..options() });
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, vec![1; 100]);
    strands.pack_now().unwrap();
    store.forget_all();
    write(&strands, strand, 200, vec![2; 100]);
    let lost = strands.read_blocking(strand, 0, 300);
    assert!(matches!(lost, Err(ReadError::Unresolvable { offset: 0, .. })), "{lost:?}");
    assert_eq!(strands.read_blocking(strand, 100, 200).unwrap(), [[0; 100], [2; 100]].concat());
}
