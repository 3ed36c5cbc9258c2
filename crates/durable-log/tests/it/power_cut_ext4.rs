//! Goal: on a real kernel, whatever a power cut leaves of the file system's caches, every record
//! that was said to be durable is there, byte for byte, and what is there is a prefix of what was
//! appended. Method: ext4 in a file; a second process appends, syncs, rolls, trims and cuts with several
//! threads and tells over a socket what it was promised; the file system is shut down in the middle
//! (`EXT4_IOC_SHUTDOWN`, with and without a flush of its journal), mounted again, and the log
//! opened and compared; then the power goes once more right after the recovery; then all goes on
//! from there.
//!
//! Needs root, loop devices and ext4; without them it prints a line that begins with `skipped:` and passes.
//! `DURABLE_LOG_POWER_CUTS` and `DURABLE_LOG_SEED` make it longer and repeat its choices (not the kernel's).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable_log::{Log, Offset, OpenError, Options, Positions};
use host::Host;
use testbed::second_process::{self, Link, Second, Words};
use testbed::{Dice, Ext4, Flush};

use crate::support::from;

const TEST: &str = "power_cut_ext4::acknowledged_records_survive_power_cuts_on_ext4";
/// Each is followed by another cut right after the recovery.
const CUTS: u64 = 18;

#[test]
fn acknowledged_records_survive_power_cuts_on_ext4() {
    if let Some(link) = second_process::asked("writer") {
        write_until_the_power_goes(&link);
    } else {
        let ground = tempfile::tempdir().unwrap();
        testbed::with_ext4(TEST, ground.path(), |disk| conduct(&disk));
    }
}

fn conduct(disk: &Ext4) {
    let number =
        |name, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let cuts = number("DURABLE_LOG_POWER_CUTS", CUTS);
    let seed = number("DURABLE_LOG_SEED", Host::real().random.next_u64());
    eprintln!("DURABLE_LOG_SEED={seed} DURABLE_LOG_POWER_CUTS={cuts}");
    let mut dice = Dice::new(seed);
    let mut known = Known::default();
    let mut totals = Totals::default();
    for life in 0..cuts {
        let all = Ext4::MOUNT_OPTIONS;
        let options = all[usize::try_from(life).unwrap() % all.len()];
        disk.mount(options);
        eprintln!("life {life}: {options}");
        live_until_cut(disk, life, &mut dice, &mut known, &mut totals);
        disk.unmount();

        disk.mount(options);
        let appended = known.appended;
        totals.recovered += known.check(&log_dir(disk), false);
        totals.lost += appended - known.appended.min(appended);
        known.check(&log_dir(disk), true);
        disk.shut_down(Flush::Nothing);
        disk.unmount();

        disk.mount(options);
        known.check(&log_dir(disk), true);
        disk.unmount();
    }
    eprintln!("{} power cuts, {totals:?}", 2 * cuts);
    assert!(
        totals.durable > 0 && totals.lost > 0 && totals.recycled > 0,
        "cuts that cost nothing show nothing: {totals:?}"
    );
}

/// What happened in all lives together.
#[derive(Debug, Default)]
struct Totals {
    messages: u64,
    /// Promises heard.
    durable: u64,
    recycled: u64,
    /// Records appended and not recovered.
    lost: u64,
    /// Records compared after a cut.
    recovered: u64,
}

/// One process appends until the power goes.
fn live_until_cut(disk: &Ext4, life: u64, dice: &mut Dice, known: &mut Known, totals: &mut Totals) {
    // Sometimes while the log is opened, mostly in the middle of things.
    let most = [4, 30, 300, 3000][dice.index(4)];
    let messages = if life.is_multiple_of(6) { 1500 } else { dice.below(most) };
    let flush = [Flush::Nothing, Flush::Journal, Flush::Everything][dice.index(5) / 2];
    let dies_of_it = dice.below(2) == 0;
    let arguments = [
        ("dir", log_dir(disk).into_os_string()),
        ("life", life.to_string().into()),
        ("seed", dice.below(u64::MAX).to_string().into()),
        ("gone", disk.gone().as_os_str().to_owned()),
    ];
    let mut writer = Second::start(TEST, "writer", &arguments);
    let mut heard = 0;
    let appended_before = known.appended;
    while heard <= messages {
        known.hear(writer.link.hear().expect("the writer goes on while there is power"));
        heard += 1;
    }
    // What it said by now, so that the cut comes close to the last promise.
    while let Some(words) = writer.link.hear_now().filter(|_| heard < messages + 1000) {
        known.hear(words);
        heard += 1;
    }
    disk.shut_down(flush);
    let promised = known.durable;
    if !dies_of_it {
        writer.kill();
    }
    while let Some(words) = writer.link.hear() {
        known.hear_after_the_cut(words);
    }
    let ended = writer.wait();
    assert!(!dies_of_it || ended.success(), "{ended}");
    eprintln!(
        "life {life}: cut after {heard} messages, {flush:?}, {} of {} records promised",
        promised.saturating_sub(appended_before),
        known.appended.saturating_sub(appended_before),
    );
    totals.messages += heard;
    totals.durable += std::mem::take(&mut known.promises);
    totals.recycled += std::mem::take(&mut known.recycled);
}

