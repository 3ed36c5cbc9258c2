//! Goal: whatever is committed, packed, trimmed, closed, dropped and opened again, strands and rows read
//! back as a plain map of bytes says; and a power cut leaves a prefix of the commits that holds every
//! durable one.
//!
//! Method: random operations on a real directory and on the simulated disk, beside a model that applies
//! each commit to maps.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use block_store::{BlockStore, Directory};
use bytes::Bytes;
use host::Host;
use meta_store::MetaStore;
use proptest::prelude::*;

use crate::commit::Op;
use crate::{Commit, CommitError, Options, Order, Position, ReadError, StrandId, Strands, Table};

mod backpressure;
mod bucket;
mod by_age;
mod cached;
mod collection;
mod defects;
mod epochs;
mod failed_sync;
mod forgotten_sync;
mod fsck;
mod full_disk;
pub(crate) mod index_checkpoint;
mod one_moment;
mod outage;
mod owner;
mod pace;
mod power_cut;
mod power_cut_ext4;
mod restore;
mod staged;
mod storms;
mod watched;

const ROWS: Table = Table(40);

/// What the strands and rows should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    strands: BTreeMap<u64, Vec<u8>>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One step of a run. Strands are picked by number among those that exist.
#[derive(Clone, Debug)]
enum Step {
    Write {
        pick: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    /// The same, but the bytes go into a block of their own, which is synced if `fill` is odd.
    Place {
        pick: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    Truncate {
        pick: usize,
        len: u64,
    },
    Remove {
        pick: usize,
    },
    Put {
        key: u8,
        value: u8,
    },
    Delete {
        key: u8,
    },
    Pack,
    Checkpoint,
    Sync,
    Reopen {
        clean: bool,
    },
}

/// A directory that is opened again and again.
struct Bed {
    host: Host,
    dir: std::path::PathBuf,
    make_meta: Box<dyn Fn() -> Arc<dyn MetaStore>>,
}

impl Bed {
    fn real(dir: &Path) -> Self {
        let meta = dir.join("meta");
        Self {
            host: Host::real(),
            dir: dir.to_owned(),
            make_meta: Box::new(move || Arc::new(meta_store::Fjall::open(&meta).unwrap())),
        }
    }

    fn open(&self) -> Strands {
        let blocks: Arc<dyn BlockStore> =
            Arc::new(Directory::open(&self.host, &self.dir.join("blocks")).unwrap());
        Strands::open(
            self.host.clone(),
            &self.dir.join("journal"),
            (self.make_meta)(),
            blocks,
            options(),
        )
        .unwrap()
    }
}

/// Small segments, so that a few writes fill several; packing only when a test says so.
fn options() -> Options {
    let log = durable_log::Options { segment_bytes: 64 << 10, ..durable_log::Options::default() };
    Options { log, reserve_bytes: Some(0), ..Options::default() }
}

impl Model {
    fn pick(&self, pick: usize) -> Option<StrandId> {
        let keys: Vec<_> = self.strands.keys().collect();
        (!keys.is_empty()).then(|| StrandId::from_raw(*keys[pick % keys.len()]))
    }

    /// Makes the commit of a step and applies it here.
    fn commit(&mut self, step: &Step, mint: impl FnOnce() -> StrandId) -> Option<Commit> {
        let mut commit = Commit::new();
        match *step {
            Step::Write { pick, offset, len, fill } | Step::Place { pick, offset, len, fill } => {
                let known = if self.strands.len() < 4 { None } else { self.pick(pick) };
                let strand = known.unwrap_or_else(mint);
                let bytes: Vec<u8> =
                    (0..len).map(|at| fill.wrapping_add(at.to_le_bytes()[0])).collect();
                let kept = self.strands.entry(strand.get()).or_default();
                let (from, to) =
                    (usize::try_from(offset).unwrap(), usize::try_from(offset).unwrap() + len);
                kept.resize(kept.len().max(to), 0);
                kept[from..to].copy_from_slice(&bytes);
                // A row in the same commit, so that a torn commit would show.
                let row = [b"len of ".as_slice(), &strand.get().to_be_bytes()].concat();
                self.rows.insert(row.clone(), kept.len().to_be_bytes().to_vec());
                commit.put(ROWS, row, kept.len().to_be_bytes().to_vec());
                commit.write(strand, offset, Bytes::from(bytes));
            }
            Step::Truncate { pick, len } => {
                let strand = self.pick(pick)?;
                let kept = self.strands.get_mut(&strand.get()).unwrap();
                let keep = kept.len().min(usize::try_from(len).unwrap());
                // The model keeps its length and zeros what was cut: that is what a hole reads as.
                kept[keep..].fill(0);
                commit.truncate(strand, len);
            }
            Step::Remove { pick } => {
                let strand = self.pick(pick)?;
                self.strands.remove(&strand.get());
                commit.remove(strand);
            }
            Step::Put { key, value } => {
                self.rows.insert(vec![key], vec![value]);
                commit.put(ROWS, vec![key], vec![value]);
            }
            Step::Delete { key } => {
                self.rows.remove([key].as_slice());
                commit.delete(ROWS, vec![key]);
            }
            Step::Pack | Step::Checkpoint | Step::Sync | Step::Reopen { .. } => return None,
        }
        Some(commit)
    }

    /// [`Model::commit`] with the payload staged where the step says so.
    fn staged_commit(
        &mut self,
        step: &Step,
        strands: &Strands,
        mint: impl FnOnce() -> StrandId,
    ) -> Result<Option<Commit>, CommitError> {
        let Some(commit) = self.commit(step, mint) else { return Ok(None) };
        let Step::Place { fill, .. } = *step else { return Ok(Some(commit)) };
        let mut placed = Commit::new();
        for op in commit.into_ops() {
            match op {
                Op::Write { strand, offset, bytes } => {
                    let staged = if fill % 2 == 1 {
                        strands.stage_blocking(strand, offset, bytes)?
                    } else {
                        strands.stage_unsynced_blocking(strand, offset, bytes)?
                    };
                    placed.place(strand, offset, staged);
                }
                other => drop(placed.push(other)),
            }
        }
        Ok(Some(placed))
    }

    #[track_caller]
    fn check(&self, strands: &Strands) {
        for (id, want) in &self.strands {
            let len = u32::try_from(want.len()).unwrap();
            let got = strands.read_blocking(StrandId::from_raw(*id), 0, len).unwrap();
            assert!(
                got == want,
                "strand {id} differs at {:?}",
                got.iter().zip(want).position(|(a, b)| a != b)
            );
            assert!(strands.end(StrandId::from_raw(*id)).unwrap() <= want.len() as u64);
        }
        for order in [Order::Ascending, Order::Descending] {
            let mut want: Vec<_> = self.rows.clone().into_iter().collect();
            if order == Order::Descending {
                want.reverse();
            }
            let all = (Bound::Unbounded, Bound::Unbounded);
            for limit in [usize::MAX, 3] {
                let got = strands.rows(ROWS, all, order, limit).unwrap();
                let got: Vec<_> =
                    got.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                assert_eq!(got, want[..want.len().min(limit)]);
            }
        }
        for (key, value) in &self.rows {
            assert_eq!(strands.row(ROWS, key).unwrap().as_deref(), Some(&value[..]));
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<usize>(), 0..60_000u64, 1..20_000usize, any::<u8>())
            .prop_map(|(pick, offset, len, fill)| Step::Write { pick, offset, len, fill }),
        3 => (any::<usize>(), 0..60_000u64, 1..20_000usize, any::<u8>())
            .prop_map(|(pick, offset, len, fill)| Step::Place { pick, offset, len, fill }),
        2 => (any::<usize>(), 0..60_000u64).prop_map(|(pick, len)| Step::Truncate { pick, len }),
        1 => any::<usize>().prop_map(|pick| Step::Remove { pick }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Put { key: key % 16, value }),
        2 => any::<u8>().prop_map(|key| Step::Delete { key: key % 16 }),
        2 => Just(Step::Pack),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Sync),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn strands_and_rows_read_back_as_the_model_says(steps in prop::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let bed = Bed::real(dir.path());
        let mut strands = bed.open();
        let mut model = Model::default();
        for step in &steps {
            match step {
                Step::Pack => strands.pack_now().unwrap(),
                Step::Checkpoint => strands.shared.checkpoint_index().unwrap(),
                Step::Sync => strands.commit(Commit::new()).unwrap().wait_durable().unwrap(),
                Step::Reopen { clean } => {
                    if *clean {
                        strands.close().unwrap();
                    }
                    drop(strands);
                    strands = bed.open();
                    prop_assert_eq!(strands.recovery().clean, *clean);
                }
                _ => {
                    let mint = || strands.mint().unwrap();
                    if let Some(commit) = model.staged_commit(step, &strands, mint).unwrap() {
                        drop(strands.commit(commit).unwrap());
                    }
                }
            }
            model.check(&strands);
        }
    }
}

#[test]
fn packing_empties_the_journal_and_the_bytes_come_from_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let strands = Bed::real(dir.path()).open();
    let strand = strands.mint().unwrap();
    let bytes: Vec<u8> = (0..6_000_000u32).map(|at| at.to_le_bytes()[1]).collect();
    for (part, chunk) in bytes.chunks(500_000).enumerate() {
        let mut commit = Commit::new();
        commit.write(strand, part as u64 * 500_000, Bytes::copy_from_slice(chunk));
        drop(strands.commit(commit).unwrap());
    }
    strands.pack_now().unwrap();
    let status = strands.status();
    assert_eq!(status.unpacked_bytes, 0);
    assert_eq!(status.packed_bytes, 6_000_000);
    assert_eq!(status.packed_blocks, 2, "six million bytes fill two blocks of at most 4 MiB");
    assert_eq!(status.blocks, 3, "and the ledger with its first checkpoint one");
    assert!(status.journal_bytes < 64 << 10, "the journal was trimmed: {}", status.journal_bytes);
    assert!(status.positions.start > Position::START);
    assert_eq!(strands.read_blocking(strand, 0, 6_000_000).unwrap(), bytes);
    assert_eq!(
        strands.read_blocking(strand, 3_999_990, 400_000).unwrap(),
        bytes[3_999_990..4_399_990]
    );
}

#[test]
fn a_write_after_packing_wins_over_the_block() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    let write = |at, byte| {
        let mut commit = Commit::new();
        commit.write(strand, at, Bytes::from(vec![byte; 10]));
        drop(strands.commit(commit).unwrap());
    };
    write(0, 1);
    strands.pack_now().unwrap();
    write(5, 2);
    let want = [[1; 5].as_slice(), &[2; 10]].concat();
    assert_eq!(strands.read_blocking(strand, 0, 15).unwrap(), want);
    strands.pack_now().unwrap();
    assert_eq!(strands.read_blocking(strand, 0, 15).unwrap(), want);
    drop(strands);
    assert_eq!(bed.open().read_blocking(strand, 0, 15).unwrap(), want);
}

