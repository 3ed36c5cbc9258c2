//! Goal: over a bucket that fails in every way a network has, whatever is written, cut, removed, evicted, packed and
//! collected reads as the model says or not at all, nothing acknowledged is lost to a power cut, collection takes no
//! block that anybody needs, and from the bucket alone a node comes back as it was.
//!
//! Method: seeded random steps on the simulated disk beside a map of bytes, over a tiered store that is driven by hand;
//! behind it a real S3 server, and before that the proxy, which fails by lot and goes away for some steps. What the
//! store keeps on the disk is little, so most reads have to ask the bucket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use block_store::{BlockStore, Remote, S3Options, Tiered, TieredOptions};
use host::sim::Machine;
use host::{Host, WallTime};
use meta_store::MetaStore;
use testbed::{Fault, Moto, Proxy};

use super::Model;
use super::power_cut::{Life, Synced, check_survivors, count, live_checked, open_over, steps};
use super::watched::with_cache;
use crate::{CollectOptions, CommitError, Effort, Options, Restored, StrandId, Strands, restore};

/// A bucket of its own for a test, and the proxy before it.
pub(super) struct Lab {
    pub(super) proxy: Proxy,
    bucket: testbed::Bucket,
    /// Requests that met a fault, in all weathers before this one.
    faults: AtomicU64,
}

/// Nothing, if there is no S3 server here; then a line that says so was printed.
pub(super) fn lab() -> Option<Lab> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let moto = Moto::shared()?;
    let bucket = moto.bucket(&format!("strands-{}", LABS.fetch_add(1, Ordering::Relaxed)));
    Some(Lab { proxy: Proxy::start(moto.addr()), bucket, faults: AtomicU64::new(0) })
}

impl Lab {
    /// The bucket behind the machine's disk; who waits does the work and passes the time.
    pub(super) fn open(&self, machine: &Machine, options: TieredOptions) -> Arc<Tiered> {
        let address = format!("s3://{}/some/prefix", self.bucket.name());
        let s3 = S3Options {
            endpoint: Some(self.proxy.endpoint()),
            path_style: true,
            access_key: Some(("test".to_owned(), "test".to_owned())),
            ..S3Options::parse(&address).unwrap()
        };
        let host = machine.host();
        let remote = Remote::s3(&host, &s3).unwrap();
        let clock = machine.clone();
        let idle = move |wait| clock.advance(wait);
        Arc::new(Tiered::by_hand(&host, Path::new("/blocks"), remote, options, idle).unwrap())
    }

    /// From now on a quarter of all requests fail, each in its own way.
    fn storm(&self, seed: u64) {
        let faults = [
            Fault::Slow(Duration::from_millis(2)),
            Fault::BUSY,
            Fault::TOO_MANY,
            Fault::INTERNAL,
            Fault::ResetRequest,
            Fault::ResetReply,
            Fault::TruncateReply,
            Fault::CorruptReply,
            Fault::LoseReply,
            Fault::CloseUnanswered,
            Fault::ServeButSay(503),
        ];
        self.proxy.by_lot(seed, 250, &faults);
    }

    /// From now on all is well.
    fn calm(&self) {
        self.proxy.come_back();
        self.proxy.calm();
        let faults = self.proxy.log().requests().iter().filter(|seen| seen.fault.is_some()).count();
        self.faults.fetch_add(faults as u64, Ordering::Relaxed);
        self.proxy.forget();
    }

    /// Restores a node from the bucket alone, on a machine that has nothing else.
    pub(super) fn restore(&self, seed: u64) -> (Strands, Restored) {
        let machine = Machine::new(seed);
        let tiered = self.open(&machine, little());
        let (meta, dir) = (Arc::new(Synced::default()), Path::new("/journal"));
        let options = with_cache(400 << 10);
        let found = restore(&machine.host(), dir, &*meta, &*tiered, &options, &mut |_| {}).unwrap();
        let meta = meta.after_power_cut() as Arc<dyn MetaStore>;
        let strands = Strands::open(machine.host(), dir, meta, tiered, options).unwrap();
        (strands, found)
    }
}

/// So little on the disk that most reads ask the bucket.
fn little() -> TieredOptions {
    TieredOptions {
        staging_bytes_max: 1 << 20,
        cache_bytes_max: 100 << 10,
        disk_free_bytes_min: 0,
        patience: Duration::from_secs(20),
        ..TieredOptions::default()
    }
}

/// Rounds of collection only when a test says so.
fn small(seed: u64) -> Options {
    let cache_bytes = if seed.is_multiple_of(2) { 40 << 10 } else { 400 << 10 };
    Options { collect_every: None, ..with_cache(cache_bytes) }
}

/// Each strand reads as the model says, or not at all. Says how many did.
fn check_reads(strands: &Strands, model: &Model) -> u64 {
    let reads = model.strands.iter().filter(|(id, want)| {
        let len = u32::try_from(want.len()).unwrap();
        let read = strands.read_blocking(StrandId::from_raw(**id), 0, len);
        assert!(read.as_ref().is_ok_and(|bytes| bytes == *want) || read.is_err(), "strand {id}");
        read.is_ok()
    });
    reads.count() as u64
}

/// A thread that goes on until it is told to end.
struct Beside<T>(Arc<AtomicBool>, JoinHandle<T>);

impl<T: Send + 'static> Beside<T> {
    fn run(mut turn: impl FnMut(&mut T) + Send + 'static, mut sum: T) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        let body = move || {
            while !ended.load(Ordering::Relaxed) {
                turn(&mut sum);
            }
            sum
        };
        Self(done, host::spawn("beside", body).unwrap())
    }

    fn end(self) -> T {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().unwrap()
    }
}

