//! Goal: a failed sync, a failed write and a full disk cost at most what was never acknowledged; the
//! page cache is not believed; what can go on does. Method: the simulated machine's faults.

use std::time::Duration;

use durable_log::{AppendError, Log, Offset, SyncError, WriteError};
use host::sim::{Kept, Lost, Machine, Reached};
use host::spawn;

use crate::support::{Place, all};

const REACHED: [Reached; 4] =
    [Reached::Nothing, Reached::Some(7), Reached::Some(8), Reached::Everything];

fn record(n: u8) -> Vec<u8> {
    vec![n; 700]
}

fn append(log: &Log, numbers: std::ops::Range<u8>) {
    for n in numbers {
        log.append(&[&record(n)]).unwrap();
    }
}

#[track_caller]
fn check_records(log: &Log, numbers: std::ops::Range<u8>) {
    assert_eq!(all(log), numbers.map(record).collect::<Vec<_>>());
}

fn fail_next_sync(machine: &Machine, reached: Reached) {
    machine.fail_sync(machine.counts().syncs + 1, reached);
}

#[test]
fn after_a_failed_sync_the_rest_is_written_again_and_nothing_is_lost() {
    for reached in REACHED {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let log = place.open();
        append(&log, 0..2);
        log.sync().unwrap();
        let at = log.append(&[&record(2)]).unwrap().at;
        log.write_out().unwrap();
        let slice = log.slice(at, 700).unwrap();
        fail_next_sync(&machine, reached);
        assert_eq!(log.sync().unwrap(), Offset::new(3));
        assert_eq!(log.stats().failed_syncs, 1);
        assert_eq!(place.segments().len(), 2);
        for slice in [slice, log.slice(at, 700).unwrap()] {
            assert_eq!(&slice.read().unwrap()[..], &record(2)[..]);
        }
        check_records(&log, 0..3);
        append(&log, 3..12);
        log.sync().unwrap();
        machine.crash(&mut Lost);
        let (log, recovery) = Place::on(&machine).reopen();
        assert!(recovery.torn.is_none());
        check_records(&log, 0..12);
    }
}

#[test]
fn a_rescue_whose_file_cannot_be_synced_tries_another_one() {
    let machine = Machine::new(1);
    let log = Place::on(&machine).open();
    append(&log, 0..3);
    for sync in 1..3 {
        machine.fail_sync(machine.counts().syncs + sync, Reached::Nothing);
    }
    log.sync().unwrap();
    machine.crash(&mut Lost);
    check_records(&Place::on(&machine).open(), 0..3);
}

#[test]
fn a_failed_sync_of_a_segments_first_records_is_survived() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    for n in 0..3 {
        log.append(&[&record(n)]).unwrap();
        fail_next_sync(&machine, Reached::Nothing);
        log.sync().unwrap();
    }
    check_records(&log, 0..3);
    assert_eq!(log.trim(Offset::new(1)).unwrap(), Offset::new(1));
    machine.crash(&mut Lost);
    check_records(&Place::on(&machine).open(), 1..3);
}

#[test]
fn a_file_whose_sync_failed_is_not_used_for_another_segment() {
    for failing in [false, true] {
        let machine = Machine::new(1);
        let log = Place::on(&machine).open();
        // So full that nothing is cut off, whichever way the segment ends.
        append(&log, 0..5);
        log.sync().unwrap();
        log.append(&[&[9; 100]]).unwrap();
        if failing {
            fail_next_sync(&machine, Reached::Nothing);
        }
        log.sync().unwrap();
        append(&log, 6..8);
        log.roll().unwrap();
        assert_eq!(log.trim(Offset::new(6)).unwrap(), Offset::new(6));
        append(&log, 8..20);
        log.sync().unwrap();
        assert_eq!(log.stats().recycled, u64::from(!failing), "failing: {failing}");
    }
}

#[test]
fn a_failed_sync_while_a_segment_is_ended_is_survived() {
    for reached in REACHED {
        let machine = Machine::new(1);
        let log = Place::on(&machine).open();
        append(&log, 0..5);
        log.write_out().unwrap();
        // The next append begins a segment, so the next sync is that of the old one.
        append(&log, 5..7);
        fail_next_sync(&machine, reached);
        log.write_out().unwrap();
        assert_eq!(log.stats().failed_syncs, 1);
        log.sync().unwrap();
        check_records(&log, 0..7);
        machine.crash(&mut Lost);
        check_records(&Place::on(&machine).open(), 0..7);
    }
}

