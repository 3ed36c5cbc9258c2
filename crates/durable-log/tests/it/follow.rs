//! Goal: who follows a log from outside reads its records in order, each once, as they were
//! appended; hears of it when they were trimmed or replaced; waits where nothing is yet; and speaks
//! of damage only where something was durable. Method: a model beside random operations on the
//! simulated disk; files changed by hand; and a second process that appends, rolls, trims, cuts, and is
//! killed.

use std::collections::BTreeSet;
use std::time::Duration;

use durable_log::{
    Epoch, FollowError, Followed, Follower, Location, Log, Offset, OpenError, Options, Positions,
};
use host::Host;
use host::sim::{Kept, Lost, Machine, Reached};
use proptest::prelude::*;
use testbed::Dice;
use testbed::second_process::{self, Link, Second};

use crate::support::{Place, all};

/// What the follower says next, with the bytes copied.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Record(u64, Vec<u8>),
    Nothing,
    Rewound(u64),
    Trimmed(u64),
    Damaged(u64),
}

fn hear(follower: &mut Follower) -> Heard {
    match follower.read_next() {
        Ok(Followed::Record(record)) => Heard::Record(record.offset.get(), record.bytes.to_vec()),
        Ok(Followed::Nothing) => Heard::Nothing,
        Ok(Followed::Rewound { to, .. }) => Heard::Rewound(to.get()),
        Err(FollowError::Trimmed { start }) => Heard::Trimmed(start.get()),
        Err(FollowError::Unreadable(OpenError::Damaged { at, .. })) => Heard::Damaged(at),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn check(follower: &mut Follower, wanted: &[(u64, &[u8])]) {
    for (offset, bytes) in wanted {
        assert_eq!(hear(follower), Heard::Record(*offset, bytes.to_vec()));
    }
    assert_eq!(hear(follower), Heard::Nothing);
}

fn follow(place: &Place) -> Follower {
    Follower::open(&place.host, &place.dir).unwrap()
}

#[test]
fn records_are_followed_as_they_are_written() {
    let place = Place::simulated();
    let log = place.open();
    let mut follower = follow(&place);
    check(&mut follower, &[]);
    log.append(&[b"one", b"two"]).unwrap();
    check(&mut follower, &[]);
    log.write_out().unwrap();
    check(&mut follower, &[(0, b"one"), (1, b"two")]);
    assert_eq!(follower.durable(), Offset::ZERO);
    log.sync().unwrap();
    log.append(&[b"three"]).unwrap();
    log.write_out().unwrap();
    check(&mut follower, &[(2, b"three")]);
    assert_eq!(follower.durable(), Offset::new(2));
    log.roll().unwrap();
    check(&mut follower, &[]);
    assert_eq!(follower.durable(), Offset::new(3));
    follower.seek(Offset::new(1));
    check(&mut follower, &[(1, b"two"), (2, b"three")]);
}

#[test]
fn a_log_that_has_not_begun_is_waited_for() {
    let place = Place::simulated();
    assert!(matches!(
        Follower::open(&place.host, &place.dir),
        Err(FollowError::Unreadable(OpenError::Io { .. }))
    ));
    place.host.disk.create_dir_all(&place.dir).unwrap();
    let mut follower = follow(&place);
    check(&mut follower, &[]);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.write_out().unwrap();
    check(&mut follower, &[(0, b"one")]);
}

#[test]
fn a_frame_that_is_half_written_is_waited_for() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.sync().unwrap();
    let path = place.segments().remove(0);
    let before = place.read_file(&path);
    log.append(&[&[7; 300]]).unwrap();
    log.write_out().unwrap();
    let after = place.read_file(&path);
    drop(log);
    // The second frame begins after the header of the segment and the first one.
    for cut in 128 + 48..128 + 48 + 300 {
        let mut half = after.clone();
        half[cut..].copy_from_slice(&before[cut..]);
        place.write_file(&path, &half);
        let mut follower = follow(&place);
        check(&mut follower, &[(0, b"one")]);
        place.write_file(&path, &after);
        check(&mut follower, &[(1, &[7; 300])]);
    }
}

#[test]
fn who_comes_late_is_told_where_the_log_begins_now() {
    let place = Place::simulated();
    let log = place.open();
    let mut follower = follow(&place);
    for n in 0..20 {
        log.append(&[&[n; 1500]]).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(hear(&mut follower), Heard::Record(0, vec![0; 1500]));
    let start = log.trim(Offset::new(15)).unwrap();
    // The files of trimmed segments are written over.
    for n in 20..30 {
        log.append(&[&[n; 1500]]).unwrap();
    }
    log.sync().unwrap();
    let mut expected = 1_u64;
    loop {
        match hear(&mut follower) {
            Heard::Record(offset, bytes) => {
                assert_eq!((offset, bytes), (expected, vec![expected.to_le_bytes()[0]; 1500]));
                expected += 1;
            }
            Heard::Trimmed(to) => {
                assert_eq!(to, start.get());
                assert!(expected < to);
                follower.seek(start);
                expected = to;
            }
            Heard::Nothing => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expected, 30);
}

#[test]
fn what_a_failed_sync_made_move_is_read_once() {
    for reached in [Reached::Nothing, Reached::Everything] {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let log = place.open();
        log.append(&[b"one"]).unwrap();
        log.sync().unwrap();
        let mut follower = follow(&place);
        log.append(&[b"two"]).unwrap();
        log.append(&[b"three"]).unwrap();
        log.write_out().unwrap();
        check(&mut follower, &[(0, b"one"), (1, b"two"), (2, b"three")]);
        machine.fail_sync(machine.counts().syncs + 1, reached);
        log.sync().unwrap();
        assert_eq!(log.stats().failed_syncs, 1);
        log.append(&[b"four"]).unwrap();
        log.write_out().unwrap();
        check(&mut follower, &[(3, b"four")]);
        assert_eq!(follower.durable(), Offset::new(3));
    }
}

#[test]
fn records_that_were_lost_and_replaced_are_told_of() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.sync().unwrap();
    log.append(&[b"two"]).unwrap();
    log.write_out().unwrap();
    let mut follower = follow(&place);
    check(&mut follower, &[(0, b"one"), (1, b"two")]);
    let epoch = follower.epoch();
    machine.crash(&mut Lost);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"other"]).unwrap();
    log.write_out().unwrap();
    let mut follower = follow(&place);
    follower.resume(epoch, Offset::new(2));
    assert_eq!(hear(&mut follower), Heard::Rewound(1));
    check(&mut follower, &[(1, b"other")]);
    assert!(follower.epoch() > epoch);
    // Who has read only what is still there is not bothered.
    follower.resume(epoch, Offset::new(1));
    check(&mut follower, &[(1, b"other")]);
}

