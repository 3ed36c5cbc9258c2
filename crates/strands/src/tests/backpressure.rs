//! Goal: while the block store takes no blocks, writers wait at the journal's limit and nobody is refused before he has
//! waited as long as he may; journal and memory stay within their limits; and all goes on when the store comes back.
//!
//! Method: a store that is full until the test says otherwise, and counts of what lies where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use block_store::PutError;
use bytes::Bytes;
use host::sim::Machine;

use super::options;
use super::watched::{watched, watched_on};
use crate::{Commit, CommitError, Options, StrandId, Strands};

const WRITE: usize = 16 << 10;
const SEGMENT: u64 = 64 << 10;
const JOURNAL_MAX: u64 = 1 << 20;
const WRITERS: u64 = 4;
const WRITES: u64 = 200;

fn small() -> Options {
    Options {
        pack_after_bytes: JOURNAL_MAX / 4,
        journal_bytes_max: JOURNAL_MAX,
        cache_bytes: 256 << 10,
        ..options()
    }
}

fn fill(writer: u64, part: u64) -> u8 {
    (writer * 50 + part).to_le_bytes()[0]
}

fn write_all(strands: &Strands, strand: StrandId, writer: u64, peak: &AtomicU64) {
    for part in 0..WRITES {
        strands.admit_blocking(WRITE).unwrap();
        let mut commit = Commit::new();
        let bytes = Bytes::from(vec![fill(writer, part); WRITE]);
        commit.write(strand, part * WRITE as u64, bytes);
        drop(strands.commit(commit).unwrap());
        let status = strands.status();
        peak.fetch_max(status.journal_bytes, Ordering::SeqCst);
        let cache = status.cache.unwrap();
        assert!(cache.allocated_bytes <= cache.budget_bytes);
        assert!(status.unpacked_bytes <= status.journal_bytes + JOURNAL_MAX);
    }
}

#[test]
fn writers_wait_while_the_store_is_full_and_go_on_when_it_is_not() {
    let (strands, store) = watched(small());
    let is_full = Arc::new(AtomicBool::new(true));
    let (tell, told) = mpsc::channel();
    let full = Arc::clone(&is_full);
    store.on_put(move |name| {
        if full.load(Ordering::SeqCst) {
            let _nobody_counts_any_more = tell.send(());
            return Err(PutError::Full { name });
        }
        Ok(())
    });
    let peak = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let strand = strands.mint().unwrap();
            let (strands, peak) = (strands.clone(), Arc::clone(&peak));
            let body = move || {
                write_all(&strands, strand, writer, &peak);
                strand
            };
            host::spawn("writer", body).unwrap()
        })
        .collect();
    // Refused, and tried again while the writers are at the limit.
    told.recv().unwrap();
    while strands.status().journal_bytes <= JOURNAL_MAX {
        std::thread::yield_now();
    }
    told.recv().unwrap();
    assert!(strands.status().pack_error.is_some());
    let written = strands.status().unpacked_bytes;
    assert!(written < WRITERS * WRITES * WRITE as u64 / 4, "{written} bytes passed the limit");
    is_full.store(false, Ordering::SeqCst);
    let written: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let peak = peak.load(Ordering::SeqCst);
    // A segment may be begun, and each writer may have been let in, just before the limit was passed.
    let most = JOURNAL_MAX + 2 * SEGMENT + WRITERS * 2 * WRITE as u64;
    assert!(peak <= most, "{peak} > {most}");
    strands.pack_now().unwrap();
    for (strand, writer) in written.into_iter().zip(0..) {
        for part in 0..WRITES {
            let at = part * WRITE as u64;
            let bytes = strands.read_blocking(strand, at, u32::try_from(WRITE).unwrap()).unwrap();
            assert_eq!(bytes, vec![fill(writer, part); WRITE]);
        }
    }
}

#[test]
fn a_writer_that_waits_longer_than_it_may_is_told_so_and_later_ones_pass() {
    let machine = Machine::new(1);
    let (strands, store) = watched_on(&machine, small());
    let is_full = Arc::new(AtomicBool::new(true));
    let (tell, told) = mpsc::channel();
    let full = Arc::clone(&is_full);
    store.on_put(move |name| {
        if full.load(Ordering::SeqCst) {
            let _nobody_counts_any_more = tell.send(());
            return Err(PutError::Full { name });
        }
        Ok(())
    });
    let strand = strands.mint().unwrap();
    let mut at = 0;
    while strands.status().journal_bytes <= JOURNAL_MAX {
        let mut commit = Commit::new();
        commit.write(strand, at, Bytes::from(vec![1; WRITE]));
        drop(strands.commit(commit).unwrap());
        at += WRITE as u64;
    }
    let waiting = strands.clone();
    let writer = host::spawn("writer", move || waiting.admit_blocking(WRITE)).unwrap();
    // As long as the clock stands still it waits, however often the store refuses.
    told.iter().take(3).for_each(drop);
    assert!(!writer.is_finished());
    let before = machine.host().clock.monotonic();
    while !writer.is_finished() {
        machine.advance(Duration::from_secs(1));
        std::thread::yield_now();
    }
    let waited = machine.host().clock.monotonic().since(before);
    let refused = writer.join().unwrap().unwrap_err();
    println!("after {waited:?}: {refused}");
    assert!(matches!(refused, CommitError::Overloaded { .. }), "{refused}");
    assert!(waited >= small().admit_patience);
    is_full.store(false, Ordering::SeqCst);
    strands.pack_now().unwrap();
    strands.admit_blocking(WRITE).unwrap();
}

#[test]
fn changes_without_payload_do_not_wait_behind_bulk_data() {
    let (strands, store) = watched(small());
    store.on_put(|name| Err(PutError::Full { name }));
    let strand = strands.mint().unwrap();
    let mut at = 0;
    while strands.status().journal_bytes <= JOURNAL_MAX {
        let mut commit = Commit::new();
        commit.write(strand, at, Bytes::from(vec![1; WRITE]));
        drop(strands.commit(commit).unwrap());
        at += WRITE as u64;
    }
    strands.admit_blocking(0).unwrap();
    drop(strands.commit(std::mem::take(Commit::new().truncate(strand, 0))).unwrap());
    assert_eq!(strands.end(strand), Ok(0));
}

#[test]
fn a_store_that_takes_no_block_does_not_have_the_journal_read_for_each_try() {
    let (strands, store) = watched(Options { pack_after_bytes: u64::MAX, ..small() });
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    store.on_put(move |name| match full.load(Ordering::SeqCst) {
        true => Err(PutError::Full { name }),
        false => Ok(()),
    });
    let strand = strands.mint().unwrap();
    for part in 0..50_u64 {
        let mut commit = Commit::new();
        let at = part * WRITE as u64;
        commit.write(strand, at, Bytes::from(vec![fill(0, part); WRITE]));
        drop(strands.commit(commit).unwrap());
    }
    let commits = strands.positions().appended.get();
    let read = || crate::shared::lock(&strands.shared.pack_stats).read_commits;
    for _ in 0..10 {
        strands.pack_now().unwrap_err();
        assert!(read() <= commits, "{} of {commits} commits", read());
    }
    is_full.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        strands.pack_now().unwrap();
    }
    let all = strands.positions().appended.get();
    assert!(read() <= commits + all, "{} of {all} commits, once for the ledger", read());
    for part in 0..50 {
        let bytes = strands.read_blocking(strand, part * WRITE as u64, 16 << 10).unwrap();
        assert_eq!(bytes, vec![fill(0, part); WRITE]);
    }
}