#[test]
fn when_the_rescue_fails_too_nothing_more_is_acknowledged() {
    for reached in REACHED {
        let machine = Machine::new(1);
        let log = Place::on(&machine).open();
        append(&log, 0..2);
        log.sync().unwrap();
        append(&log, 2..4);
        let ticket = log.ticket(Offset::new(4));
        fail_next_sync(&machine, reached);
        machine.fail_sync(machine.counts().syncs + 2, Reached::Nothing);
        machine.fail_sync(machine.counts().syncs + 3, Reached::Nothing);
        assert!(matches!(log.sync(), Err(SyncError::Failed { .. })));
        assert!(matches!(log.sync(), Err(SyncError::Failed { .. })));
        assert!(matches!(ticket.wait(), Err(SyncError::Failed { .. })));
        assert!(matches!(log.append(&[b"x"]), Err(AppendError::Failed { .. })));
        assert!(matches!(log.write_out(), Err(WriteError::Failed { .. })));
        assert!(log.has_failed() && log.has_room());
        log.wait_room();
        assert!(log.wait_for(Offset::new(2), durable_log::Reached::Durable).wait().is_err());
        assert_eq!(log.positions().durable, Offset::new(2));
        assert!(log.clone().close().is_err());
        drop(log);
        machine.kill();
        // The page cache shows all four; what the next opening says of them must be true.
        let (log, recovery) = Place::on(&machine).reopen();
        assert!(!recovery.clean);
        let found = all(&log);
        assert!(found.len() >= 2 && log.positions().durable.get() == found.len() as u64);
        machine.crash(&mut Lost);
        assert_eq!(all(&Place::on(&machine).open()), found);
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_made_true_by_the_next_opening() {
    for reached in REACHED {
        let machine = Machine::new(1);
        let log = Place::on(&machine).open();
        append(&log, 0..2);
        log.write_out().unwrap();
        fail_next_sync(&machine, reached);
        // The process dies before it can do anything about the failure.
        let file = machine
            .host()
            .disk
            .open("/log/00000000000000000001.seg".as_ref(), host::OpenMode::ReadWrite);
        assert!(file.unwrap().sync_data().is_err());
        drop(log);
        machine.kill();
        check_records(&Place::on(&machine).open(), 0..2);
        machine.crash(&mut Lost);
        check_records(&Place::on(&machine).open(), 0..2);
    }
}

#[test]
fn any_one_operation_may_fail_and_what_was_acknowledged_is_kept() {
    let run = |machine: &Machine| {
        let mut acknowledged = 0;
        let Ok((log, _)) = Place::on(machine).try_open() else { return 0 };
        for n in 0..14 {
            if log.append(&[&record(n)]).is_err() {
                break;
            }
            if n % 2 == 1 && log.sync().is_ok() {
                acknowledged = n + 1;
            }
            if n == 9 && log.roll().is_ok() {
                // An error is one of the outcomes; what is left is checked below.
                log.trim(Offset::ZERO).unwrap();
            }
        }
        acknowledged
    };
    let machine = Machine::new(1);
    assert_eq!(run(&machine), 14);
    for operation in 1..=machine.counts().operations {
        for outcome in 0..2 {
            let machine = Machine::new(1);
            machine.fail_at(operation);
            let acknowledged = run(&machine);
            if outcome == 0 {
                machine.crash(&mut Lost)
            } else {
                machine.crash(&mut Kept)
            }
            let found = all(&Place::on(&machine).open());
            assert!(found.len() >= usize::from(acknowledged), "operation {operation}");
            assert!(found.iter().zip(0..).all(|(found, n)| *found == record(n)));
        }
    }
}

/// Leaves room for what is there and for so many bytes more.
fn fill_up(machine: &Machine, place: &Place, more: u64) {
    machine.fill_up(1 << 40);
    let space = place.host.disk.space(&place.dir).unwrap();
    machine.fill_up(space.total_bytes - space.available_bytes + more);
}

#[test]
fn a_full_disk_is_an_answer_and_not_an_end() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    append(&log, 0..2);
    log.sync().unwrap();
    fill_up(&machine, &place, 0);
    let mut next = 2;
    let refused = loop {
        if let Err(error) = log.append(&[&record(next)]) {
            break error;
        }
        next += 1;
        assert!(next < 40, "a full disk must show");
        let _ = log.write_out();
    };
    assert!(matches!(refused, AppendError::NoSpace));
    let synced = log.sync();
    assert!(synced.is_ok() || matches!(synced, Err(SyncError::NoSpace)));
    // What is acknowledged survives the power, room or no room.
    let crashed = machine.fork();
    crashed.crash(&mut Lost);
    crashed.fill_up(u64::MAX);
    let durable = log.positions().durable;
    assert!(Place::on(&crashed).open().positions().appended >= durable);
    // With room the queue goes out in order and appends go on.
    machine.fill_up(u64::MAX);
    log.write_out().unwrap();
    append(&log, next..next + 3);
    log.sync().unwrap();
    check_records(&log, 0..next + 3);
    machine.crash(&mut Lost);
    check_records(&Place::on(&machine).open(), 0..next + 3);
}

#[test]
fn the_room_of_a_prepared_segment_is_there_when_the_disk_is_full() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    append(&log, 0..3);
    log.sync().unwrap();
    fill_up(&machine, &place, 0);
    // The active segment and the prepared one hold five records each.
    for n in 3..10 {
        log.append(&[&record(n)]).unwrap();
        log.sync().unwrap();
    }
    check_records(&log, 0..10);
    assert!(matches!(log.append(&[&record(10)]), Err(AppendError::NoSpace)));
    // Trimming makes room for the next.
    log.trim(Offset::new(5)).unwrap();
    log.write_out().unwrap();
    log.append(&[&record(10)]).unwrap();
    log.sync().unwrap();
    check_records(&log, 5..11);
}

