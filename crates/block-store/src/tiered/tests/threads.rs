//! Many threads at one store: one download however many wait, and everybody hears of the end.
//!
//! Nothing here waits for time to pass: a gate holds requests back until all are where they should be.

use std::thread;

use super::*;

/// A store on the real machine with workers, in front of a bucket whose gate is shut.
fn open(dir: &Path, bucket: &Bucket, options: TieredOptions) -> Tiered {
    let host = Host::real();
    let remote = Remote::over(&host, bucket.store(), "p", Duration::from_secs(600)).unwrap();
    Tiered::open(&host, dir, remote, options).unwrap()
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

fn waiters(store: &Tiered) -> usize {
    store.shared.state().flights.values().map(|flight| flight.waiters).sum()
}

/// Lets `readers` threads read a block while the gate is shut, then does `then`, and gives what they got.
fn read_together(
    store: &Tiered,
    block: &Block,
    readers: usize,
    then: impl FnOnce(),
) -> Vec<Result<Bytes, ReadError>> {
    thread::scope(|scope| {
        let reads: Vec<_> = (0..readers).map(|_| scope.spawn(|| read_all(store, block))).collect();
        until(|| waiters(store) == readers);
        then();
        reads.into_iter().map(|read| read.join().unwrap()).collect()
    })
}

fn planted(bucket: &Bucket) -> Block {
    let block = sample(1, &[1_000_000]);
    bucket.plant(&in_bucket(&block), block.bytes().clone());
    block
}

#[test]
fn many_readers_of_a_cold_block_share_one_download() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let block = planted(&bucket);
    let store = open(dir.path(), &bucket, TieredOptions::default());
    bucket.open_gate(false);
    let reads = read_together(&store, &block, 20, || bucket.open_gate(true));
    for read in reads {
        assert_eq!(read.unwrap(), block.payload());
    }
    assert_eq!(bucket.requests(), [1, 0, 0, 0]);
}

#[test]
fn a_transfer_that_panics_is_an_error_for_those_who_wait_and_for_nobody_after() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let block = planted(&bucket);
    let store = open(dir.path(), &bucket, TieredOptions::default());
    bucket.open_gate(false);
    bucket.panic(true);
    let reads = read_together(&store, &block, 3, || bucket.open_gate(true));
    assert!(reads.iter().all(|read| matches!(read, Err(ReadError::Io { .. }))), "{reads:?}");
    bucket.panic(false);
    assert_is_there(&store, &block);
    assert_eq!(store.stats().in_flight, 0);
}

#[test]
fn a_close_ends_requests_under_way_and_tells_all_who_wait() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let block = planted(&bucket);
    let store = open(dir.path(), &bucket, TieredOptions::default());
    bucket.open_gate(false);
    store.put(&sample(5, &[100])).unwrap();
    let reads = read_together(&store, &block, 3, || {
        assert!(!store.close(Duration::ZERO));
    });
    assert!(reads.iter().all(|read| matches!(read, Err(ReadError::Away { .. }))), "{reads:?}");
    assert!(bucket.log().is_empty());
    drop(store);
    bucket.open_gate(true);
    let store = open(dir.path(), &bucket, TieredOptions::default());
    assert!(store.settle(Duration::from_secs(600)));
    assert_eq!(bucket.log(), [in_bucket(&sample(5, &[100]))]);
}

#[test]
fn a_reader_who_gives_up_leaves_the_others_waiting_and_nothing_behind() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let block = planted(&bucket);
    let store = open(dir.path(), &bucket, TieredOptions::default());
    bucket.open_gate(false);
    let part = Part { name: block.name(), range: None };
    let reads = read_together(&store, &block, 2, || {
        let result = {
            let mut state = store.shared.state();
            let flight = state.flights.get_mut(&part).unwrap();
            flight.waiters += 1;
            Arc::clone(&flight.result)
        };
        assert!(store.shared.give_up(&part, &result).is_err());
        assert_eq!(waiters(&store), 2);
        bucket.open_gate(true);
    });
    assert!(reads.into_iter().all(|read| read.is_ok()));
    until(|| store.shared.state().flights.is_empty() && store.stats().in_flight == 0);
}

#[test]
fn a_reader_never_waits_for_uploads_to_end() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let block = planted(&bucket);
    let options = TieredOptions { transfers_max: 4, ..TieredOptions::default() };
    let store = open(dir.path(), &bucket, options);
    bucket.open_gate(false);
    for counter in 10..30 {
        store.put(&sample(counter, &[1000])).unwrap();
    }
    until(|| store.stats().in_flight == 3);
    let reads = read_together(&store, &block, 1, || {
        until(|| bucket.requests()[0] == 1);
        assert_eq!(store.stats().in_flight, 4, "the read has a place of its own");
        bucket.open_gate(true);
    });
    assert_eq!(reads[0].as_ref().unwrap(), &block.payload());
    assert!(store.settle(Duration::from_secs(600)));
}

#[test]
fn writers_wait_for_room_and_go_on_when_there_is_some() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let one = sample(1, &[1000]).bytes().len() as u64;
    let options = TieredOptions {
        staging_bytes_max: 3 * one,
        put_patience: Duration::from_secs(600),
        ..TieredOptions::default()
    };
    let store = open(dir.path(), &bucket, options);
    bucket.open_gate(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn({
                    let store = &store;
                    move || store.put(&sample(n, &[1000]))
                })
            })
            .collect();
        until(|| store.stats().staged_blocks == 3);
        assert!(store.stats().staged_bytes <= 3 * one);
        bucket.open_gate(true);
        assert!(writers.into_iter().all(|writer| writer.join().unwrap().is_ok()));
    });
    assert!(store.settle(Duration::from_secs(600)));
    assert_eq!(bucket.names().len(), 8);
}
