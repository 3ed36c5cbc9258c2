//! A simulated machine: a disk that can lose power, tear, fill up and lie, a clock that stands still, and
//! randomness from a seed.
//!
//! [`Machine::host`] gives a [`Host`] like any other. The disk keeps two images: *live*, what running
//! code sees, and *durable*, what a power cut cannot take, with the operations between the two in order.
//! `sync_data` makes a file's bytes and size durable, `sync_dir` the names in a directory; neither does
//! the other's work.
//!
//! # What a power cut may leave
//!
//! [`Machine::crash`] asks an [`Outcome`] to pick among everything that is legal, and nothing else is:
//!
//! - **Bytes.** A file is made of units of 512 bytes or of 4 KiB, one of the two for the whole crash.
//!   Each unit is as it was after some number of the operations on it since the last sync, units
//!   independently of each other: a write may be there, be missing, or be torn between units, and a
//!   later write may be there without an earlier one. Within a unit, operations are never reordered, and
//!   a unit is never half written. Whatever may be left of units of 4 KiB may be left of units of 512
//!   bytes too; a seed finds it sooner when it is told.
//! - **Size.** The file's size is the one after some number of the operations since the last sync. Bytes
//!   below it that were never written, or whose write is lost, are as before, and zero where there was
//!   nothing before. A cut that the size shows is complete: the bytes that it removed do not return. One
//!   that it does not show took nothing away.
//! - **Names.** Each create, rename and unlink since the directory's last sync is there or not,
//!   independently of others, except that operations on one name are never reordered: if one is lost, so
//!   are the later ones on that name. A rename is there with both its names or with none; one between
//!   two directories is durable once both were synced. A name may be durable while the bytes of its file
//!   are not, and the other way round.
//! - **The rest** is gone: locks, open handles, files without a name. Every handle and [`Host`] from
//!   before fails.
//!
//! # What a failed sync leaves
//!
//! As Linux does: the error is reported once, the pages count as clean, later syncs succeed without
//! writing them, and reads show them until the power cut ([`Machine::fail_sync`]). A later write makes
//! durable what it wrote and nothing around it. A failed `sync_dir` has no effect: the names stay pending.
//!
//! # What is simulated besides
//!
//! The death of the process alone ([`Machine::kill`]), a full disk ([`Machine::fill_up`]: a write that
//! does not fit leaves the pages that do), a file system that reserves no room
//! ([`Machine::refuse_allocation`]), an operation that fails or a sync that is skipped
//! ([`Machine::fail_at`], [`Machine::ignore_at`]), damage ([`Machine::flip_bit`], [`Machine::spoil`]). A
//! single-threaded run is the same for the same seed.
//!
//! Operations are what changes the disk or syncs it: creating, writing, sizing, renaming, unlinking,
//! syncing; not reading, listing, locking. They are numbered from 1 since the machine was made; see
//! [`Machine::counts`].

mod clock;
mod disk;
mod file;
mod image;
mod outcome;
mod tree;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::clock::{SimClock, SimRandom};
use self::disk::{SimDisk, State};
pub use self::outcome::{Choice, Kept, Lost, Outcome, Outcomes, Script, Seeded};
use crate::{Host, WallTime};

/// A computer that exists only here. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Machine {
    state: Arc<Mutex<State>>,
    clock: Arc<SimClock>,
    random: Arc<SimRandom>,
}

/// How much was asked of a machine's disk since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Everything that changes the disk or syncs it, failed or not; the number of the latest operation.
    pub operations: u64,
    /// `write_all_at` calls among them.
    pub writes: u64,
    /// `sync_data` calls among them; the number of the latest sync.
    pub syncs: u64,
    /// `sync_dir` calls among them.
    pub dir_syncs: u64,
    /// Bytes given to `write_all_at`.
    pub bytes_written: u64,
}

/// How much of a file's unsynced operations reached the disk although their sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// None of them.
    Nothing,
    /// What a power cut could leave, picked by this seed.
    Some(u64),
    /// All of them.
    Everything,
}