#[test]
fn bytes_of_a_missing_block_are_an_error_and_never_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 0, Bytes::from_static(b"here"));
    drop(strands.commit(commit).unwrap());
    strands.pack_now().unwrap();
    strands.close().unwrap();
    drop(strands);
    let blocks = Directory::open(&bed.host, &bed.dir.join("blocks")).unwrap();
    let mut names = Vec::new();
    let all = &mut |listed: block_store::Listed| {
        names.push(listed.name);
        std::ops::ControlFlow::Continue(())
    };
    blocks.list(all).unwrap();
    assert!(blocks.delete(names[0]).unwrap());
    let error = bed.open().read_blocking(strand, 0, 4).unwrap_err();
    assert!(matches!(error, ReadError::Unresolvable { offset: 0, .. }), "{error}");
}

#[test]
fn a_hole_is_zeros_for_a_file_and_an_error_for_a_strand_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let strands = Bed::real(dir.path()).open();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 4, Bytes::from_static(b"late"));
    drop(strands.commit(commit).unwrap());
    assert_eq!(&strands.read_blocking(strand, 0, 8).unwrap()[..], b"\0\0\0\0late");
    let error = strands.read_dense_blocking(strand, 0, 8).unwrap_err();
    assert!(matches!(error, ReadError::Unresolvable { offset: 0, .. }), "{error}");
    assert_eq!(&strands.read_dense_blocking(strand, 4, 4).unwrap()[..], b"late");
}

