//! Goal: collection never takes a block that anybody needs, whatever happens beside it and wherever the power
//! goes; it takes what nobody needs; and it costs one look at each extent and each block.
//!
//! Method: the model of the other tests with rounds of collection among and beside the steps, on the simulated
//! disk; and stores that count, fail, or let something happen in the middle of a call.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use block_store::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Objects, PutError, Usage,
};
use bytes::Bytes;
use host::sim::{Lost, Machine};
use meta_store::{Applied, Batch, KeyRange, MetaError, MetaStore};

use super::power_cut::{Synced, check_survivors, live, open, steps};
use super::{Model, Step, options};
use crate::{
    CollectError, CollectOptions, Collected, Commit, Effort, Options, ReadError, StrandId, Strands,
};

/// A round that takes everything that it may.
fn greedy() -> CollectOptions {
    CollectOptions { grace: Duration::ZERO, effort: Effort::Full, ..CollectOptions::default() }
}

fn write(strands: &Strands, strand: StrandId, offset: u64, bytes: &[u8]) {
    let mut commit = Commit::new();
    commit.write(strand, offset, Bytes::copy_from_slice(bytes));
    drop(strands.commit(commit).unwrap());
}

fn remove(strands: &Strands, strand: StrandId) {
    let mut commit = Commit::new();
    commit.truncate(strand, 0).remove(strand);
    strands.commit(commit).unwrap().wait_durable().unwrap();
}

/// Rounds until one finds nothing dead; what is left is needed.
#[track_caller]
fn collect_all(strands: &Strands) -> Collected {
    // A round that deletes leaves a root behind it, and some rounds later the blocks of an older root.
    for _ in 0..10 {
        let collected = strands.collect(greedy()).unwrap();
        assert_eq!((collected.errors, collected.missing_blocks), (0, 0), "{collected:?}");
        if collected.dead_blocks == 0 && collected.rewritten_bytes == 0 {
            assert_eq!(collected.stored_blocks, collected.live_blocks);
            return collected;
        }
    }
    panic!("collection finds something to do in each round");
}

#[test]
fn collection_beside_writes_packs_and_power_cuts_leaves_everything_that_is_needed() {
    for seed in 0..60 {
        let machine = Machine::new(seed);
        let mut meta = Arc::new(Synced::default());
        let mut state = (0, Model::default());
        for cut in 0..3 {
            println!("seed {seed}, power cut {cut}");
            let strands = open(&machine, &meta).unwrap();
            machine.crash_at(machine.counts().operations + 1 + (seed * 11 + cut * 37) % 130);
            let done = Arc::new(AtomicBool::new(false));
            let collector = {
                let (strands, done, machine) =
                    (strands.clone(), Arc::clone(&done), machine.clone());
                host::spawn("collector", move || {
                    while !done.load(Ordering::Relaxed) && !machine.is_off() {
                        let round = strands.collect(greedy());
                        assert!(round.is_ok() || machine.is_off(), "{round:?}");
                    }
                })
                .unwrap()
            };
            let both = [steps(seed * 10 + cut * 2), steps(seed * 10 + cut * 2 + 1)].concat();
            let life = live(&strands, state, &both, &|_| machine.is_off());
            done.store(true, Ordering::Relaxed);
            collector.join().unwrap();
            drop(strands);
            machine.crash_seeded(seed + cut);
            meta = meta.after_power_cut();
            let strands = open(&machine, &meta).unwrap();
            state = check_survivors(&strands, &life);
            collect_all(&strands);
            state.1.check(&strands);
        }
    }
}

/// A server with dead, sparse and scattered blocks, and what it should hold.
fn untidy(machine: &Machine, meta: &Arc<Synced>) -> (Strands, Model) {
    let strands = open(machine, meta).unwrap();
    let mut model = Model::default();
    let mut take = |step: Step| match step {
        Step::Pack => strands.pack_now().unwrap(),
        step => {
            let commit = model.commit(&step, || strands.mint().unwrap());
            commit.map(|commit| drop(strands.commit(commit).unwrap())).unwrap_or_default();
        }
    };
    take(Step::Write { pick: 0, offset: 0, len: 5_000, fill: 1 });
    take(Step::Pack);
    take(Step::Truncate { pick: 0, len: 0 });
    for pick in 1..5 {
        take(Step::Write { pick, offset: 0, len: 20_000, fill: 1 });
    }
    take(Step::Pack);
    for pick in 0..3 {
        take(Step::Write { pick, offset: 0, len: 18_000, fill: 2 });
        take(Step::Pack);
    }
    take(Step::Truncate { pick: 3, len: 5_000 });
    take(Step::Remove { pick: 0 });
    for part in (0..70).step_by(2).chain((1..70).step_by(2)) {
        take(Step::Write { pick: 1, offset: part * 100, len: 100, fill: 3 });
        take(Step::Pack);
    }
    strands.commit(Commit::new()).unwrap().wait_durable().unwrap();
    (strands, model)
}

