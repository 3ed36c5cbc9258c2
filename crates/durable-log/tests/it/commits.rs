//! Goal: what the documentation says of group commit is so: a lone writer syncs by itself, a sync
//! keeps nobody from appending, many share one, the committer syncs by bytes, count and time, and
//! whoever waits for a record to arrive is told.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use durable_log::{ArrivalError, Log, Offset, Options, Reached, StartError, Ticket};
use host::sim::{Machine, Reached as Kept};
use host::spawn;

use crate::concurrent::block_on;
use crate::support::{Place, small};
use crate::watched::{Operation, Watch, watched};

/// Where syncs of data wait, and tell which threads made them.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: usize,
    threads: Vec<ThreadId>,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.threads.push(thread::current().id());
        state.waiting += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.closed).unwrap();
        state.waiting -= 1;
    }

    fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Returns when somebody waits at the gate.
    fn await_one(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.waiting == 0).unwrap());
    }

    fn take_threads(&self) -> Vec<ThreadId> {
        std::mem::take(&mut self.state.lock().unwrap().threads)
    }
}

impl Watch for Gate {
    fn before(&self, operation: Operation, _path: &Path) -> io::Result<()> {
        if operation == Operation::SyncData {
            self.pass();
        }
        Ok(())
    }
}

/// A place whose syncs pass a gate, which is open.
fn gated(options: Options) -> (Place, Arc<Gate>) {
    let mut place = Place::with(options);
    let gate = Arc::new(Gate::default());
    place.host = watched(&place.host, Arc::clone(&gate));
    (place, gate)
}

/// No sync but those that are asked for.
fn unasked() -> Options {
    Options { sync_interval: None, segment_bytes: 1 << 20, ..small() }
}

fn append(log: &Log, byte: u8) -> Offset {
    log.append(&[&[byte; 100]]).unwrap().next
}

#[test]
fn a_lone_writer_syncs_in_its_own_thread_though_there_is_a_committer() {
    let (place, gate) = gated(unasked());
    let log = place.open();
    let _committer = log.start_committer().unwrap();
    gate.take_threads();
    for n in 0..10 {
        let next = append(&log, n);
        log.wait_synced(next).unwrap();
    }
    assert_eq!(gate.take_threads(), vec![thread::current().id(); 10]);
    assert_eq!(log.stats().waits, 0, "no hop");
}

#[test]
fn a_sync_keeps_nobody_from_appending_or_writing_out_and_one_more_serves_all_who_came() {
    let (place, gate) = gated(unasked());
    let log = place.open();
    let first = append(&log, 0);
    gate.close();
    let leader = {
        let log = log.clone();
        spawn("leader", move || log.wait_synced(first).unwrap()).unwrap()
    };
    gate.await_one();
    let followers: Vec<_> = (1..=8)
        .map(|n| {
            let next = append(&log, n);
            let log = log.clone();
            spawn("follower", move || log.wait_synced(next).unwrap()).unwrap()
        })
        .collect();
    assert_eq!(log.write_out().unwrap(), Offset::new(9), "neither appends nor writes wait");
    assert_eq!(log.positions().durable, Offset::ZERO);
    // Only a follower that is queued shows that it shares, so wait until all are.
    while log.stats().waits < 8 {
        thread::yield_now();
    }
    let before = log.stats();
    gate.open();
    leader.join().unwrap();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
    let after = log.stats();
    assert_eq!(after.syncs - before.syncs, 2);
    assert_eq!(after.records_per_sync[0] - before.records_per_sync[0], 1);
    assert_eq!(after.records_per_sync[3] - before.records_per_sync[3], 1, "8 to 15 at once");
    assert_eq!(after.waits, 8, "each was woken once, to go on");
}