#[test]
fn records_that_were_replaced_and_trimmed_are_told_of() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.write_out().unwrap();
    let mut follower = follow(&place);
    check(&mut follower, &[(0, b"one")]);
    let epoch = follower.epoch();
    machine.crash(&mut Lost);
    let place = Place::on(&machine);
    let log = place.open();
    // Who has read nothing loses nothing.
    let mut other = follow(&place);
    check(&mut other, &[]);
    log.append(&[b"other"]).unwrap();
    log.roll().unwrap();
    assert_eq!(log.trim(Offset::new(1)).unwrap(), Offset::new(1));
    let mut follower = follow(&place);
    check(&mut follower, &[]);
    follower.resume(epoch, Offset::new(1));
    assert_eq!(hear(&mut follower), Heard::Rewound(1));
    check(&mut follower, &[]);
    assert!(follower.epoch() > epoch);
    assert_eq!(hear(&mut other), Heard::Trimmed(1));
}

#[test]
fn who_has_read_nothing_is_not_told_of_an_opening_that_lost_nothing() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.roll().unwrap();
    log.trim(Offset::new(1)).unwrap();
    let mut follower = follow(&place);
    check(&mut follower, &[]);
    let epoch = log.epoch();
    drop(log);
    // Its empty segment gives its number to another one.
    let log = Place::on(&machine).open();
    assert!(log.epoch() > epoch);
    log.append(&[b"two"]).unwrap();
    log.write_out().unwrap();
    check(&mut follower, &[(1, b"two")]);
}

