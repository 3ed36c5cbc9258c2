//! Goal: what a tiered store accepted is never lost and never wrong, whatever the network does; it asks the store no
//! more than it has to, and in the order that was promised. Method: one sentence, one script for the proxy; what is
//! promised about order and number is seen there.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use block_store::conformance::sample;
use block_store::{
    Block, BlockName, BlockStore, DeleteError, ListError, PutError, PutIf, ReadError, Tiered,
    TieredOptions,
};
use bytes::Bytes;
use host::Host;
use host::sim::Machine;
use tempfile::TempDir;
use testbed::{Fault, Kind, Log, Rule};

use crate::lab::{Lab, done_but_not_answered, key, lab, not_done};

const MIB: u32 = 1 << 20;
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(120);

/// Limits of which no test runs into one that it does not name.
fn patient() -> TieredOptions {
    TieredOptions {
        put_patience: LONG,
        patience: LONG,
        failures_max: u32::MAX,
        ..TieredOptions::default()
    }
}

impl Lab {
    fn tiered(&self, dir: &Path, options: TieredOptions) -> Tiered {
        Tiered::open(&Host::real(), dir, self.remote(), options).unwrap()
    }

    /// A store that has `blocks` in its bucket, nothing on its disk, and nothing in the log.
    fn with_blocks(&self, dir: &Path, options: TieredOptions, blocks: &[Block]) -> Tiered {
        for block in blocks {
            self.bucket.put(&key(block.name()), block.bytes());
        }
        self.proxy.forget();
        self.tiered(dir, options)
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Blocks of 1 MiB of payload.
fn large(counters: std::ops::Range<u64>) -> Vec<Block> {
    counters.map(|counter| sample(counter, &[MIB])).collect()
}

fn small(counters: std::ops::Range<u64>) -> Vec<Block> {
    counters.map(|counter| sample(counter, &[1000])).collect()
}

#[track_caller]
fn assert_reads(store: &Tiered, block: &Block) {
    let len = block.footer().payload_len();
    let read = store.read(block.name(), 0..len);
    assert!(read.as_ref().is_ok_and(|read| *read == block.payload()), "{:?}", read.err());
}

#[track_caller]
fn assert_settled(lab: &Lab, store: &Tiered, blocks: &[Block]) {
    assert!(store.settle(LONG), "{:?}", store.stats());
    let stats = store.stats();
    assert_eq!((stats.staged_blocks, stats.staged_bytes, stats.stuck_blocks), (0, 0, 0));
    assert!(blocks.iter().all(|block| lab.has(block)));
}

/// How many puts of each block the bucket accepted.
fn accepted(log: &Log, block: &Block) -> usize {
    let key = key(block.name());
    let puts = log.of(Kind::Put).filter(|seen| seen.target.ends_with(&key));
    puts.filter(|seen| seen.status == Some(200)).count()
}

#[test]
fn it_is_a_block_store() {
    if lab().is_none() {
        return;
    }
    block_store::conformance::check_all(&|| {
        let (lab, dir) = (lab().unwrap(), dir());
        let store = lab.tiered(dir.path(), patient());
        // They live as long as the process.
        std::mem::forget((lab, dir));
        Box::new(store)
    });
}

#[test]
fn an_upload_is_done_once_whatever_becomes_of_the_replies() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    for (counter, fault) in (0..).zip([done_but_not_answered(), not_done()].concat()) {
        let block = sample(counter, &[1000]);
        lab.proxy.add(Rule::new(fault.clone()).on(Kind::Put).path(&key(block.name())));
        store.put(&block).unwrap();
        assert_reads(&store, &block);
        assert_settled(&lab, &store, std::slice::from_ref(&block));
        assert_eq!(accepted(&lab.proxy.log(), &block), 1, "{fault:?}");
        lab.proxy.calm();
    }
}

#[test]
fn a_lost_reply_and_then_a_damaged_one_leave_no_block_stuck() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    let block = sample(1, &[1000]);
    lab.next(Kind::Put, Fault::LoseReply);
    lab.next(Kind::Get, Fault::CorruptReply);
    store.put(&block).unwrap();
    assert_settled(&lab, &store, &[block]);
}