#[test]
fn an_append_is_redeemed_in_any_of_three_ways_or_not_at_all() {
    let place = Place::new();
    let log = place.open();
    let unused = log.append(&[b"a"]).unwrap();
    assert_eq!((unused.first.get(), unused.next.get()), (0, 1));
    assert_eq!(log.positions().durable, Offset::ZERO);
    log.append(&[b"b"]).unwrap().wait_synced().unwrap();
    assert_eq!(log.positions().durable, Offset::new(2));
    let ticket = log.append(&[b"c"]).unwrap().ticket();
    ticket.wait().unwrap();
    assert_eq!(log.positions().durable, Offset::new(3));
    block_on(async { log.append(&[b"d"]).unwrap().await }).unwrap();
    assert_eq!(log.positions().durable, Offset::new(4));
}

#[test]
fn the_committer_syncs_when_records_or_bytes_are_many_and_else_not() {
    for options in [
        Options { sync_ahead_records: Some(10), ..unasked() },
        Options { sync_ahead_bytes: 10 * 144, ..unasked() },
    ] {
        let place = Place::with(options);
        let log = place.open();
        let committer = log.start_committer().unwrap();
        for round in 0..3 {
            for n in 0..9 {
                append(&log, n);
            }
            let mut few = log.wait_for(Offset::new(10 * round + 8), Reached::Durable);
            let waited = few.wait_at_most(Duration::from_millis(5));
            assert!(matches!(waited, Err(ArrivalError::TimedOut)));
            append(&log, 9);
            assert_eq!(few.wait().unwrap(), Offset::new(10 * round + 10));
        }
        drop(committer);
    }
}

#[test]
fn a_log_has_one_committer_at_a_time_and_can_get_another() {
    let place = Place::with(unasked());
    let log = place.open();
    for n in 0..3 {
        let committer = log.start_committer().unwrap();
        assert!(matches!(log.start_committer(), Err(StartError::Runs)));
        log.run_committer();
        let next = append(&log, n);
        block_on(log.ticket(next)).unwrap();
        drop(committer);
    }
}

#[test]
fn a_record_arrives_in_memory_then_in_the_file_then_on_the_disk() {
    let place = Place::with(unasked());
    let log = place.open();
    let arrive = |reached| {
        let (of_thread, of_future) = (log.clone(), log.clone());
        let thread =
            spawn("waits", move || of_thread.wait_for(Offset::new(1), reached).wait().unwrap());
        let future =
            spawn("awaits", move || block_on(of_future.wait_for(Offset::new(1), reached)).unwrap());
        [thread.unwrap(), future.unwrap()]
    };
    let appended = arrive(Reached::Appended);
    let written = arrive(Reached::Written);
    let durable = arrive(Reached::Durable);
    while log.stats().waits < 6 {
        thread::yield_now();
    }
    append(&log, 0);
    assert!(appended.iter().all(|thread| !thread.is_finished()));
    append(&log, 1);
    appended.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().get(), 2));
    assert!(written.iter().all(|thread| !thread.is_finished()));
    log.write_out().unwrap();
    written.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().get(), 2));
    assert!(durable.iter().all(|thread| !thread.is_finished()));
    log.sync().unwrap();
    durable.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().get(), 2));
}

#[test]
fn whoever_waits_for_a_record_that_will_not_come_is_told_when_the_log_closes() {
    let place = Place::new();
    let log = place.open();
    append(&log, 0);
    let waits: Vec<_> = [Reached::Appended, Reached::Written, Reached::Durable]
        .into_iter()
        .map(|reached| {
            let log = log.clone();
            spawn("waits", move || log.wait_for(Offset::new(5), reached).wait()).unwrap()
        })
        .collect();
    let last = log.wait_for(Offset::ZERO, Reached::Durable);
    while log.stats().waits < 3 {
        thread::yield_now();
    }
    log.close().unwrap();
    for wait in waits {
        assert!(matches!(wait.join().unwrap(), Err(ArrivalError::Ended)));
    }
    assert_eq!(last.wait().unwrap(), Offset::new(1), "closing made it durable");
}