impl Machine {
    /// A machine with an empty disk of unlimited size.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new())),
            clock: Arc::new(SimClock::new()),
            random: Arc::new(SimRandom::new(seed)),
        }
    }

    /// The machine as a program sees it, from now until the next crash or kill.
    pub fn host(&self) -> Host {
        let boot = self.state().boot();
        Host {
            disk: Arc::new(SimDisk::new(Arc::clone(&self.state), Arc::clone(&self.clock), boot)),
            clock: Arc::clone(&self.clock) as _,
            random: Arc::clone(&self.random) as _,
        }
    }

    /// A machine that is in the same state and goes its own way from here. Handles stay with the original.
    pub fn fork(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.state().clone())),
            clock: Arc::new(self.clock.fork()),
            random: Arc::new(self.random.fork()),
        }
    }

    /// Remembers from now on how the machine is before each operation.
    pub fn record(&self) {
        self.state().record();
    }

    /// How the machine was before each operation since [`Machine::record`], the first one first; it is
    /// remembered no longer. Each is as if [`Machine::crash_at`] had stopped it there, for those who want every
    /// such moment of one run.
    pub fn recorded(&self) -> Vec<Self> {
        let moments = self.state().recorded().into_iter();
        moments
            .map(|state| Self {
                state: Arc::new(Mutex::new(state)),
                clock: Arc::new(self.clock.fork()),
                random: Arc::new(self.random.fork()),
            })
            .collect()
    }

    /// Cuts the power and starts again: the disk is what `outcome` picks. Planned faults are forgotten.
    pub fn crash(&self, outcome: &mut dyn Outcome) {
        self.state().crash(outcome);
    }

    /// [`Machine::crash`] with an outcome that follows from `seed`.
    pub fn crash_seeded(&self, seed: u64) {
        self.crash(&mut Seeded::new(seed));
    }

    /// Ends the process but not the system: locks and handles go, and nothing that was written.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// Makes operation number `operation` fail without effect, and everything after it, reads too, until
    /// [`Machine::crash`]: the moment at which the power goes.
    pub fn crash_at(&self, operation: u64) {
        self.state().faults.crash_at = Some(operation);
    }

    /// Whether the moment of [`Machine::crash_at`] has come.
    pub fn is_off(&self) -> bool {
        self.state().is_off()
    }

    /// Makes operation number `operation` fail once, without effect.
    pub fn fail_at(&self, operation: u64) {
        self.state().faults.fail_at.insert(operation);
    }

    /// Makes operation number `operation`, if it is a sync, report success and do nothing: what a program
    /// would be like that had forgotten it.
    pub fn ignore_at(&self, operation: u64) {
        self.state().faults.ignore_at.insert(operation);
    }

    /// As [`Machine::ignore_at`], but for sync number `sync`, those of files and directories counted
    /// together: for workloads whose threads share syncs in order and other operations not. The power goes
    /// at operation number `then_crash_after` from there, if that is given.
    pub fn ignore_sync(&self, sync: u64, then_crash_after: Option<u64>) {
        self.state().faults.ignore_sync = Some((sync, then_crash_after));
    }

    /// Makes `sync_data` number `sync` fail after `reached` of the file's unsynced operations reached
    /// the disk. The others are lost to later syncs, although reads show them until the power cut.
    pub fn fail_sync(&self, sync: u64, reached: Reached) {
        self.state().faults.fail_syncs.insert(sync, reached);
    }

    /// Limits the disk to `bytes_total` bytes of files, counted in pages of 4 KiB. What is there stays.
    pub fn fill_up(&self, bytes_total: u64) {
        self.state().capacity_bytes = bytes_total;
    }

    /// Makes the disk refuse to reserve room, as some file systems do: [`io::ErrorKind::Unsupported`].
    pub fn refuse_allocation(&self) {
        self.state().refuses_allocation = true;
    }

    /// What was asked of the disk so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Sets the time of day, as an administrator might; the monotonic clock does not notice.
    pub fn set_wall(&self, now: WallTime) {
        self.clock.set_wall(now);
    }

    /// A file's bytes as running code sees them. No operation, and works while the power is off.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and its kin.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.state().bytes(path)
    }

    /// Replaces an existing file's bytes, durably, behind everybody's back. No operation.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and its kin.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.state().replace(path, bytes)
    }

    /// Flips one bit of a file, in the live and the durable image, as a failing medium does. Bit 0 is the
    /// lowest of the first byte. No operation.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and its kin; [`io::ErrorKind::UnexpectedEof`] behind the file's end.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        self.state().flip_bit(path, bit)
    }

    /// Makes the 4 KiB of a file that hold byte `at` unreadable, until all of them are written again or
    /// the file is replaced. No operation.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and its kin.
    pub fn spoil(&self, path: &Path, at: u64) -> io::Result<()> {
        self.state().spoil(path, at)
    }

    /// The same number for the same names and bytes, as running code sees them: after a crash, a way to
    /// tell whether another outcome left the same disk. No operation, and works while the power is off.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A test that panics elsewhere must not hide behind a poisoned lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    //! Goal: a power cut leaves what the module says is legal, nothing else, and every legal state can
    //! come out. Method: small programs against all outcomes; the states are written down by hand.

    use std::collections::BTreeSet;

    use super::*;
    use crate::OpenMode;

    const DIR: &str = "/d";

    fn path(name: &str) -> std::path::PathBuf {
        Path::new(DIR).join(name)
    }

    fn machine() -> (Machine, Host) {
        let machine = Machine::new(1);
        let host = machine.host();
        host.disk.create_dir_all(Path::new(DIR)).unwrap();
        (machine, host)
    }

    fn write(host: &Host, name: &str, text: &str) -> io::Result<()> {
        host.disk.open(&path(name), OpenMode::Create)?.write_all_at(text.as_bytes(), 0)
    }

    fn sync(host: &Host, name: &str) -> io::Result<()> {
        host.disk.open(&path(name), OpenMode::ReadWrite)?.sync_data()
    }

    fn sync_dir(host: &Host) -> io::Result<()> {
        host.disk.sync_dir(Path::new(DIR))
    }

    fn rename(host: &Host, from: &str, to: &str) -> io::Result<()> {
        host.disk.rename(&path(from), &path(to))
    }

    /// Names and contents, as "a=text b=".
    fn state(machine: &Machine) -> String {
        let files = machine.host().disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| {
            let bytes = machine.bytes(&path(&entry.name)).unwrap();
            format!("{}={}", entry.name, String::from_utf8(bytes).unwrap().replace('\0', "-"))
        });
        files.collect::<Vec<_>>().join(" ")
    }

    fn outcomes(machine: &Machine) -> BTreeSet<String> {
        let mut outcomes = Outcomes::new();
        let mut states = BTreeSet::new();
        while let Some(mut outcome) = outcomes.another() {
            let crashed = machine.fork();
            crashed.crash(&mut outcome);
            states.insert(state(&crashed));
        }
        states
    }

    #[track_caller]
    fn check_outcomes(work: impl FnOnce(&Host) -> io::Result<()>, want: &[&str]) {
        let (machine, host) = machine();
        work(&host).unwrap();
        assert_eq!(outcomes(&machine), want.iter().map(|state| (*state).to_owned()).collect());
    }

    #[test]
    fn an_unsynced_name_may_vanish_and_a_synced_one_never_does() {
        check_outcomes(
            |host| {
                write(host, "kept", "k")?;
                sync(host, "kept")?;
                sync_dir(host)?;
                write(host, "new", "n")?;
                sync(host, "new")
            },
            &["kept=k", "kept=k new=n"],
        );
    }

    #[test]
    fn a_synced_name_says_nothing_about_the_bytes() {
        check_outcomes(
            |host| {
                write(host, "a", "x")?;
                sync_dir(host)
            },
            &["a=", "a=-", "a=x"],
        );
    }

    #[test]
    fn a_rename_is_there_with_both_names_or_with_none() {
        check_outcomes(
            |host| {
                write(host, "old", "1")?;
                write(host, "new", "2")?;
                sync(host, "old")?;
                sync(host, "new")?;
                sync_dir(host)?;
                rename(host, "new", "old")
            },
            &["new=2 old=1", "old=2"],
        );
    }

    #[test]
    fn a_rename_of_unsynced_bytes_may_leave_an_empty_file() {
        check_outcomes(
            |host| {
                write(host, "tmp", "x")?;
                rename(host, "tmp", "a")?;
                sync_dir(host)
            },
            &["a=", "a=-", "a=x"],
        );
    }

    #[test]
    fn a_file_that_is_used_again_under_another_name_may_be_found_under_the_old_one() {
        check_outcomes(
            |host| {
                write(host, "old", "1")?;
                sync(host, "old")?;
                sync_dir(host)?;
                rename(host, "old", "spare")?;
                write(host, "spare", "2")?;
                rename(host, "spare", "new")
            },
            &["old=1", "old=2", "spare=1", "spare=2", "new=1", "new=2"],
        );
    }

    #[test]
    fn a_name_that_was_replaced_leads_to_the_old_file_or_to_the_new_one() {
        check_outcomes(
            |host| {
                write(host, "a", "1")?;
                sync(host, "a")?;
                sync_dir(host)?;
                write(host, "tmp", "2")?;
                rename(host, "tmp", "a")
            },
            &["a=1", "a=1 tmp=", "a=1 tmp=-", "a=1 tmp=2", "a=", "a=-", "a=2"],
        );
    }

    #[test]
    fn operations_on_one_name_keep_their_order() {
        check_outcomes(
            |host| {
                write(host, "a", "1")?;
                sync(host, "a")?;
                host.disk.unlink(&path("a"))?;
                write(host, "a", "2")?;
                sync(host, "a")
            },
            &["", "a=1", "a=2"],
        );
    }

    #[test]
    fn operations_on_different_names_have_no_order() {
        check_outcomes(
            |host| {
                write(host, "a", "")?;
                write(host, "b", "")
            },
            &["", "a=", "b=", "a= b="],
        );
    }

    #[test]
    fn a_rename_between_directories_is_durable_once_both_are_synced() {
        for (synced, want) in [(&[DIR][..], 2), (&["/e"], 2), (&[DIR, "/e"], 1)] {
            let (machine, host) = machine();
            host.disk.create_dir_all(Path::new("/e")).unwrap();
            write(&host, "a", "x").unwrap();
            sync(&host, "a").unwrap();
            sync_dir(&host).unwrap();
            host.disk.rename(&path("a"), Path::new("/e/a")).unwrap();
            for dir in synced {
                host.disk.sync_dir(Path::new(dir)).unwrap();
            }
            let mut outcomes = Outcomes::new();
            let mut states = BTreeSet::new();
            while let Some(mut outcome) = outcomes.another() {
                let crashed = machine.fork();
                crashed.crash(&mut outcome);
                let there = [path("a"), "/e/a".into()].map(|path| crashed.bytes(&path).is_ok());
                assert!(there[0] != there[1], "one of the names, never both or none");
                states.insert(there);
            }
            assert_eq!(states.len(), want, "{synced:?}");
        }
    }

    #[test]
    fn a_directory_whose_name_is_lost_takes_its_files_along() {
        let machine = Machine::new(1);
        let host = machine.host();
        // Operation 1 makes the directory, operation 2 would sync its parent.
        machine.ignore_at(2);
        host.disk.create_dir_all(Path::new(DIR)).unwrap();
        write(&host, "a", "x").unwrap();
        sync(&host, "a").unwrap();
        sync_dir(&host).unwrap();
        machine.crash(&mut Lost);
        let gone = machine.bytes(&path("a")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn everything_from_before_a_crash_fails_after_it() {
        let (machine, host) = machine();
        let file = host.disk.open(&path("a"), OpenMode::Create).unwrap();
        let guard = host.disk.lock(&path("lock")).unwrap().unwrap();
        machine.crash(&mut Kept);
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.read_at(&mut [0], 0).is_err());
        assert!(file.sync_data().is_err());
        assert!(host.disk.list(Path::new(DIR)).is_err());
        let again = machine.host().disk.lock(&path("lock")).unwrap();
        drop(guard);
        assert!(again.is_some(), "a crash releases locks");
        assert!(
            machine.host().disk.lock(&path("lock")).unwrap().is_none(),
            "an old guard releases nothing"
        );
    }

    #[test]
    fn a_killed_process_loses_its_handles_and_nothing_else() {
        let (machine, host) = machine();
        write(&host, "a", "unsynced").unwrap();
        let _guard = host.disk.lock(&path("lock")).unwrap().unwrap();
        machine.kill();
        assert!(write(&host, "a", "late").is_err());
        assert_eq!(state(&machine), "a=unsynced lock=");
        assert!(machine.host().disk.lock(&path("lock")).unwrap().is_some());
        machine.crash(&mut Lost);
        assert_eq!(state(&machine), "", "the kill synced nothing");
    }

    #[test]
    fn the_power_goes_at_the_chosen_operation_and_stays_off() {
        let (machine, host) = machine();
        machine.crash_at(machine.counts().operations + 3);
        write(&host, "a", "x").unwrap();
        assert!(!machine.is_off());
        assert!(sync(&host, "a").is_err());
        assert!(machine.is_off());
        assert!(sync_dir(&host).is_err());
        assert!(host.disk.open(&path("a"), OpenMode::Read).is_err());
        machine.crash(&mut Kept);
        assert_eq!(state(&machine), "a=x");
        write(&machine.host(), "a", "y").unwrap();
    }

    #[test]
    fn what_is_recorded_before_each_operation_is_what_a_power_cut_there_finds() {
        let work = |host: &Host| {
            write(host, "a", "x")?;
            sync(host, "a")?;
            sync_dir(host)?;
            rename(host, "a", "b")
        };
        let (machine, host) = machine();
        let before = machine.counts().operations;
        machine.record();
        work(&host).unwrap();
        let moments = machine.recorded();
        write(&host, "c", "not recorded any more").unwrap();
        assert_eq!(moments.len(), 5);
        for (n, moment) in moments.iter().enumerate() {
            let machine = Machine::new(1);
            machine.crash_at(before + 1 + n as u64);
            let host = machine.host();
            host.disk.create_dir_all(Path::new(DIR)).unwrap();
            assert!(work(&host).is_err() && machine.is_off());
            assert_eq!(outcomes(moment), outcomes(&machine), "before operation {n}");
        }
    }

    #[test]
    fn an_operation_can_fail_once_without_effect() {
        let (machine, host) = machine();
        write(&host, "a", "x").unwrap();
        machine.fail_at(machine.counts().operations + 1);
        assert!(write(&host, "a", "y").is_err());
        assert_eq!(state(&machine), "a=x");
        write(&host, "a", "y").unwrap();
    }

    #[test]
    fn an_ignored_sync_reports_success_and_keeps_nothing() {
        let (machine, host) = machine();
        write(&host, "a", "x").unwrap();
        sync_dir(&host).unwrap();
        machine.ignore_at(machine.counts().operations + 1);
        sync(&host, "a").unwrap();
        machine.crash(&mut Lost);
        assert_eq!(state(&machine), "a=");
    }

    #[test]
    fn a_sync_is_ignored_by_its_number_and_the_power_goes_soon_after() {
        let (machine, host) = machine();
        write(&host, "a", "x").unwrap();
        sync_dir(&host).unwrap();
        let counts = machine.counts();
        machine.ignore_sync(counts.syncs + counts.dir_syncs + 1, Some(2));
        let file = host.disk.open(&path("a"), OpenMode::ReadWrite).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(b"y", 0).unwrap();
        assert!(!machine.is_off());
        assert!(file.write_all_at(b"z", 0).is_err() && machine.is_off());
        machine.crash(&mut Lost);
        assert_eq!(state(&machine), "a=");
    }

    #[test]
    fn after_a_failed_sync_reads_show_what_later_syncs_do_not_save() {
        for (reached, want) in [(Reached::Nothing, "a=--c"), (Reached::Everything, "a=abc")] {
            let (machine, host) = machine();
            write(&host, "a", "ab").unwrap();
            sync_dir(&host).unwrap();
            machine.fail_sync(1, reached);
            assert_eq!(sync(&host, "a").unwrap_err().raw_os_error(), Some(5));
            host.disk.open(&path("a"), OpenMode::ReadWrite).unwrap().write_all_at(b"c", 2).unwrap();
            sync(&host, "a").unwrap();
            assert_eq!(state(&machine), "a=abc");
            assert_eq!(outcomes(&machine), BTreeSet::from([want.to_owned()]));
        }
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_room_comes_back() {
        let (machine, host) = machine();
        machine.fill_up(3 * 4096);
        let file = host.disk.open(&path("a"), OpenMode::Create).unwrap();
        file.allocate(4096).unwrap();
        let error = file.write_all_at(&[1; 4 * 4096], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 3 * 4096);
        assert_eq!(host.disk.space(Path::new(DIR)).unwrap().available_bytes, 0);
        file.write_all_at(&[2; 4096], 4096).unwrap();
        let error = file.allocate(4 * 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        host.disk.unlink(&path("a")).unwrap();
        assert!(write(&host, "b", "x").is_err(), "an open file keeps its room");
        drop(file);
        write(&host, "b", "x").unwrap();
        assert_eq!(host.disk.space(Path::new(DIR)).unwrap().available_bytes, 2 * 4096);
    }

    #[test]
    fn a_disk_may_refuse_to_reserve_room() {
        let (machine, host) = machine();
        machine.refuse_allocation();
        let file = host.disk.open(&path("a"), OpenMode::Create).unwrap();
        assert_eq!(file.allocate(4096).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(file.size().unwrap(), 0);
        file.write_all_at(b"x", 0).unwrap();
    }

    #[test]
    fn a_bad_page_is_an_error_of_the_reads_that_touch_it() {
        let (machine, host) = machine();
        write(&host, "a", "x").unwrap();
        sync(&host, "a").unwrap();
        sync_dir(&host).unwrap();
        machine.spoil(&path("a"), 0).unwrap();
        machine.crash(&mut Lost);
        let file = machine.host().disk.open(&path("a"), OpenMode::ReadWrite).unwrap();
        assert_eq!(file.read_at(&mut [0], 0).unwrap_err().raw_os_error(), Some(5));
        machine.replace(&path("a"), b"y").unwrap();
        assert_eq!(file.read_at(&mut [0], 0).unwrap(), 1);
    }

    #[test]
    fn disks_with_the_same_names_and_bytes_have_the_same_fingerprint() {
        let fingerprint = |work: &dyn Fn(&Host) -> io::Result<()>| {
            let (machine, host) = machine();
            work(&host).unwrap();
            machine.fingerprint()
        };
        let once = fingerprint(&|host| write(host, "a", "xy"));
        let twice = fingerprint(&|host| {
            write(host, "b", "zyx")?;
            rename(host, "b", "a")?;
            let file = host.disk.open(&path("a"), OpenMode::ReadWrite)?;
            file.write_all_at(&[1], 10_000)?;
            file.set_size(2)?;
            write(host, "a", "xy")
        });
        assert_eq!(once, twice);
        assert_ne!(once, fingerprint(&|host| write(host, "a", "x")));
        assert_ne!(once, fingerprint(&|host| write(host, "b", "xy")));
        assert_ne!(
            once,
            fingerprint(&|host| write(host, "a", "xy").and_then(|()| write(host, "b", "")))
        );
    }

    proptest::proptest! {
        #[test]
        fn names_after_a_crash_lie_between_the_last_sync_and_now(
            work in proptest::collection::vec((0..4u8, 0..3u8, 0..3u8), 0..14), seed: u64,
        ) {
            let (machine, host) = machine();
            let mut synced = String::new();
            for (n, (what, from, to)) in work.into_iter().enumerate() {
                let [from, to] = [from, to].map(|name| name.to_string());
                // What is not there is not renamed or removed.
                let _ = match what {
                    0 => write(&host, &from, &n.to_string()).and_then(|()| sync(&host, &from)),
                    1 => rename(&host, &from, &to),
                    2 => host.disk.unlink(&path(&from)),
                    _ => sync_dir(&host).map(|()| synced = state(&machine)),
                };
            }
            let after = |outcome: &mut dyn Outcome| {
                let crashed = machine.fork();
                crashed.crash(outcome);
                state(&crashed)
            };
            proptest::prop_assert_eq!(after(&mut Kept), state(&machine));
            let names = |state: &str| state.split(' ').map(|file| file.split('=').next().map(str::to_owned)).collect::<Vec<_>>();
            proptest::prop_assert_eq!(names(&after(&mut Lost)), names(&synced));
            proptest::prop_assert_eq!(after(&mut Seeded::new(seed)), after(&mut Seeded::new(seed)));
        }
    }

    #[test]
    fn a_flipped_bit_survives_a_crash() {
        let (machine, host) = machine();
        write(&host, "a", "a").unwrap();
        sync_dir(&host).unwrap();
        machine.flip_bit(&path("a"), 1).unwrap();
        assert_eq!(outcomes(&machine), BTreeSet::from(["a=c".to_owned()]));
        assert_eq!(
            machine.flip_bit(&path("a"), 8).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        machine.replace(&path("a"), b"other").unwrap();
        assert_eq!(outcomes(&machine), BTreeSet::from(["a=other".to_owned()]));
    }

    #[test]
    fn the_same_seed_gives_the_same_machine_and_the_same_crash() {
        let run = |seed| {
            let machine = Machine::new(seed);
            let host = machine.host();
            host.disk.create_dir_all(Path::new(DIR)).unwrap();
            let mut numbers = Vec::new();
            for n in 0..30 {
                let number = host.random.next_u64();
                numbers.push(number);
                let file =
                    host.disk.open(&path(&format!("{}", number % 7)), OpenMode::Create).unwrap();
                file.write_all_at(&[b'a' + n; 3000], number % 10_000).unwrap();
                if number.is_multiple_of(5) {
                    file.sync_data().unwrap();
                    sync_dir(&host).unwrap();
                }
            }
            machine.crash_seeded(seed);
            (numbers, state(&machine), machine.counts())
        };
        assert_eq!(run(1), run(1));
        let states: BTreeSet<_> = (0..20).map(|seed| run(seed).1).collect();
        assert_eq!(states.len(), 20);
    }

    #[test]
    fn counts_tell_what_was_asked_of_the_disk() {
        let (machine, host) = machine();
        let before = machine.counts();
        assert_eq!(before, Counts { operations: 2, dir_syncs: 1, ..Counts::default() });
        write(&host, "a", "xyz").unwrap();
        sync(&host, "a").unwrap();
        sync_dir(&host).unwrap();
        rename(&host, "a", "b").unwrap();
        host.disk.list(Path::new(DIR)).unwrap();
        let want = Counts { operations: 7, writes: 1, syncs: 1, dir_syncs: 2, bytes_written: 3 };
        assert_eq!(machine.counts(), want);
    }

    #[test]
    fn time_stands_still_until_it_is_moved() {
        let machine = Machine::new(1);
        let clock = machine.host().clock;
        let (start, wall) = (clock.monotonic(), clock.wall());
        assert_eq!(clock.monotonic(), start);
        machine.advance(Duration::from_millis(1500));
        assert_eq!(clock.monotonic().since(start), Duration::from_millis(1500));
        assert_eq!(clock.wall().millis() - wall.millis(), 1500);
        machine.set_wall(WallTime::from_nanos(7));
        assert_eq!(clock.wall().nanos(), 7);
        assert_eq!(clock.monotonic().since(start), Duration::from_millis(1500));
    }

    #[test]
    fn a_directory_tells_when_each_file_was_changed() {
        let (machine, host) = machine();
        let modified = |name: &str| {
            let listed = host.disk.list(Path::new(DIR)).unwrap();
            listed.into_iter().find(|entry| entry.name == name).unwrap().modified_ms
        };
        let made = host.clock.wall().millis();
        write(&host, "a", "1").unwrap();
        machine.advance(Duration::from_millis(1500));
        write(&host, "b", "1").unwrap();
        rename(&host, "a", "c").unwrap();
        sync(&host, "c").unwrap();
        assert_eq!((modified("c"), modified("b")), (made, made + 1500));
        machine.advance(Duration::from_millis(1));
        host.disk.open(&path("c"), OpenMode::ReadWrite).unwrap().set_size(0).unwrap();
        assert_eq!(modified("c"), made + 1501);
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let (machine, host) = machine();
        write(&host, "a", "1").unwrap();
        let fork = machine.fork();
        write(&fork.host(), "a", "2").unwrap();
        fork.advance(Duration::from_secs(1));
        assert_eq!((state(&machine), state(&fork)), ("a=1".into(), "a=2".into()));
        assert_eq!(
            host.clock.monotonic().since(crate::Monotonic::from_start(Duration::ZERO)),
            Duration::ZERO
        );
        assert_eq!(host.random.next_u64(), fork.host().random.next_u64());
    }

    #[test]
    fn files_without_a_name_go_away() {
        let (machine, host) = machine();
        for n in 0..200 {
            write(&host, "a", &n.to_string()).unwrap();
            host.disk.unlink(&path("a")).unwrap();
            sync_dir(&host).unwrap();
        }
        assert!(machine.state().nodes() < 50);
    }
}