#[test]
fn another_block_of_the_same_name_is_left_alone_and_said() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[1000]);
    lab.bucket.put(&key(block.name()), sample(2, &[1000]).bytes());
    let before = lab.stored(block.name());
    let store = lab.tiered(dir.path(), patient());
    store.put(&block).unwrap();
    assert!(!store.settle(LONG), "it is not uploaded and cannot be");
    assert_eq!(store.stats().stuck_blocks, 1);
    assert_eq!(lab.stored(block.name()), before);
    assert_reads(&store, &block);
}

#[test]
fn an_upload_that_the_network_delivers_late_does_no_harm() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    let block = sample(1, &[1000]);
    lab.next(Kind::Put, Fault::Late);
    store.put(&block).unwrap();
    assert_settled(&lab, &store, std::slice::from_ref(&block));
    lab.proxy.release_all();
    lab.proxy.wait_until("the late one is served", |log| {
        log.of(Kind::Put).all(|seen| seen.status.is_some())
    });
    assert_eq!(accepted(&lab.proxy.log(), &block), 1);
    assert!(lab.has(&block));
}

#[test]
fn fifty_readers_of_a_block_are_one_request() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[MIB]);
    let store = lab.with_blocks(dir.path(), patient(), std::slice::from_ref(&block));
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Get).always());
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_reads(&store, &block));
        }
        lab.proxy.wait_until("a request", |log| log.held().len() == 1);
        lab.proxy.release_all();
    });
    assert_eq!(lab.proxy.log().requests().len(), 1);
}

#[test]
fn readers_share_a_failure_and_its_retry_too() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[MIB]);
    let store = lab.with_blocks(dir.path(), patient(), std::slice::from_ref(&block));
    lab.proxy.add(Rule::new(Fault::BUSY).on(Kind::Get).times(2));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_reads(&store, &block));
        }
    });
    assert_eq!(lab.proxy.log().requests().len(), 3);
}

#[test]
fn who_waits_goes_before_uploads_and_these_before_reading_ahead() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let there = large(0..4);
    let options = TieredOptions { transfers_max: 1, ..patient() };
    let store = lab.with_blocks(dir.path(), options, &there);
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).times(1));
    let new = large(10..13);
    store.put(&new[0]).unwrap();
    lab.proxy.wait_until("the first upload", |log| log.held().len() == 1);
    store.hint(&[there[0].name(), there[1].name()]);
    store.put(&new[1]).unwrap();
    store.put(&new[2]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert_reads(&store, &there[2]));
        scope.spawn(|| assert_reads(&store, &there[3]));
        while store.stats().queued_reads < 2 {
            thread::yield_now();
        }
        let stats = store.stats();
        assert_eq!((stats.queued_uploads, stats.queued_ahead), (2, 2));
        lab.proxy.release_all();
    });
    assert_settled(&lab, &store, &new);
    lab.proxy.wait_until("all requests", |log| log.requests().len() == 7);
    let kinds: Vec<Kind> = lab.proxy.log().requests().iter().map(|seen| seen.kind).collect();
    let [put, get] = [Kind::Put, Kind::Get];
    assert_eq!(kinds, [put, get, get, put, put, get, get]);
    let last = lab.proxy.log();
    let ahead = last.requests()[5..].iter().map(|seen| seen.target.as_str());
    assert!(ahead.zip(&there).all(|(target, block)| target.ends_with(&key(block.name()))));
}

#[test]
fn what_is_read_ahead_is_read_from_the_disk() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let there = large(0..3);
    let store = lab.with_blocks(dir.path(), patient(), &there);
    store.hint(&there.iter().map(Block::name).collect::<Vec<_>>());
    lab.proxy.wait_until("three downloads", |log| {
        log.of(Kind::Get).filter(|seen| seen.status.is_some()).count() == 3
    });
    there.iter().for_each(|block| assert_reads(&store, block));
    assert_eq!(lab.proxy.log().requests().len(), 3);
}