fn log_dir(disk: &Ext4) -> PathBuf {
    disk.point().join("log")
}

/// What a record says about its origin; its other bytes follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    life: u64,
    thread: u64,
    /// How many records of this thread came before it in this life.
    turn: u64,
}

impl Stamp {
    fn record(self, len: u64) -> Vec<u8> {
        let mut words = vec![self.life, self.thread, self.turn, len];
        let mut dice =
            Dice::new(self.life ^ self.thread.rotate_left(20) ^ self.turn.rotate_left(40));
        words.extend((0..len.div_ceil(8)).map(|_| dice.below(u64::MAX)));
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.truncate(32 + usize::try_from(len).unwrap());
        bytes
    }

    /// The stamp of a record, all of whose bytes must be right.
    #[track_caller]
    fn of(record: &[u8]) -> Self {
        let word = |n: usize| u64::from_le_bytes(record[8 * n..8 * n + 8].try_into().unwrap());
        let stamp = Self { life: word(0), thread: word(1), turn: word(2) };
        assert!(stamp.record(word(3)) == record, "{stamp:?} was changed");
        stamp
    }
}

/// What the second process says.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// It is about to open the log.
    Here,
    /// The log is open, and durable up to here.
    Opened { end: u64, epoch: u64 },
    /// It is about to cut everything from here on.
    Cuts { end: u64 },
    /// It was promised that the log ends here.
    Cut { end: u64, epoch: u64 },
    /// So many records from this one on are this thread's.
    Appended { first: u64, next: u64, thread: u64, turn: u64 },
    /// The same, and the power was gone before.
    AppendedInVain { first: u64, next: u64, thread: u64, turn: u64 },
    /// It was promised that everything below is durable.
    Durable { end: u64 },
    /// It is about to trim up to here at most.
    Trims { before: u64 },
    /// It was promised that the log begins here; so many segments got a file of a former one by now.
    Trimmed { start: u64, recycled: u64 },
}

impl Said {
    fn words(self) -> Words {
        match self {
            Self::Here => [0; 5],
            Self::Opened { end, epoch } => [1, end, epoch, 0, 0],
            Self::Cuts { end } => [7, end, 0, 0, 0],
            Self::Cut { end, epoch } => [8, end, epoch, 0, 0],
            Self::Appended { first, next, thread, turn } => [2, first, next, thread, turn],
            Self::AppendedInVain { first, next, thread, turn } => [6, first, next, thread, turn],
            Self::Durable { end } => [3, end, 0, 0, 0],
            Self::Trims { before } => [4, before, 0, 0, 0],
            Self::Trimmed { start, recycled } => [5, start, recycled, 0, 0],
        }
    }

    fn of(words: Words) -> Self {
        match words {
            [0, ..] => Self::Here,
            [1, end, epoch, ..] => Self::Opened { end, epoch },
            [7, end, ..] => Self::Cuts { end },
            [8, end, epoch, ..] => Self::Cut { end, epoch },
            [2, first, next, thread, turn] => Self::Appended { first, next, thread, turn },
            [6, first, next, thread, turn] => Self::AppendedInVain { first, next, thread, turn },
            [3, end, ..] => Self::Durable { end },
            [4, before, ..] => Self::Trims { before },
            [5, start, recycled, ..] => Self::Trimmed { start, recycled },
            other => panic!("{other:?}"),
        }
    }
}

/// What the log may and must hold, after everything that was said.
#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<u64, Stamp>,
    life: u64,
    durable: u64,
    appended: u64,
    trimmed: u64,
    /// It may begin here, if the trim that was begun got through.
    trim_begun: u64,
    /// It may end here, if the cut that was begun got through.
    cut_begun: Option<u64>,
    epoch: u64,
    promises: u64,
    /// Segments of this life in files of former ones.
    recycled: u64,
    /// The first record that was appended after the power had gone.
    in_vain: Option<u64>,
}

