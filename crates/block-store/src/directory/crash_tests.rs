//! Goal: whenever the power goes, a block that was put is there, whole; one that was not is there whole
//! or not at all; and the next start goes on. Method: the simulated disk, cut at each operation, with
//! many outcomes each.

use host::sim::{Lost, Machine, Reached};

use super::*;
use crate::PutIf;
use crate::conformance::{check_all, sample};

const DIR: &str = "/data/blocks";

/// The first operation after `machine` made `/data`.
const FIRST: u64 = 3;

/// A machine with a durable `/data`, which is not the store's to make.
fn machine() -> Machine {
    let machine = Machine::new(1);
    machine.host().disk.create_dir_all(Path::new("/data")).unwrap();
    machine
}

fn open(machine: &Machine) -> Directory {
    Directory::open(&machine.host(), Path::new(DIR)).unwrap()
}

/// Puts, deletes and puts again; returns the blocks whose put returned, without those whose delete was
/// begun.
fn work(host: &Host) -> Vec<Block> {
    let mut kept: Vec<Block> = Vec::new();
    let Ok(store) = Directory::open(host, Path::new(DIR)) else { return kept };
    for counter in [1, 4, 7, 300] {
        let block = sample(counter, &[1000, 7, 3000]);
        if store.put(&block).is_ok() {
            kept.push(block);
        }
    }
    if !kept.is_empty() {
        let _gone_or_not = store.delete(kept.remove(0).name());
    }
    let late = sample(10, &[5]);
    if store.put(&late).is_ok() {
        kept.push(late);
    }
    kept
}

#[track_caller]
fn check_whole(machine: &Machine, kept: &[Block]) {
    let store = open(machine);
    let mut names = Vec::new();
    let mut bytes = 0;
    let mut visit = |listed: Listed| {
        names.push(listed.name);
        bytes += listed.bytes;
        ControlFlow::Continue(())
    };
    store.list(&mut visit).unwrap();
    assert_eq!(store.usage(), Usage { blocks: names.len() as u64, bytes });
    for name in &names {
        let footer = store.footer(*name).unwrap();
        store.read(*name, 0..footer.payload_len()).unwrap();
    }
    for block in kept {
        assert_eq!(
            store.read(block.name(), 0..block.footer().payload_len()).unwrap(),
            block.payload()
        );
    }
    // Whatever was interrupted, a new name is free.
    store.put(&sample(1 << 40, &[9])).unwrap();
}

#[test]
fn conforms_on_the_simulated_disk() {
    check_all(&|| Box::new(open(&machine())));
}

#[test]
fn a_power_cut_at_any_operation_keeps_what_was_put() {
    let whole = machine();
    assert_eq!(work(&whole.host()).len(), 4);
    for operation in FIRST..=whole.counts().operations + 1 {
        let machine = machine();
        machine.crash_at(operation);
        let kept = work(&machine.host());
        for seed in 0..40 {
            let crashed = machine.fork();
            crashed.crash_seeded(seed);
            check_whole(&crashed, &kept);
        }
    }
}

#[test]
fn a_killed_process_and_then_a_power_cut_keep_what_was_put() {
    let whole = machine();
    work(&whole.host());
    for operation in FIRST..=whole.counts().operations {
        let machine = machine();
        machine.fail_at(operation);
        let mut kept = work(&machine.host());
        machine.kill();
        // Another name in the same folder: its directories may exist without being durable.
        let next = sample(13, &[40]);
        open(&machine).put(&next).unwrap();
        kept.push(next);
        machine.crash(&mut Lost);
        check_whole(&machine, &kept);
    }
}

/// What was put, whether it was asked to be synced, and whether it said that it is.
struct Put {
    block: Block,
    synced: bool,
}

/// Puts blocks unsynced, in two folders, and syncs some of them; returns those whose put returned.
fn work_unsynced(host: &Host) -> Vec<Put> {
    let mut puts: Vec<Put> = Vec::new();
    let Ok(store) = Directory::open(host, Path::new(DIR)) else { return puts };
    for (counters, sync) in [(1..4, 2), (300..302, 2), (4..6, 0)] {
        let first = puts.len();
        for counter in counters {
            let block = sample(3 * counter, &[9000, 7, 3000]);
            if store.put_unsynced(&block).is_ok() {
                puts.push(Put { block, synced: false });
            }
        }
        let those = first..puts.len().min(first + sync);
        let names: Vec<_> = puts[those.clone()].iter().map(|put| put.block.name()).collect();
        if store.sync(&names).is_ok() {
            puts[those].iter_mut().for_each(|put| put.synced = true);
        }
    }
    puts
}