/// A log whose first record is damaged, in a segment that is its last one, or not.
fn damaged(machine: &Machine, sealed: bool, claimed: bool) -> (Place, Log) {
    let place = Place::on(machine);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    if claimed {
        log.sync().unwrap();
    }
    log.append(&[b"two"]).unwrap();
    log.write_out().unwrap();
    if sealed {
        log.roll().unwrap();
    }
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    bytes[128 + 44] ^= 1;
    place.write_file(&path, &bytes);
    (place, log)
}

#[test]
fn damage_is_told_of_where_something_says_that_it_was_durable() {
    for (sealed, claimed) in [(true, false), (true, true), (false, true)] {
        let machine = Machine::new(1);
        let (place, _log) = damaged(&machine, sealed, claimed);
        let mut follower = follow(&place);
        let mut later = || {
            machine.advance(Duration::from_millis(50));
            hear(&mut follower)
        };
        let heard = (0..10).map(|_| later()).find(|heard| *heard != Heard::Nothing);
        assert_eq!(heard, Some(Heard::Damaged(128)), "{sealed} {claimed}");
    }
    let machine = Machine::new(1);
    let (place, _log) = damaged(&machine, false, false);
    let mut follower = follow(&place);
    for _ in 0..100 {
        machine.advance(Duration::from_millis(50));
        assert_eq!(hear(&mut follower), Heard::Nothing);
    }
}

#[test]
fn damage_is_told_of_soon_however_long_the_log_was_idle() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"one"]).unwrap();
    log.sync().unwrap();
    let mut follower = follow(&place);
    check(&mut follower, &[(0, b"one")]);
    let mut after = |time| {
        machine.advance(time);
        hear(&mut follower)
    };
    for _ in 0..24 * 60 {
        assert_eq!(after(Duration::from_mins(1)), Heard::Nothing);
    }
    log.append(&[b"two"]).unwrap();
    log.sync().unwrap();
    log.append(&[b"three"]).unwrap();
    log.write_out().unwrap();
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    bytes[128 + 48 + 44] ^= 1;
    place.write_file(&path, &bytes);
    let heard =
        (0..90).map(|_| after(Duration::from_secs(1))).find(|heard| *heard != Heard::Nothing);
    assert_eq!(heard, Some(Heard::Damaged(128 + 48)));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Append(usize, usize),
    WriteOut,
    Sync,
    FailedSync,
    Roll,
    /// All but so many records, at most.
    Trim(u64),
    /// So many records.
    CutOff(u64),
    Close,
    Kill,
    PowerCut(bool),
    /// Reads at most so many times.
    Look(usize),
}

/// What a follower may find.
struct Model {
    machine: Machine,
    place: Place,
    log: Log,
    follower: Follower,
    records: Vec<Vec<u8>>,
    /// The record that the follower reads next.
    next: usize,
    /// The log's end was lost from here on since the follower was last told, or had caught up.
    lost_from: Option<usize>,
    /// What the log held before each loss since then: the follower may have read ahead.
    before: Vec<Vec<Vec<u8>>>,
    /// The follower showed a record that was lost, and has to say so.
    void: bool,
}

impl Model {
    fn new() -> Self {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let log = place.open();
        let follower = follow(&place);
        let (records, before) = (Vec::new(), Vec::new());
        let (next, lost_from, void) = (0, None, false);
        Self { machine, place, log, follower, records, next, lost_from, before, void }
    }