#[test]
fn a_power_cut_at_any_operation_of_a_round_loses_nothing() {
    let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
    let (strands, model) = untidy(&machine, &meta);
    let begin = machine.counts().operations;
    let collected = strands.collect(greedy()).unwrap();
    let operations = machine.counts().operations - begin;
    assert!(collected.deleted_blocks > 0 && collected.rewritten_bytes > 0, "{collected:?}");
    model.check(&strands);
    drop(strands);
    println!("{operations} operations");
    for cut in 1..=operations + 1 {
        let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
        let (strands, model) = untidy(&machine, &meta);
        machine.crash_at(begin + cut);
        drop(strands.collect(greedy()));
        drop(strands);
        for seed in 0..3 {
            println!("cut at {cut}, seed {seed}");
            let machine = machine.fork();
            if seed == 0 {
                machine.crash(&mut Lost);
            } else {
                machine.crash_seeded(seed);
            }
            let strands = open(&machine, &meta.after_power_cut()).unwrap();
            model.check(&strands);
            collect_all(&strands);
            model.check(&strands);
        }
    }
}

#[test]
fn rounds_leave_only_blocks_that_are_needed_and_few_parts() {
    let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
    let (strands, model) = untidy(&machine, &meta);
    let before = strands.collect(CollectOptions { dry_run: true, ..greedy() }).unwrap();
    assert!(before.dead_blocks > 0, "{before:?}");
    assert!(before.sparse_blocks > 0 && before.scattered_stretches > 0, "{before:?}");
    // The ledgers of all these small rounds are nobody's when two roots have a checkpoint.
    strands.checkpoint_now().unwrap();
    strands.checkpoint_now().unwrap();
    let after = collect_all(&strands);
    model.check(&strands);
    assert_eq!((after.sparse_blocks, after.scattered_stretches), (0, 0), "{after:?}");
    assert!(after.marked_extents < 20, "{after:?}");
    assert!(after.stored_blocks < 20, "{after:?}");
    drop(strands);
    model.check(&open(&machine, &meta.after_power_cut()).unwrap());
}

#[test]
fn a_dry_run_changes_nothing() {
    let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
    let (strands, model) = untidy(&machine, &meta);
    let (operations, status) = (machine.counts().operations, strands.status());
    let collected = strands.collect(CollectOptions { dry_run: true, ..greedy() }).unwrap();
    assert_eq!(machine.counts().operations, operations);
    assert_eq!(strands.positions(), status.positions);
    assert!(collected.dry_run && collected.dead_blocks > 0);
    assert_eq!((collected.deleted_blocks, collected.rewritten_bytes), (0, 0));
    model.check(&strands);
}

#[test]
fn what_a_truncate_gave_up_goes_only_when_no_power_cut_can_bring_it_back() {
    let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    strands.pack_now().unwrap();
    let mut commit = Commit::new();
    commit.truncate(strand, 0);
    let ticket = strands.commit(commit).unwrap();
    let collected = strands.collect(greedy()).unwrap();
    assert_eq!(collected.deleted_blocks, 1);
    assert!(strands.positions().durable >= ticket.position());
    drop(strands);
    machine.crash(&mut Lost);
    let strands = open(&machine, &meta.after_power_cut()).unwrap();
    assert_eq!(strands.end(strand), Ok(0));
}

#[test]
fn a_block_that_nobody_needs_goes_when_it_is_older_than_the_grace_period() {
    let (machine, meta) = (Machine::new(1), Arc::new(Synced::default()));
    let strands = open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    strands.pack_now().unwrap();
    remove(&strands, strand);
    let hour = CollectOptions { grace: Duration::from_secs(3600), ..greedy() };
    machine.advance(Duration::from_secs(3599));
    let collected = strands.collect(hour.clone()).unwrap();
    assert_eq!((collected.young_blocks, collected.deleted_blocks), (1, 0));
    machine.advance(Duration::from_secs(1));
    let collected = strands.collect(hour).unwrap();
    assert_eq!((collected.young_blocks, collected.deleted_blocks), (0, 1));
    assert_eq!(strands.status().blocks, 2, "those of two roots");
    assert_eq!(strands.collection().deleted_blocks, 1);
}

