//! Goal: cutting the end keeps exactly the records below the cut, with their offsets and locations, and
//! raises the epoch; a power cut leaves the log as it was or cut, and what was cut never comes back.
//! Method: the simulated machine, cuts at every offset, a power cut at each operation of the cut and of the
//! opening that finishes it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use durable_log::{
    AppendError, ArrivalError, Location, Log, Offset, OpenError, Reached, StartError, SyncError,
    TrimError, TruncateError,
};
use host::sim::{Kept, Lost, Machine, Seeded};
use host::spawn;

use crate::gate::{Gate, gated};
use crate::support::{Place, all};
use crate::watched::Operation;

fn record(n: u64) -> Vec<u8> {
    vec![n.to_le_bytes()[0]; 60 + usize::try_from(n).unwrap() * 7]
}

/// Frames of one to four records in three segments; returns where each record lies.
fn twelve(place: &Place) -> (Log, BTreeMap<u64, Location>) {
    let log = place.open();
    let mut places = BTreeMap::new();
    let mut n = 0;
    for count in [1, 4, 2, 3, 2] {
        let records: Vec<_> = (n..n + count).map(record).collect();
        let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        let mut at = log.append(&slices).unwrap().at;
        for record in &records {
            places.insert(n, at);
            at = at.plus(record.len() as u64 + 4);
            n += 1;
        }
        if n == 5 || n == 10 {
            log.roll().unwrap();
        }
    }
    (log, places)
}

#[track_caller]
fn check(log: &Log, numbers: std::ops::Range<u64>, places: &BTreeMap<u64, Location>) {
    assert_eq!(log.positions().start, Offset::new(numbers.start));
    assert_eq!(all(log), numbers.clone().map(record).collect::<Vec<_>>());
    for n in numbers {
        let bytes = record(n);
        let slice = log.slice(places[&n], u32::try_from(bytes.len()).unwrap()).unwrap();
        assert_eq!(slice.read().unwrap(), bytes);
    }
}

fn cut_power(machine: &Machine, seed: u64) {
    match seed {
        0 => machine.crash(&mut Lost),
        1 => machine.crash(&mut Kept),
        seed => machine.crash(&mut Seeded::new(seed)),
    }
}

#[test]
fn a_cut_at_any_offset_keeps_what_is_below_it_and_begins_an_epoch() {
    for end in 0..=12 {
        let machine = Machine::new(end);
        let (old, places) = twelve(&Place::on(&machine));
        let log = old.truncate_after(Offset::new(end)).unwrap();
        check(&log, 0..end, &places);
        assert_eq!(log.epoch() > old.epoch(), end < 12, "at {end}");
        let next = log.append(&[b"another history"]).unwrap();
        assert_eq!(next.first, Offset::new(end));
        log.sync().unwrap();
        let mut expected: Vec<_> = (0..end).map(record).collect();
        expected.push(b"another history".to_vec());
        let epoch = log.epoch();
        drop((old, log));
        machine.crash(&mut Lost);
        let (log, _) = Place::on(&machine).reopen();
        assert_eq!(all(&log), expected);
        assert!(log.epoch() > epoch);
    }
}