    fn step(mut self, op: Op) -> Self {
        match op {
            Op::Append(count, len) => {
                let first = self.records.len();
                let record = |n: usize| {
                    vec![(n as u64 + 31 * self.log.epoch().get()).to_le_bytes()[0]; len + n % 3]
                };
                let records: Vec<Vec<u8>> = (first..first + count).map(record).collect();
                let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
                self.log.append(&slices).unwrap();
                self.records.extend(records);
            }
            Op::WriteOut => drop(self.log.write_out().unwrap()),
            Op::Sync => drop(self.log.sync().unwrap()),
            // Somebody else's sync must not fail instead.
            Op::FailedSync if self.log.stats().unsynced_bytes == 0 => {}
            Op::FailedSync => {
                self.machine.fail_sync(self.machine.counts().syncs + 1, Reached::Nothing);
                self.log.sync().unwrap();
            }
            Op::Roll => self.log.roll().unwrap(),
            Op::Trim(keep) => {
                let before = self.log.positions().durable.get().saturating_sub(keep);
                self.log.trim(Offset::new(before)).unwrap();
            }
            Op::CutOff(count) => {
                let Positions { start, appended, .. } = self.log.positions();
                let end = appended.get().saturating_sub(count).max(start.get());
                self.log = self.log.truncate_after(Offset::new(end)).unwrap();
                self.lose_from(usize::try_from(end).unwrap());
            }
            Op::Close => {
                self.log.clone().close().unwrap();
                return self.reopen();
            }
            Op::Kill => return self.reopen(),
            Op::PowerCut(kept) => {
                match kept {
                    true => self.machine.crash(&mut Kept),
                    false => self.machine.crash(&mut Lost),
                }
                let epoch = self.follower.epoch();
                let mut model = self.reopen();
                model.follower = follow(&model.place);
                model.follower.resume(epoch, Offset::new(model.next as u64));
                return model;
            }
            Op::Look(most) => (0..most).for_each(|_| self.look()),
        }
        self
    }

    fn reopen(mut self) -> Self {
        // The lock goes first.
        let elsewhere = Place::simulated();
        self.log = elsewhere.open();
        self.place = Place::on(&self.machine);
        self.log = self.place.open();
        self.lose_from(usize::try_from(self.log.positions().appended.get()).unwrap());
        self
    }

    fn lose_from(&mut self, end: usize) {
        if end == self.records.len() {
            return;
        }
        if self.lost_from.is_none() {
            self.before.clear();
        }
        self.before.push(self.records.clone());
        self.records.truncate(end);
        self.lost_from = Some(self.lost_from.map_or(end, |before| before.min(end)));
        self.void |= end < self.next;
    }

    #[track_caller]
    fn see(&mut self, bytes: &[u8]) {
        let next = self.next;
        self.next += 1;
        let is_of = |records: &Vec<Vec<u8>>| records.get(next).is_some_and(|one| one == bytes);
        let lost = self.lost_from.is_some_and(|from| next >= from);
        let written = self.log.positions().written.get() > next as u64;
        if !self.void && written && is_of(&self.records) {
            if lost {
                // It has gone over to what the log holds now.
                self.lost_from = None;
            }
            return;
        }
        assert!(self.lost_from.is_some() && self.before.iter().any(is_of), "record {next}");
        self.void |= lost;
    }

