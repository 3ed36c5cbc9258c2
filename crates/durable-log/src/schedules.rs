//! Goal: in whatever order the threads of a log go on, nobody waits for ever, and nobody is told that a
//! record is durable before it is.
//!
//! Method: `shuttle` runs each scenario thousands of times, each time under another schedule of its
//! threads; all locks, atomics and wake-ups of the log are points where it may switch (`crate::sync`),
//! and so is each operation of the simulated disk. A lost wake-up is a deadlock, which it reports; no
//! timer ever fires. After each answer "durable" the power of a copy of the machine is cut in the worst
//! way, and the record has to be there. A failure prints its schedule, for `shuttle::replay`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use host::sim::{Lost, Machine, Reached as Kept};
use host::{DirEntry, DirLock, Disk, File, Host, OpenMode, Space, SystemRun};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle, yield_now};
use shuttle::{Config, Runner};

use crate::{AppendError, Log, Offset, Options, Reached, ReadError, SyncError};

/// Schedules of each kind for each scenario.
const SCHEDULES: usize = 500;
/// Most changes of priority that a schedule of the second kind makes up.
const DEPTH: usize = 4;
const DIR: &str = "/log";

/// Runs a scenario under schedules that switch at random, and under such that prefer some threads.
fn explore(scenario: fn()) {
    run(RandomScheduler::new(SCHEDULES), scenario);
    run(PctScheduler::new(DEPTH, SCHEDULES), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    // It warns that it takes every ordering of atomics for the strictest.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

/// The simulated disk, with a switch of threads before and after each operation.
#[derive(Debug)]
struct YieldingDisk(Arc<dyn Disk>);

#[derive(Debug)]
struct YieldingFile(Arc<dyn File>);

fn between<T>(operation: impl FnOnce() -> T) -> T {
    yield_now();
    let result = operation();
    yield_now();
    result
}

impl File for YieldingFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        between(|| self.0.write_all_at(buf, at))
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        between(|| self.0.set_size(size))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        between(|| self.0.sync_data())
    }
}

