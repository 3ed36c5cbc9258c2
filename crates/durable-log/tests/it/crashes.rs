//! Goal: the power may go at any operation, and whatever of the unsynced bytes and names the disk
//! then has, the log opens with a prefix of what was appended that holds everything promised; and
//! the power may go again while it opens. Method: the simulated machine, every operation of fixed
//! workloads and random ones, several outcomes for each.

use durable_log::{Log, Offset};
use host::sim::{Kept, Lost, Machine, Seeded};
use proptest::prelude::*;

use crate::support::Place;
use crate::workload::Op::{self, Append, Close, Cut, Kill, Roll, Sync, Trim, WriteOut};
use crate::workload::{Said, index, run};

fn crash(machine: &Machine, seed: u64) {
    match seed {
        0 => machine.crash(&mut Lost),
        1 => machine.crash(&mut Kept),
        seed => machine.crash(&mut Seeded::new(seed)),
    }
}

/// Opens after a crash and checks; then crashes so that all that was not synced is lost, and sees
/// that the next opening finds the same.
fn recover(machine: &Machine, said: &mut Said) {
    for round in 0..2 {
        let place = Place::on(machine);
        let (log, recovery) = place.reopen();
        assert!(round == 0 || recovery.torn.is_none());
        let found = said.accept(&log).end();
        if round == 1 {
            let next = log.append(&[b"next"]).unwrap();
            assert_eq!(index(next.first), found);
            log.sync().unwrap();
        }
        machine.crash(&mut Lost);
    }
}

/// Cuts the power at each operation of a workload, and then at each operation of the recovery.
fn check_every_crash(ops: &[Op], seeds: u64, seeds_of_recovery: u64) {
    let machine = Machine::new(1);
    run(Place::on(&machine), &machine, ops);
    for operation in 1..=machine.counts().operations + 1 {
        let machine = Machine::new(1);
        machine.crash_at(operation);
        let said = run(Place::on(&machine), &machine, ops);
        for seed in 0..seeds {
            let crashed = machine.fork();
            crash(&crashed, seed);
            recover(&crashed.fork(), &mut said.clone());
            if seed < seeds_of_recovery {
                check_crashed_recovery(&crashed, &said);
            }
        }
    }
}

fn check_crashed_recovery(machine: &Machine, said: &Said) {
    for operation in 1.. {
        let again = machine.fork();
        again.crash_at(again.counts().operations + operation);
        let opened = Place::on(&again).try_open();
        if !again.is_off() {
            return;
        }
        assert!(opened.is_err(), "an opening that lost its power did not open");
        for seed in [0, 1, operation + 2] {
            let again = again.fork();
            crash(&again, seed);
            recover(&again, &mut said.clone());
        }
    }
}

#[test]
fn power_cuts_around_syncs() {
    check_every_crash(
        &[Append(1, 10), Sync, Append(2, 700), WriteOut, Append(1, 10), Sync, Append(1, 600)],
        12,
        3,
    );
}

#[test]
fn power_cuts_around_rolls_and_trims() {
    check_every_crash(
        &[
            Append(1, 10),
            Roll,
            Append(1, 100),
            WriteOut,
            Roll,
            Trim,
            Append(1, 10),
            Sync,
            Roll,
            Trim,
        ],
        6,
        2,
    );
}

#[test]
fn power_cuts_while_segments_fill_up() {
    check_every_crash(
        &[Append(3, 1000), Append(2, 1500), WriteOut, Append(1, 5000), Append(1, 9), Sync],
        8,
        2,
    );
}

#[test]
fn power_cuts_around_closes_and_kills() {
    check_every_crash(
        &[Append(1, 10), Close, Append(1, 900), WriteOut, Kill, Append(1, 10), Close, Close],
        6,
        2,
    );
}

#[test]
fn power_cuts_while_files_of_trimmed_segments_are_used_again() {
    check_every_crash(
        &[
            Append(1, 1000),
            Append(1, 1000),
            Append(1, 1000),
            Append(1, 1000),
            Sync,
            Trim,
            Append(1, 1000),
            Append(1, 1000),
            Append(1, 1000),
            WriteOut,
            Trim,
            Append(1, 1000),
            Sync,
            Append(1, 10),
            WriteOut,
            Append(2, 10),
        ],
        8,
        1,
    );
}

#[test]
fn power_cuts_with_much_unsynced() {
    check_every_crash(
        &[
            Append(1, 500),
            Append(1, 500),
            WriteOut,
            Append(1, 500),
            WriteOut,
            Append(1, 2000),
            WriteOut,
        ],
        20,
        4,
    );
}

