//! Goal: from its store alone a node comes back as it was at the newest root's position, byte for byte; a lost meta
//! store is rebuilt; what is damaged is named with its place, and an older root is taken then.
//!
//! Method: random work on the simulated disk, a restore into another directory, and the model's states to
//! compare with; each byte of what is restored from, changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use block_store::{
    Block, BlockName, BlockStore, DeleteError, Directory, Footer, ListError, Listed, Objects,
    PutError, PutIf, Usage,
};
use bytes::Bytes;
use host::sim::Machine;
use meta_store::MetaStore;

use super::power_cut::{
    Life, Synced, check_survivors, check_without_meta, count, live, open, open_with, steps,
};
use super::{Model, ROWS, Step, options};
use crate::frames::LEDGER;
use crate::root::{ROOTS_PREFIX, Root};
use crate::{
    Commit, InspectedEntry, Options, RestoreError, Restored, StrandId, Strands, extents,
    inspect_ledger, inspect_owner, inspect_root, restore,
};

/// Restores from the machine's store into the `n`th directory, and opens that.
pub(super) fn restored(machine: &Machine, n: u32) -> Result<(Strands, Restored), String> {
    let host = machine.host();
    let blocks = Directory::open(&host, Path::new("/blocks")).map_err(|error| error.to_string())?;
    restore_from(machine, Arc::new(blocks), n).map_err(|error| error.to_string())
}

fn restore_from(
    machine: &Machine,
    blocks: Arc<dyn BlockStore>,
    n: u32,
) -> Result<(Strands, Restored), RestoreError> {
    let meta = Arc::new(Synced::default());
    let dir = format!("/restored-{n}");
    let found =
        restore(&machine.host(), Path::new(&dir), &*meta, &*blocks, &options(), &mut |_| {})?;
    let meta = meta.after_power_cut() as Arc<dyn MetaStore>;
    let strands = Strands::open(machine.host(), Path::new(&dir), meta, blocks, options()).unwrap();
    assert_eq!(strands.positions().start, found.position);
    Ok((strands, found))
}

#[test]
fn a_restored_node_is_what_was_there_at_its_last_round() {
    for seed in 0..60 {
        println!("seed {seed}");
        let machine = Machine::new(seed);
        let strands = open(&machine, &Arc::default()).unwrap();
        let mut life = Life::none();
        for part in 0..4 {
            life.extend(live(&strands, life.last(), &steps(seed * 4 + part), &|_| false));
            strands.pack_now().unwrap();
        }
        let at_the_root = life.last();
        life.extend(live(&strands, life.last(), &[Step::Put { key: 1, value: 1 }], &|_| false));
        let minted = strands.mint().unwrap();
        let opening = strands.opening();
        drop(strands);
        let (strands, found) = restored(&machine, 0).unwrap();
        at_the_root.1.check(&strands);
        assert_eq!(count(&strands), at_the_root.0);
        assert!(found.skipped.is_empty(), "{found:?}");
        // Nothing that the lost node used is used again.
        assert!(strands.mint().unwrap() > minted);
        assert!(strands.opening().epoch > opening.epoch);
        assert!(strands.opening().unclean_starts > opening.unclean_starts);
        assert!(strands.opening().system_runs > opening.system_runs);
        // And it goes on as any other, also through a second restore.
        let life = live(&strands, at_the_root, &steps(seed), &|_| false);
        strands.pack_now().unwrap();
        drop(strands);
        let (strands, _) = restored(&machine, 1).unwrap();
        life.last().1.check(&strands);
    }
}