#[test]
fn a_removed_strand_cannot_be_read_and_its_extents_go() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 0, Bytes::from_static(b"here"));
    drop(strands.commit(commit).unwrap());
    strands.pack_now().unwrap();
    let mut commit = Commit::new();
    commit.remove(strand);
    drop(strands.commit(commit).unwrap());
    assert!(matches!(strands.read_blocking(strand, 0, 4), Err(ReadError::Unresolvable { .. })));
    drop(strands);
    // Known again after a restart, because the row is there.
    let strands = bed.open();
    assert!(matches!(strands.read_blocking(strand, 0, 4), Err(ReadError::Unresolvable { .. })));
}

#[test]
fn minted_strands_are_never_minted_again() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let mut last = 0;
    for _ in 0..3 {
        let strands = bed.open();
        for _ in 0..1500 {
            let next = strands.mint().unwrap().get();
            assert!(next > last);
            last = next;
        }
    }
}

#[test]
fn a_meta_store_from_another_moment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 0, Bytes::from_static(b"here"));
    drop(strands.commit(commit).unwrap());
    strands.pack_now().unwrap();
    strands.close().unwrap();
    drop(strands);
    let blocks: Arc<dyn BlockStore> = Arc::new(block_store::Memory::new());
    let open = |journal: &str, meta: Arc<dyn MetaStore>| {
        Strands::open(Host::real(), &dir.path().join(journal), meta, Arc::clone(&blocks), options())
    };
    let behind = open("journal", Arc::new(meta_store::Memory::new())).unwrap_err();
    assert!(behind.to_string().contains("behind the journal"), "{behind}");
    let ahead = open("elsewhere", (bed.make_meta)()).unwrap_err();
    assert!(ahead.to_string().contains("ahead of the journal"), "{ahead}");
}