type Happens = Box<dyn FnOnce() + Send>;

/// A call of a block store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Put,
    Read,
    List,
    Delete,
}

/// Stores in memory that count, fail, and let something happen in the middle of a call.
struct Watched {
    blocks: block_store::Memory,
    rows: meta_store::Memory,
    next: Mutex<Option<(Call, Happens)>>,
    /// Scans of rows until one fails.
    scans_left: AtomicU64,
    list_fails: AtomicBool,
    rows_seen: AtomicU64,
    scans: AtomicU64,
    calls: AtomicU64,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    fn open(machine: &Machine, options: Options) -> (Arc<Self>, Strands) {
        let watched = Arc::new(Self {
            blocks: block_store::Memory::on(&machine.host()),
            rows: meta_store::Memory::new(),
            next: Mutex::default(),
            scans_left: AtomicU64::new(u64::MAX),
            list_fails: AtomicBool::new(false),
            rows_seen: AtomicU64::new(0),
            scans: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        });
        let strands = Strands::open(
            machine.host(),
            Path::new("/journal"),
            Arc::clone(&watched) as Arc<dyn MetaStore>,
            Arc::clone(&watched) as Arc<dyn BlockStore>,
            options,
        );
        (watched, strands.unwrap())
    }

    /// Lets something happen after the next put, or before the next call of another kind.
    fn at_next(&self, call: Call, happens: impl FnOnce() + Send + 'static) {
        *self.next.lock().unwrap() = Some((call, Box::new(happens)));
    }

    fn happened(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }

    fn called(&self, call: Call) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let now = self.next.lock().unwrap().take_if(|(wanted, _)| *wanted == call);
        if let Some((_, happens)) = now {
            happens();
        }
    }

    fn names(&self) -> Vec<BlockName> {
        let mut names = Vec::new();
        let visit = &mut |listed: Listed| {
            names.push(listed.name);
            ControlFlow::Continue(())
        };
        self.blocks.list(visit).unwrap();
        names
    }
}

impl BlockStore for Watched {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        self.blocks.put(block)?;
        self.called(Call::Put);
        Ok(())
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, block_store::ReadError> {
        self.called(Call::Read);
        self.blocks.read(name, range)
    }

    fn footer(&self, name: BlockName) -> Result<Footer, block_store::ReadError> {
        self.called(Call::Read);
        self.blocks.footer(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        self.called(Call::Delete);
        self.blocks.delete(name)
    }

    fn delete_many(&self, names: &[BlockName]) -> Result<u64, DeleteError> {
        assert!(names.len() <= 1000);
        self.called(Call::Delete);
        self.blocks.delete_many(names)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        self.called(Call::List);
        if self.list_fails.load(Ordering::Relaxed) {
            return Err(ListError::Away { why: "told to".to_owned() });
        }
        self.blocks.list(visit)
    }

    fn objects(&self) -> &dyn Objects {
        self.blocks.objects()
    }

    fn usage(&self) -> Usage {
        self.blocks.usage()
    }
}

impl MetaStore for Watched {
    fn get(&self, table: meta_store::Table, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: meta_store::Table,
        range: KeyRange<'_>,
        order: meta_store::Order,
        visit: &mut meta_store::Visit<'_>,
    ) -> Result<(), MetaError> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        let left = &self.scans_left;
        if left.fetch_sub(1, Ordering::Relaxed) == 0 {
            left.store(u64::MAX, Ordering::Relaxed);
            return Err(MetaError::Stopped { why: "told to".to_owned() });
        }
        self.rows.scan(table, range, order, &mut |key, value| {
            self.rows_seen.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        })
    }

    fn snapshot(&self) -> Result<Box<dyn meta_store::Snapshot>, MetaError> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError> {
        self.rows.commit(batch, applied)
    }

    fn applied(&self) -> Applied {
        self.rows.applied()
    }

    fn sync(&self) -> Result<Applied, MetaError> {
        self.rows.sync()
    }
}

#[test]
fn a_block_that_is_being_packed_is_not_collected() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    let collector = strands.clone();
    watched.at_next(Call::Put, move || {
        let collected = collector.collect(greedy()).unwrap();
        assert_eq!((collected.stored_blocks, collected.dead_blocks), (1, 0));
    });
    strands.pack_now().unwrap();
    assert!(watched.happened());
    assert_eq!(strands.read_dense_blocking(strand, 0, 1000).unwrap(), vec![7; 1000]);
}

