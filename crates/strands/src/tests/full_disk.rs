//! Goal: on a full disk commits and packing answer that there is no space, nobody waits for ever, nothing
//! that was acknowledged is lost, and work goes on at once when there is room.
//!
//! Method: the simulated disk, filled to a size that only just lets the server start.

use std::path::Path;
use std::sync::Arc;

use block_store::{BlockStore, Directory};
use bytes::Bytes;
use host::sim::{Lost, Machine};

use super::options;
use super::power_cut::{Synced, open};
use crate::{Commit, CommitError, Options, StrandId, Strands};

const PART_BYTES: usize = 10_000;
const ROOMY_BYTES: u64 = 1 << 30;

fn write(strands: &Strands, strand: StrandId, part: u64) -> Result<(), CommitError> {
    let mut commit = Commit::new();
    commit.write(strand, part * PART_BYTES as u64, part_bytes(part));
    strands.commit(commit)?.wait_durable()
}

fn part_bytes(part: u64) -> Bytes {
    Bytes::from(vec![part.to_le_bytes()[0].wrapping_add(1); PART_BYTES])
}

/// Writes until there is no room; returns how many parts were acknowledged.
fn fill(strands: &Strands, strand: StrandId) -> u64 {
    let refused = (0..10_000).find_map(|part| Some((part, write(strands, strand, part).err()?)));
    let (parts, error) = refused.expect("the disk fills up");
    assert_eq!(error, CommitError::NoSpace);
    parts
}

