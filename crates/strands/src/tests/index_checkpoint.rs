//! Goal: a start that begins with a checkpoint of the journal's index has the same index as one that reads all of the
//! journal, whatever happened before and while it was taken; one that does not fit is passed over; and with one a start
//! reads no more than what came since.
//!
//! Method: every opening of this crate's tests, those after power cuts too, is compared with a full scan
//! ([`check_against_full_scan`]); the random steps of the other tests take checkpoints. Here: commits between the pages of
//! a copy, every operation of a checkpoint as the last one, files that do not fit, and a disk that counts what
//! is read of segments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block_store::{BlockStore, Memory};
use bytes::Bytes;
use durable_log::Log;
use host::sim::Machine;
use host::{DirEntry, DirLock, Disk, File, Host, OpenMode, Space, SystemRun};
use proptest::prelude::*;

use super::power_cut::{Synced, check_survivors, live, open, open_with, steps};
use super::{Model, any_step, options};
use crate::index_file::{self, Header};
use crate::pieces::Pieces;
use crate::recover::Replay;
use crate::types::{Position, StoreId, StrandId};
use crate::{Commit, Options, Strands};

/// Compares the index that a start has made with the one that all of the journal gives.
#[track_caller]
pub(crate) fn check_against_full_scan(log: &Log, pieces: &Pieces) {
    let meta = meta_store::Memory::new();
    let mut replay = Replay::new(Path::new(""), &meta, Position::new(u64::MAX));
    replay.scan(log, Position::of(log.positions().start)).unwrap();
    assert_eq!(*pieces, replay.pieces);
}

const INDEX: &str = "/journal/index";

fn write(strands: &Strands, strand: StrandId, offset: u64, len: usize) {
    let mut commit = Commit::new();
    commit.write(strand, offset, Bytes::from(vec![7; len]));
    drop(strands.commit(commit).unwrap());
}

/// A machine on which strands were written, packed in part, overwritten, and closed or left.
fn written(is_closed: bool) -> (Machine, Arc<Synced>) {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    (0..20).for_each(|part| write(&strands, strand, part * 9_000, 9_500));
    strands.pack_now().unwrap();
    (0..20).for_each(|part| write(&strands, strand, part * 5_000, 7_000));
    if is_closed {
        strands.close().unwrap();
    } else {
        strands.shared.checkpoint_index().unwrap();
        write(&strands, strand, 3, 100);
    }
    drop(strands);
    machine.kill();
    (machine, meta)
}

/// Opens what [`written`] left; says where the checkpoint was taken that the start began with.
#[track_caller]
fn reopened(machine: &Machine, meta: &Arc<Synced>) -> Option<Position> {
    let strands = open(machine, meta).unwrap();
    let recovery = strands.recovery().clone();
    assert_eq!(strands.status().unpacked_bytes, 19 * 5_000 + 7_000);
    drop(strands);
    machine.kill();
    recovery.checkpoint
}

#[test]
fn after_a_clean_stop_nothing_of_the_journal_is_scanned() {
    let (machine, meta) = written(true);
    let strands = open(&machine, &meta).unwrap();
    let recovery = strands.recovery();
    assert!(recovery.clean && recovery.checkpoint.is_some() && recovery.commits > 0);
    assert_eq!((recovery.scanned, recovery.scanned_bytes, recovery.replayed), (0, 0, 0));
}

#[test]
fn after_a_kill_only_what_came_since_the_checkpoint_is_scanned() {
    let (machine, meta) = written(false);
    let strands = open(&machine, &meta).unwrap();
    let recovery = strands.recovery();
    assert!(!recovery.clean && recovery.checkpoint.is_some());
    assert_eq!((recovery.scanned, recovery.replayed), (1, 1));
    assert!(recovery.scanned_bytes < 200);
}

#[test]
fn a_checkpoint_that_does_not_fit_is_passed_over() {
    for is_closed in [false, true] {
        let damage: [fn(&mut Vec<u8>); 5] = [
            |bytes| bytes.clear(),
            |bytes| bytes.truncate(bytes.len() / 2),
            |bytes| bytes[90] ^= 1,
            |bytes| reseal(bytes, |bytes| bytes[8] = 2),
            |bytes| reseal(bytes, |bytes| bytes[20] ^= 1),
        ];
        for damage in damage {
            let (machine, meta) = written(is_closed);
            let mut bytes = machine.bytes(Path::new(INDEX)).unwrap();
            damage(&mut bytes);
            machine.replace(Path::new(INDEX), &bytes).unwrap();
            assert_eq!(reopened(&machine, &meta), None);
        }
        let (machine, meta) = written(is_closed);
        machine.host().disk.unlink(Path::new(INDEX)).unwrap();
        assert_eq!(reopened(&machine, &meta), None);
    }
}