#[test]
fn a_block_that_is_packed_between_mark_and_listing_is_not_collected() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    let packer = strands.clone();
    watched.at_next(Call::List, move || packer.pack_now().unwrap());
    let collected = strands.collect(greedy()).unwrap();
    assert!(watched.happened());
    assert_eq!((collected.stored_blocks, collected.dead_blocks), (2, 0), "the ledger's too");
    assert_eq!(strands.read_dense_blocking(strand, 0, 1000).unwrap(), vec![7; 1000]);
}

/// A strand of which all but the last 100 bytes were cut off or overwritten, so that its block is sparse.
fn sparse(strands: &Strands) -> StrandId {
    let strand = strands.mint().unwrap();
    write(strands, strand, 0, &[7; 1000]);
    strands.pack_now().unwrap();
    write(strands, strand, 0, &[8; 900]);
    strands.pack_now().unwrap();
    strand
}

#[test]
fn a_read_that_was_planned_before_its_block_was_collected_plans_again() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let strand = sparse(&strands);
    let collector = strands.clone();
    let blocks = watched.names();
    watched.at_next(Call::Read, move || {
        collect_all(&collector);
    });
    assert_eq!(strands.read_dense_blocking(strand, 950, 50).unwrap(), vec![7; 50]);
    assert!(watched.happened() && !watched.names().contains(&blocks[0]));
}

#[test]
fn what_happens_while_a_block_is_rewritten_wins() {
    let changes: [fn(&Strands, StrandId); 4] = [
        |strands, strand| {
            write(strands, strand, 920, &[9; 20]);
            strands.pack_now().unwrap();
        },
        |strands, strand| {
            drop(strands.commit({
                let mut commit = Commit::new();
                commit.truncate(strand, 930);
                commit
            }))
        },
        remove,
        |strands, strand| write(strands, strand, 950, &[9; 100]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        println!("change {number}");
        let machine = Machine::new(1);
        let (watched, strands) = Watched::open(&machine, options());
        let strand = sparse(&strands);
        let other = strands.clone();
        watched.at_next(Call::Put, move || change(&other, strand));
        strands.collect(greedy()).unwrap();
        assert!(watched.happened());
        let mut want = [vec![8; 900], vec![7; 100]].concat();
        match number {
            0 => want[920..940].fill(9),
            1 => want[930..].fill(0),
            3 => want[950..].fill(9),
            _ => {
                let gone = strands.read_blocking(strand, 0, 1000);
                assert!(matches!(gone, Err(ReadError::Unresolvable { .. })));
                continue;
            }
        }
        assert_eq!(strands.read_blocking(strand, 0, 1000).unwrap(), want);
        collect_all(&strands);
        assert_eq!(strands.read_blocking(strand, 0, 1000).unwrap(), want);
    }
}

#[test]
fn an_error_at_any_step_of_the_mark_ends_the_round_with_nothing_deleted() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let kept = sparse(&strands);
    for _ in 0..3 {
        let strand = strands.mint().unwrap();
        write(&strands, strand, 0, &[7; 1000]);
        strands.pack_now().unwrap();
        remove(&strands, strand);
    }
    let names = watched.names();
    let mut steps = 0;
    loop {
        watched.scans_left.store(steps, Ordering::Relaxed);
        let collected = strands.collect(CollectOptions { rewrite_bytes_max: 0, ..greedy() });
        if collected.is_ok() {
            assert!(!names.iter().all(|name| watched.names().contains(name)));
            break;
        }
        // Of the mark, or of the round of packing that leaves a root behind it.
        let expected = matches!(
            collected,
            Err(CollectError::Mark(_) | CollectError::Commit(_) | CollectError::Store(_))
        );
        assert!(expected, "{collected:?}");
        assert!(names.iter().all(|name| watched.names().contains(name)));
        steps += 1;
    }
    assert!(steps > 0);
    watched.scans_left.store(u64::MAX, Ordering::Relaxed);
    watched.list_fails.store(true, Ordering::Relaxed);
    let names = watched.names();
    assert!(matches!(strands.collect(greedy()), Err(CollectError::Store(_))));
    assert_eq!(watched.names(), names);
    assert!(matches!(strands.collection().last, Some(Err(CollectError::Store(_)))));
    watched.list_fails.store(false, Ordering::Relaxed);
    assert_eq!(strands.read_dense_blocking(kept, 0, 900).unwrap(), vec![8; 900]);
}