#[test]
fn a_restored_node_is_of_one_moment_however_much_was_written_during_the_rounds() {
    const WRITERS: u64 = 3;
    const LEN: u64 = 9000;
    /// What a writer's `round`th commit does to its strand.
    fn step(commit: &mut Commit, strand: StrandId, round: u64, model: &mut Vec<u8>) {
        let at = round * 7919 % LEN;
        let len = 1 + round * 104_729 % 3000;
        if round % 11 == 10 {
            commit.truncate(strand, at);
            let keep = model.len().min(usize::try_from(at).unwrap());
            model[keep..].fill(0);
        } else {
            let bytes = vec![round.to_le_bytes()[0] | 1; usize::try_from(len).unwrap()];
            let from = usize::try_from(at).unwrap();
            model.resize(model.len().max(from + bytes.len()), 0);
            model[from..from + bytes.len()].copy_from_slice(&bytes);
            commit.write(strand, at, Bytes::from(bytes));
        }
        commit.put(ROWS, strand.get().to_be_bytes().to_vec(), round.to_le_bytes().to_vec());
    }
    for seed in 0..4 {
        let machine = Machine::new(seed);
        let strands = open(&machine, &Arc::default()).unwrap();
        let ids: Vec<_> = (0..WRITERS).map(|_| strands.mint().unwrap()).collect();
        let done = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = ids
            .iter()
            .map(|id| {
                let (strands, done, id) = (strands.clone(), Arc::clone(&done), *id);
                let write = move || {
                    let mut round = 0;
                    while !done.load(Ordering::Relaxed) && round < 3000 {
                        let mut commit = Commit::new();
                        step(&mut commit, id, round, &mut Vec::new());
                        drop(strands.commit(commit).unwrap());
                        round += 1;
                    }
                };
                host::spawn("writer", write).unwrap()
            })
            .collect();
        for _ in 0..8 {
            strands.pack_now().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(strands);
        let (strands, _) = restored(&machine, 0).unwrap();
        for id in ids {
            let rounds = strands.row(ROWS, &id.get().to_be_bytes()).unwrap();
            let rounds =
                rounds.map_or(0, |round| u64::from_le_bytes(round[..].try_into().unwrap()) + 1);
            let mut model = Vec::new();
            (0..rounds).for_each(|round| step(&mut Commit::new(), id, round, &mut model));
            let got = strands.read_blocking(id, 0, u32::try_from(model.len()).unwrap()).unwrap();
            assert!(got == model, "seed {seed}, {id} after {rounds} commits");
        }
    }
}

/// Cuts the power again and again; after each cut, looks what can be restored from the store, and rebuilds the meta
/// store from it.
fn cut_and_restore(seed: u64, options: &Options, cuts: u64) {
    let machine = Machine::new(seed);
    let mut meta = Arc::new(Synced::default());
    let open = |machine: &Machine, meta: &Arc<Synced>| open_with(machine, meta, options.clone());
    let (mut state, mut least) = ((0, Model::default()), 0);
    let mut states = BTreeMap::new();
    for cut in 0..cuts {
        println!("seed {seed}, power cut {cut}");
        let strands = open(&machine, &meta).unwrap();
        if cut == 0 {
            strands.pack_now().unwrap();
        }
        let until = 1 + (seed * 13 + cut * 29) % 120;
        machine.crash_at(machine.counts().operations + until);
        let work = [steps(seed * 10 + cut), vec![Step::Pack; 2]].concat();
        let life = live(&strands, state, &work, &|_| machine.is_off());
        drop(strands);
        machine.crash_seeded(seed + cut);
        meta = meta.after_power_cut();
        check_without_meta(&machine, &life);
        states.extend(life.states());
        let strands = open(&machine, &meta).unwrap();
        state = check_survivors(&strands, &life);
        drop(strands);
        states.split_off(&(state.0 + 1));
        let (strands, found) = restored(&machine.fork(), 0).unwrap();
        let number = count(&strands);
        states[&number].check(&strands);
        assert!(number >= least, "{found:?}: from state {least} back to {number}");
        least = number;
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_store_to_restore_from() {
    (0..40).for_each(|seed| cut_and_restore(seed, &options(), 5));
}

#[test]
fn the_same_on_a_disk_that_is_so_low_that_the_journal_is_let_go_in_steps() {
    let low = Options { reserve_bytes: Some(u64::MAX), ..options() };
    (0..20).for_each(|seed| cut_and_restore(seed, &low, 5));
}

#[test]
fn a_restore_that_is_interrupted_is_refused_or_whole() {
    let machine = Machine::new(1);
    let strands = open(&machine, &Arc::default()).unwrap();
    let life = live(&strands, (0, Model::default()), &steps(7), &|_| false);
    strands.pack_now().unwrap();
    drop(strands);
    let (mut refused, mut whole) = (0, 0);
    for cut in 1.. {
        let machine = machine.fork();
        let blocks = Directory::open(&machine.host(), Path::new("/blocks")).unwrap();
        machine.crash_at(machine.counts().operations + cut);
        let meta = Arc::new(Synced::default());
        let dir = Path::new("/restored");
        let done = restore(&machine.host(), dir, &*meta, &blocks, &options(), &mut |_| {});
        let is_done = done.is_ok() && !machine.is_off();
        machine.crash_seeded(cut);
        let blocks = Arc::new(Directory::open(&machine.host(), Path::new("/blocks")).unwrap());
        let meta = meta.after_power_cut();
        let is_begun = meta.applied().0 > 0;
        match Strands::open(machine.host(), dir, meta, blocks, options()) {
            Ok(strands) if is_begun => {
                whole += 1;
                life.last().1.check(&strands);
            }
            // Nothing of it is there: a new, empty directory.
            Ok(strands) => assert_eq!(strands.recovery().commits, 0),
            Err(error) => {
                refused += 1;
                assert!(!is_done, "{error}");
            }
        }
        if is_done {
            break;
        }
    }
    println!("{refused} refused, {whole} whole");
    assert!(refused > 0 && whole > 0);
}

#[test]
fn a_target_that_holds_something_and_a_store_without_a_root_are_refused() {
    let machine = Machine::new(1);
    let strands = open(&machine, &Arc::default()).unwrap();
    drop(strands);
    let error = restored(&machine, 0).unwrap_err();
    assert!(error.contains("no root to restore from"), "{error}");
    let strands = open(&machine, &Arc::default());
    drop(strands);
    let meta = Synced::default();
    meta.commit(
        meta_store::Batch::new().put(meta_store::Table(1), vec![1], vec![1]),
        meta_store::Applied(0),
    )
    .unwrap();
    let blocks = Directory::open(&machine.host(), Path::new("/blocks")).unwrap();
    let error =
        restore(&machine.host(), Path::new("/new"), &meta, &blocks, &options(), &mut |_| {});
    assert!(matches!(error, Err(RestoreError::NotEmpty { .. })), "{error:?}");
}

/// A store in memory that gives one bit of one block wrong, as if the block's own checksum had missed it.
#[derive(Debug)]
struct Flipping {
    blocks: block_store::Memory,
    flipped: Mutex<Option<(BlockName, u32, u8)>>,
}

impl BlockStore for Flipping {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        self.blocks.put(block)
    }

    fn read(
        &self,
        name: BlockName,
        range: std::ops::Range<u32>,
    ) -> Result<Bytes, block_store::ReadError> {
        let mut bytes = self.blocks.read(name, range.clone())?.to_vec();
        if let Some((block, at, bit)) = *self.flipped.lock().unwrap()
            && block == name
            && range.contains(&at)
        {
            bytes[(at - range.start) as usize] ^= 1 << bit;
        }
        Ok(bytes.into())
    }

    fn footer(&self, name: BlockName) -> Result<Footer, block_store::ReadError> {
        self.blocks.footer(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        self.blocks.delete(name)
    }

    fn list(
        &self,
        visit: &mut dyn FnMut(Listed) -> std::ops::ControlFlow<()>,
    ) -> Result<(), ListError> {
        self.blocks.list(visit)
    }

    fn objects(&self) -> &dyn Objects {
        self.blocks.objects()
    }

    fn usage(&self) -> Usage {
        self.blocks.usage()
    }
}

/// A store with two roots, and the states that they are of.
fn two_roots(machine: &Machine) -> (Arc<Flipping>, [Model; 2]) {
    let blocks = block_store::Memory::on(&machine.host());
    let store = Arc::new(Flipping { blocks, flipped: Mutex::default() });
    let blocks = Arc::clone(&store) as Arc<dyn BlockStore>;
    let meta = Arc::new(Synced::default());
    let strands =
        Strands::open(machine.host(), Path::new("/journal"), meta, blocks, options()).unwrap();
    let (mut life, mut states) = (Life::none(), Vec::new());
    for part in 0..3 {
        let mut work = steps(part);
        work.retain(|step| !matches!(step, Step::Pack));
        life.extend(live(&strands, life.last(), &work, &|_| false));
        strands.pack_now().unwrap();
        states.push(life.last().1);
    }
    let [_, older, newer] = states.try_into().unwrap();
    (store, [older, newer])
}

fn roots(store: &Flipping) -> Vec<Root> {
    let objects = store.blocks.objects();
    let names = objects.list(ROOTS_PREFIX).unwrap();
    names.iter().map(|name| Root::decode(&objects.get(name).unwrap().unwrap().0).unwrap()).collect()
}

#[test]
fn a_changed_bit_of_a_ledger_or_a_checkpoint_is_an_error_with_its_place() {
    let machine = Machine::new(1);
    let (store, _) = two_roots(&machine);
    let all = roots(&store);
    assert_eq!(all.len(), 2, "two are kept");
    store.blocks.objects().delete(&all[0].object_name()).unwrap();
    let root = &all[1];
    let mut tried = 0;
    for (what, stream) in [("ledger", &root.ledger), ("checkpoint", &root.checkpoint)] {
        for range in &stream.ranges {
            for at in (range.at..range.at + range.len).step_by(5) {
                *store.flipped.lock().unwrap() = Some((range.block, at, (at % 8) as u8));
                let meta = meta_store::Memory::new();
                let dir = Path::new("/never");
                let error = restore(&machine.host(), dir, &meta, &*store, &options(), &mut |_| {});
                let Err(RestoreError::NoRoot { skipped }) = error else {
                    panic!("{at}: {error:?}")
                };
                let want = format!("the {what} ");
                assert!(skipped[0].why.starts_with(&want), "{}", skipped[0].why);
                assert!(skipped[0].why.contains(&range.block.to_string()), "{}", skipped[0].why);
                tried += 1;
            }
        }
    }
    println!("{tried} bits");
    *store.flipped.lock().unwrap() = None;
    restore_from(&machine, store, 0).unwrap();
}

#[test]
fn when_the_newest_root_is_damaged_the_one_before_it_is_taken_and_that_is_said() {
    let machine = Machine::new(1);
    let (store, [older, newer]) = two_roots(&machine);
    let all = roots(&store);
    let objects = store.blocks.objects();
    let name = all[1].object_name();
    let (good, _) = objects.get(&name).unwrap().unwrap();
    let (strands, found) = restore_from(&machine, Arc::clone(&store) as _, 1000).unwrap();
    newer.check(&strands);
    assert!(found.skipped.is_empty());
    drop(strands);
    // The restored node took the store, and put a root of its own: none of it here.
    let fresh = Machine::new(2);
    for bit in (0..good.len() * 8).step_by(31) {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        objects.put(&name, bad.into(), PutIf::Always).unwrap();
        let meta = meta_store::Memory::new();
        let dir = format!("/fallback-{bit}");
        let found =
            restore(&fresh.host(), Path::new(&dir), &meta, &*store, &options(), &mut |_| {})
                .unwrap();
        assert_eq!((&found.root, found.position), (&all[0].object_name(), all[0].position));
        assert_eq!(found.skipped.len(), 1);
        assert_eq!(found.skipped[0].name, name);
    }
    let (strands, found) = restore_from(&fresh, store, 0).unwrap();
    older.check(&strands);
    assert_eq!(found.skipped.len(), 1);
}

#[test]
fn a_ledger_begins_anew_with_a_checkpoint_and_what_no_root_needs_is_let_go() {
    let machine = Machine::new(1);
    let strands = open(&machine, &Arc::default()).unwrap();
    let mut life = Life::none();
    let pieces = || extents::overlapping(&*strands.shared, LEDGER, 0, u64::MAX).unwrap().len();
    for round in 0..6 {
        life.extend(live(&strands, life.last(), &steps(round), &|_| false));
        strands.pack_now().unwrap();
    }
    let before = pieces();
    assert!(before >= 6, "{before} sections since the checkpoint");
    for _ in 0..2 {
        strands.checkpoint_now().unwrap();
    }
    assert_eq!(pieces(), 2, "one section for each root");
    let checkpoint = strands.shared.last_root().unwrap().unwrap();
    assert_eq!(checkpoint.position, checkpoint.checkpoint_at);
    drop(strands);
    let (strands, found) = restored(&machine, 0).unwrap();
    assert_eq!(found.ledger_commits, 0);
    life.last().1.check(&strands);
}

#[test]
fn collection_takes_nothing_that_the_newest_root_needs() {
    for seed in 0..20 {
        println!("seed {seed}");
        let machine = Machine::new(seed);
        let strands = open(&machine, &Arc::default()).unwrap();
        let mut life = Life::none();
        let collect =
            crate::CollectOptions { grace: std::time::Duration::ZERO, ..Default::default() };
        let mut deleted = 0;
        for part in 0..4 {
            life.extend(live(&strands, life.last(), &steps(seed * 4 + part), &|_| false));
            deleted += strands.collect(collect.clone()).unwrap().deleted_blocks;
            let states: BTreeMap<_, _> = life.states().collect();
            let copy = machine.fork();
            copy.kill();
            if strands.status().restorable.is_some() {
                let (restored, _) = restored(&copy, 0).unwrap();
                states[&count(&restored)].check(&restored);
                // Also after the restored node has collected.
                restored.collect(collect.clone()).unwrap();
                states[&count(&restored)].check(&restored);
            }
        }
        println!("{deleted} blocks deleted");
    }
}

#[test]
fn the_ledger_can_be_looked_at() {
    let machine = Machine::new(1);
    let (store, _) = two_roots(&machine);
    let newest = roots(&store).pop().unwrap();
    let seen = inspect_root(&newest.encode()).unwrap();
    assert_eq!((seen.position, seen.complete), (newest.position, true));
    let mut entries = Vec::new();
    inspect_ledger(&*store, &newest.encode(), |entry| entries.push(entry)).unwrap();
    let commits = entries.iter().filter(|entry| matches!(entry, InspectedEntry::Commit { .. }));
    assert_eq!(commits.count() as u64, newest.position.get() - newest.checkpoint_at.get());
    let end = InspectedEntry::End { at: newest.position, time_ms: newest.time_ms, complete: true };
    assert_eq!(entries.last(), Some(&end));
    let (owner, _) = store.objects().get("owner").unwrap().unwrap();
    assert_eq!(inspect_owner(&owner).unwrap().1, 1);
}

#[test]
fn a_deleted_meta_store_is_rebuilt_also_while_no_root_reaches_the_store() {
    let machine = Machine::new(1);
    let host = machine.host();
    let blocks: Arc<dyn BlockStore> = Arc::new(super::owner::Away::new(&host, true));
    let open = |meta| {
        Strands::open(machine.host(), Path::new("/journal"), meta, Arc::clone(&blocks), options())
    };
    let strands = open(Arc::new(Synced::default())).unwrap();
    let mut life = Life::none();
    for part in 0..4 {
        life.extend(live(&strands, life.last(), &steps(part), &|_| false));
        strands.pack_now().unwrap();
        assert!(strands.status().root_error.is_some());
    }
    life.extend(live(&strands, life.last(), &steps(9), &|_| false));
    drop(strands);
    let strands = open(Arc::new(Synced::default())).unwrap();
    let rebuilt = strands.recovery().rebuilt.unwrap();
    assert!(rebuilt.ledger_commits > 0, "{rebuilt:?}");
    life.last().1.check(&strands);
    drop(strands);
    let strands = open(Arc::new(Synced::default())).unwrap();
    life.last().1.check(&strands);
}
