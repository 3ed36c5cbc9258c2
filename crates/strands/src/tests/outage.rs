//! Goal: in two hours without the bucket nothing acknowledged is lost, also to a power cut in their middle; journal,
//! memory and staging stay within their budgets; who writes waits and is not refused; and when the bucket is back, all
//! of it gets there.
//!
//! Method: the whole data path on the simulated machine and its clock, one step a time while there is room, over a real
//! S3 server behind a proxy that goes away.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use block_store::{BlockStore, Tiered, TieredOptions};
use host::Monotonic;
use host::sim::Machine;

use super::bucket::{Lab, lab};
use super::power_cut::{Life, Synced, count, open_over, steps, take};
use super::watched::with_cache;
use super::{Model, Step};
use crate::{Options, StrandId, Strands};

const JOURNAL_MAX: u64 = 512 << 10;
const OVERLAY_MAX: usize = 128 << 10;
const STAGING_MAX: u64 = 2 << 20;
const DISK_CACHE_MAX: u64 = 512 << 10;
const CACHE_MAX: u64 = 400 << 10;
const SEGMENT: u64 = 64 << 10;
/// More than any step writes.
const STEP_MAX: u32 = 24 << 10;
const OUTAGE: Duration = Duration::from_secs(2 * 3600);
const SECOND: Duration = Duration::from_secs(1);

fn strands_options() -> Options {
    Options {
        pack_after_bytes: JOURNAL_MAX / 4,
        journal_bytes_max: JOURNAL_MAX,
        overlay_bytes_max: OVERLAY_MAX,
        collect_every: None,
        ..with_cache(CACHE_MAX)
    }
}

fn tiered_options() -> TieredOptions {
    TieredOptions {
        staging_bytes_max: STAGING_MAX,
        cache_bytes_max: DISK_CACHE_MAX,
        disk_free_bytes_min: 0,
        patience: Duration::from_secs(20),
        ..TieredOptions::default()
    }
}

/// The data path on a machine that keeps it through power cuts.
struct Node<'a> {
    lab: &'a Lab,
    machine: Machine,
    meta: Arc<Synced>,
    tiered: Arc<Tiered>,
    strands: Strands,
    model: Model,
    life: Life,
    /// Steps to take, the next one last.
    steps: Vec<Step>,
    seed: u64,
    /// Of what was uploaded, a power cut may bring back as much as the disk cache holds.
    staged_at_start: u64,
    seen: Seen,
}

/// What a node met.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    waited: u64,
    unpacked_rounds: u64,
    unread: u64,
}

impl<'a> Node<'a> {
    fn new(lab: &'a Lab, seed: u64) -> Self {
        let (machine, meta) = (Machine::new(seed), Arc::new(Synced::default()));
        let (tiered, strands) = Self::open(lab, &machine, &meta);
        Self {
            lab,
            machine,
            meta,
            tiered,
            strands,
            model: Model::default(),
            life: Life::none(),
            steps: Vec::new(),
            seed,
            staged_at_start: 0,
            seen: Seen::default(),
        }
    }

    fn open(lab: &Lab, machine: &Machine, meta: &Arc<Synced>) -> (Arc<Tiered>, Strands) {
        let tiered = lab.open(machine, tiered_options());
        let blocks = Arc::clone(&tiered) as Arc<dyn BlockStore>;
        (tiered, open_over(machine, meta, blocks, strands_options()).unwrap())
    }

    fn now(&self) -> Monotonic {
        self.machine.host().clock.monotonic()
    }

    /// Takes steps, one a second at most, for so long.
    fn live(&mut self, time: Duration) {
        let end = self.now() + time;
        let mut seconds = 0_u64;
        while self.now() < end {
            self.take_if_admitted();
            // As the packer's own thread does, but by the machine's clock.
            if seconds.is_multiple_of(30) {
                self.pack();
            }
            self.tiered.work();
            self.machine.advance(SECOND);
            self.check_budgets();
            seconds += 1;
        }
    }

    fn take_if_admitted(&mut self) {
        if self.steps.is_empty() {
            self.seed += 1;
            self.steps = steps(self.seed);
        }
        let Some(step) = self.steps.last().filter(|step| self.is_admitted(step)).cloned() else {
            self.seen.waited += 1;
            return;
        };
        self.steps.pop();
        match step {
            Step::Pack => self.pack(),
            step => {
                take(&self.strands, &mut self.model, &step, &mut self.life).unwrap();
                if let Step::Sync = step {
                    self.life.forget_the_past();
                }
            }
        }
        self.seen.taken += 1;
    }