impl Known {
    fn hear(&mut self, words: Words) {
        match Said::of(words) {
            Said::Here => self.life += 1,
            Said::Opened { end, epoch } => {
                assert_eq!(end, self.durable, "opened with other records than were checked before");
                self.raise(epoch);
            }
            Said::Cuts { end } => self.cut_begun = Some(end),
            Said::Cut { end, epoch } => {
                self.cut(end);
                self.raise(epoch);
            }
            Said::Appended { first, next, thread, turn } => {
                self.appended(first..next, thread, turn)
            }
            Said::AppendedInVain { .. } => panic!("there is power"),
            Said::Durable { end } => {
                self.durable = self.durable.max(end);
                self.promises += 1;
            }
            Said::Trims { before } => self.trim_begun = self.trim_begun.max(before),
            Said::Trimmed { start, recycled } => {
                self.trimmed = self.trimmed.max(start);
                self.recycled = recycled;
            }
        }
        self.appended = self.appended.max(self.durable);
    }

    /// A sync that runs while the power goes may return as if it had worked: the kernel does not always
    /// notice then. One that begins later must not, and nobody would hear of either.
    fn hear_after_the_cut(&mut self, words: Words) {
        match Said::of(words) {
            Said::AppendedInVain { first, next, thread, turn } => {
                self.appended(first..next, thread, turn);
                self.in_vain = Some(self.in_vain.map_or(first, |before| before.min(first)));
            }
            Said::Durable { end } => {
                let lie = self.in_vain.is_some_and(|first| end > first);
                assert!(!lie, "{end} was promised without power, {:?} appended", self.in_vain);
            }
            // Which of them is there after it, and whether what was cut is, is open; a process that goes on
            // appends where it cut.
            Said::Cut { end, .. } => {
                self.records.split_off(&end);
                self.durable = self.durable.min(end);
            }
            Said::Trimmed { .. } => {}
            said => self.hear(said.words()),
        }
    }

    /// Epochs go up with each cut and each opening that follows no close.
    fn raise(&mut self, epoch: u64) {
        assert!(epoch > self.epoch, "epoch {epoch} after {}", self.epoch);
        self.epoch = epoch;
    }

    fn cut(&mut self, end: u64) {
        self.records.split_off(&end);
        (self.durable, self.appended, self.cut_begun) = (end, end, None);
    }

    fn appended(&mut self, offsets: Range<u64>, thread: u64, turn: u64) {
        for (offset, turn) in offsets.clone().zip(turn..) {
            let stamp = Stamp { life: self.life - 1, thread, turn };
            assert_eq!(self.records.insert(offset, stamp), None, "offset {offset} used twice");
        }
        self.appended = self.appended.max(offsets.end);
    }

    /// Opens the log and compares. From now on what it holds is promised.
    fn check(&mut self, dir: &Path, again: bool) -> u64 {
        let (log, recovery) = Log::open(&Host::real(), dir, Options::default()).unwrap();
        assert!(!(again && recovery.torn.is_some()), "{recovery:?}");
        let start = log.positions().start;
        let records = from(&log, start);
        let start = start.get();
        let end = start + records.len() as u64;
        assert!(
            start >= self.trimmed && start <= self.trim_begun.max(self.trimmed),
            "{start} {self:?}"
        );
        if self.cut_begun.take() == Some(end) {
            self.cut(end);
        }
        self.raise(log.epoch().get());
        assert!(end >= self.durable, "{end} records, {} promised", self.durable);
        assert_eq!(log.positions().durable.get(), end);
        let found: BTreeMap<u64, Stamp> =
            (start..).zip(records.iter().map(|record| Stamp::of(record))).collect();
        for (offset, stamp) in &found {
            let known = self.records.get(offset).unwrap_or(stamp);
            assert_eq!(stamp, known, "offset {offset}");
        }
        (self.records, self.durable, self.appended) = (found, end, end);
        self.check_order();
        (self.trimmed, self.trim_begun, self.in_vain) = (start, start, None);
        end - start
    }

    /// Of each thread nothing is missing in the middle, and no life comes before an earlier one.
    fn check_order(&self) {
        let first = self.records.first_key_value();
        // The life in which the log now begins may have lost its first turns to a trim.
        let whole_from = first.map_or(0, |(offset, first)| first.life + u64::from(*offset > 0));
        let mut turns = BTreeMap::new();
        let mut life = 0;
        for (offset, stamp) in &self.records {
            assert!(stamp.life >= life, "offset {offset}: {stamp:?}");
            life = stamp.life;
            let first = if life < whole_from { stamp.turn } else { 0 };
            let expected = turns.insert((life, stamp.thread), stamp.turn + 1).unwrap_or(first);
            assert_eq!(stamp.turn, expected, "offset {offset}: {stamp:?}");
        }
    }
}