#[test]
fn a_checkpoint_of_another_journal_or_of_a_later_moment_is_passed_over() {
    let forge: [fn(&mut Header); 4] = [
        |header| header.landmark.segment += 1,
        |header| header.landmark.salt ^= 1,
        |header| header.landmark.next = header.landmark.next + 1_000_000,
        |header| header.store = StoreId([1; 16]),
    ];
    for forge in forge {
        let (machine, meta) = written(false);
        let bytes = machine.bytes(Path::new(INDEX)).unwrap();
        let mut header = index_file::decode_header(&bytes).unwrap();
        let mut encoder = index_file::Encoder::new();
        index_file::decode_pieces(&bytes, &header, |placed| encoder.piece(&placed)).unwrap();
        forge(&mut header);
        machine.replace(Path::new(INDEX), &encoder.finish(&header)).unwrap();
        assert_eq!(reopened(&machine, &meta), None);
    }
}

#[test]
fn a_forged_piece_behind_the_journals_end_is_passed_over() {
    let (machine, meta) = written(false);
    let bytes = machine.bytes(Path::new(INDEX)).unwrap();
    let header = index_file::decode_header(&bytes).unwrap();
    let mut encoder = index_file::Encoder::new();
    index_file::decode_pieces(&bytes, &header, |mut placed| {
        placed.piece.at = durable_log::Location::new(1 << 40);
        encoder.piece(&placed);
    })
    .unwrap();
    machine.replace(Path::new(INDEX), &encoder.finish(&header)).unwrap();
    assert_eq!(reopened(&machine, &meta), None);
}

#[test]
fn a_checkpoint_that_the_trim_has_passed_is_of_no_use() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, 9_000);
    strands.shared.checkpoint_index().unwrap();
    write(&strands, strand, 4_000, 9_000);
    strands.pack_now().unwrap();
    drop(strands);
    machine.kill();
    let strands = open(&machine, &meta).unwrap();
    assert_eq!(strands.recovery().checkpoint, None);
    assert_eq!(strands.status().unpacked_bytes, 0);
}