#[test]
fn a_queue_without_room_fails_its_tickets_and_is_kept() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[&record(0)]).unwrap();
    log.sync().unwrap();
    fill_up(&machine, &place, 0);
    log.append(&[&vec![9; 50_000]]).unwrap();
    assert!(matches!(log.ticket(Offset::new(2)).wait(), Err(SyncError::NoSpace)));
    assert!(matches!(log.append(&[b"x"]), Err(AppendError::NoSpace)));
    assert!(log.has_room(), "the writer is to hear of it");
    let at = log.segments()[0].end.plus(44);
    assert_eq!(log.slice(at, 50_000).unwrap().read().unwrap(), vec![9; 50_000]);
    machine.fill_up(u64::MAX);
    assert_eq!(log.sync().unwrap(), Offset::new(2));
    machine.crash(&mut Lost);
    assert_eq!(all(&Place::on(&machine).open()).len(), 2);
}

#[test]
fn the_committer_tries_again_when_there_is_room() {
    let machine = Machine::new(1);
    let mut place = Place::on(&machine);
    place.options.sync_interval = Some(Duration::from_millis(1));
    let log = place.open();
    fill_up(&machine, &place, 0);
    log.append(&[&vec![9; 50_000]]).unwrap();
    assert!(matches!(log.write_out(), Err(WriteError::NoSpace)));
    let committer = log.clone();
    let thread = spawn("committer", move || committer.run_committer()).unwrap();
    machine.fill_up(u64::MAX);
    let waiter = log.clone();
    let waiting = spawn("waiter", move || {
        waiter.wait_for(Offset::ZERO, durable_log::Reached::Durable).wait()
    })
    .unwrap();
    while !waiting.is_finished() {
        machine.advance(Duration::from_millis(1));
        std::thread::yield_now();
    }
    assert_eq!(waiting.join().unwrap().unwrap(), Offset::new(1));
    log.stop_committer();
    thread.join().unwrap();
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let machine = Machine::new(1);
    let mut place = Place::on(&machine);
    place.options.segment_bytes = 64 << 10;
    let log = place.open();
    append(&log, 0..4);
    log.sync().unwrap();
    drop(log);
    fill_up(&machine, &place, 0);
    let (log, _) = place.reopen();
    check_records(&log, 0..4);
}

/// Four threads that append and wait, until `stop`; returns what was acknowledged to each.
fn write_concurrently(log: &Log, each: u8) -> Vec<Vec<u8>> {
    let writers: Vec<_> = (0..4_u8)
        .map(|writer| {
            let log = log.clone();
            spawn("writer", move || {
                let mut acknowledged = Vec::new();
                for n in 0..each {
                    let record = vec![writer, n, 7, 7];
                    let Ok(appended) = log.append(&[&record, &vec![0; 300]]) else { break };
                    if log.ticket(appended.next).wait().is_err() {
                        break;
                    }
                    acknowledged.push(record);
                }
                acknowledged
            })
        })
        .collect();
    writers.into_iter().flat_map(|writer| writer.unwrap().join().unwrap()).collect()
}

#[test]
fn writers_that_share_syncs_do_not_notice_that_some_fail() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        let log = Place::on(&machine).open();
        for n in 0..6 {
            machine.fail_sync(3 + seed + n * 7, Reached::Some(seed + n));
        }
        let acknowledged = write_concurrently(&log, 15);
        assert_eq!(acknowledged.len(), 60);
        assert!(log.stats().failed_syncs > 0);
        machine.crash(&mut Lost);
        let found = all(&Place::on(&machine).open());
        assert!(acknowledged.iter().all(|record| found.contains(record)), "seed {seed}");
    }
}

#[test]
fn the_power_may_go_while_writers_share_syncs() {
    for seed in 0..60 {
        let machine = Machine::new(seed);
        let log = Place::on(&machine).open();
        machine.crash_at(machine.counts().operations + 1 + seed * 2);
        let acknowledged = write_concurrently(&log, 30);
        assert!(machine.is_off());
        drop(log);
        machine.crash_seeded(seed);
        let found = all(&Place::on(&machine).open());
        assert!(acknowledged.iter().all(|record| found.contains(record)), "seed {seed}");
        assert!(found.len().is_multiple_of(2), "an append is there whole or not at all");
    }
}
