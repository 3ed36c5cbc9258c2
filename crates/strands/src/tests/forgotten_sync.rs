//! Goal: the power cuts of these tests would notice a sync that is left out.
//!
//! Method: one workload, once for each sync in it with that sync left out. After every step the power is
//! cut on a copy of the machine, and the worst that may be left is compared with the model: somewhere an
//! acknowledged commit must then be gone. Syncs are told by their number among syncs: which other operations
//! come between them depends on when the committer prepares a segment.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use host::sim::{Lost, Machine, Outcome, Seeded};

use super::power_cut::{Life, Synced, check_survivors, check_without_meta, live, open};
use super::restore::restored;
use super::{Model, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

fn workload() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..2u8 {
        for part in 0..5u8 {
            let offset = u64::from(part) * 23_000;
            steps.push(Step::Write { pick: 0, offset, len: 20_000, fill: round * 10 + part });
            steps.push(Step::Put { key: part, value: round });
            steps.push(Step::Sync);
        }
        steps.push(Step::Pack);
    }
    steps
}

/// Whether a power cut that leaves `outcome` takes what was acknowledged in `life`, or the start after it
/// is refused, or it repeats the number of an opening.
fn loses(
    machine: &Machine,
    outcome: &mut dyn Outcome,
    meta: &Synced,
    epoch: u64,
    life: &Life,
) -> bool {
    let crashed = machine.fork();
    crashed.crash(outcome);
    let survivors = meta.after_power_cut();
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let strands = open(&crashed, &survivors).unwrap();
        assert!(strands.opening().epoch > epoch);
        check_survivors(&strands, life);
        let restorable = strands.status().restorable;
        drop(strands);
        check_without_meta(&crashed, life);
        if let Some((position, _)) = restorable {
            assert_eq!(restored(&crashed, 0).unwrap().1.position, position);
        }
    }));
    checked.is_err()
}

/// Does the work with the sync `ignored` left out; cuts the power after every step.
fn is_noticed_later(ignored: u64) -> bool {
    let machine = Machine::new(1);
    machine.ignore_sync(ignored, None);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let epoch = strands.opening().epoch;
    let mut life = live(&strands, (0, Model::default()), &[], &|_| false);
    loses(&machine, &mut Lost, &meta, epoch, &life)
        || workload().into_iter().any(|step| {
            life.extend(live(&strands, life.last(), &[step], &|_| false));
            life.acknowledged = strands.positions().durable;
            loses(&machine, &mut Lost, &meta, epoch, &life)
        })
}

/// Does the work with the sync `ignored` left out, until the power is cut at one of the next operations.
fn is_noticed_soon(ignored: u64) -> bool {
    (1..SOON_OPERATIONS).any(|cut| {
        let machine = Machine::new(1);
        machine.ignore_sync(ignored, Some(cut));
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta);
        let (epoch, life) = match &strands {
            Ok(strands) => {
                let life = live(strands, (0, Model::default()), &workload(), &|_| machine.is_off());
                (strands.opening().epoch, life)
            }
            Err(_) => (0, Life::none()),
        };
        loses(&machine, &mut Lost, &meta, epoch, &life)
            || (0..12).any(|seed| loses(&machine, &mut Seeded::new(seed), &meta, epoch, &life))
    })
}

/// The syncs of the workload, by their number among syncs.
fn syncs() -> Vec<(u64, Kind)> {
    let counts_until = |sync| {
        let machine = Machine::new(1);
        machine.ignore_sync(sync, Some(1));
        if let Ok(strands) = open(&machine, &Arc::default()) {
            live(&strands, (0, Model::default()), &workload(), &|_| machine.is_off());
        }
        machine.counts()
    };
    let all = counts_until(0);
    let mut files_before = 0;
    (1..=all.syncs + all.dir_syncs)
        .map(|sync| {
            let files = counts_until(sync).syncs;
            let kind = if files > files_before { Kind::File } else { Kind::Directory };
            files_before = files;
            (sync, kind)
        })
        .collect()
}

#[test]
fn a_sync_that_is_left_out_is_noticed() {
    let nothing = 0;
    assert!(!is_noticed_later(nothing), "with all syncs nothing is lost");
    let all = syncs();
    let unnoticed: Vec<_> = all
        .iter()
        .filter(|(operation, _)| !is_noticed_later(*operation) && !is_noticed_soon(*operation))
        .collect();
    println!("{all:?}\nunnoticed: {unnoticed:?}");
    assert!(all.len() - unnoticed.len() >= 28, "of {all:?} unnoticed are {unnoticed:?}");
    // Two of the journal are for collection alone: which roots are kept is durable before those that are not go.
    let files = unnoticed.iter().filter(|(_, kind)| *kind == Kind::File).count();
    assert!(files <= 2, "{unnoticed:?}");
    // Of a directory's names another sync follows in time: those of /blocks, /journal and of the folders
    // of blocks and objects are synced when they are made and again when they are found, the journal's names
    // when it is opened, when its first segment is there and when the start has tidied up. Segments whose
    // trim is not durable are trimmed again after the next start, and a block's name by the journal's
    // next one. (What each sync is for, the log's own tests and `cargo xtask mutations` see.)
    assert!(unnoticed.len() <= 16 + 6, "{unnoticed:?}");
}

/// More than there are operations between the beginning of a segment and the trim of the one before it.
const SOON_OPERATIONS: u64 = 24;