    #[track_caller]
    fn look(&mut self) {
        let positions = self.log.positions();
        let start = usize::try_from(positions.start.get()).unwrap();
        let epoch = self.follower.epoch();
        match hear(&mut self.follower) {
            Heard::Record(offset, bytes) => {
                assert_eq!(offset, self.next as u64);
                self.see(&bytes);
            }
            Heard::Nothing => {
                assert!(!self.void, "it waits, and what it showed is void");
                assert_eq!(self.next as u64, positions.written.get(), "it waits for what is there");
                self.lost_from = None;
            }
            Heard::Rewound(to) => {
                let to = usize::try_from(to).unwrap();
                assert!(self.follower.epoch() > epoch);
                // Nobody knows any more where the epoch began.
                let unknown = to == start && to == self.next;
                let lost_from = self.lost_from.take();
                let lost = lost_from.is_some_and(|from| to <= from || to == start);
                assert!(unknown || (to <= self.next && lost), "{to} {lost_from:?}");
                (self.next, self.void) = (to, false);
            }
            Heard::Trimmed(to) => {
                assert_eq!(to, start as u64);
                assert!(self.next < start);
                (self.next, self.lost_from, self.void) = (start, None, false);
                self.follower.seek(positions.start);
            }
            Heard::Damaged(at) => panic!("damage at {at}"),
        }
        assert!(self.lost_from.is_some() || self.follower.durable() <= positions.durable);
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1..4_usize, prop_oneof![0..50_usize, 400..2500_usize])
            .prop_map(|(count, len)| Op::Append(count, len)),
        3 => Just(Op::WriteOut),
        2 => Just(Op::Sync),
        1 => Just(Op::FailedSync),
        1 => Just(Op::Roll),
        1 => (0..6_u64).prop_map(Op::Trim),
        1 => (0..8_u64).prop_map(Op::CutOff),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        1 => any::<bool>().prop_map(Op::PowerCut),
        6 => (1..12_usize).prop_map(Op::Look),
    ];
    prop::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_follower_reads_what_the_log_holds(ops in ops()) {
        run(ops);
    }
}

fn run(ops: Vec<Op>) {
    let mut model = Model::new();
    for op in ops {
        model = model.step(op);
    }
    model.log.write_out().unwrap();
    while model.void || model.next as u64 != model.log.positions().written.get() {
        model.look();
    }
    model.look();
    let records = all(&model.log);
    assert!(model.records.ends_with(&records));
}

#[test]
fn a_record_that_was_lost_replaced_and_trimmed_is_told_of_where_nothing_follows_yet() {
    use Op::{Append, Close, Look, PowerCut, Trim, WriteOut};
    run(vec![
        Append(1, 0),
        WriteOut,
        Look(1),
        PowerCut(false),
        Append(1, 0),
        WriteOut,
        Close,
        Trim(0),
    ]);
}

const TEST: &str = "follow::a_log_is_followed_from_another_process_while_its_writers_are_killed";
/// Processes that write, one after the other.
const LIVES: u64 = 6;
/// Appends of each that is not killed before.
const APPENDS: u64 = 6000;

/// More than a process cuts its log.
const CUTS_MAX: u64 = 1000;

/// What a record of the second process says: its own offset, and who wrote it after how many cuts.
fn record(offset: u64, life: u64) -> Vec<u8> {
    let mut dice = Dice::new(offset);
    let mut bytes = [offset, life].map(u64::to_le_bytes).concat();
    bytes.resize(16 + dice.index(300), offset.to_le_bytes()[0]);
    bytes
}

#[test]
fn a_log_is_followed_from_another_process_while_its_writers_are_killed() {
    if let Some(link) = second_process::asked("writer") {
        return write(&link);
    }
    let seed = Host::real().random.next_u64();
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    Host::real().disk.create_dir_all(&dir).unwrap();
    let mut reader = Reader::new(Follower::open(&Host::real(), &dir).unwrap());
    for life in 0..LIVES {
        let arguments = [
            ("dir", dir.clone().into_os_string()),
            ("life", life.to_string().into()),
            ("seed", dice.below(u64::MAX).to_string().into()),
        ];
        let mut writer = Second::start(TEST, "writer", &arguments);
        let killed_at = match life {
            // Read only when it is over.
            2 => 0,
            5 => u64::MAX,
            _ => reader.read + dice.below(APPENDS),
        };
        let mut end = match life {
            2 => writer.link.hear().map(|words| words[0]),
            _ => None,
        };
        while end.is_none() && reader.read < killed_at {
            reader.look();
            end = writer.link.hear_now().map(|words| words[0]);
        }
        match end {
            Some(end) => {
                while reader.next != end {
                    reader.look()
                }
            }
            None => writer.kill(),
        }
        writer.wait();
    }
    println!("{reader:?}");
    let (log, _) = Log::open(&Host::real(), &dir, Options::default()).unwrap();
    assert_eq!(log.positions().durable.get(), reader.next);
    assert!(
        reader.lives.iter().any(|life| life / CUTS_MAX == LIVES - 1)
            && reader.read > APPENDS
            && reader.trims > 0
    );
}

