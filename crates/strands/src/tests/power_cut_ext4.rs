//! Goal: on a real kernel, with the directory store and the meta store on one ext4 with the journal, whatever a power cut
//! leaves of the file system's caches, all that was said to be durable is there, of each writer nothing is missing in the
//! middle, no byte reads as anything but what was written, and a check finds no fault.
//!
//! Method: ext4 in a file that is shut down in the middle (`testbed::Ext4`); a second process writes, places (with a sync
//! and without), truncates and removes with several threads, each on strands of its own, while another packs and
//! collects, and tells over a socket what it was promised. A writer's n-th change follows from seed, writer and n
//! alone, so whoever knows n knows every byte.
//!
//! Needs root, loop devices and ext4; without them it prints a line that begins with `skipped:` and passes.
//! `STRANDS_POWER_CUTS` and `STRANDS_SEED` make it longer and repeat its choices (not the kernel's).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block_store::Directory;
use bytes::Bytes;
use host::Host;
use meta_store::Fjall;
use testbed::second_process::{self, Link, Second};
use testbed::{Dice, Ext4, Flush};

use super::ROWS;
use crate::{CollectOptions, Commit, FsckInput, Options, ReadError, StrandId, Strands, fsck};

const TEST: &str =
    "tests::power_cut_ext4::what_is_acknowledged_survives_power_cuts_on_ext4_with_blocks_and_rows";
const CUTS: u64 = 8;
const WRITERS: u64 = 3;
/// Strands of a writer; one that is removed is minted again by its next write.
const STRANDS: usize = 3;
const LEN_MAX: u64 = 400_000;

#[test]
fn what_is_acknowledged_survives_power_cuts_on_ext4_with_blocks_and_rows() {
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
    let cuts = number("STRANDS_POWER_CUTS", CUTS);
    let seed = number("STRANDS_SEED", Host::real().random.next_u64());
    eprintln!("STRANDS_SEED={seed} STRANDS_POWER_CUTS={cuts}");
    let mut dice = Dice::new(seed);
    let mut known: Vec<_> = (0..WRITERS).map(|writer| Known::new(seed, writer)).collect();
    let (mut durable, mut lost, mut packed) = (0, 0, 0);
    for life in 0..cuts {
        let all = Ext4::MOUNT_OPTIONS;
        let options = all[usize::try_from(life).unwrap() % all.len()];
        disk.mount(options);
        let before: u64 = known.iter().map(|known| known.turns).sum();
        // Sometimes while all is opened, mostly in the middle of things.
        let most = [1, 20, 200, 600][dice.index(4)];
        let (messages, flush) = match life % 4 {
            0 => (400, Flush::Nothing),
            _ => (most, [Flush::Nothing, Flush::Journal, Flush::Everything][dice.index(5) / 2]),
        };
        packed += live_until_cut(disk, seed, messages, flush, &mut known);
        disk.unmount();
        let promised: u64 = known.iter().map(|known| known.durable).sum();
        let done: u64 = known.iter().map(|known| known.told).sum();
        disk.mount(options);
        check(disk.point(), &mut known);
        disk.shut_down(Flush::Nothing);
        disk.unmount();
        // What was there after the recovery was durable.
        disk.mount(options);
        check(disk.point(), &mut known);
        disk.unmount();
        let there: u64 = known.iter().map(|known| known.turns).sum();
        eprintln!("life {life}: {options}, {promised} of {done} changes promised, {there} there");
        durable += promised.saturating_sub(before);
        lost += done.saturating_sub(there);
    }
    eprintln!("{durable} changes promised, {lost} others lost, {packed} rounds of packing");
    assert!(durable > 0 && lost > 0 && packed > 0, "cuts that cost nothing show nothing");
}

/// One process writes until so many messages came and the power goes. Says how often it packed.
fn live_until_cut(disk: &Ext4, seed: u64, messages: u64, flush: Flush, known: &mut [Known]) -> u64 {
    let turns = known.iter().map(|known| known.turns.to_string()).collect::<Vec<_>>().join(",");
    let arguments = [
        ("dir", disk.point().as_os_str().to_owned()),
        ("gone", disk.gone().as_os_str().to_owned()),
        ("seed", seed.to_string().into()),
        ("turns", turns.into()),
    ];
    let mut writer = Second::start(TEST, "writer", &arguments);
    let mut packed = 0;
    let mut hear = |words: [u64; 5]| match words {
        [0, who, turns, ..] => known[usize::try_from(who).unwrap()].told = turns,
        [1, who, turns, ..] => known[usize::try_from(who).unwrap()].durable = turns,
        [2, ..] => packed += 1,
        [_, ..] => {}
    };
    for _ in 0..messages {
        hear(writer.link.hear().expect("the writer goes on while there is power"));
    }
    while let Some(words) = writer.link.hear_now() {
        hear(words);
    }
    disk.shut_down(flush);
    // A sync that runs while the power goes may return as if it had worked, so what is promised now is not counted.
    while let Some(words) = writer.link.hear() {
        if words[0] == 0 {
            hear(words);
        }
    }
    let ended = writer.wait();
    assert!(ended.success(), "{ended}");
    packed
}