#[test]
fn an_orderly_close_is_one_after_a_power_cut_too() {
    let machine = Machine::new(1);
    run(Place::on(&machine), &machine, &[Append(1, 10)]);
    machine.kill();
    Place::on(&machine).open().close().unwrap();
    machine.crash(&mut Lost);
    let (_, recovery) = Place::on(&machine).reopen();
    assert!(recovery.clean);
}

#[test]
fn what_opening_removed_does_not_come_back() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    place.open().close().unwrap();
    let leftover = place.dir.join("next.new");
    place.write_file(&leftover, b"unfinished");
    place.host.disk.sync_dir(&place.dir).unwrap();
    let names = |machine: &Machine| {
        let place = Place::on(machine);
        let names = place.host.disk.list(&place.dir).unwrap().into_iter();
        names.map(|entry| entry.name).collect::<Vec<_>>()
    };
    machine.kill();
    assert!(names(&machine).contains(&"clean".to_owned()));
    let log = Place::on(&machine).open();
    machine.crash(&mut Lost);
    drop(log);
    assert_eq!(names(&machine), ["00000000000000000001.seg", "lock"]);
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1..3_usize, prop_oneof![0..50_usize, 400..1500_usize]).prop_map(|(count, len)| Append(count, len)),
        3 => Just(WriteOut),
        3 => Just(Sync),
        1 => Just(Roll),
        1 => Just(Trim),
        1 => Just(Cut),
        1 => Just(Close),
        1 => Just(Kill),
    ];
    prop::collection::vec(op, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_anywhere_loses_nothing_promised(ops in ops(), at in any::<prop::sample::Index>(), seed: u64) {
        let machine = Machine::new(seed);
        run(Place::on(&machine), &machine, &ops);
        let operations = usize::try_from(machine.counts().operations).unwrap();
        let machine = Machine::new(seed);
        machine.crash_at(at.index(operations) as u64 + 1);
        let mut said = run(Place::on(&machine), &machine, &ops);
        crash(&machine, seed);
        recover(&machine, &mut said);
    }
}

fn fill(log: &Log, numbers: std::ops::Range<u8>) {
    for n in numbers {
        log.append(&[&[n; 1000]]).unwrap();
        log.sync().unwrap();
    }
}

/// The process dies at any operation of a cut, the next one finishes it, and then the power goes: the log is
/// as it was, or cut.
#[test]
fn a_kill_in_a_cut_and_a_power_cut_while_it_is_finished() {
    let mut bad = Vec::new();
    for step in 1..40 {
        let machine = Machine::new(step);
        let place = Place::on(&machine);
        let log = place.open();
        fill(&log, 0..15);
        machine.fail_at(machine.counts().operations + step);
        let done = log.truncate_after(Offset::new(1)).is_ok();
        drop(log);
        machine.kill();
        for operation in 1..14 {
            for seed in 0..24 {
                let machine = machine.fork();
                machine.crash_at(machine.counts().operations + operation);
                drop(Place::on(&machine).try_open());
                crash(&machine, seed);
                let found =
                    Place::on(&machine).try_open().map(|(log, _)| log.positions().durable.get());
                match found {
                    Ok(1) => {}
                    Ok(15) if !done => {}
                    found => bad.push(format!("{step}/{operation}/{seed}: {found:?}")),
                }
            }
        }
        if done {
            break;
        }
    }
    assert!(bad.is_empty(), "{} of them: {:#?}", bad.len(), &bad[..bad.len().min(5)]);
}

/// The process dies in the middle of a rescue, or of anything else, the next one opens the log, and then the
/// power goes: what was durable is there, and the log opens.
#[test]
fn a_kill_anywhere_and_a_power_cut_in_the_next_opening() {
    let mut bad = Vec::new();
    for step in 1..40 {
        let machine = Machine::new(step);
        let place = Place::on(&machine);
        let log = place.open();
        fill(&log, 0..5);
        // The next sync fails, so that the rest is rewritten to a new segment.
        machine.fail_sync(machine.counts().syncs + 1, host::sim::Reached::Nothing);
        machine.fail_at(machine.counts().operations + step);
        log.append(&[&[5; 1000]]).unwrap();
        let synced = log.sync().is_ok();
        drop(log);
        machine.kill();
        for operation in 1..14 {
            for seed in 0..24 {
                let machine = machine.fork();
                machine.crash_at(machine.counts().operations + operation);
                drop(Place::on(&machine).try_open());
                crash(&machine, seed);
                let found =
                    Place::on(&machine).try_open().map(|(log, _)| log.positions().durable.get());
                match found {
                    Ok(6) => {}
                    Ok(5) if !synced => {}
                    found => bad.push(format!("{step}/{operation}/{seed}: {found:?}")),
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} of them: {:#?}", bad.len(), &bad[..bad.len().min(5)]);
}