/// Follows, and checks each record.
#[derive(Debug)]
struct Reader {
    follower: Follower,
    next: u64,
    read: u64,
    trims: u64,
    rewinds: u64,
    lives: BTreeSet<u64>,
    epoch: Epoch,
    at: Location,
}

impl Reader {
    fn new(follower: Follower) -> Self {
        let (at, epoch, lives) = (Location::new(0), Epoch::FIRST, BTreeSet::new());
        Self { follower, next: 0, read: 0, trims: 0, rewinds: 0, lives, epoch, at }
    }

    fn look(&mut self) {
        match self.follower.read_next() {
            Ok(Followed::Record(followed)) => {
                assert_eq!(followed.offset.get(), self.next);
                let mut life = [0; 8];
                life.copy_from_slice(&followed.bytes[8..16]);
                let life = u64::from_le_bytes(life);
                assert_eq!(followed.bytes, record(self.next, life));
                assert!(
                    followed.at > self.at || self.next == 0,
                    "record {} of epoch {} at {}, the one before it at {} in epoch {}",
                    followed.offset,
                    followed.epoch,
                    followed.at,
                    self.at,
                    self.epoch,
                );
                self.at = followed.at;
                self.next += 1;
                self.read += 1;
                // What stays of a frame that is cut belongs to a later epoch, too.
                assert!(self.follower.epoch() >= self.epoch);
                self.epoch = self.follower.epoch();
                self.lives.insert(life);
            }
            Ok(Followed::Nothing) => std::thread::yield_now(),
            Ok(Followed::Rewound { to, epoch }) => {
                assert!(to.get() <= self.next && epoch > self.epoch);
                self.epoch = epoch;
                (self.next, self.at) = (to.get(), Location::new(0));
                self.rewinds += 1;
            }
            Err(FollowError::Trimmed { start }) => {
                assert!(start.get() > self.next);
                // Of a log that was cut and grew again, places are lower than before.
                (self.next, self.at) = (start.get(), Location::new(0));
                self.follower.seek(start);
                self.trims += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The second process: appends, syncs, rolls and trims, and says where it ended.
fn write(link: &Link) {
    let life = second_process::number("life");
    let mut dice = Dice::new(second_process::number("seed"));
    let options = Options { segment_bytes: 16 << 10, ..Options::default() };
    let dir = second_process::argument("dir");
    let (mut log, _) = Log::open(&Host::real(), dir.as_ref(), options).unwrap();
    let mut life = life * CUTS_MAX;
    for _ in 0..APPENDS {
        let next = log.positions().appended.get();
        let records: Vec<Vec<u8>> =
            (next..=next + dice.below(3)).map(|offset| record(offset, life)).collect();
        let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        log.append(&slices).unwrap();
        if dice.below(1000) == 0 {
            let Positions { start, appended, .. } = log.positions();
            let end = appended.get().saturating_sub(dice.below(100)).max(start.get());
            log = log.truncate_after(Offset::new(end)).unwrap();
            life += 1;
        }
        match dice.below(200) {
            0 => log.roll().unwrap(),
            1..3 => {
                let keep = 200 + dice.below(1000);
                let before = log.positions().durable.get().saturating_sub(keep);
                log.trim(Offset::new(before)).unwrap();
            }
            3..10 => drop(log.sync().unwrap()),
            10..100 => drop(log.write_out().unwrap()),
            _ => {}
        }
    }
    let end = log.positions().appended.get();
    log.close().unwrap();
    link.say([end, 0, 0, 0, 0]).unwrap();
}