impl Disk for YieldingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(YieldingFile(self.0.open(path, mode)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        between(|| self.0.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        between(|| self.0.unlink(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        between(|| self.0.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        self.0.lock(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.0.space(path)
    }

    fn system_run(&self) -> io::Result<SystemRun> {
        self.0.system_run()
    }
}

/// A machine with a log that is open.
#[derive(Clone)]
struct Bed {
    machine: Machine,
    log: Log,
}

impl Bed {
    fn new(options: Options) -> Self {
        let machine = Machine::new(1);
        let (log, _) = Log::open(&machine.host(), Path::new(DIR), options.clone()).unwrap();
        // Opened again, so that the disk yields, and only now.
        log.close().unwrap();
        let host = machine.host();
        let host = Host { disk: Arc::new(YieldingDisk(host.disk)), ..host };
        let (log, _) = Log::open(&host, Path::new(DIR), options).unwrap();
        Self { machine, log }
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let bed = self.clone();
        thread::spawn(move || work(&bed))
    }

    /// Appends one record and waits for it in the way that `way` says. It is durable, or the error
    /// says why not.
    fn write(&self, record: u8, way: Way) -> Result<(), SyncError> {
        let appended = match self.log.append(&[&[record; 40]]) {
            Ok(appended) => appended,
            Err(AppendError::Failed { why }) => return Err(SyncError::Failed { why }),
            Err(AppendError::NoSpace) => return Err(SyncError::NoSpace),
            Err(error) => panic!("{error}"),
        };
        if thread_rng().gen_bool(0.3) {
            self.log.write_out()?;
        }
        match way {
            Way::Thread => appended.wait_synced()?,
            Way::Future => block_on(async { appended.await })?,
            Way::All => drop(self.log.sync()?),
        }
        assert!(self.log.positions().durable >= appended.next);
        self.check_survives(record, appended.at);
        Ok(())
    }

    /// Cuts the power of a copy of the machine so that only durable bytes are left.
    fn check_survives(&self, record: u8, at: crate::Location) {
        let copy = self.machine.fork();
        copy.crash(&mut Lost);
        copy.fill_up(u64::MAX);
        let (log, _) = Log::open(&copy.host(), Path::new(DIR), options()).unwrap();
        match log.slice(at, 40) {
            Err(ReadError::Trimmed { start }) => assert!(start <= self.log.positions().start),
            slice => assert_eq!(slice.unwrap().read().unwrap()[..], [record; 40]),
        }
    }
}

/// How a writer waits.
#[derive(Clone, Copy, Debug)]
enum Way {
    Thread,
    Future,
    All,
}

fn any_way() -> Way {
    [Way::Thread, Way::Future, Way::All][thread_rng().gen_range(0..3)]
}

/// Small segments; no timer, because none fires here.
fn options() -> Options {
    Options { segment_bytes: 512, append_bytes_max: 256, sync_interval: None, ..Options::default() }
}

/// Ends all threads.
fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Three writers of two records each, each waiting in any way.
fn writers(bed: &Bed) -> Vec<JoinHandle<Result<(), SyncError>>> {
    let write = |writer: u8| {
        bed.spawn(move |bed| {
            bed.write(writer * 2, any_way())?;
            bed.write(writer * 2 + 1, any_way())
        })
    };
    (0..3).map(write).collect()
}

#[test]
fn writers_lead_for_each_other() {
    explore(|| {
        let bed = Bed::new(options());
        join(writers(&bed)).into_iter().for_each(|result| result.unwrap());
        assert_eq!(bed.log.positions().durable, Offset::new(6));
    });
}

#[test]
fn writers_and_a_committer_serve_futures_and_threads() {
    explore(|| {
        let bed = Bed::new(options());
        let committer = bed.log.start_committer().unwrap();
        join(writers(&bed)).into_iter().for_each(|result| result.unwrap());
        drop(committer);
        assert_eq!(bed.log.positions().durable, Offset::new(6));
    });
}

#[test]
fn a_committer_that_comes_and_goes_leaves_nobody_behind() {
    explore(|| {
        let bed = Bed::new(options());
        let committers = bed.spawn(|bed| {
            for _ in 0..2 {
                drop(bed.log.start_committer().unwrap());
            }
        });
        join(writers(&bed)).into_iter().for_each(|result| result.unwrap());
        committers.join().unwrap();
    });
}

#[test]
fn the_committer_of_a_server_is_stopped_while_futures_wait() {
    explore(|| {
        let bed = Bed::new(options());
        let committer = bed.spawn(|bed| bed.log.run_committer());
        let writers = writers(&bed);
        let waits = bed.spawn(|bed| bed.log.wait_for(Offset::new(50), Reached::Durable).wait());
        bed.log.stop_committer();
        committer.join().unwrap();
        assert!(waits.join().unwrap().is_err());
        join(writers).into_iter().for_each(|result| result.unwrap());
    });
}

#[test]
fn after_failed_syncs_records_are_rescued_or_their_tickets_fail() {
    explore(|| {
        let bed = Bed::new(options());
        let next = bed.machine.counts().syncs + 1;
        for sync in 0..6 {
            if thread_rng().gen_bool(0.4) {
                let kept = [Kept::Nothing, Kept::Some(sync), Kept::Everything];
                bed.machine.fail_sync(next + sync, kept[thread_rng().gen_range(0..3)]);
            }
        }
        let committer = thread_rng().gen_bool(0.5).then(|| bed.log.start_committer().unwrap());
        for result in join(writers(&bed)) {
            assert!(result.is_ok() || bed.log.has_failed());
        }
        drop(committer);
    });
}

#[test]
fn rolls_and_trims_beside_writers_lose_nobody() {
    explore(|| {
        let bed = Bed::new(options());
        let committer = thread_rng().gen_bool(0.5).then(|| bed.log.start_committer().unwrap());
        let rolls = bed.spawn(|bed| {
            for _ in 0..3 {
                bed.log.roll().unwrap();
            }
        });
        let trims = bed.spawn(|bed| {
            for _ in 0..3 {
                bed.log.trim(bed.log.positions().durable).unwrap();
            }
        });
        join(writers(&bed)).into_iter().for_each(|result| result.unwrap());
        rolls.join().unwrap();
        trims.join().unwrap();
        drop(committer);
    });
}

#[test]
fn a_log_that_is_closed_answers_all_who_wait() {
    explore(|| {
        let bed = Bed::new(options());
        let committer = thread_rng().gen_bool(0.5).then(|| bed.log.start_committer().unwrap());
        let writers: Vec<_> = (0..2_u8)
            .map(|record| {
                bed.spawn(move |bed| {
                    let Ok(appended) = bed.log.append(&[&[record; 40]]) else { return };
                    match any_way() {
                        Way::Future => block_on(appended.ticket()).unwrap(),
                        Way::Thread | Way::All => appended.wait_synced().unwrap(),
                    }
                    bed.check_survives(record, appended.at);
                })
            })
            .collect();
        let waits: Vec<_> = [Reached::Appended, Reached::Written, Reached::Durable]
            .into_iter()
            .map(|reached| bed.spawn(move |bed| bed.log.wait_for(Offset::new(50), reached).wait()))
            .collect();
        bed.log.close().unwrap();
        join(writers);
        assert!(join(waits).into_iter().all(|result| result.is_err()));
        drop(committer);
    });
}

#[test]
fn a_cut_answers_all_who_wait_through_the_old_handle() {
    explore(|| {
        let bed = Bed::new(options());
        bed.write(0, any_way()).unwrap();
        bed.write(1, any_way()).unwrap();
        let committer = thread_rng().gen_bool(0.5).then(|| bed.log.start_committer().unwrap());
        let writers = (2..4_u8).map(|record| {
            bed.spawn(move |bed| {
                // Durable before the cut, or refused; which, only the schedule knows.
                let Ok(appended) = bed.log.append(&[&[record; 40]]) else { return };
                match any_way() {
                    Way::Future => drop(block_on(appended.ticket())),
                    Way::Thread | Way::All => drop(appended.wait_synced()),
                }
            })
        });
        let writers = writers.collect();
        let waits: Vec<_> = [Reached::Appended, Reached::Written, Reached::Durable]
            .into_iter()
            .map(|reached| bed.spawn(move |bed| bed.log.wait_for(Offset::new(50), reached).wait()))
            .collect();
        let cut = bed.log.truncate_after(Offset::new(1)).unwrap();
        join(writers);
        assert!(join(waits).into_iter().all(|result| result.is_err()));
        drop(committer);
        assert!(cut.epoch() > bed.log.epoch());
        let bed = Bed { log: cut, ..bed };
        bed.write(4, any_way()).unwrap();
        assert_eq!(bed.log.positions().durable, Offset::new(2));
    });
}

#[test]
fn arrivals_end_with_the_committer_though_none_ran() {
    explore(|| {
        let bed = Bed::new(options());
        let waits: Vec<_> = [Reached::Appended, Reached::Written, Reached::Durable]
            .into_iter()
            .map(|reached| bed.spawn(move |bed| bed.log.wait_for(Offset::ZERO, reached).wait()))
            .collect();
        bed.log.stop_committer();
        assert!(join(waits).into_iter().all(|result| result.is_err()));
    });
}

#[test]
fn whoever_waits_for_room_gets_it() {
    explore(|| {
        let bed = Bed::new(Options { sync_ahead_bytes: 80, unsynced_bytes_max: 160, ..options() });
        let committer = thread_rng().gen_bool(0.7).then(|| bed.log.start_committer().unwrap());
        let writers = (0..3_u8).map(|record| {
            bed.spawn(move |bed| {
                for _ in 0..3 {
                    if thread_rng().gen_bool(0.5) {
                        bed.log.wait_room();
                    } else {
                        block_on(bed.log.room());
                    }
                    bed.log.append(&[&[record; 40]]).unwrap();
                }
            })
        });
        join(writers.collect());
        drop(committer);
    });
}

#[test]
fn tickets_that_are_given_up_disturb_nobody() {
    explore(|| {
        let bed = Bed::new(options());
        let committer = bed.log.start_committer().unwrap();
        let gives_up = bed.spawn(|bed| {
            for record in 10..12 {
                let appended = bed.log.append(&[&[record; 40]]).unwrap();
                let mut ticket = pin!(appended.ticket());
                let _ = ticket.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            drop(bed.log.room());
        });
        join(writers(&bed)).into_iter().for_each(|result| result.unwrap());
        gives_up.join().unwrap();
        drop(committer);
    });
}

#[test]
fn records_arrive_wherever_they_are_waited_for() {
    explore(|| {
        let bed = Bed::new(options());
        bed.write(0, any_way()).unwrap();
        let waits: Vec<_> = [Reached::Appended, Reached::Written, Reached::Durable]
            .into_iter()
            .map(|reached| {
                bed.spawn(move |bed| {
                    let arrival = bed.log.wait_for(Offset::new(1), reached);
                    let past =
                        if thread_rng().gen_bool(0.5) { arrival.wait() } else { block_on(arrival) };
                    assert!(past.unwrap() >= Offset::new(2));
                })
            })
            .collect();
        // No later record brings what this one's append, write or sync failed to tell.
        bed.write(1, any_way()).unwrap();
        join(waits);
    });
}

#[test]
fn a_full_disk_is_told_to_all_and_forgotten_when_there_is_room() {
    explore(|| {
        let bed = Bed::new(options());
        bed.machine.fill_up(thread_rng().gen_range(0..2000));
        let committer = thread_rng().gen_bool(0.5).then(|| bed.log.start_committer().unwrap());
        for result in join(writers(&bed)) {
            assert!(matches!(result, Ok(()) | Err(SyncError::NoSpace)));
        }
        bed.machine.fill_up(u64::MAX);
        bed.log.write_out().unwrap();
        bed.write(20, any_way()).unwrap();
        drop(committer);
    });
}

#[test]
fn an_iterator_begins_with_the_record_that_was_asked_for() {
    // A roll that fits between two looks of the reader. The disk is no such point here, to leave room for that.
    run(PctScheduler::new(2, 4 * SCHEDULES), || {
        let machine = Machine::new(1);
        let (log, _) = Log::open(&machine.host(), Path::new(DIR), options()).unwrap();
        log.append(&[b"a"]).unwrap();
        let writer = thread::spawn({
            let log = log.clone();
            move || {
                log.append(&[b"b"]).unwrap();
                log.roll().unwrap();
                log.append(&[b"c"]).unwrap();
            }
        });
        let reader = thread::spawn(move || {
            let from = Offset::new(0);
            let mut records = log.iter(from).unwrap();
            let record = records.next().unwrap().expect("it was appended before");
            assert_eq!(record.offset, from);
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_committer_that_syncs_at_once_sleeps_when_all_is_durable() {
    // One that does not sleep, and goes before the others, takes all the steps that a schedule has.
    run(PctScheduler::new(2, SCHEDULES), || {
        let machine = Machine::new(1);
        let options = Options { sync_ahead_bytes: 0, ..options() };
        let (log, _) = Log::open(&machine.host(), Path::new(DIR), options).unwrap();
        let committer = log.start_committer().unwrap();
        log.append(&[b"a"]).unwrap();
        log.wait_for(Offset::new(0), Reached::Durable).wait().unwrap();
        drop(committer);
    });
}