#[track_caller]
fn check(strands: &Strands, strand: StrandId, parts: u64) {
    for part in 0..parts {
        let at = part * PART_BYTES as u64;
        let got = strands.read_dense_blocking(strand, at, PART_BYTES.try_into().unwrap()).unwrap();
        assert_eq!(got, part_bytes(part), "part {part}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_on_a_full_disk_and_work_goes_on_when_there_is_room() {
    for pages in 40..80 {
        println!("{pages} pages");
        let machine = Machine::new(pages);
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let strand = strands.mint().unwrap();
        machine.fill_up(pages * 4096);
        let parts = fill(&strands, strand);
        assert!(parts > 0);
        check(&strands, strand, parts);
        let cut = machine.fork();
        machine.fill_up(ROOMY_BYTES);
        write(&strands, strand, parts).unwrap();
        check(&strands, strand, parts + 1);
        for machine in [cut, machine] {
            machine.crash(&mut Lost);
            machine.fill_up(ROOMY_BYTES);
            let strands = open(&machine, &meta.after_power_cut()).unwrap();
            check(&strands, strand, parts);
        }
    }
}

#[test]
fn packing_on_a_full_disk_answers_no_space_and_goes_on_when_there_is_room() {
    for pages in 40..80 {
        println!("{pages} pages");
        let machine = Machine::new(pages);
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let strand = strands.mint().unwrap();
        machine.fill_up(pages * 4096);
        let parts = fill(&strands, strand);
        assert_eq!(strands.pack_now(), Err(CommitError::NoSpace));
        check(&strands, strand, parts);
        machine.fill_up(ROOMY_BYTES);
        strands.pack_now().unwrap();
        assert_eq!(strands.status().unpacked_bytes, 0);
        write(&strands, strand, parts).unwrap();
        drop(strands);
        machine.crash(&mut Lost);
        check(&open(&machine, &meta.after_power_cut()).unwrap(), strand, parts + 1);
    }
}

#[test]
fn everybody_who_waits_on_a_full_disk_gets_an_answer() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    machine.fill_up(60 * 4096);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let strands = strands.clone();
            let work = move || {
                let refused = (0..100).find_map(|round| {
                    let mut commit = Commit::new();
                    let part = round * 8 + writer;
                    commit.write(strand, part * PART_BYTES as u64, part_bytes(part));
                    let ticket = match strands.commit(commit) {
                        Ok(ticket) => ticket,
                        Err(error) => return Some(error),
                    };
                    match writer % 2 {
                        0 => ticket.wait_durable().err(),
                        _ => crate::admit::block_on(ticket.durable()).err(),
                    }
                });
                assert_eq!(refused, Some(CommitError::NoSpace));
            };
            host::spawn("writer", work).unwrap()
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn deletes_go_on_when_the_journal_is_over_its_limit_and_packing_finds_no_room() {
    let machine = Machine::new(1);
    let host = machine.host();
    let blocks: Arc<dyn BlockStore> =
        Arc::new(Directory::open(&host, Path::new("/blocks")).unwrap());
    let options = Options { journal_bytes_max: 20_000, ..options() };
    let meta = Arc::new(Synced::default());
    let strands = Strands::open(host, Path::new("/journal"), meta, blocks, options).unwrap();
    let strand = strands.mint().unwrap();
    machine.fill_up(40 * 4096);
    fill(&strands, strand);
    assert_eq!(strands.admit_blocking(PART_BYTES), Err(CommitError::NoSpace));
    assert_eq!(strands.admit_blocking(0), Ok(()));
    machine.fill_up(ROOMY_BYTES);
    strands.pack_now().unwrap();
    assert_eq!(strands.admit_blocking(PART_BYTES), Ok(()));
}

/// What a meta store does whose own disk is full.
#[test]
fn writers_are_told_when_the_meta_store_takes_no_rows() {
    let machine = Machine::new(1);
    let host = machine.host();
    let blocks: Arc<dyn BlockStore> = Arc::new(block_store::Memory::new());
    let options = Options { overlay_bytes_max: 1000, ..options() };
    let meta = Arc::new(Stubborn::default());
    let refuse = Arc::clone(&meta);
    let strands = Strands::open(host, Path::new("/journal"), meta, blocks, options).unwrap();
    refuse.refuses.store(true, std::sync::atomic::Ordering::Release);
    for key in 0..20u8 {
        let mut commit = Commit::new();
        commit.put(super::ROWS, vec![key], vec![0; 100]);
        strands.commit(commit).unwrap().wait_durable().unwrap();
    }
    assert!(matches!(strands.admit_blocking(1), Err(CommitError::Failed(_))));
    refuse.refuses.store(false, std::sync::atomic::Ordering::Release);
    strands.pack_now().unwrap();
    assert_eq!(strands.admit_blocking(1), Ok(()));
}

/// A meta store that can be told to refuse.
#[derive(Debug, Default)]
struct Stubborn {
    rows: meta_store::Memory,
    refuses: std::sync::atomic::AtomicBool,
}

impl meta_store::MetaStore for Stubborn {
    fn get(
        &self,
        table: meta_store::Table,
        key: &[u8],
    ) -> Result<Option<Bytes>, meta_store::MetaError> {
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: meta_store::Table,
        range: meta_store::KeyRange<'_>,
        order: meta_store::Order,
        visit: &mut meta_store::Visit<'_>,
    ) -> Result<(), meta_store::MetaError> {
        self.rows.scan(table, range, order, visit)
    }

    fn commit(
        &self,
        batch: &meta_store::Batch,
        applied: meta_store::Applied,
    ) -> Result<(), meta_store::MetaError> {
        if self.refuses.load(std::sync::atomic::Ordering::Acquire) {
            return Err(meta_store::MetaError::Stopped { why: "told to".to_owned() });
        }
        self.rows.commit(batch, applied)
    }

    fn applied(&self) -> meta_store::Applied {
        self.rows.applied()
    }

    fn snapshot(&self) -> Result<Box<dyn meta_store::Snapshot>, meta_store::MetaError> {
        self.rows.snapshot()
    }

    fn sync(&self) -> Result<meta_store::Applied, meta_store::MetaError> {
        self.rows.sync()
    }
}

#[test]
fn segments_that_hold_nothing_any_more_are_let_go_on_a_disk_that_is_full_to_the_brim() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    (0..40).for_each(|part| write(&strands, strand, part).unwrap());
    let mut commit = Commit::new();
    commit.remove(strand);
    strands.commit(commit).unwrap().wait_durable().unwrap();
    machine.fill_up(ROOMY_BYTES);
    let available = machine.host().disk.space(Path::new("/journal")).unwrap().available_bytes;
    machine.fill_up(ROOMY_BYTES - available);
    let before = strands.status().journal_bytes;
    let packed = strands.pack_now();
    assert!(matches!(packed, Ok(()) | Err(CommitError::NoSpace)), "{packed:?}");
    assert!(strands.status().journal_bytes < before / 2);
    write(&strands, strands.mint().unwrap(), 0).unwrap();
}
