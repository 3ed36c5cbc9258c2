//! Goal: however many write and wait at once, what was acknowledged is there and in order, nobody
//! waits for ever, and a future needs nothing but a waker.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use durable_log::{Log, Offset, Options, Reached};
use host::spawn;

use crate::support::{Place, all, small};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs `work` beside a committer.
fn with_committer<T>(log: &Log, work: impl FnOnce() -> T) -> T {
    let committer = log.clone();
    let thread = spawn("committer", move || committer.run_committer()).unwrap();
    let value = work();
    log.stop_committer();
    thread.join().unwrap();
    value
}

/// Appends from four threads, each waiting for each record as `wait` does.
fn check(place: &Place, log: &Log, wait: fn(&Log, Offset)) {
    let writers: Vec<_> = (0..4_u8)
        .map(|writer| {
            let log = log.clone();
            spawn("writer", move || {
                for n in 0..50_u8 {
                    let appended = log.append(&[&[writer, n], &[writer, n]]).unwrap();
                    wait(&log, appended.next);
                    assert!(log.positions().durable >= appended.next);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.unwrap().join().unwrap());
    let records = all(log);
    assert_eq!(records.len(), 400);
    for writer in 0..4 {
        let of_writer = records.iter().filter(|record| record[0] == writer).map(|record| record[1]);
        assert!(of_writer.eq((0..50).flat_map(|n| [n, n])));
    }
    let bytes: Vec<_> = place.segments();
    assert!(bytes.len() > 1);
}

#[test]
fn threads_that_wait_for_tickets_lead_for_each_other() {
    let place = Place::new();
    let log = place.open();
    check(&place, &log, |log, up_to| log.ticket(up_to).wait().unwrap());
    assert!(log.stats().syncs <= 200 + 10, "a sync serves at least one append");
}

#[test]
fn threads_and_a_committer_work_side_by_side() {
    let place = Place::new();
    let log = place.open();
    with_committer(&log, || {
        check(&place, &log, |log, up_to| {
            if up_to.get() % 4 == 0 {
                log.ticket(up_to).wait()
            } else {
                block_on(log.ticket(up_to))
            }
            .unwrap();
        });
    });
}

#[test]
fn a_ticket_is_a_future_with_and_without_a_committer() {
    let place = Place::new();
    let log = place.open();
    log.append(&[b"alone"]).unwrap();
    block_on(log.ticket(Offset::new(1))).unwrap();
    assert_eq!(log.positions().durable.get(), 1);
    with_committer(&log, || {
        log.append(&[b"together"]).unwrap();
        block_on(log.ticket(Offset::new(2))).unwrap();
        assert_eq!(log.positions().durable.get(), 2);
    });
    log.append(&[b"alone again"]).unwrap();
    block_on(log.ticket(Offset::new(3))).unwrap();
}

#[test]
fn a_ticket_for_what_is_not_appended_is_cut_to_what_is() {
    let place = Place::new();
    let log = place.open();
    log.append(&[b"a"]).unwrap();
    log.ticket(Offset::new(1000)).wait().unwrap();
    assert_eq!(log.positions().durable.get(), 1);
}

#[test]
fn a_ticket_that_is_dropped_leaves_nothing() {
    let place = Place::new();
    let log = place.open();
    with_committer(&log, || {
        for _ in 0..10 {
            let appended = log.append(&[b"a"]).unwrap();
            let mut ticket = pin!(log.ticket(appended.next));
            let _ = ticket.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        log.sync().unwrap();
    });
}

#[test]
fn the_committer_syncs_what_nobody_waits_for() {
    let place = Place::with(Options { sync_interval: Some(Duration::from_millis(5)), ..small() });
    let log = place.open();
    with_committer(&log, || {
        log.append(&[b"a"]).unwrap();
        assert_eq!(log.wait_for(Offset::ZERO, Reached::Durable).wait().unwrap(), Offset::new(1));
        log.append(&[b"b"]).unwrap();
        assert_eq!(log.wait_for(Offset::new(1), Reached::Durable).wait().unwrap(), Offset::new(2));
    });
    assert!(log.wait_for(Offset::new(2), Reached::Durable).wait().is_err());
}

#[test]
fn an_idle_log_says_in_its_frames_that_it_is_durable() {
    let place = Place::with(Options { sync_interval: Some(Duration::from_millis(1)), ..small() });
    let log = place.open();
    with_committer(&log, || {
        log.append(&[b"a"]).unwrap();
        log.sync().unwrap();
        // A mark is the only thing that makes the log longer now, and the committer owes us one.
        while log.stats().bytes == 48 {
            thread::yield_now();
        }
    });
    log.sync().unwrap();
    assert_eq!(log.stats().bytes, 48 + 40);
    assert_eq!(log.positions().appended.get(), 1);
    drop(log);
    let (log, recovery) = place.reopen();
    assert_eq!((recovery.records, recovery.bytes), (1, 88));
    assert_eq!(all(&log), [b"a"]);
}

#[test]
fn the_committer_syncs_ahead_and_gives_room() {
    let options = Options {
        sync_ahead_bytes: 1000,
        unsynced_bytes_max: 4000,
        sync_interval: Some(Duration::from_secs(3600)),
        ..small()
    };
    let place = Place::with(options);
    let log = place.open();
    with_committer(&log, || {
        for n in 0..100 {
            if n % 2 == 0 {
                log.wait_room()
            } else {
                block_on(log.room())
            }
            log.append(&[&[1; 500]]).unwrap();
            assert!(log.stats().unsynced_bytes < 4000 + 600);
        }
        assert!(log.wait_for(Offset::new(90), Reached::Durable).wait().is_ok());
    });
}

#[test]
fn room_without_a_committer_is_made_by_the_one_who_waits() {
    let place = Place::with(Options { sync_ahead_bytes: 100, unsynced_bytes_max: 100, ..small() });
    let log = place.open();
    log.append(&[&[1; 500]]).unwrap();
    assert!(!log.has_room());
    block_on(log.room());
    assert!(log.has_room());
    log.append(&[&[1; 500]]).unwrap();
    log.wait_room();
    assert!(log.has_room());
}

#[test]
fn readers_follow_writers() {
    let place = Place::with(Options { sync_interval: Some(Duration::from_millis(1)), ..small() });
    let log = place.open();
    let done = Arc::new(AtomicBool::new(false));
    with_committer(&log, || {
        let (reader_log, reader_done) = (log.clone(), Arc::clone(&done));
        let reader = spawn("reader", move || {
            let mut seen = 0;
            while !reader_done.load(Ordering::Acquire) {
                let records = all(&reader_log);
                assert!(records.len() >= seen);
                seen = records.len();
                assert!(
                    records.iter().enumerate().all(|(n, record)| record[0] == n.to_le_bytes()[0])
                );
            }
        })
        .unwrap();
        for n in 0..300_usize {
            let record = [n.to_le_bytes()[0]; 100];
            let at = log.append(&[&record]).unwrap().at;
            assert_eq!(&log.slice(at, 100).unwrap().read().unwrap()[..], &record);
            if n % 7 == 0 {
                log.write_out().unwrap();
            }
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}