#[test]
fn payload_is_refused_below_the_reserve_and_deletes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let blocks: Arc<dyn BlockStore> = Arc::new(block_store::Memory::new());
    let options = Options { reserve_bytes: Some(u64::MAX / 2), ..options() };
    let meta = Arc::new(meta_store::Memory::new());
    let strands = Strands::open(Host::real(), dir.path(), meta, blocks, options).unwrap();
    assert_eq!(strands.admit_blocking(1), Err(CommitError::NoSpace));
    assert_eq!(strands.admit_blocking(0), Ok(()));
}

#[test]
fn the_view_holds_only_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let meta: Arc<dyn MetaStore> = Arc::new(meta_store::Memory::new());
    let blocks: Arc<dyn BlockStore> = Arc::new(block_store::Memory::new());
    let strands =
        Strands::open(Host::real(), dir.path(), Arc::clone(&meta), blocks, options()).unwrap();
    for number in 0..200u32 {
        let mut commit = Commit::new();
        commit.put(ROWS, number.to_be_bytes().to_vec(), vec![1]);
        let ticket = strands.commit(commit).unwrap();
        // Read in this order: the view first, so that durable can only have grown since.
        let applied = meta.applied().0;
        assert!(applied <= strands.positions().durable.get());
        if number % 7 == 0 {
            ticket.wait_durable().unwrap();
        }
    }
}

#[test]
fn damaged_bytes_of_the_journal_are_not_packed_and_the_journal_stays() {
    let machine = host::sim::Machine::new(1);
    let meta = Arc::new(power_cut::Synced::default());
    let strands = power_cut::open(&machine, &meta).unwrap();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 0, Bytes::from(vec![7; 1000]));
    strands.commit(commit).unwrap().wait_durable().unwrap();
    let segment = Path::new("/journal/00000000000000000001.seg");
    machine.flip_bit(segment, 700 * 8).unwrap();
    let error = strands.pack_now().unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.seg"), "{error}");
    assert_eq!(strands.positions().start, Position::START);
    machine.flip_bit(segment, 700 * 8).unwrap();
    strands.pack_now().unwrap();
    assert_eq!(strands.read_blocking(strand, 0, 1000).unwrap(), vec![7; 1000]);
}

#[test]
fn what_one_truncate_cut_off_a_longer_one_in_the_same_commit_does_not_bring_back() {
    let dir = tempfile::tempdir().unwrap();
    let strands = Bed::real(dir.path()).open();
    let strand = strands.mint().unwrap();
    let mut commit = Commit::new();
    commit.write(strand, 0, Bytes::from(vec![7; 200]));
    drop(strands.commit(commit).unwrap());
    strands.pack_now().unwrap();
    let mut commit = Commit::new();
    commit.truncate(strand, 50).truncate(strand, 100);
    drop(strands.commit(commit).unwrap());
    let want = [[7; 50].as_slice(), &[0; 150]].concat();
    assert_eq!(strands.read_blocking(strand, 0, 200).unwrap(), want);
    assert_eq!(strands.end(strand), Ok(50));
}

#[test]
fn the_journal_survives_a_power_cut_although_its_maker_was_killed_before_it_synced_its_name() {
    let machine = host::sim::Machine::new(1);
    // Operation 1 makes the journal's directory, operation 2 syncs its name.
    machine.ignore_at(2);
    let host = machine.host();
    host.disk.create_dir_all(Path::new("/journal")).unwrap();
    machine.kill();
    let meta = Arc::new(power_cut::Synced::default());
    let strands = power_cut::open(&machine, &meta).unwrap();
    let mut commit = Commit::new();
    commit.put(ROWS, &b"k"[..], &b"v"[..]);
    strands.commit(commit).unwrap().wait_durable().unwrap();
    drop(strands);
    machine.crash(&mut host::sim::Lost);
    let strands = power_cut::open(&machine, &meta.after_power_cut()).unwrap();
    assert_eq!(strands.row(ROWS, b"k").unwrap().as_deref(), Some(&b"v"[..]));
}