/// Transfers go on and time passes, as they do where the store has threads of its own.
fn transfers(machine: &Machine, tiered: &Arc<Tiered>) -> Beside<()> {
    let (machine, tiered) = (machine.clone(), Arc::clone(tiered));
    let turn = move |(): &mut ()| {
        tiered.work();
        machine.advance(Duration::from_millis(50));
        std::thread::park_timeout(Duration::from_millis(1));
    };
    Beside::run(turn, ())
}

/// Rounds of collection that take all they may, one after the other; most meet the storm, and end with less done or
/// nothing. Says how many blocks they deleted.
fn collector(strands: &Strands) -> Beside<u64> {
    let strands = strands.clone();
    let turn = move |deleted: &mut u64| {
        *deleted += strands.collect(greedy()).map_or(0, |round| round.deleted_blocks);
    };
    Beside::run(turn, 0)
}

fn greedy() -> CollectOptions {
    CollectOptions { grace: Duration::ZERO, effort: Effort::Full, ..CollectOptions::default() }
}

/// Some lives, each ended by a power cut; then the machine is lost. Says how many blocks were collected.
fn live_through(lab: &Lab, seed: u64, cuts: u64, is_collected: bool) -> u64 {
    let machine = Machine::new(seed);
    // The server tells the age of blocks by its own clock, which is the real one.
    let now = Host::real().clock.wall().nanos();
    machine.set_wall(WallTime::from_nanos(now + 3_600_000_000_000));
    let mut node = Node { machine, meta: Arc::default(), seed };
    let mut state = (0, Model::default());
    let mut deleted = 0;
    for cut in 0..cuts {
        println!("seed {seed}, power cut {cut}");
        let (life, collected) = live_until_cut(lab, &mut node, cut, state, is_collected);
        let (tiered, strands) = node.open(lab);
        state = check_survivors(&strands, &life);
        let transfers = transfers(&node.machine, &tiered);
        let round = strands.collect(greedy()).unwrap();
        transfers.end();
        assert_eq!(round.missing_blocks, 0, "{round:?}");
        deleted += collected + round.deleted_blocks;
        state.1.check(&strands);
        strands.pack_now().unwrap();
        assert!(tiered.settle(Duration::from_secs(3600)), "{:?}", tiered.stats());
        strands.close().unwrap();
    }
    let (restored, found) = lab.restore(seed + 1000);
    assert_eq!((count(&restored), found.skipped.len()), (state.0, 0), "{found:?}");
    state.1.check(&restored);
    deleted
}

/// A machine whose disk and rows outlive power cuts.
struct Node {
    machine: Machine,
    meta: Arc<Synced>,
    seed: u64,
}

impl Node {
    fn open(&self, lab: &Lab) -> (Arc<Tiered>, Strands) {
        let tiered = lab.open(&self.machine, little());
        let blocks = Arc::clone(&tiered) as Arc<dyn BlockStore>;
        (tiered, open_over(&self.machine, &self.meta, blocks, small(self.seed)).unwrap())
    }
}

/// Takes steps in the storm until the power goes. Says what happened, and how many blocks were collected.
fn live_until_cut(
    lab: &Lab,
    node: &mut Node,
    cut: u64,
    state: (u64, Model),
    is_collected: bool,
) -> (Life, u64) {
    let seed = node.seed;
    let (tiered, strands) = node.open(lab);
    lab.storm(seed * 31 + cut);
    let machine = &node.machine;
    machine.crash_at(machine.counts().operations + 300 + (seed * 71 + cut * 331) % 1500);
    let beside = is_collected.then(|| (collector(&strands), transfers(machine, &tiered)));
    let (turns, reads) = (AtomicU64::new(seed), AtomicU64::new(0));
    let check = |strands: &Strands, model: &Model| {
        match turns.fetch_add(1, Ordering::Relaxed) % 9 {
            4 => lab.proxy.go_away(),
            6 => lab.proxy.come_back(),
            _ => {}
        }
        machine.advance(Duration::from_millis(300));
        tiered.work();
        reads.fetch_add(check_reads(strands, model), Ordering::Relaxed);
    };
    let work: Vec<_> = (0..3).flat_map(|part| steps(seed * 10 + cut * 3 + part)).collect();
    // A round of packing may find no room, or the store away; all else fails with the power alone.
    let excused =
        |error: &CommitError| machine.is_off() || error.to_string().contains("packing the journal");
    let life = live_checked(&strands, state, &work, &excused, &check);
    assert!(reads.into_inner() > 20, "hardly a read was answered");
    // If it has not gone by now, it goes with the next operation. A collector that waits is told to stop.
    machine.crash_at(machine.counts().operations + 1);
    assert!(strands.close().is_err());
    let deleted = beside.map_or(0, |(collector, transfers)| {
        let deleted = collector.end();
        transfers.end();
        deleted
    });
    drop((strands, tiered));
    machine.crash_seeded(seed + cut);
    lab.calm();
    node.meta = node.meta.after_power_cut();
    (life, deleted)
}

#[test]
fn storms_over_a_bucket_lose_nothing_and_a_node_is_restored_from_it_alone() {
    for seed in 0..3 {
        let Some(lab) = lab() else { return };
        live_through(&lab, seed, 2, false);
        let faults = lab.faults.load(Ordering::Relaxed);
        assert!(faults > 10, "{faults} requests met a fault");
    }
}

#[test]
fn collection_beside_storms_and_power_cuts_takes_no_block_that_is_needed() {
    let mut deleted = 0;
    for seed in 100..103 {
        let Some(lab) = lab() else { return };
        deleted += live_through(&lab, seed, 2, true);
    }
    assert!(deleted > 10, "{deleted} blocks were collected");
}