#[test]
fn no_more_is_in_flight_than_was_allowed() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let there = large(0..6);
    let options = TieredOptions { transfers_max: 8, ..patient() };
    let store = lab.with_blocks(dir.path(), options, &there);
    lab.proxy.add(Rule::new(Fault::Hold).always());
    let new = large(10..20);
    new.iter().for_each(|block| store.put(block).unwrap());
    // Three quarters of eight.
    lab.proxy.wait_until("six uploads", |log| log.held().len() == 6);
    assert_eq!(store.stats().queued_uploads, 4);
    thread::scope(|scope| {
        for block in &there {
            scope.spawn(|| assert_reads(&store, block));
        }
        lab.proxy.wait_until("two downloads", |log| log.in_flight(Kind::Get) == 2);
        while store.stats().queued_reads < 4 {
            thread::yield_now();
        }
        lab.proxy.release_all();
    });
    assert_settled(&lab, &store, &new);
    let log = lab.proxy.log();
    assert_eq!(log.most_in_flight(Kind::Put), 6);
    assert!(log.most_in_flight(Kind::Get) <= 8);
    assert!(new.iter().all(|block| accepted(&log, block) == 1));
}

#[test]
fn no_more_bytes_are_in_flight_than_was_allowed() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let options = TieredOptions { transfer_bytes_max: 5 << 19, ..patient() };
    let store = lab.tiered(dir.path(), options);
    let rule = Rule::new(Fault::Hold).on(Kind::Put).always();
    lab.proxy.add(rule);
    let new = large(0..6);
    new.iter().for_each(|block| store.put(block).unwrap());
    lab.proxy.wait_until("two uploads", |log| log.held().len() == 2);
    assert_eq!(store.stats().queued_uploads, 4);
    lab.proxy.release_all();
    assert_settled(&lab, &store, &new);
    assert!(lab.proxy.log().most_bytes_in_flight(Kind::Put) <= 5 << 19);
}

#[test]
fn an_object_follows_the_blocks_that_were_put_before_it() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).path("blocks/"));
    let blocks = small(0..3);
    blocks.iter().for_each(|block| store.put(block).unwrap());
    store.objects().put("root", Bytes::from_static(b"all three"), PutIf::Always).unwrap();
    lab.proxy.wait_until("two of three uploads", |log| {
        log.held().len() == 1
            && log.of(Kind::Put).filter(|seen| seen.status == Some(200)).count() == 2
    });
    assert_eq!(store.objects().get("root").unwrap().unwrap().0, &b"all three"[..]);
    lab.proxy.release_all();
    assert_settled(&lab, &store, &blocks);
    let log = lab.proxy.log();
    let last = log.of(Kind::Put).last().unwrap();
    assert!(last.target.ends_with("objects/root"), "{log:?}");
    assert_eq!(log.count(Kind::Put), 4);
}

#[test]
fn staged_blocks_and_objects_outlive_the_process_and_are_uploaded_once() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    lab.proxy.go_away();
    let blocks = small(0..5);
    {
        let store = lab.tiered(dir.path(), patient());
        blocks.iter().for_each(|block| store.put(block).unwrap());
        store.objects().put("root", Bytes::from_static(b"x"), PutIf::Always).unwrap();
        assert!(!store.settle(Duration::ZERO));
        // Dropped without being closed.
    }
    for _ in 0..2 {
        let store = lab.tiered(dir.path(), patient());
        assert_eq!(store.stats().staged_blocks, 5);
        blocks.iter().for_each(|block| assert_reads(&store, block));
        assert_eq!(store.objects().get("root").unwrap().unwrap().0, &b"x"[..]);
    }
    let store = lab.tiered(dir.path(), patient());
    lab.proxy.come_back();
    assert_settled(&lab, &store, &blocks);
    drop(store);
    let store = lab.tiered(dir.path(), patient());
    assert_settled(&lab, &store, &blocks);
    let log = lab.proxy.log();
    assert!(blocks.iter().all(|block| accepted(&log, block) == 1), "{log:?}");
    assert_eq!(log.of(Kind::Put).filter(|seen| seen.status == Some(200)).count(), 6);
}

#[test]
fn a_kill_after_an_upload_was_done_and_before_its_reply_uploads_nothing_twice() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[1000]);
    lab.proxy.add(Rule::new(Fault::LoseReply).on(Kind::Put));
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).always());
    let store = lab.tiered(dir.path(), patient());
    store.put(&block).unwrap();
    lab.proxy.wait_until("the upload is tried again", |log| log.held().len() == 1);
    drop(store);
    lab.proxy.calm();
    let store = lab.tiered(dir.path(), patient());
    assert_settled(&lab, &store, std::slice::from_ref(&block));
    assert_eq!(accepted(&lab.proxy.log(), &block), 1);
}