fn options() -> Options {
    let log = durable_log::Options {
        segment_bytes: 256 << 10,
        sync_interval: Some(Duration::from_millis(50)),
        ..durable_log::Options::default()
    };
    Options { log, reserve_bytes: Some(0), collect_every: None, ..Options::default() }
}

/// The parts of a data directory.
fn parts(dir: &Path) -> Result<(Host, Fjall, Directory), String> {
    let host = Host::real();
    let meta = Fjall::open(dir.join("meta")).map_err(|error| format!("{error:?}"))?;
    let blocks =
        Directory::open(&host, &dir.join("blocks")).map_err(|error| format!("{error:?}"))?;
    Ok((host, meta, blocks))
}

fn open(dir: &Path) -> Result<Strands, String> {
    let (host, meta, blocks) = parts(dir)?;
    Strands::open(host, &dir.join("journal"), Arc::new(meta), Arc::new(blocks), options())
        .map_err(|error| format!("{error:?}"))
}

/// What a writer did and was promised, and what its strands hold after its changes so far.
#[derive(Debug)]
struct Known {
    writer: u64,
    seed: u64,
    /// Changes applied to `strands`.
    turns: u64,
    /// Changes that it said it made.
    told: u64,
    /// Changes that it was promised are durable.
    durable: u64,
    strands: [Option<Vec<u8>>; STRANDS],
}

/// A writer's change, which follows from its number.
#[derive(Debug)]
struct Change {
    which: usize,
    kind: u64,
    offset: usize,
    bytes: Vec<u8>,
}

impl Change {
    fn of(seed: u64, writer: u64, turn: u64) -> Self {
        let mut dice = Dice::new(seed ^ (writer << 48) ^ turn.wrapping_mul(0x1234_5677));
        let (which, kind) = (dice.index(STRANDS), dice.below(24));
        let offset = usize::try_from(dice.below(LEN_MAX)).unwrap();
        let most = [300, 4096, 20_000, 90_000][dice.index(4)];
        // Never a zero: a byte that reads as one was not written.
        let bytes = (0..=dice.index(most)).map(|_| dice.below(255).to_le_bytes()[0] + 1).collect();
        Self { which, kind, offset, bytes }
    }
}

impl Known {
    fn new(seed: u64, writer: u64) -> Self {
        Self { writer, seed, turns: 0, told: 0, durable: 0, strands: Default::default() }
    }

    /// Applies the next change here.
    fn step(&mut self) -> Change {
        let change = Change::of(self.seed, self.writer, self.turns);
        self.turns += 1;
        let kept = &mut self.strands[change.which];
        match change.kind {
            0 => *kept = None,
            1 | 2 => {
                if let Some(bytes) = kept {
                    let keep = change.offset.min(bytes.len());
                    bytes[keep..].fill(0);
                }
            }
            _ => {
                let kept = kept.get_or_insert_default();
                let end = change.offset + change.bytes.len();
                kept.resize(kept.len().max(end), 0);
                kept[change.offset..end].copy_from_slice(&change.bytes);
            }
        }
        change
    }

    fn key(&self) -> Vec<u8> {
        format!("turns of {}", self.writer).into_bytes()
    }

    fn strand_key(&self, which: usize) -> Vec<u8> {
        format!("strand {which} of {}", self.writer).into_bytes()
    }

    /// The strand that the writer has at this place, if it has one there.
    fn strand(&self, strands: &Strands, which: usize) -> Result<Option<StrandId>, ReadError> {
        let row = strands.row(ROWS, &self.strand_key(which))?;
        Ok(row.map(|row| StrandId::from_raw(number(&row))))
    }

