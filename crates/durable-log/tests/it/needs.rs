//! Goal: what records need beside the log is durable before the log says that they are, at every place that makes
//! records durable; when it cannot be, nothing that waits is told otherwise; and an opening cuts off what needs
//! something that is not there, unless it was promised.
//!
//! Method: each record names a file by its first byte, as does a hook that is told which files are durable, which
//! fail and which are gone; the simulated machine's faults.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use durable_log::{BeforeSync, Log, Offset, OpenError, Record, SyncError};
use host::sim::{Kept, Lost, Machine, Reached};

use crate::support::{Place, all};

/// What records need, by the first byte of each.
#[derive(Debug, Default)]
struct Needs {
    /// The ends that were asked about.
    asked: Mutex<Vec<u64>>,
    fails: Mutex<bool>,
    gone: Mutex<BTreeSet<u8>>,
    /// Records that an opening asked about.
    recovered: Mutex<Vec<u64>>,
}

impl Needs {
    fn fail(&self) {
        *self.fails.lock().unwrap() = true;
    }

    fn asked(&self) -> Option<u64> {
        self.asked.lock().unwrap().last().copied()
    }
}

impl BeforeSync for Needs {
    fn before_sync(&self, end: Offset) -> io::Result<()> {
        if *self.fails.lock().unwrap() {
            return Err(io::Error::other("file 7 is lost"));
        }
        self.asked.lock().unwrap().push(end.get());
        Ok(())
    }

    fn recovered(&self, record: &Record<'_>) -> io::Result<bool> {
        self.recovered.lock().unwrap().push(record.offset.get());
        if *self.fails.lock().unwrap() {
            return Err(io::Error::other("file 7 cannot be read"));
        }
        Ok(!self.gone.lock().unwrap().contains(&record.bytes[0]))
    }
}

fn place(machine: &Machine) -> (Place, Arc<Needs>) {
    let needs = Arc::new(Needs::default());
    let mut place = Place::on(machine);
    place.options.before_sync = Some(Arc::clone(&needs) as Arc<dyn BeforeSync>);
    (place, needs)
}

fn append(log: &Log, fills: std::ops::Range<u8>) {
    for fill in fills {
        log.append(&[&[fill; 300]]).unwrap();
    }
}

fn records(fills: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    fills.map(|fill| vec![fill; 300]).collect()
}

/// Whether what is durable was asked about before.
#[track_caller]
fn check_asked(log: &Log, needs: &Needs) {
    let durable = log.positions().durable.get();
    assert_eq!(needs.asked(), Some(durable), "records became durable unasked");
}

#[test]
fn every_way_to_become_durable_asks_first() {
    let machine = Machine::new(1);
    let (place, needs) = place(&machine);
    let log = place.open();
    append(&log, 0..2);
    log.sync().unwrap();
    check_asked(&log, &needs);
    append(&log, 2..4);
    log.roll().unwrap();
    check_asked(&log, &needs);
    assert_eq!(log.positions().durable, Offset::new(4));
    append(&log, 4..6);
    log.append(&[b"last"]).unwrap().wait_synced().unwrap();
    check_asked(&log, &needs);
    append(&log, 7..9);
    let cut = log.truncate_after(Offset::new(8)).unwrap();
    assert_eq!(needs.asked(), Some(9));
    append(&cut, 9..10);
    cut.close().unwrap();
    assert_eq!(needs.asked(), Some(9));
}

#[test]
fn a_rescue_asks_about_all_that_it_rewrites() {
    let machine = Machine::new(1);
    let (place, needs) = place(&machine);
    let log = place.open();
    append(&log, 0..2);
    machine.fail_sync(machine.counts().syncs + 1, Reached::Nothing);
    log.sync().unwrap();
    assert_eq!(*needs.asked.lock().unwrap(), [2, 2]);
}