#[test]
fn the_disk_cache_outlives_the_process_and_serves_without_the_store() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let (uploaded, fetched) = (sample(1, &[MIB]), sample(2, &[MIB]));
    let store = lab.with_blocks(dir.path(), patient(), std::slice::from_ref(&fetched));
    store.put(&uploaded).unwrap();
    assert_settled(&lab, &store, std::slice::from_ref(&uploaded));
    assert_reads(&store, &fetched);
    drop(store);
    lab.proxy.go_away();
    let store = lab.tiered(dir.path(), patient());
    assert_reads(&store, &uploaded);
    assert_reads(&store, &fetched);
    assert_eq!(store.stats().downloads, 0);
}

/// The files below `dir` whose names end in `.blk`.
fn block_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in Host::real().disk.list(&folder).unwrap() {
            let path = folder.join(entry.name);
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "blk") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn a_flipped_bit_in_the_cache_is_fetched_again() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[MIB]);
    let store = lab.with_blocks(dir.path(), patient(), std::slice::from_ref(&block));
    assert_reads(&store, &block);
    drop(store);
    for at in [100, 70_000, MIB as usize - 1, MIB as usize + 60] {
        let [file] = &block_files(&dir.path().join("cache"))[..] else { panic!("one file") };
        let mut bytes = block.bytes().to_vec();
        bytes[at] ^= 1;
        let open = Host::real().disk.open(file, host::OpenMode::ReadWrite).unwrap();
        open.write_all_at(&bytes, 0).unwrap();
        drop(open);
        lab.proxy.forget();
        let store = lab.tiered(dir.path(), patient());
        assert_reads(&store, &block);
        assert_eq!(lab.proxy.log().count(Kind::Get), 1, "byte {at}");
        assert_eq!(store.stats().cache_damaged, 1, "byte {at}");
        drop(store);
    }
}

#[test]
fn a_damaged_download_is_fetched_again_and_never_kept() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[MIB]);
    let store = lab.with_blocks(dir.path(), patient(), std::slice::from_ref(&block));
    lab.proxy.add(Rule::new(Fault::CorruptReply).on(Kind::Get).times(2));
    assert_reads(&store, &block);
    assert_eq!(lab.proxy.log().count(Kind::Get), 3);
    // Damage that stays is an error in the end, and read again next time.
    let other = sample(2, &[MIB]);
    lab.bucket.put(&key(other.name()), other.bytes());
    lab.proxy.add(Rule::new(Fault::CorruptReply).on(Kind::Get).times(3));
    let read = store.read(other.name(), 0..MIB);
    assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
    assert_reads(&store, &other);
}

#[test]
fn while_the_store_is_away_reads_fail_within_their_patience_and_then_recover_alone() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let there = large(0..3);
    let options =
        TieredOptions { patience: Duration::from_millis(300), failures_max: 3, ..patient() };
    let store = lab.with_blocks(dir.path(), options, &there);
    assert_reads(&store, &there[0]);
    lab.proxy.go_away();
    for block in &there[1..] {
        let read = store.read(block.name(), 0..MIB);
        let Err(error @ ReadError::Away { .. }) = read else { panic!("{read:?}") };
        println!("{error}");
        assert!(error.to_string().contains("away"), "{error}");
    }
    assert_reads(&store, &there[0]);
    assert!(matches!(store.list(&mut |_| panic!()), Err(ListError::Away { .. })));
    lab.proxy.come_back();
    // Nobody asks for it: the store finds out by itself.
    while store.stats().reads_away.is_some() {
        thread::yield_now();
    }
    there.iter().for_each(|block| assert_reads(&store, block));
}