#[test]
fn every_operation_of_a_checkpoint_can_be_the_last_before_a_power_cut() {
    for seed in 0..30 {
        println!("seed {seed}");
        let machine = Machine::new(seed);
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let life = live(&strands, (0, Model::default()), &steps(seed), &|_| false);
        machine.crash_at(machine.counts().operations + 1 + seed % 10);
        // Whichever the power cut meets fails; what counts is what the next start finds.
        drop(strands.shared.checkpoint_index());
        drop(strands.close());
        drop(strands);
        machine.crash_seeded(seed);
        check_survivors(&open(&machine, &meta.after_power_cut()).unwrap(), &life);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn commits_between_the_pages_of_a_copy_change_nothing(
        before in prop::collection::vec(any_step(), 1..40),
        between in prop::collection::vec(any_step(), 1..30),
        page in 1..4usize,
    ) {
        let machine = Machine::new(1);
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let life = live(&strands, (0, Model::default()), &before, &|_| false);
        let rest = std::cell::RefCell::new((life, between.iter()));
        let shared = &strands.shared;
        let (encoder, position, reached) = shared.copy_index(page, || {
            let (life, between) = &mut *rest.borrow_mut();
            if let Some(step) = between.next() {
                let step = std::slice::from_ref(step);
                life.extend(live(&strands, life.last(), step, &|_| false));
            }
        });
        strands.ticket(reached).wait_durable().unwrap();
        // A round of packing between two pages may have trimmed all of it.
        if let Some(landmark) = shared.log.landmark(reached.offset()) {
            let header = Header { store: StoreId::default(), position, landmark };
            index_file::write(&shared.host, &shared.dir, &encoder.finish(&header)).unwrap();
        }
        let start = strands.positions().start;
        drop(strands);
        machine.kill();
        let strands = open(&machine, &meta).unwrap();
        if start <= position && position > Position::START {
            prop_assert_eq!(strands.recovery().checkpoint, Some(position));
        }
        check_survivors(&strands, &rest.into_inner().0);
    }
}

/// A disk that counts the bytes that are read of the journal's segments.
#[derive(Debug)]
struct Counting {
    disk: Arc<dyn Disk>,
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn File>,
    read: Arc<AtomicU64>,
}

impl Disk for Counting {
    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let read = if is_segment { Arc::clone(&self.read) } else { Arc::default() };
        Ok(Arc::new(CountingFile { file, read }))
    }

    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> std::io::Result<()> {
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> std::io::Result<Option<Box<dyn DirLock>>> {
        self.disk.lock(path)
    }

    fn space(&self, path: &Path) -> std::io::Result<Space> {
        self.disk.space(path)
    }

    fn system_run(&self) -> std::io::Result<SystemRun> {
        self.disk.system_run()
    }
}

impl File for CountingFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        let bytes = self.file.read_at(buf, at)?;
        self.read.fetch_add(bytes as u64, Ordering::SeqCst);
        Ok(bytes)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> std::io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn size(&self) -> std::io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> std::io::Result<()> {
        self.file.set_size(size)
    }

    fn allocate(&self, size: u64) -> std::io::Result<()> {
        self.file.allocate(size)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    fn next_written(&self, at: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        self.file.next_written(at)
    }
}

const SEGMENT_BYTES: u64 = 256 << 10;
const EVERY_BYTES: u64 = 1 << 20;

/// A data path that takes checkpoints by itself, on a disk that counts.
fn counted(dir: &Path, meta: &Arc<Synced>, read: &Arc<AtomicU64>) -> Strands {
    let real = Host::real();
    let disk = Counting { disk: Arc::clone(&real.disk), read: Arc::clone(read) };
    let host = Host { disk: Arc::new(disk), ..real };
    let log = durable_log::Options { segment_bytes: SEGMENT_BYTES, ..options().log };
    let options = Options { log, checkpoint_every_bytes: EVERY_BYTES, ..options() };
    let blocks: Arc<dyn BlockStore> = Arc::new(Memory::new());
    Strands::open(host, dir, Arc::clone(meta) as _, blocks, options).unwrap()
}

/// Writes so many bytes in small pieces, over and over the same strand's first megabytes.
fn fill(strands: &Strands, bytes: u64) {
    let strand = strands.mint().unwrap();
    (0..bytes >> 13).for_each(|number| write(strands, strand, (number << 13) % (3 << 20), 8 << 10));
}

fn index_of(dir: &Path) -> Option<Header> {
    let bytes = index_file::read(&Host::real(), dir).unwrap()?;
    index_file::decode_header(&bytes).ok()
}

/// Checkpoints are taken by a thread; returns when the one that `is_wanted` is there.
fn wait_for_checkpoint(dir: &Path, is_wanted: impl Fn(Header) -> bool) {
    while !index_of(dir).is_some_and(&is_wanted) {
        std::thread::yield_now();
    }
}

#[test]
fn a_start_reads_no_more_of_the_journal_than_what_came_since_the_last_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let dir: PathBuf = temp.path().join("journal");
    let (meta, read) = (Arc::new(Synced::default()), Arc::new(AtomicU64::new(0)));
    let strands = counted(&dir, &meta, &read);
    fill(&strands, 13 << 20);
    // The last time that one was due is not longer ago than what there is between two.
    let (end, between) = (strands.positions().appended, EVERY_BYTES >> 13);
    wait_for_checkpoint(&dir, |header| header.position.get() + between + 2 > end.get());
    assert!(strands.status().journal_bytes > 13 << 20);
    drop(strands);
    for _ in 0..2 {
        read.store(0, Ordering::SeqCst);
        let strands = counted(&dir, &meta, &read);
        let recovery = strands.recovery().clone();
        assert!(recovery.checkpoint.is_some());
        let since = EVERY_BYTES + EVERY_BYTES / 8;
        assert!(recovery.scanned_bytes < since, "scanned {}", recovery.scanned_bytes);
        // The log checks from the checkpoint's segment on, then the commits are read; and in this test build all of
        // the journal once more, to compare.
        let most = recovery.bytes + 2 * (since + SEGMENT_BYTES);
        let read = read.load(Ordering::SeqCst);
        assert!(read < most, "read {read} of at most {most}");
        drop(strands);
    }
}

#[test]
fn a_long_journal_without_a_checkpoint_gets_one_soon_after_the_start() {
    let temp = tempfile::tempdir().unwrap();
    let dir: PathBuf = temp.path().join("journal");
    let (meta, read) = (Arc::new(Synced::default()), Arc::default());
    let strands = counted(&dir, &meta, &read);
    fill(&strands, 3 << 20);
    strands.close().unwrap();
    drop(strands);
    Host::real().disk.unlink(&dir.join("index")).unwrap();
    let strands = counted(&dir, &meta, &read);
    assert_eq!(strands.recovery().checkpoint, None);
    wait_for_checkpoint(&dir, |_| true);
}

#[test]
fn a_full_disk_costs_the_checkpoint_and_nothing_else() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open_with(&machine, &meta, options()).unwrap();
    let strand = strands.mint().unwrap();
    (0..9).for_each(|part| write(&strands, strand, part * 20_000, 10));
    strands.shared.checkpoint_index().unwrap();
    let first = machine.bytes(Path::new(INDEX)).unwrap();
    strands.ticket(strands.positions().appended).wait_durable().unwrap();
    machine.fill_up(0);
    assert!(strands.shared.checkpoint_index().is_err());
    assert_eq!(machine.bytes(Path::new(INDEX)).unwrap(), first);
    machine.fill_up(u64::MAX);
    drop(strands);
    machine.kill();
    assert!(open(&machine, &meta).unwrap().recovery().checkpoint.is_some());
}

/// Changes bytes of the file so that the checksum still matches.
fn reseal(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}