/// Does `work` in a thread. One that hangs is left there: to end what it holds would hang, too.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let worker = spawn("worker", move || {
        work();
        let _ = done.send(());
    });
    assert_ne!(
        ended.recv_timeout(Duration::from_secs(60)),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout),
        "it hangs"
    );
    worker.unwrap().join().unwrap();
}

/// A waker that holds a promise of the log.
struct Holder {
    _ticket: Mutex<Ticket>,
}

impl Wake for Holder {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_is_replaced_may_be_the_last_that_holds_another_ticket() {
    ends(|| {
        let (place, gate) = gated(unasked());
        let log = place.open();
        let committer = log.start_committer().unwrap();
        gate.close();
        let up_to = append(&log, 1);
        let (mut first, mut second) = (log.ticket(up_to), log.ticket(up_to));
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut second).poll(noop).is_pending());
        gate.await_one();
        let holder = Waker::from(Arc::new(Holder { _ticket: Mutex::new(second) }));
        assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&holder)).is_pending());
        drop(holder);
        assert!(Pin::new(&mut first).poll(noop).is_pending());
        gate.open();
        drop(committer);
    });
}

/// A task that runs where it is woken, and uses the log.
struct Inline {
    log: Log,
    ran: AtomicU64,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        append(&self.log, 9);
        self.log.write_out().unwrap();
        self.log.sync().unwrap();
        self.ran.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_that_runs_where_it_is_woken_may_write_out_and_sync() {
    let ways: [fn(&Log); 3] = [
        |log| assert!(log.write_out().is_ok()),
        |log| assert!(log.sync().is_ok()),
        |log| assert!(log.roll().is_ok()),
    ];
    for way in ways {
        ends(move || {
            let place = Place::with(unasked());
            let log = place.open();
            let task = Arc::new(Inline { log: log.clone(), ran: AtomicU64::new(0) });
            let waker = Waker::from(Arc::clone(&task));
            let reached = [Reached::Appended, Reached::Written, Reached::Durable];
            let mut arrivals = reached.map(|reached| log.wait_for(Offset::ZERO, reached));
            for arrival in &mut arrivals {
                assert!(Pin::new(arrival).poll(&mut Context::from_waker(&waker)).is_pending());
            }
            append(&log, 1);
            way(&log);
            log.sync().unwrap();
            assert_eq!(task.ran.load(Ordering::SeqCst), 3);
        });
    }
}

#[test]
fn a_task_that_runs_where_a_rescue_or_a_failure_woke_it_may_use_the_log() {
    for rescued in [true, false] {
        ends(move || {
            let machine = Machine::new(1);
            let log = Place::on(&machine).open();
            let seen = Arc::new(Outcome { log: log.clone(), ran: AtomicU64::new(0) });
            let waker = Waker::from(Arc::clone(&seen));
            let mut arrival = log.wait_for(Offset::ZERO, Reached::Durable);
            assert!(Pin::new(&mut arrival).poll(&mut Context::from_waker(&waker)).is_pending());
            append(&log, 1);
            machine.fail_sync(machine.counts().syncs + 1, Kept::Nothing);
            if !rescued {
                machine.fail_sync(machine.counts().syncs + 2, Kept::Nothing);
                machine.fail_sync(machine.counts().syncs + 3, Kept::Nothing);
            }
            assert_eq!(log.sync().is_ok(), rescued);
            assert_eq!(log.has_failed(), !rescued);
            assert_eq!(seen.ran.load(Ordering::SeqCst), 1);
        });
    }
}

/// A task that tries to write out and to sync, whatever comes of it.
struct Outcome {
    log: Log,
    ran: AtomicU64,
}

impl Wake for Outcome {
    fn wake(self: Arc<Self>) {
        let _ = self.log.write_out();
        let _ = self.log.sync();
        let _ = self.log.roll();
        self.ran.fetch_add(1, Ordering::SeqCst);
    }
}