#[test]
fn many_readers_of_a_store_that_is_away_ask_it_a_few_times() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let blocks = large(0..30);
    let options = TieredOptions { failures_max: 5, transfers_max: 4, ..patient() };
    let store = lab.with_blocks(dir.path(), options, &[]);
    lab.proxy.add(Rule::new(Fault::BUSY).always());
    thread::scope(|scope| {
        for block in &blocks {
            let store = &store;
            scope.spawn(move || {
                let read = store.read(block.name(), 0..MIB);
                assert!(matches!(read, Err(ReadError::Away { .. })), "{read:?}");
            });
        }
    });
    for block in &blocks {
        let read = store.read(block.name(), 0..MIB);
        assert!(matches!(read, Err(ReadError::Away { .. })), "{read:?}");
    }
    // Five until the circuit opens, those that were under way then, and a try or two.
    let asked = lab.proxy.log().requests().len();
    assert!(asked <= 5 + 4 + 3, "{asked} requests");
}

#[test]
fn puts_are_accepted_while_the_store_is_away_until_staging_is_full() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let blocks = large(0..8);
    let one = blocks[0].bytes().len() as u64;
    let options = TieredOptions {
        staging_bytes_max: 4 * one,
        put_patience: Duration::from_millis(50),
        ..patient()
    };
    let store = lab.tiered(dir.path(), options);
    lab.proxy.go_away();
    for block in &blocks[..4] {
        store.put(block).unwrap();
    }
    let full = store.put(&blocks[4]);
    assert!(matches!(full, Err(PutError::Full { .. })), "{full:?}");
    let full = store.put(&blocks[4]);
    assert!(matches!(full, Err(PutError::Full { .. })), "{full:?}");
    assert_eq!(store.stats().staged_bytes, 4 * one);
    lab.proxy.come_back();
    assert_settled(&lab, &store, &blocks[..4]);
    for block in &blocks[4..] {
        store.put(block).unwrap();
    }
    assert_settled(&lab, &store, &blocks);
}

#[test]
fn a_put_waits_for_room_and_gets_it_when_an_upload_is_done() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let blocks = large(0..3);
    let options = TieredOptions { staging_bytes_max: 2 << 20, ..patient() };
    let store = lab.tiered(dir.path(), options);
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).always());
    store.put(&blocks[0]).unwrap();
    lab.proxy.wait_until("an upload", |log| log.held().len() == 1);
    thread::scope(|scope| {
        let waits = scope.spawn(|| store.put(&blocks[1]));
        lab.proxy.release_all();
        waits.join().unwrap().unwrap();
    });
    assert_settled(&lab, &store, &blocks[..2]);
}

#[test]
fn what_the_store_refuses_is_kept_and_said_and_sent_when_it_may_be() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let options = TieredOptions { failures_max: 2, ..patient() };
    let store = lab.tiered(dir.path(), options);
    let forbidden = Fault::Refuse { status: 403, retry_after_seconds: None };
    lab.proxy.add(Rule::new(forbidden).on(Kind::Put).always());
    let block = sample(1, &[1000]);
    store.put(&block).unwrap();
    while store.stats().writes_away.is_none() {
        thread::yield_now();
    }
    assert_eq!((store.stats().staged_blocks, store.stats().stuck_blocks), (1, 0));
    assert_reads(&store, &block);
    lab.proxy.calm();
    assert_settled(&lab, &store, &[block]);
}

#[test]
fn a_block_that_is_deleted_while_it_is_uploaded_does_not_come_back() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    let block = sample(1, &[1000]);
    lab.next(Kind::Put, Fault::Hold);
    store.put(&block).unwrap();
    lab.proxy.wait_until("the upload", |log| log.held().len() == 1);
    thread::scope(|scope| {
        let deleted = scope.spawn(|| store.delete(block.name()));
        lab.proxy.release_all();
        assert!(deleted.join().unwrap().unwrap());
    });
    assert!(store.settle(LONG));
    assert_eq!(lab.stored(block.name()), None);
    let read = store.read(block.name(), 0..10);
    assert!(matches!(read, Err(ReadError::Missing { .. })), "{read:?}");
}