/// The second process: appends from several threads until that fails.
fn write_until_the_power_goes(link: &Link) {
    let life = second_process::number("life");
    let mut dice = Dice::new(second_process::number("seed"));
    let options = Options {
        segment_bytes: 64 << (10 + dice.below(5)),
        sync_ahead_bytes: 128 << 10,
        unsynced_bytes_max: 1 << 20,
        sync_interval: Some(Duration::from_millis(5)),
        ..Options::default()
    };
    link.say(Said::Here.words()).unwrap();
    let log = match Log::open(&Host::real(), second_process::argument("dir").as_ref(), options) {
        Ok((log, _)) => log,
        // The power went while the log was opened.
        Err(OpenError::Io { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let end = log.positions().durable.get();
    link.say(Said::Opened { end, epoch: log.epoch().get() }.words()).unwrap();
    let Some(log) = cut(link, log, &mut dice) else { return };
    let gone = PathBuf::from(second_process::argument("gone"));
    let committer = log.clone();
    let committer = host::spawn("committer", move || committer.run_committer()).unwrap();
    std::thread::scope(|scope| {
        for (thread, role) in
            (0..).zip([Writer::sync_each, Writer::sync_each, Writer::pour, Writer::keep])
        {
            let dice = Dice::new(dice.below(u64::MAX));
            let mut writer = Writer { link, log: &log, gone: &gone, life, thread, turn: 0, dice };
            scope.spawn(move || while role(&mut writer).is_some() {});
        }
    });
    log.stop_committer();
    committer.join().unwrap();
}

/// Cuts some of the log's end off, or nothing. `None` when the power went.
fn cut(link: &Link, log: Log, dice: &mut Dice) -> Option<Log> {
    let Positions { start, durable, .. } = log.positions();
    let most = (durable - start).min(50);
    if most == 0 || dice.below(2) == 0 {
        return Some(log);
    }
    let end = durable.get() - 1 - dice.below(most);
    link.say(Said::Cuts { end }.words()).unwrap();
    let log = log.truncate_after(Offset::new(end)).ok()?;
    link.say(Said::Cut { end, epoch: log.epoch().get() }.words()).unwrap();
    Some(log)
}

/// One thread of the second process. Its steps give `None` when the log fails.
#[derive(Debug)]
struct Writer<'a> {
    link: &'a Link,
    log: &'a Log,
    gone: &'a Path,
    life: u64,
    thread: u64,
    turn: u64,
    dice: Dice,
}

impl Writer<'_> {
    fn say(&self, said: Said) {
        self.link.say(said.words()).unwrap();
    }

    /// Appends up to so many records of up to so many bytes as one unit, and returns where they end.
    fn append(&mut self, records_max: u64, bytes_max: u64) -> Option<Offset> {
        let turns = self.turn..=self.turn + self.dice.below(records_max);
        let records: Vec<Vec<u8>> = turns
            .map(|turn| Stamp { life: self.life, thread: self.thread, turn })
            .map(|stamp| stamp.record(self.dice.below(bytes_max)))
            .collect();
        let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        let in_vain = self.gone.exists();
        let appended = self.log.append(&slices).ok()?;
        let (first, next) = (appended.first.get(), appended.next.get());
        let (thread, turn) = (self.thread, self.turn);
        self.say(match in_vain {
            false => Said::Appended { first, next, thread, turn },
            true => Said::AppendedInVain { first, next, thread, turn },
        });
        self.turn += next - first;
        Some(appended.next)
    }

    /// Small records, each waited for.
    fn sync_each(&mut self) -> Option<()> {
        let next = self.append(3, 600)?;
        self.log.ticket(next).wait().ok()?;
        self.say(Said::Durable { end: next.get() });
        Some(())
    }

    /// Large records that nobody waits for.
    fn pour(&mut self) -> Option<()> {
        self.log.wait_room();
        self.append(8, 20_000)?;
        match self.dice.below(4) {
            0 => drop(self.log.write_out().ok()?),
            1 => self.say(Said::Durable { end: self.log.positions().durable.get() }),
            _ => {}
        }
        Some(())
    }

    /// Syncs, rolls and trims.
    fn keep(&mut self) -> Option<()> {
        let next = self.append(2, 5000)?;
        match self.dice.below(6) {
            0 => {
                self.log.roll().ok()?;
                self.say(Said::Durable { end: next.get() });
            }
            1 => {
                let durable = self.log.positions().durable.get();
                let before = durable.saturating_sub(self.dice.below(400));
                self.say(Said::Trims { before });
                let start = self.log.trim(Offset::new(before)).ok()?;
                let recycled = self.log.stats().recycled;
                self.say(Said::Trimmed { start: start.get(), recycled });
            }
            _ => {
                let end = self.log.sync().ok()?;
                self.say(Said::Durable { end: end.get() });
            }
        }
        Some(())
    }
}
