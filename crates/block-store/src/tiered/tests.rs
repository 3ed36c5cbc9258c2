//! Goal: nothing that was acknowledged is lost or changed, whatever the bucket does and whenever the power goes;
//! budgets and order hold; nobody waits for nothing. Method: a bucket in memory that misbehaves, the simulated
//! machine, and a store driven by hand; threads only where the matter is threads.

mod bucket;
mod threads;

use std::sync::{Arc, OnceLock};

use host::sim::{Lost, Machine};
use object_store::memory::InMemory;

use self::bucket::Bucket;
use super::*;
use crate::conformance::{check_all, sample};
use crate::{ObjectPutError, PutIf};

const DIR: &str = "/data/blocks";

/// A machine, a bucket, and what stores made of them are opened with.
struct Bed {
    machine: Machine,
    bucket: Bucket,
    options: TieredOptions,
}

impl Bed {
    fn new() -> Self {
        let machine = Machine::new(1);
        machine.host().disk.create_dir_all(Path::new("/data")).unwrap();
        Self { machine, bucket: Bucket::new(), options: TieredOptions::default() }
    }

    fn open(&self) -> Tiered {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Tiered, OpenError> {
        let host = self.machine.host();
        let patience = Duration::from_secs(3600);
        let remote = Remote::over(&host, self.bucket.store(), "p", patience).unwrap();
        let machine = self.machine.clone();
        let idle = move |wait| machine.advance(wait);
        Tiered::by_hand(&host, Path::new(DIR), remote, self.options.clone(), idle)
    }

    /// The bytes of all files below a folder of the store.
    fn bytes_in(&self, folder: &str) -> u64 {
        let disk = self.machine.host().disk;
        let mut bytes = 0;
        let mut folders = vec![Path::new(DIR).join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in disk.list(&folder).unwrap() {
                bytes += entry.bytes;
                if entry.is_dir {
                    folders.push(folder.join(entry.name));
                }
            }
        }
        bytes
    }
}

fn read_all(store: &Tiered, block: &Block) -> Result<Bytes, ReadError> {
    store.read(block.name(), 0..block.footer().payload_len())
}

#[track_caller]
fn assert_is_there(store: &Tiered, block: &Block) {
    assert_eq!(read_all(store, block).unwrap(), block.payload(), "{}", block.name());
}

fn in_bucket(block: &Block) -> String {
    let BlockName { domain, epoch, counter } = block.name();
    format!("p/blocks/{domain:08x}-{epoch:016x}/{counter:016x}.blk")
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    check_all(&|| {
        made.set(made.get() + 1);
        let host = Host::real();
        let store = Arc::new(InMemory::new());
        let remote = Remote::over(&host, store, "some/where", Duration::from_secs(5)).unwrap();
        let dir = dir.path().join(made.get().to_string());
        Box::new(Tiered::open(&host, &dir, remote, TieredOptions::default()).unwrap())
    });
}

#[test]
fn conforms_by_hand() {
    check_all(&|| Box::new(Bed::new().open()));
}

#[test]
fn in_two_hours_without_the_bucket_nothing_is_lost_and_no_budget_is_exceeded() {
    const BLOCK_BYTES: u32 = 3000;
    let mut bed = Bed::new();
    bed.options.staging_bytes_max = 20 * u64::from(BLOCK_BYTES);
    bed.options.cache_bytes_max = 5 * u64::from(BLOCK_BYTES);
    let store = bed.open();
    let start = store.shared.now();
    let since_start = || store.shared.now().since(start);
    let (leaves, returns) = (Duration::from_secs(60), Duration::from_secs(60 + 7200));
    let (mut acknowledged, mut full, mut roots) = (Vec::new(), 0, 0);
    let (mut sent_while_away, mut counter) = ([0; 4], 0);
    while since_start() < returns + Duration::from_secs(120) {
        bed.bucket.be_away((leaves..returns).contains(&since_start()));
        let before = bed.bucket.requests();
        let block = sample(counter, &[BLOCK_BYTES]);
        match store.put(&block) {
            Ok(()) => {
                acknowledged.push(block);
                counter += 1;
                let root = Bytes::from(acknowledged.len().to_string());
                match store.objects().put("root", root, PutIf::Always) {
                    Ok(_) => roots = acknowledged.len(),
                    Err(ObjectPutError::Full { .. }) => full += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            Err(PutError::Full { .. }) => full += 1,
            Err(error) => panic!("{error}"),
        }
        store.work();
        bed.machine.advance(Duration::from_secs(1));
        if (leaves..returns).contains(&since_start()) {
            for (sum, (now, then)) in
                sent_while_away.iter_mut().zip(bed.bucket.requests().into_iter().zip(before))
            {
                *sum += now - then;
            }
        }
        assert!(bed.bytes_in("staging") <= bed.options.staging_bytes_max);
        assert!(bed.bytes_in("cache") <= bed.options.cache_bytes_max);
        assert!(store.stats().staged_bytes <= bed.options.staging_bytes_max);
    }
    assert!(full > 1000, "writers met the limit {full} times");
    assert!(acknowledged.len() > 150, "{} blocks were put", acknowledged.len());
    assert!(sent_while_away.iter().sum::<u64>() < 7200 / 15 + 50, "{sent_while_away:?}");
    assert!(store.settle(Duration::from_secs(60)));
    let names = bed.bucket.names();
    for block in &acknowledged {
        assert!(names.contains(&in_bucket(block)));
        assert_is_there(&store, block);
    }
    let (root, _) = store.objects().get("root").unwrap().unwrap();
    assert_eq!(root, Bytes::from(roots.to_string()));
    assert_eq!(store.stats().staged_bytes, 0);
}

#[test]
fn whenever_the_power_goes_what_was_put_is_here_or_in_the_bucket() {
    let work = |bed: &Bed| {
        let mut kept = Vec::new();
        let mut root = 0;
        let Ok(store) = bed.try_open() else { return (kept, root) };
        for counter in [1, 4, 7, 300] {
            let block = sample(counter, &[1000, 7, 3000]);
            if store.put(&block).is_ok() {
                kept.push(block);
            }
            if store.objects().put("root", counter.to_string().into(), PutIf::Always).is_ok() {
                root = counter;
            }
            if counter != 4 {
                store.work();
            }
        }
        (kept, root)
    };
    let first = Bed::new().machine.counts().operations + 1;
    let whole = Bed::new();
    assert_eq!(work(&whole).0.len(), 4);
    for operation in first..=whole.machine.counts().operations + 1 {
        for seed in 0..6 {
            let bed = Bed::new();
            bed.machine.crash_at(operation);
            let (kept, root) = work(&bed);
            bed.machine.crash_seeded(seed);
            let store = bed.open();
            for block in &kept {
                assert_is_there(&store, block);
            }
            assert!(store.settle(Duration::from_secs(60)), "operation {operation}");
            let names = bed.bucket.names();
            assert!(kept.iter().all(|block| names.contains(&in_bucket(block))));
            let found = store.objects().get("root").unwrap();
            let found =
                found.map_or(0, |(root, _)| str::from_utf8(&root).unwrap().parse().unwrap());
            assert!(found >= root, "operation {operation}: root {found} is older than {root}");
            store.put(&sample(1 << 40, &[9])).unwrap();
        }
    }
}

#[test]
fn a_root_goes_out_after_the_blocks_before_it_and_not_after_those_behind() {
    let bed = Bed::new();
    let store = bed.open();
    let blocks: Vec<_> = (1..=3).map(|counter| sample(counter, &[100])).collect();
    store.put(&blocks[0]).unwrap();
    store.put(&blocks[1]).unwrap();
    store.objects().put("root", "after two".into(), PutIf::Always).unwrap();
    store.put(&blocks[2]).unwrap();
    store.work();
    let log = bed.bucket.log();
    let at = |name: &str| log.iter().position(|there| there == name).unwrap();
    assert!(at("p/objects/root") > at(&in_bucket(&blocks[0])).max(at(&in_bucket(&blocks[1]))));
    // The latest of a name takes the place of all before it.
    bed.bucket.be_away(true);
    let late = sample(9, &[100]);
    store.put(&late).unwrap();
    for n in 0..5 {
        store.objects().put("root", format!("{n}").into(), PutIf::Always).unwrap();
        store.work();
    }
    assert_eq!(store.objects().get("root").unwrap().unwrap().0, "4");
    bed.bucket.be_away(false);
    assert!(store.settle(Duration::from_secs(300)));
    assert_eq!(bed.bucket.log()[log.len()..], [in_bucket(&late), "p/objects/root".to_owned()]);
    assert_eq!(store.objects().get("root").unwrap().unwrap().0, "4");
}

#[test]
fn an_owner_goes_straight_through_and_says_when_the_bucket_is_away() {
    let bed = Bed::new();
    let store = bed.open();
    store.put(&sample(1, &[100])).unwrap();
    let first = store.objects().put("owner", "me".into(), PutIf::Absent).unwrap();
    assert_eq!(bed.bucket.log(), ["p/objects/owner"]);
    bed.bucket.be_away(true);
    let refused = store.objects().put("owner", "me too".into(), PutIf::Is(first.clone()));
    assert!(matches!(refused, Err(ObjectPutError::Away { .. })), "{refused:?}");
    bed.bucket.be_away(false);
    bed.machine.advance(Duration::from_secs(60));
    store.objects().put("owner", "me too".into(), PutIf::Is(first)).unwrap();
}

#[test]
fn a_lost_reply_is_no_conflict() {
    let bed = Bed::new();
    let store = bed.open();
    bed.bucket.lose_replies(true);
    let block = sample(1, &[70_000]);
    store.put(&block).unwrap();
    store.objects().put("root", "r".into(), PutIf::Always).unwrap();
    store.work();
    assert_eq!(store.stats().staged_blocks, 1, "the reply was lost");
    assert!(bed.bucket.names().contains(&in_bucket(&block)));
    // The next attempt finds the block; only the object's replies are still lost.
    assert!(store.settle(Duration::from_secs(60)));
    assert_eq!(bed.bucket.log().len(), 2, "each was put once");
    assert_eq!(store.stats().stuck_blocks, 0);
    let claim = store.objects().put("owner", "me".into(), PutIf::Absent);
    assert!(claim.is_ok(), "{claim:?}");
}

#[test]
fn another_block_of_the_same_name_is_never_written_over_and_holds_roots_back() {
    let bed = Bed::new();
    let block = sample(1, &[500]);
    bed.bucket.plant(&in_bucket(&block), "somebody else's");
    let store = bed.open();
    store.put(&block).unwrap();
    store.objects().put("root", "r".into(), PutIf::Always).unwrap();
    store.work();
    assert_eq!(store.stats().stuck_blocks, 1);
    assert_is_there(&store, &block);
    assert!(bed.bucket.log().is_empty(), "no root names what is not there");
    assert!(!store.settle(Duration::from_secs(60)), "it is not uploaded, and never will be");
    drop(store);
    let store = bed.open();
    store.work();
    assert_eq!(store.stats().stuck_blocks, 1);
    assert_is_there(&store, &block);
}

#[test]
fn a_block_whose_name_is_taken_is_deleted_here_and_not_there() {
    let bed = Bed::new();
    let block = sample(1, &[500]);
    bed.bucket.plant(&in_bucket(&block), sample(2, &[500]).bytes().clone());
    for restarted in [false, true] {
        let store = bed.open();
        store.put(&block).unwrap();
        if restarted {
            drop(store);
        } else {
            store.work();
            assert!(store.delete(block.name()).unwrap());
            assert_eq!((store.stats().staged_blocks, bed.bucket.names().len()), (0, 1));
        }
    }
    // Who does not know yet that the name is taken, finds out first.
    let store = bed.open();
    store.work();
    assert_eq!(store.stats().stuck_blocks, 1);
    assert_eq!(store.delete_many(&[block.name()]).unwrap(), 1);
    assert_eq!((store.stats().staged_blocks, bed.bucket.names().len()), (0, 1));
}

#[test]
fn a_damaged_staged_block_is_not_sent() {
    let bed = Bed::new();
    let store = bed.open();
    let block = sample(1, &[500]);
    store.put(&block).unwrap();
    bed.machine.flip_bit(&store.shared.staging_path(block.name()), 8 * 100).unwrap();
    store.work();
    assert_eq!(store.stats().stuck_blocks, 1);
    assert!(bed.bucket.log().is_empty());
    assert!(matches!(read_all(&store, &block), Err(ReadError::Damaged { .. })));
}

#[test]
fn reads_fail_at_once_while_the_bucket_is_away_and_it_is_noticed_by_itself_when_it_is_back() {
    let mut bed = Bed::new();
    bed.options.cache_bytes_max = 0;
    let store = bed.open();
    let block = sample(1, &[500]);
    store.put(&block).unwrap();
    store.work();
    bed.bucket.be_away(true);
    let error = read_all(&store, &block).unwrap_err();
    assert!(matches!(error, ReadError::Away { .. }), "{error}");
    assert!(store.stats().reads_away.is_some());
    let asked = bed.bucket.requests();
    for _ in 0..100 {
        let error = read_all(&store, &block).unwrap_err();
        assert!(error.to_string().contains("while the store is away"), "{error}");
        assert!(store.list(&mut |_| ControlFlow::Continue(())).is_err());
    }
    assert_eq!(bed.bucket.requests(), asked, "nobody asks");
    // What is staged is read all the same.
    let staged = sample(2, &[500]);
    store.put(&staged).unwrap();
    assert_is_there(&store, &staged);
    bed.bucket.be_away(false);
    bed.machine.advance(Duration::from_secs(31));
    store.work();
    assert_eq!(store.stats().reads_away, None);
    assert_is_there(&store, &block);
}

#[test]
fn a_bucket_that_takes_nothing_still_answers_reads() {
    let mut bed = Bed::new();
    bed.options.cache_bytes_max = 0;
    let store = bed.open();
    let block = sample(1, &[500]);
    store.put(&block).unwrap();
    store.work();
    bed.bucket.refuse_puts(true);
    for counter in 2..30 {
        store.put(&sample(counter, &[500])).unwrap();
        store.work();
    }
    assert!(store.stats().writes_away.is_some());
    assert_is_there(&store, &block);
    bed.bucket.refuse_puts(false);
    assert!(store.settle(Duration::from_secs(600)));
    assert_eq!(store.stats().writes_away, None);
}

#[test]
fn the_first_small_read_gets_a_part_and_the_second_the_block() {
    let bed = Bed::new();
    let block = sample(1, &[BLOCK_LEN]);
    bed.bucket.plant(&in_bucket(&block), block.bytes().clone());
    let store = bed.open();
    let read = |range: Range<u32>| {
        let read = store.read(block.name(), range.clone()).unwrap();
        assert_eq!(read, block.payload().slice(range.start as usize..range.end as usize));
    };
    read(5000..5100);
    assert_eq!(store.stats().downloaded_bytes, 100, "as handed out");
    assert_eq!(store.stats().cache_blocks, 0);
    read(700_000..700_010);
    assert_eq!((store.stats().downloads, store.stats().cache_blocks), (2, 1));
    let asked = bed.bucket.requests();
    read(0..BLOCK_LEN);
    assert_eq!((bed.bucket.requests(), store.stats().cache_hits), (asked, 1));
    let outside = store.read(block.name(), 0..BLOCK_LEN + 1);
    assert!(matches!(outside, Err(ReadError::OutOfRange { .. })), "{outside:?}");
}

const BLOCK_LEN: u32 = 1_000_000;

#[test]
fn hinted_blocks_are_read_ahead_after_all_else_and_within_a_limit() {
    let mut bed = Bed::new();
    bed.options.ahead_blocks_max = 3;
    bed.options.transfers_max = 1;
    let blocks: Vec<_> = (1..=5).map(|counter| sample(counter, &[1000])).collect();
    for block in &blocks {
        bed.bucket.plant(&in_bucket(block), block.bytes().clone());
    }
    let store = bed.open();
    let names: Vec<_> = blocks.iter().map(Block::name).collect();
    store.hint(&names);
    store.hint(&names[..2]);
    let stats = store.stats();
    assert_eq!((stats.queued_ahead, stats.ahead_dropped), (3, 2));
    let upload = sample(9, &[1000]);
    store.put(&upload).unwrap();
    assert!(store.shared.step());
    assert_eq!(bed.bucket.log(), [in_bucket(&upload)], "uploads go first");
    store.work();
    assert_eq!(store.stats().cache_blocks, 3 + 1);
    let asked = bed.bucket.requests();
    for block in &blocks[..3] {
        assert_is_there(&store, block);
    }
    assert_eq!(bed.bucket.requests(), asked);
    // What is gone is no error, nor is a bucket that is away.
    store.hint(&[sample(77, &[1]).name()]);
    store.work();
    bed.bucket.be_away(true);
    store.hint(&names[3..]);
    store.work();
    assert!(store.shared.state().flights.is_empty() || store.stats().queued_ahead > 0);
}

#[test]
fn a_download_that_is_damaged_is_tried_again_and_then_an_error() {
    let bed = Bed::new();
    let block = sample(1, &[1000]);
    let mut bytes = block.bytes().to_vec();
    bytes[500] ^= 1;
    bed.bucket.plant(&in_bucket(&block), bytes);
    let store = bed.open();
    let error = store.read(block.name(), 0..1000).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    assert_eq!(store.stats().retries, 2);
    assert_eq!(store.stats().cache_blocks, 0);
}

#[test]
fn a_block_that_was_never_sent_is_deleted_without_the_bucket() {
    let bed = Bed::new();
    let store = bed.open();
    bed.bucket.be_away(true);
    let (never, tried) = (sample(1, &[100]), sample(2, &[100]));
    store.put(&tried).unwrap();
    store.work();
    store.put(&never).unwrap();
    let asked = bed.bucket.requests();
    assert!(store.delete(never.name()).unwrap());
    assert_eq!(bed.bucket.requests(), asked);
    assert!(matches!(store.delete(tried.name()), Err(DeleteError::Away { .. })));
    assert_is_there(&store, &tried);
    bed.bucket.be_away(false);
    assert!(store.settle(Duration::from_secs(300)));
    assert_eq!(bed.bucket.names(), [in_bucket(&tried)]);
    assert!(store.delete(tried.name()).unwrap());
    assert!(bed.bucket.names().is_empty());
    assert!(matches!(read_all(&store, &tried), Err(ReadError::Missing { .. })));
}

#[test]
fn a_listing_shows_what_is_here_and_what_is_there_once_and_in_order() {
    let bed = Bed::new();
    let store = bed.open();
    let mut want = Vec::new();
    for counter in 0..30 {
        let block = sample(counter, &[10]);
        store.put(&block).unwrap();
        want.push(block.name());
        if counter == 15 {
            store.work();
        }
        if counter % 7 == 0 {
            bed.bucket.plant(&in_bucket(&block), block.bytes().clone());
        }
    }
    want.sort_unstable();
    let mut names = Vec::new();
    store
        .list(&mut |listed| {
            names.push(listed.name);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(names, want);
    assert_eq!(store.usage().blocks, 30);
    store.work();
    assert_eq!(store.usage().blocks, 30);
}

#[test]
fn a_close_leaves_what_is_not_uploaded_and_the_next_start_goes_on() {
    let bed = Bed::new();
    let store = bed.open();
    let block = sample(1, &[100]);
    bed.bucket.be_away(true);
    store.put(&block).unwrap();
    store.objects().put("root", "r".into(), PutIf::Always).unwrap();
    assert!(!store.close(Duration::from_secs(10)));
    assert_is_there(&store, &block);
    assert!(matches!(store.footer(sample(2, &[1]).name()), Err(ReadError::Away { .. })));
    drop(store);
    bed.machine.crash(&mut Lost);
    bed.bucket.be_away(false);
    let store = bed.open();
    let stats = store.stats();
    assert_eq!((stats.staged_blocks, stats.staged_objects), (1, 1));
    assert_eq!(store.objects().get("root").unwrap().unwrap().0, "r");
    assert!(store.close(Duration::from_secs(10)));
    assert_eq!(bed.bucket.log(), [in_bucket(&block), "p/objects/root".to_owned()]);
}

#[test]
fn an_object_is_settled_when_the_bucket_has_it_and_all_blocks_before_it() {
    let bed = Bed::new();
    let store = bed.open();
    assert!(store.objects().is_settled("root"), "nothing of that name is on its way");
    bed.bucket.be_away(true);
    store.put(&sample(1, &[100])).unwrap();
    store.objects().put("root", "1".into(), PutIf::Always).unwrap();
    store.work();
    assert!(!store.objects().is_settled("root"));
    assert!(store.objects().is_settled("other"));
    drop(store);
    let store = bed.open();
    assert!(!store.objects().is_settled("root"), "nor after a restart");
    bed.bucket.be_away(false);
    assert!(store.settle(Duration::from_secs(60)));
    assert!(store.objects().is_settled("root"));
    assert_eq!(bed.bucket.log().last().unwrap(), "p/objects/root");
    bed.bucket.be_away(true);
    store.objects().put("root", "2".into(), PutIf::Always).unwrap();
    assert!(!store.objects().is_settled("root"), "a newer one is on its way");
}

#[test]
fn a_block_is_uploaded_when_it_is_synced_and_no_object_waits_for_it_before() {
    let bed = Bed::new();
    let store = bed.open();
    let block = sample(1, &[3000]);
    store.put_unsynced(&block).unwrap();
    store.objects().put("before", Bytes::from_static(b"1"), PutIf::Always).unwrap();
    store.work();
    assert!(!bed.bucket.names().contains(&in_bucket(&block)));
    assert_eq!((store.stats().staged_blocks, store.stats().staged_objects), (1, 0));
    assert_is_there(&store, &block);
    assert!(!store.close(Duration::from_secs(5)), "it is not uploaded");
    drop(store);
    let store = bed.open();
    store.work();
    assert!(!bed.bucket.names().contains(&in_bucket(&block)), "nobody knows whether it is whole");
    store.sync(&[block.name()]).unwrap();
    store.objects().put("after", Bytes::from_static(b"2"), PutIf::Always).unwrap();
    store.work();
    assert!(bed.bucket.names().contains(&in_bucket(&block)));
    assert_eq!((store.stats().staged_blocks, store.stats().staged_objects), (0, 0));
    // It lies elsewhere now, and is as durable as can be.
    store.sync(&[block.name()]).unwrap();
    assert_is_there(&store, &block);
    let never = sample(2, &[5]).name();
    assert!(matches!(store.sync(&[never]), Err(SyncError::NotWhole(_))));
}

#[test]
fn a_block_whose_upload_just_ends_is_not_taken_for_lost() {
    let bed = Bed::new();
    let block = sample(1, &[3000]);
    let name = block.name();
    let uploader: Arc<OnceLock<Arc<Shared>>> = Arc::default();
    let (machine, idle_uploader) = (bed.machine.clone(), Arc::clone(&uploader));
    let idle = move |wait| {
        machine.advance(wait);
        let shared = idle_uploader.get().unwrap();
        shared.state().staging.remove(name);
    };
    let host = bed.machine.host();
    let remote = Remote::over(&host, bed.bucket.store(), "p", Duration::from_secs(1)).unwrap();
    let store = Tiered::by_hand(&host, Path::new(DIR), remote, bed.options.clone(), idle).unwrap();
    uploader.set(Arc::clone(&store.shared)).unwrap();
    store.put(&block).unwrap();
    // What an upload does, up to the moment at which the file is gone and the block still counts as staged.
    {
        let mut state = store.shared.state();
        state.queue.remove(&Job::Upload(name));
        state.staging.block_mut(name).unwrap().phase = Phase::Uploading;
    }
    bed.bucket.plant(&in_bucket(&block), block.bytes().clone());
    store.shared.staging.give_up(name, |_, _| false).unwrap();
    store.sync(&[name]).unwrap();
    assert_is_there(&store, &block);
}

#[test]
fn a_torn_block_is_never_uploaded_and_can_be_deleted() {
    let mut torn = 0;
    for seed in 0..20 {
        let bed = Bed::new();
        let store = bed.open();
        let block = sample(1, &[40_000]);
        store.put_unsynced(&block).unwrap();
        drop(store);
        bed.machine.crash_seeded(seed);
        let store = bed.open();
        store.work();
        assert!(!bed.bucket.names().contains(&in_bucket(&block)));
        let synced = store.sync(&[block.name()]);
        store.work();
        let is_there = bed.bucket.names().contains(&in_bucket(&block));
        assert_eq!(is_there, synced.is_ok(), "seed {seed}");
        if let Err(error) = synced {
            assert!(matches!(error, SyncError::NotWhole(_)), "{error}");
            assert!(read_all(&store, &block).is_err());
            torn += u32::from(store.stats().staged_blocks == 1);
            store.delete(block.name()).unwrap();
            assert_eq!((store.stats().staged_blocks, store.stats().staged_bytes), (0, 0));
        }
    }
    assert!(torn > 0, "no seed tears");
}

#[test]
fn a_staged_object_that_is_deleted_stays_away() {
    let bed = Bed::new();
    let store = bed.open();
    store.put(&sample(1, &[100])).unwrap();
    store.objects().put("roots/a", "a".into(), PutIf::Always).unwrap();
    store.objects().put("roots/b", "b".into(), PutIf::Always).unwrap();
    assert_eq!(store.objects().list("roots/").unwrap(), ["roots/a", "roots/b"]);
    store.objects().delete("roots/a").unwrap();
    store.work();
    assert_eq!(store.objects().list("roots/").unwrap(), ["roots/b"]);
    assert_eq!(store.objects().get("roots/a").unwrap(), None);
    assert_eq!(bed.bucket.log().len(), 2);
    assert_eq!(store.stats().staged_bytes, 0);
}