#[test]
fn what_cannot_be_durable_fails_the_log_for_all_who_wait_and_is_not_rescued() {
    for rescue in [false, true] {
        let machine = Machine::new(1);
        let (place, needs) = place(&machine);
        let log = place.open();
        append(&log, 0..2);
        log.sync().unwrap();
        append(&log, 2..4);
        log.write_out().unwrap();
        let ticket = log.ticket(Offset::new(3));
        if rescue {
            let core = Arc::clone(&needs);
            machine.fail_sync(machine.counts().syncs + 1, Reached::Nothing);
            log.sync().unwrap();
            append(&log, 4..6);
            core.fail();
        }
        needs.fail();
        let before = log.positions().durable;
        let failed = log.sync();
        assert!(
            matches!(&failed, Err(SyncError::Failed { why }) if why.contains("file 7 is lost")),
            "{failed:?}"
        );
        assert_eq!(ticket.wait().is_ok(), rescue, "it was durable before");
        assert!(log.ticket(Offset::new(6)).wait().is_err());
        assert!(log.sync().is_err() && log.append(&[b"more"]).is_err());
        assert_eq!(log.positions().durable, before);
        assert_eq!(log.stats().failed_syncs, 1 + u64::from(rescue));
        let segments = place.segments().len();
        assert!(log.clone().close().is_err());
        assert_eq!(place.segments().len(), segments, "nothing was rewritten");
        *needs.fails.lock().unwrap() = false;
        assert!(log.sync().is_err(), "it is final");
    }
}

#[test]
fn what_cannot_be_durable_fails_a_roll_too() {
    let machine = Machine::new(1);
    let (place, needs) = place(&machine);
    let log = place.open();
    append(&log, 0..2);
    needs.fail();
    assert!(log.roll().is_err());
    assert!(log.has_failed());
    assert_eq!(log.positions().durable, Offset::ZERO);
}

/// Leaves records 0 to 5 of which 0 to 2 were promised and say so, and 3 to 5 were only written.
fn leave(machine: &Machine) {
    let (place, _) = place(machine);
    let log = place.open();
    append(&log, 0..3);
    log.sync().unwrap();
    append(&log, 3..6);
    log.write_out().unwrap();
    drop(log);
    machine.crash(&mut Kept);
}

#[test]
fn an_opening_cuts_off_what_needs_something_that_is_not_there() {
    for gone in 3..6 {
        let machine = Machine::new(1);
        leave(&machine);
        let (place, needs) = place(&machine);
        needs.gone.lock().unwrap().insert(gone);
        let (log, recovery) = place.reopen();
        assert_eq!(*needs.recovered.lock().unwrap(), (3..=gone.into()).collect::<Vec<u64>>());
        assert_eq!(all(&log), records(0..gone));
        let torn = recovery.torn.unwrap();
        let kept = place.read_file(&torn.kept_as.unwrap());
        assert_eq!(kept.len() as u64, torn.bytes);
        assert!(kept.windows(300).any(|bytes| bytes == vec![gone; 300]), "kept aside");
        // It is a fact from now on.
        append(&log, gone..6);
        log.sync().unwrap();
        machine.crash(&mut Lost);
        let (log, recovery) = Place::on(&machine).reopen();
        assert!(recovery.torn.is_none());
        assert_eq!(all(&log), records(0..6));
    }
}

#[test]
fn an_opening_does_not_ask_about_what_was_promised() {
    let machine = Machine::new(1);
    leave(&machine);
    let (place, needs) = place(&machine);
    needs.gone.lock().unwrap().extend([0, 1, 2]);
    let (log, recovery) = place.reopen();
    assert!(recovery.torn.is_none());
    assert_eq!(*needs.recovered.lock().unwrap(), [3, 4, 5]);
    assert_eq!(all(&log), records(0..6));
}

#[test]
fn an_opening_that_cannot_tell_is_refused_and_changes_nothing() {
    let machine = Machine::new(1);
    leave(&machine);
    let (place, needs) = place(&machine);
    needs.fail();
    let refused = place.try_open();
    assert!(
        matches!(&refused, Err(OpenError::Io { source, .. }) if source.to_string().contains("file 7"))
    );
    let (log, _) = Place::on(&machine).reopen();
    assert_eq!(all(&log), records(0..6));
}

#[test]
fn an_opening_that_is_interrupted_asks_again() {
    let whole = Machine::new(1);
    leave(&whole);
    for operation in 1..40 {
        let machine = whole.fork();
        machine.crash_at(machine.counts().operations + operation);
        let (place, needs) = place(&machine);
        needs.gone.lock().unwrap().insert(4);
        drop(place.try_open());
        machine.crash_seeded(operation);
        let place = place.again(&machine);
        let (log, _) = place.reopen();
        assert_eq!(all(&log), records(0..4), "a power cut at operation {operation}");
    }
}