#[test]
fn the_epoch_of_a_cut_is_never_one_that_was_seen() {
    let place = Place::simulated();
    let (mut log, _) = twelve(&place);
    let mut seen = vec![log.epoch()];
    for end in [11, 7, 7, 3, 1] {
        log.append(&[b"x"]).unwrap();
        let cut = log.truncate_after(Offset::new(end)).unwrap();
        assert!(seen.iter().all(|epoch| *epoch < cut.epoch()));
        let segments = cut.segments();
        assert!(segments.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch));
        seen.push(cut.epoch());
        log = cut;
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_cut_leaves_the_log_as_it_was_or_cut() {
    for end in [0, 3, 5, 9, 11] {
        for operation in 1.. {
            let machine = Machine::new(operation);
            let (log, places) = twelve(&Place::on(&machine));
            log.sync().unwrap();
            let epoch = log.epoch();
            machine.crash_at(machine.counts().operations + operation);
            let result = log.truncate_after(Offset::new(end));
            let done = result.is_ok();
            drop((log, result));
            for seed in 0..8 {
                let machine = machine.fork();
                cut_power(&machine, seed);
                check_recovery(&machine, seed, done.then_some(end), end, epoch.get(), &places);
            }
            if done {
                break;
            }
        }
    }
}

/// Opens with the power cut at each operation, then in peace: it is always the same log.
fn check_recovery(
    machine: &Machine,
    seed: u64,
    sure: Option<u64>,
    end: u64,
    epoch: u64,
    places: &BTreeMap<u64, Location>,
) {
    let found = |machine: &Machine| {
        let (log, recovery) = Place::on(machine).reopen();
        assert!(recovery.torn.is_none(), "{:?}", recovery.torn);
        let found = log.positions().durable.get();
        assert!(found == end || (found == 12 && sure.is_none()), "{found} records, cut at {end}");
        check(&log, 0..found, places);
        assert!(log.epoch().get() > epoch);
        found
    };
    let first = found(&machine.fork());
    for operation in 1.. {
        let again = machine.fork();
        again.crash_at(again.counts().operations + operation);
        let opened = Place::on(&again).try_open();
        if !again.is_off() {
            break;
        }
        drop(opened);
        cut_power(&again, seed);
        assert_eq!(found(&again), first);
    }
}

#[test]
fn the_handle_from_before_a_cut_refuses_everything_and_keeps_its_hands_off() {
    let place = Place::simulated();
    let (old, places) = twelve(&place);
    old.append(&[b"not durable"]).unwrap();
    let ticket = old.ticket(Offset::new(13));
    let log = old.truncate_after(Offset::new(6)).unwrap();
    assert!(matches!(ticket.wait(), Err(SyncError::Replaced)));
    assert!(matches!(old.sync(), Err(SyncError::Replaced)));
    for reached in [Reached::Appended, Reached::Written, Reached::Durable] {
        assert_eq!(old.wait_for(Offset::new(5), reached).wait().unwrap(), Offset::new(6));
        let beyond = old.wait_for(Offset::new(6), reached).wait();
        assert!(matches!(beyond, Err(ArrivalError::Replaced)));
    }
    old.wait_synced(Offset::new(6)).unwrap();
    assert!(matches!(old.wait_synced(Offset::new(7)), Err(SyncError::Replaced)));
    assert!(matches!(old.start_committer(), Err(StartError::Replaced)));
    assert!(!old.has_failed());
    assert!(matches!(old.append(&[b"x"]), Err(AppendError::Replaced)));
    assert!(old.write_out().is_err() && old.roll().is_err());
    assert!(matches!(old.trim(Offset::new(5)), Err(TrimError::Replaced)));
    assert!(matches!(old.truncate_after(Offset::new(1)), Err(TruncateError::Replaced)));
    old.close().unwrap_err();
    for n in 0..40_u8 {
        log.append(&[&[n; 700]]).unwrap();
        log.sync().unwrap();
    }
    check(&log.truncate_after(Offset::new(6)).unwrap(), 0..6, &places);
}

#[test]
fn what_is_refused_leaves_the_log_as_it_was() {
    let place = Place::simulated();
    let (log, places) = twelve(&place);
    let same = log.truncate_after(Offset::new(12)).unwrap();
    assert_eq!(same.epoch(), log.epoch());
    log.trim(Offset::new(5)).unwrap();
    assert!(matches!(
        log.truncate_after(Offset::new(4)),
        Err(TruncateError::Trimmed { start }) if start == Offset::new(5)
    ));
    log.append(&[&record(12)]).unwrap();
    assert_eq!(log.epoch(), same.epoch());
    let mut places = places;
    let at = log.append(&[&record(13)]).unwrap().at;
    places.insert(13, at);
    places.remove(&12);
    assert_eq!(all(&log).len(), 9);
    check(&log.truncate_after(Offset::new(5)).unwrap(), 5..5, &places);
}

#[test]
fn a_fault_before_the_cut_is_decided_changes_nothing() {
    for operation in 1..8 {
        let machine = Machine::new(1);
        let (log, places) = twelve(&Place::on(&machine));
        log.sync().unwrap();
        machine.fail_at(machine.counts().operations + operation);
        match log.truncate_after(Offset::new(6)) {
            Ok(log) => check(&log, 0..6, &places),
            Err(TruncateError::Failed { .. } | TruncateError::Open(_)) => {
                drop(log);
                machine.kill();
                let (log, _) = Place::on(&machine).reopen();
                let found = log.positions().durable.get();
                assert!(found == 6 || found == 12);
                check(&log, 0..found, &places);
            }
            Err(_) => {
                check(&log, 0..12, &places);
                log.append(&[b"goes on"]).unwrap();
                log.sync().unwrap();
            }
        }
    }
}

#[test]
fn a_cut_whose_name_is_refused_did_not_happen_and_can_be_asked_for_again() {
    let mut failed = Vec::new();
    for operation in 1.. {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let (log, mut places) = twelve(&place);
        log.sync().unwrap();
        let planned = machine.counts().operations + operation;
        machine.fail_at(planned);
        let result = log.truncate_after(Offset::new(6));
        let what = match result {
            Ok(_) if machine.counts().operations < planned => break,
            Ok(_) => "cut",
            Err(TruncateError::Io { .. }) => "not cut",
            Err(TruncateError::Failed { .. }) => "failed",
            Err(TruncateError::Open(_)) => "cut, not opened",
            Err(error) => panic!("{error}"),
        };
        failed.push(what);
        if what != "not cut" {
            continue;
        }
        assert!(!log.has_failed());
        let names = place.host.disk.list(&place.dir).unwrap();
        assert!(!names.iter().any(|entry| entry.name.starts_with("cut")), "{names:?}");
        places.insert(12, log.append(&[&record(12)]).unwrap().at);
        log.sync().unwrap();
        check(&log, 0..13, &places);
        let cut = log.truncate_after(Offset::new(6)).unwrap();
        check(&cut, 0..6, &places);
        drop((log, cut));
        machine.crash(&mut Lost);
        check(&Place::on(&machine).open(), 0..6, &places);
    }
    // Once the name is given, it is not known whether it is durable.
    assert_eq!(failed.iter().filter(|what| **what == "failed").count(), 1, "{failed:?}");
    let not_cut = failed.iter().take_while(|what| **what == "not cut").count();
    assert_eq!(failed[not_cut], "failed", "{failed:?}");
}

#[test]
fn a_cut_whose_file_could_still_get_its_name_fails_the_log() {
    let mut failed = Vec::new();
    for operation in 1.. {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let (log, _) = twelve(&place);
        log.sync().unwrap();
        let planned = machine.counts().operations + operation;
        // What removes the file after its name was refused is refused, too.
        machine.fail_at(planned);
        machine.fail_at(planned + 1);
        match log.truncate_after(Offset::new(6)) {
            Err(TruncateError::Failed { .. }) => failed.push(operation),
            _ if machine.counts().operations < planned => break,
            _ => continue,
        }
        assert!(log.has_failed());
    }
    // The name, and the sync that makes it durable.
    assert!(matches!(failed[..], [name, sync] if sync == name + 1), "{failed:?}");
}

#[test]
fn a_cut_that_was_decided_and_is_damaged_is_an_error() {
    let machine = Machine::new(1);
    let (log, _) = twelve(&Place::on(&machine));
    log.sync().unwrap();
    // The power goes when later segments are being removed.
    let mut path = None;
    for operation in 1..30 {
        let machine = machine.fork();
        machine.kill();
        let (log, _) = Place::on(&machine).reopen();
        machine.crash_at(machine.counts().operations + operation);
        let result = log.truncate_after(Offset::new(3));
        drop(result);
        machine.crash(&mut Kept);
        let place = Place::on(&machine);
        let names = place.host.disk.list(&place.dir).unwrap();
        if let Some(entry) = names.iter().find(|entry| entry.name.ends_with(".cut")) {
            path = Some((machine.fork(), place.dir.join(&entry.name)));
        }
    }
    let (machine, path) = path.expect("the cut is decided at some operation");
    let place = Place::on(&machine);
    let good = place.read_file(&path);
    for bit in (0..128 * 8).step_by(7) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        place.write_file(&path, &bytes);
        match place.try_open() {
            Err(OpenError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    place.write_file(&path, &good);
    assert_eq!(all(&place.open()).len(), 3);
}

#[test]
fn a_file_that_an_older_handle_reads_is_not_used_again() {
    let place = Place::simulated();
    let old = place.open();
    let fill = |log: &Log, numbers: std::ops::Range<u8>| {
        for n in numbers {
            log.append(&[&[n; 1000]]).unwrap();
            log.sync().unwrap();
        }
    };
    fill(&old, 0..9);
    let slice = old.slice(old.read(Offset::ZERO).unwrap().at(), 1000).unwrap();
    let new = old.truncate_after(Offset::new(8)).unwrap();
    new.trim(Offset::new(3)).unwrap();
    fill(&new, 8..20);
    assert_eq!(slice.read().unwrap(), vec![0; 1000]);
    assert_eq!(old.read(Offset::new(5)).unwrap().to_bytes(), vec![5; 1000]);
}

/// Waits until a close has begun that waits for a cut.
fn until_closed(log: &Log) {
    while !matches!(log.append(&[b"refused"]), Err(AppendError::Closed)) {
        std::thread::yield_now();
    }
}

/// What was appended and synced after a log was closed through a clone, because a cut that changed nothing
/// took the closing back, is not forgotten at the next opening.
#[test]
fn a_close_during_a_cut_that_changes_nothing_stays_closed() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let (gate, arrived, open) = Gate::new(Operation::SyncData, "first");
    let (log, _) = Log::open(&gated(&place, &gate), &place.dir, place.options.clone()).unwrap();
    gate.arm();
    log.append(&[b"before"]).unwrap();
    let cutter = spawn("cutter", {
        let log = log.clone();
        move || drop(log.truncate_after(Offset::new(100)))
    })
    .unwrap();
    arrived.recv().unwrap();
    let closer = spawn("closer", {
        let log = log.clone();
        move || log.close()
    })
    .unwrap();
    until_closed(&log);
    open.send(()).unwrap();
    cutter.join().unwrap();
    closer.join().unwrap().unwrap();
    assert!(matches!(log.append(&[b"after"]), Err(AppendError::Closed)));
    drop(log);
    machine.crash(&mut Lost);
    let (log, _) = Place::on(&machine).reopen();
    assert_eq!(all(&log), [b"before"]);
}

/// The old handle does not touch what is the new one's by then: neither its files nor its mark.
#[test]
fn a_close_that_waited_out_a_cut_closes_nothing() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let (gate, arrived, open) = Gate::new(Operation::SyncData, "cut.new");
    let (log, _) = Log::open(&gated(&place, &gate), &place.dir, place.options.clone()).unwrap();
    gate.arm();
    log.append(&[b"kept"]).unwrap();
    log.append(&[b"cut"]).unwrap();
    log.sync().unwrap();
    let cutter = spawn("cutter", {
        let log = log.clone();
        move || log.truncate_after(Offset::new(1)).unwrap()
    })
    .unwrap();
    arrived.recv().unwrap();
    let closer = spawn("closer", {
        let log = log.clone();
        move || log.close()
    })
    .unwrap();
    until_closed(&log);
    open.send(()).unwrap();
    let new = cutter.join().unwrap();
    assert!(closer.join().unwrap().is_err());
    new.append(&[b"after"]).unwrap().wait_synced().unwrap();
    machine.crash(&mut Lost);
    let (log, recovery) = place.again(&machine).reopen();
    assert!(!recovery.clean);
    assert_eq!(all(&log), [&b"kept"[..], b"after"]);
}

/// A task that sees, where it is woken, what a power cut would leave.
struct Witness {
    machine: Machine,
    left: Mutex<Option<Vec<Vec<u8>>>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let machine = self.machine.fork();
        machine.crash(&mut Lost);
        *self.left.lock().unwrap() = Some(all(&Place::on(&machine).open()));
    }
}

#[test]
fn who_is_told_of_a_cut_hears_of_it_when_no_power_cut_undoes_it() {
    let machine = Machine::new(1);
    let (log, _) = twelve(&Place::on(&machine));
    let witness = Arc::new(Witness { machine, left: Mutex::new(None) });
    let waker = Waker::from(Arc::clone(&witness));
    let mut arrival = log.wait_for(Offset::new(12), Reached::Appended);
    assert!(Pin::new(&mut arrival).poll(&mut Context::from_waker(&waker)).is_pending());
    log.truncate_after(Offset::new(4)).unwrap();
    let left = witness.left.lock().unwrap().take();
    assert_eq!(left, Some((0..4).map(record).collect()), "the cut wakes who waits, and lasts");
}