    /// Whether who writes may go ahead; otherwise they wait, and are not refused.
    fn is_admitted(&self, step: &Step) -> bool {
        let payload_bytes = match step {
            Step::Write { len, .. } | Step::Place { len, .. } => *len,
            _ => 0,
        };
        let admitted = pin!(self.strands.admit(payload_bytes));
        match admitted.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(admitted) => {
                admitted.unwrap();
                true
            }
            Poll::Pending => false,
        }
    }

    fn pack(&mut self) {
        self.seen.unpacked_rounds += u64::from(self.strands.pack_now().is_err());
    }

    fn check_budgets(&self) {
        let status = self.strands.status();
        // Changes without payload have a quarter more; a segment may have been begun just before.
        let most = JOURNAL_MAX + JOURNAL_MAX / 4 + 2 * SEGMENT + u64::from(STEP_MAX);
        assert!(status.journal_bytes <= most, "journal {} > {most}", status.journal_bytes);
        assert!(status.overlay_bytes <= OVERLAY_MAX + STEP_MAX as usize, "{status:?}");
        let cache = status.cache.unwrap();
        assert!(cache.allocated_bytes <= cache.budget_bytes, "{cache:?}");
        let stats = self.tiered.stats();
        assert!(stats.staged_bytes <= STAGING_MAX.max(self.staged_at_start), "{stats:?}");
        assert!(stats.cache_bytes <= DISK_CACHE_MAX, "{stats:?}");
        assert!(stats.in_flight_bytes <= tiered_options().transfer_bytes_max, "{stats:?}");
    }

    /// What can be read is right. What lies in the bucket alone cannot, while that is away.
    fn check_what_is_here(&mut self) {
        for (id, want) in &self.model.strands {
            let len = u32::try_from(want.len()).unwrap();
            match self.strands.read_blocking(StrandId::from_raw(*id), 0, len) {
                Ok(bytes) => assert!(bytes == want, "strand {id} differs"),
                Err(_) => self.seen.unread += 1,
            }
        }
    }

    fn lose_power(self, seed: u64) -> Self {
        let Self { lab, machine, meta, tiered, strands, mut life, steps, seen, .. } = self;
        drop((strands, tiered));
        machine.crash_seeded(seed);
        let meta = meta.after_power_cut();
        let (tiered, strands) = Self::open(lab, &machine, &meta);
        let model = life.survive(&strands);
        let staged_at_start = tiered.stats().staged_bytes;
        assert!(staged_at_start <= STAGING_MAX + DISK_CACHE_MAX, "{:?}", tiered.stats());
        let seed = seed * 1000;
        Self {
            lab,
            machine,
            meta,
            tiered,
            strands,
            model,
            life,
            steps,
            seed,
            staged_at_start,
            seen,
        }
    }
}

#[test]
fn two_hours_without_the_bucket_cost_nothing_and_then_all_of_it_is_there() {
    let seed = 1;
    println!("seed {seed}");
    let Some(lab) = lab() else { return };
    let mut node = Node::new(&lab, seed * 100_000);
    node.live(Duration::from_secs(100));
    assert_eq!((node.seen.waited, node.seen.unpacked_rounds), (0, 0));
    lab.proxy.go_away();
    node.live(OUTAGE / 2);
    node.check_what_is_here();
    let mut node = node.lose_power(seed);
    node.check_what_is_here();
    node.live(OUTAGE / 2);
    node.check_what_is_here();
    let during = std::mem::take(&mut node.seen);
    println!("{during:?}, then {} bytes in the journal", node.strands.status().journal_bytes);
    assert!(during.waited > 3600 && during.taken > 100 && during.unpacked_rounds > 100);
    assert!(node.tiered.stats().staged_bytes > STAGING_MAX / 2);
    lab.proxy.come_back();
    node.live(Duration::from_secs(300));
    let after = &node.seen;
    assert!(after.taken > 100, "{after:?}");
    node.strands.pack_now().unwrap();
    assert!(node.tiered.settle(Duration::from_secs(600)), "{:?}", node.tiered.stats());
    let stats = node.tiered.stats();
    assert_eq!((stats.staged_blocks, stats.staged_objects, stats.stuck_blocks), (0, 0, 0));
    node.model.check(&node.strands);
    let number = count(&node.strands);
    drop(node.strands);
    let (restored, _) = lab.restore(seed);
    assert_eq!(count(&restored), number);
    node.model.check(&restored);
}