/// Each block is whole, torn or gone, the first where it was synced; and says which before a sync of it is believed.
#[track_caller]
fn check_unsynced(machine: &Machine, puts: &[Put]) -> usize {
    let store = open(machine);
    let mut whole = Vec::new();
    for Put { block, synced } in puts {
        let name = block.name();
        let is_whole = match store.read(name, 0..block.footer().payload_len()) {
            Ok(bytes) => {
                assert_eq!(bytes, block.payload());
                true
            }
            Err(ReadError::Missing { .. } | ReadError::Damaged { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        assert!(is_whole || !synced, "{name} was synced");
        match store.sync(&[name]) {
            Ok(()) => whole.push(block),
            Err(SyncError::NotWhole(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(is_whole, whole.last().is_some_and(|last| last.name() == name));
    }
    drop(store);
    machine.crash(&mut Lost);
    let store = open(machine);
    for block in &whole {
        let read = store.read(block.name(), 0..block.footer().payload_len());
        assert_eq!(read.unwrap(), block.payload(), "what was found whole was made durable");
    }
    whole.len()
}

#[test]
fn a_power_cut_at_any_operation_keeps_what_was_synced_and_tears_no_block_unnoticed() {
    let whole = machine();
    let puts = work_unsynced(&whole.host());
    assert_eq!((puts.len(), puts.iter().filter(|put| put.synced).count()), (7, 4));
    let mut lost = 0;
    for operation in FIRST..=whole.counts().operations + 1 {
        let machine = machine();
        machine.crash_at(operation);
        let puts = work_unsynced(&machine.host());
        for seed in 0..20 {
            let crashed = machine.fork();
            crashed.crash_seeded(seed);
            lost += puts.len() - check_unsynced(&crashed, &puts);
        }
    }
    assert!(lost > 0, "the power cuts took nothing");
}

#[test]
fn a_killed_process_loses_no_unsynced_block_and_the_next_one_makes_it_durable() {
    let whole = machine();
    work_unsynced(&whole.host());
    for operation in FIRST..=whole.counts().operations {
        let machine = machine();
        machine.fail_at(operation);
        let puts = work_unsynced(&machine.host());
        machine.kill();
        assert_eq!(check_unsynced(&machine, &puts), puts.len(), "operation {operation}");
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    for killed in [false, true] {
        let machine = machine();
        let mut store = open(&machine);
        let block = sample(1, &[20_000]);
        store.put_unsynced(&block).unwrap();
        machine.fail_sync(machine.counts().syncs + 1, Reached::Nothing);
        assert!(matches!(store.sync(&[block.name()]), Err(SyncError::Io { .. })));
        if killed {
            drop(store);
            machine.kill();
            store = open(&machine);
        }
        store.sync(&[block.name()]).unwrap();
        drop(store);
        machine.crash(&mut Lost);
        let read = open(&machine).read(block.name(), 0..20_000);
        assert_eq!(read.unwrap(), block.payload());
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_an_object_as_it_was_or_as_it_was_to_be() {
    let puts = [b"one", b"two", b"six"].map(|content| Bytes::from_static(content));
    let work = |host: &Host| {
        let mut acknowledged = 0;
        let Ok(store) = Directory::open(host, Path::new(DIR)) else { return acknowledged };
        for (n, content) in puts.iter().enumerate() {
            match store.objects().put("a/root", content.clone(), PutIf::Always) {
                Ok(_) => acknowledged = n + 1,
                Err(_) => break,
            }
        }
        acknowledged
    };
    let whole = machine();
    assert_eq!(work(&whole.host()), puts.len());
    for operation in FIRST..=whole.counts().operations + 1 {
        let machine = machine();
        machine.crash_at(operation);
        let acknowledged = work(&machine.host());
        for seed in 0..40 {
            let crashed = machine.fork();
            crashed.crash_seeded(seed);
            let store = open(&crashed);
            let found = store.objects().get("a/root").unwrap();
            let at = found.map_or(0, |(found, _)| {
                1 + puts.iter().position(|content| *content == found).unwrap()
            });
            assert!((acknowledged..=acknowledged + 1).contains(&at), "operation {operation}");
            store.objects().put("a/root", Bytes::from_static(b"next"), PutIf::Always).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_is_a_failed_put() {
    for reached in [Reached::Nothing, Reached::Some(3), Reached::Everything] {
        let machine = machine();
        let store = open(&machine);
        machine.fail_sync(machine.counts().syncs + 1, reached);
        let block = sample(1, &[100]);
        assert!(matches!(store.put(&block), Err(PutError::Io { .. })));
        assert!(matches!(store.read(block.name(), 0..1), Err(ReadError::Missing { .. })));
        assert_eq!(store.usage(), Usage::default());
        check_whole(&machine, &[]);
    }
}

#[test]
fn a_full_disk_refuses_the_block_and_leaves_no_rest() {
    let machine = machine();
    let store = open(&machine);
    machine.fill_up(5 * 4096);
    let (small, big) = (sample(1, &[5000]), sample(4, &[20_000]));
    store.put(&small).unwrap();
    assert!(matches!(store.put(&big), Err(PutError::NoSpace { name }) if name == big.name()));
    assert_eq!(store.usage().blocks, 1);
    assert!(store.delete(small.name()).unwrap());
    drop(store);
    let store = open(&machine);
    store.put(&sample(7, &[10_000])).unwrap();
}

#[test]
fn a_forgotten_sync_would_be_noticed() {
    let whole = machine();
    work(&whole.host());
    let mut noticed = 0;
    for operation in FIRST..=whole.counts().operations {
        let machine = machine();
        machine.ignore_at(operation);
        let kept = work(&machine.host());
        machine.crash(&mut Lost);
        let store = open(&machine);
        noticed += u32::from(kept.iter().any(|block| store.read(block.name(), 0..1).is_err()));
    }
    // Four blocks remain, each synced once; their two folders are synced after each put, of which the
    // last counts. All other names are synced twice.
    assert_eq!(noticed, 4 + 2);
}