#[test]
fn a_block_that_was_never_sent_is_deleted_without_the_store() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).always());
    let options = TieredOptions { transfers_max: 1, ..patient() };
    let store = lab.tiered(dir.path(), options);
    let blocks = small(0..2);
    blocks.iter().for_each(|block| store.put(block).unwrap());
    lab.proxy.wait_until("the first upload", |log| log.held().len() == 1);
    assert!(store.delete(blocks[1].name()).unwrap());
    lab.proxy.release_all();
    assert_settled(&lab, &store, &blocks[..1]);
    assert_eq!(lab.proxy.log().requests().len(), 1);
    assert_eq!(lab.bucket.keys(), [key(blocks[0].name())]);
}

#[test]
fn a_delete_that_failed_leaves_the_block_and_may_be_tried_again() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let options = TieredOptions { patience: Duration::from_millis(200), ..patient() };
    let store = lab.tiered(dir.path(), options);
    let block = sample(1, &[1000]);
    store.put(&block).unwrap();
    assert_settled(&lab, &store, std::slice::from_ref(&block));
    for kind in [Kind::Delete, Kind::DeleteMany] {
        lab.proxy.add(Rule::new(Fault::BUSY).on(kind).always());
    }
    let deleted = store.delete_many(&[block.name()]);
    assert!(matches!(deleted, Err(DeleteError::Away { .. })), "{deleted:?}");
    assert_reads(&store, &block);
    lab.proxy.calm();
    store.delete_many(&[block.name()]).unwrap();
    assert_eq!(lab.stored(block.name()), None);
    assert!(matches!(store.read(block.name(), 0..1), Err(ReadError::Missing { .. })));
}

#[test]
fn deletes_go_a_thousand_at_a_time_and_are_tried_again() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let store = lab.tiered(dir.path(), patient());
    let names: Vec<_> =
        (0..2500).map(|counter| BlockName { counter, ..sample(0, &[1]).name() }).collect();
    lab.proxy.add(Rule::new(Fault::LoseReply).on(Kind::DeleteMany).after(1));
    store.delete_many(&names).unwrap();
    let log = lab.proxy.log();
    let keys: Vec<_> = log.requests().iter().map(|seen| seen.keys).collect();
    assert_eq!(keys, [1000, 1000, 1000, 500], "the second one is asked twice");
}

#[test]
fn a_closed_store_keeps_what_it_could_not_send() {
    let Some(lab) = lab() else { return };
    let dir = dir();
    let block = sample(1, &[1000]);
    lab.proxy.add(Rule::new(Fault::Hold).always());
    let store = lab.tiered(dir.path(), patient());
    store.put(&block).unwrap();
    lab.proxy.wait_until("the upload", |log| log.held().len() == 1);
    assert!(!store.close(Duration::from_millis(50)));
    assert_reads(&store, &block);
    let elsewhere = store.read(sample(2, &[1]).name(), 0..1);
    assert!(matches!(elsewhere, Err(ReadError::Away { .. })), "{elsewhere:?}");
    drop(store);
    lab.proxy.calm();
    let store = lab.tiered(dir.path(), patient());
    assert_settled(&lab, &store, &[block]);
}

#[test]
fn a_store_that_asks_to_be_left_alone_is_for_so_long_and_no_longer_than_a_minute() {
    let Some(lab) = lab() else { return };
    for (counter, asked, heeded) in [(1, 30, 30), (2, 100_000, 60)] {
        let machine = Machine::new(counter);
        let clock = machine.clone();
        let idle = move |wait| clock.advance(wait);
        let host = machine.host();
        let store =
            Tiered::by_hand(&host, Path::new("/blocks"), lab.remote(), patient(), idle).unwrap();
        let fault = Fault::Refuse { status: 503, retry_after_seconds: Some(asked) };
        lab.next(Kind::Put, fault.clone());
        lab.proxy.forget();
        let block = sample(counter, &[1000]);
        store.put(&block).unwrap();
        for second in 0..=heeded {
            store.work();
            let sent = lab.proxy.log().count(Kind::Put);
            assert_eq!(sent, if second < heeded { 1 } else { 2 }, "after {second} s");
            machine.advance(Duration::from_secs(1));
        }
        assert!(lab.has(&block));
        // Who waits for an answer waits as long.
        lab.next(Kind::Head, fault);
        let before = host.clock.monotonic();
        assert!(store.delete(block.name()).unwrap());
        assert!(host.clock.monotonic().since(before) >= Duration::from_secs(heeded));
    }
}