#[test]
fn an_extent_that_cannot_be_read_ends_the_round() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    strands.pack_now().unwrap();
    remove(&strands, strand);
    let mut commit = Commit::new();
    commit.put(crate::extents::EXTENTS, &b"not a key"[..], &b"not a value"[..]);
    drop(strands.commit(commit).unwrap());
    assert!(matches!(strands.collect(greedy()), Err(CollectError::Mark(_))));
    assert_eq!(watched.names().len(), 2, "that of the strand and that of the ledger");
}

#[test]
fn a_store_that_a_later_opening_uses_is_left_alone() {
    let machine = Machine::new(1);
    let (watched, strands) = Watched::open(&machine, options());
    let strand = strands.mint().unwrap();
    write(&strands, strand, 0, &[7; 1000]);
    strands.pack_now().unwrap();
    remove(&strands, strand);
    let later = BlockName { domain: 0, epoch: strands.opening().epoch + 1, counter: 0 };
    watched.blocks.put(&block_store::BlockBuilder::new().finish(later)).unwrap();
    assert!(matches!(strands.collect(greedy()), Err(CollectError::NotOurs { .. })));
    assert_eq!(watched.names().len(), 3);
}

#[test]
fn only_one_round_runs_at_a_time() {
    let machine = Machine::new(1);
    let (_, strands) = Watched::open(&machine, options());
    let round = strands.start_collecting(greedy()).unwrap();
    assert_eq!(strands.collect(greedy()), Err(CollectError::Busy));
    assert_eq!(round.number(), 1);
    drop(round);
    assert!(strands.collect(greedy()).is_ok());
    assert_eq!(strands.collection().ended, 2);
}

#[test]
fn rounds_run_by_themselves() {
    let machine = Machine::new(1);
    let every = Options { collect_every: Some(Duration::from_millis(1)), ..options() };
    let (_, strands) = Watched::open(&machine, every);
    while strands.collection().ended < 2 {
        std::thread::yield_now();
    }
    strands.close().unwrap();
}

/// Blocks of one extent each, put and committed directly. All of them are then overwritten but one in ten.
fn many(machine: &Machine, count: u64) -> (Arc<Watched>, Strands) {
    let (watched, strands) = Watched::open(machine, options());
    let strand = StrandId::from_raw(1_000_000);
    let mut commit = Commit::new();
    for n in 0..count {
        let minted = BlockName { domain: 0, epoch: 0, counter: n };
        let start = n * 10;
        let part = crate::run::Part {
            len: 10,
            newest: strands.positions().appended,
            last: None,
            bytes: Bytes::from_static(&[7; 10]),
        };
        let run = crate::run::Run::new(strand, start, part);
        let (block, new) = crate::run::build(minted, &[run]).unwrap();
        watched.blocks.put(&block).unwrap();
        if n % 10 == 0 {
            crate::extents::replace(&mut commit, strand, &[], &[new[0].1]);
        }
        if n % 10_000 == 9_999 {
            strands.commit(std::mem::take(&mut commit)).unwrap().wait_durable().unwrap();
        }
    }
    strands.pack_now().unwrap();
    (watched, strands)
}

#[test]
fn a_round_looks_once_at_each_extent_and_each_block() {
    let mut costs = Vec::new();
    for count in [10_000, 100_000] {
        let machine = Machine::new(1);
        let (watched, strands) = many(&machine, count);
        let before = [&watched.rows_seen, &watched.scans, &watched.calls]
            .map(|count| count.load(Ordering::Relaxed));
        let options = CollectOptions { rewrite_bytes_max: 0, ..greedy() };
        let collected = strands.collect(options).unwrap();
        println!("{count} blocks: {:?}", collected.took);
        assert_eq!(collected.marked_extents, count / 10 + 2, "and those of the ledger");
        assert_eq!(collected.deleted_blocks, count - count / 10);
        let after = [&watched.rows_seen, &watched.scans, &watched.calls]
            .map(|count| count.load(Ordering::Relaxed));
        costs.push([0, 1, 2].map(|n| after[n] - before[n]));
    }
    let [few, many] = [costs[0], costs[1]];
    assert!(few[0] <= 1_000 + few[1] && many[0] <= 10_000 + many[1], "rows: {few:?} {many:?}");
    assert!(many[1] <= few[1] + 3, "a scan per 4,096 extents: {few:?} {many:?}");
    let calls = "a block of the ledger, a listing, and a call per 1,000 dead blocks";
    assert_eq!((few[2], many[2]), (2 + 9, 2 + 90), "{calls}");
}