    /// Compares all that there is of this writer, and goes on from there.
    #[track_caller]
    fn check(&mut self, strands: &Strands) {
        let there = strands.row(ROWS, &self.key()).unwrap().map_or(0, |row| number(&row));
        let (who, durable, told) = (self.writer, self.durable, self.told);
        assert!(there >= durable, "writer {who}: {there} changes, {durable} promised");
        assert!(there <= told + 1, "writer {who}: {there} changes, {told} made");
        while self.turns < there {
            self.step();
        }
        for which in 0..STRANDS {
            let strand = self.strand(strands, which).unwrap();
            assert_eq!(strand.is_some(), self.strands[which].is_some(), "writer {who}, {which}");
            let (Some(strand), Some(want)) = (strand, &self.strands[which]) else { continue };
            let len = u32::try_from(want.len()).unwrap();
            let got = strands.read_blocking(strand, 0, len).unwrap();
            let differs = got.iter().zip(want).position(|(a, b)| a != b);
            assert_eq!(differs, None, "writer {who}, strand {which} after {there} changes");
        }
        (self.told, self.durable) = (there, there);
    }
}

fn number(row: &[u8]) -> u64 {
    u64::from_le_bytes(row.try_into().unwrap())
}

/// Opens what is there and compares. From now on what it holds is promised. A check of all that lies there finds nothing.
#[track_caller]
fn check(dir: &Path, known: &mut [Known]) {
    let strands = open(dir).unwrap();
    known.iter_mut().for_each(|known| known.check(&strands));
    drop(strands);
    let (host, meta, blocks) = parts(dir).unwrap();
    let journal = &dir.join("journal");
    let input = FsckInput { host: &host, journal, meta: &meta, blocks: &blocks, scrub: true };
    let checked = fsck(&input, &mut |_| {});
    assert_eq!((checked.faults, checked.unchecked.len()), (0, 0), "{checked:?}");
}

/// The second process: writes from several threads until that fails.
fn write_until_the_power_goes(link: &Link) {
    let dir = second_process::argument("dir");
    let gone = second_process::argument("gone");
    link.say([3, 0, 0, 0, 0]).unwrap();
    let strands = match open(Path::new(&dir)) {
        Ok(strands) => strands,
        Err(error) => {
            // Only for want of power: otherwise the first process waits in vain for its messages.
            eprintln!("not opened: {error}");
            while !Path::new(&gone).exists() {
                std::thread::yield_now();
            }
            return;
        }
    };
    let seed = second_process::number("seed");
    let turns = second_process::argument("turns").into_string().unwrap();
    std::thread::scope(|scope| {
        for (writer, turns) in (0..).zip(turns.split(',')) {
            let (turns, strands) = (turns.parse().unwrap(), &strands);
            scope.spawn(move || {
                let mut known = Known::new(seed, writer);
                while known.turns < turns {
                    known.step();
                }
                while write_one(link, strands, &mut known).is_some() {}
            });
        }
        scope.spawn(|| {
            while strands.pack_now().is_ok() {
                if link.say([2, 0, 0, 0, 0]).is_err() {
                    return;
                }
                let all = CollectOptions { grace: Duration::ZERO, ..CollectOptions::default() };
                drop(strands.collect(all));
            }
        });
    });
}

/// A writer's next change. `None` when the power has gone.
fn write_one(link: &Link, strands: &Strands, known: &mut Known) -> Option<()> {
    let change = known.step();
    let at = known.strand(strands, change.which).ok()?;
    let mut commit = Commit::new();
    commit.put(ROWS, known.key(), known.turns.to_le_bytes().to_vec());
    match (change.kind, at) {
        (0, Some(strand)) => {
            commit.remove(strand).delete(ROWS, known.strand_key(change.which));
        }
        (1 | 2, Some(strand)) => drop(commit.truncate(strand, change.offset as u64)),
        (0..=2, None) => {}
        (kind, at) => {
            let strand = match at {
                Some(strand) => strand,
                None => strands.mint().ok()?,
            };
            let row = strand.get().to_le_bytes().to_vec();
            commit.put(ROWS, known.strand_key(change.which), row);
            let (offset, bytes) = (change.offset as u64, Bytes::from(change.bytes));
            if kind < 8 {
                let staged = if kind < 6 {
                    strands.stage_unsynced_blocking(strand, offset, bytes).ok()?
                } else {
                    strands.stage_blocking(strand, offset, bytes).ok()?
                };
                commit.place(strand, offset, staged);
            } else {
                commit.write(strand, offset, bytes);
            }
        }
    }
    strands.admit_blocking(1).ok()?;
    let ticket = strands.commit(commit).ok()?;
    link.say([0, known.writer, known.turns, 0, 0]).ok()?;
    if change.kind.is_multiple_of(8) {
        ticket.wait_durable().ok()?;
        link.say([1, known.writer, known.turns, 0, 0]).ok()?;
    }
    Some(())
}
