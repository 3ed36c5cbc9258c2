//! One file: what running code sees, what is durable, and the operations between the two.
//!
//! Invariant: unless a sync failed, `durable` with all of `pending` applied in order is `live`.

use std::collections::{BTreeMap, BTreeSet};

use crate::sim::image::{Image, PAGE_BYTES};
use crate::sim::outcome::{Choice, Outcome};

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    live: Image,
    durable: Image,
    pending: Vec<Operation>,
    /// Pages that `allocate` set aside, whether written or not.
    reserved_pages: u64,
    /// Pages that cannot be read.
    bad_pages: BTreeSet<u64>,
    /// Handles.
    pub(super) open: usize,
    /// When the live bytes were last changed; survives power cuts as it is.
    pub(super) modified_ms: i64,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { at: u64, bytes: Box<[u8]> },
    Resize { from: u64, to: u64 },
}

impl Operation {
    fn apply(&self, image: &mut Image) {
        match self {
            Self::Write { at, bytes } => image.write(bytes, *at),
            Self::Resize { to, .. } => image.resize(*to),
        }
    }

    /// The file's size after this, if it was `size` before.
    fn size_after(&self, size: u64) -> u64 {
        match self {
            Self::Write { at, bytes } => size.max(at + bytes.len() as u64),
            Self::Resize { to, .. } => *to,
        }
    }

    /// Whether this removes bytes below `end`.
    fn cuts_below(&self, end: u64) -> bool {
        matches!(self, Self::Resize { from, to } if to < from && *to < end)
    }
}

impl FileNode {
    pub(super) fn live(&self) -> &Image {
        &self.live
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Reads up to the first page that cannot be read; `None` when that is the first one.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Option<usize> {
        let page = at / PAGE_BYTES;
        let end = at.saturating_add(buf.len() as u64);
        let bad = self.bad_pages.range(page..).next().map_or(end, |bad| bad * PAGE_BYTES);
        let good = usize::try_from(bad.min(end).saturating_sub(at)).unwrap_or(usize::MAX);
        if good == 0 && end > at && at < self.live.size() {
            return None;
        }
        Some(self.live.read(&mut buf[..good], at))
    }

    /// Makes the page that holds byte `at` unreadable until all of it is written.
    pub(super) fn spoil(&mut self, at: u64) {
        self.bad_pages.insert(at / PAGE_BYTES);
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        if !bytes.is_empty() {
            let whole = at.div_ceil(PAGE_BYTES)..(at + bytes.len() as u64) / PAGE_BYTES;
            self.bad_pages.retain(|page| !whole.contains(page));
            self.live.write(bytes, at);
            self.pending.push(Operation::Write { at, bytes: bytes.into() });
        }
    }

    pub(super) fn resize(&mut self, size: u64) {
        self.pending.push(Operation::Resize { from: self.live.size(), to: size });
        self.live.resize(size);
        self.reserved_pages = self.reserved_pages.min(size.div_ceil(PAGE_BYTES));
    }

    /// Sets pages aside and grows the file to `size`; never cuts it.
    pub(super) fn allocate(&mut self, size: u64) {
        if size > self.live.size() {
            self.resize(size);
        }
        self.reserved_pages = self.reserved_pages.max(size.div_ceil(PAGE_BYTES));
    }

    /// Pages of the disk that the file takes.
    pub(super) fn charged_pages(&self) -> u64 {
        self.reserved_pages + self.live.pages(self.reserved_pages).count() as u64
    }

    /// Pages of the disk that allocating `size` bytes would take in addition.
    pub(super) fn would_allocate(&self, size: u64) -> u64 {
        let wanted = size.div_ceil(PAGE_BYTES);
        let there =
            self.live.pages(self.reserved_pages).take_while(|page| *page < wanted).count() as u64;
        wanted.saturating_sub(self.reserved_pages).saturating_sub(there)
    }

    /// Whether writing to `page` takes a page of the disk.
    pub(super) fn would_charge(&self, page: u64) -> bool {
        page >= self.reserved_pages && !self.live.has_page(page)
    }

    pub(super) fn sync(&mut self) {
        for operation in self.pending.drain(..) {
            operation.apply(&mut self.durable);
        }
    }

    /// The sync fails: what `outcome` picks is durable, and the rest will never be.
    pub(super) fn fail_sync(&mut self, file: u64, unit_bytes: u64, outcome: &mut dyn Outcome) {
        self.durable = self.settle(file, unit_bytes, outcome);
        self.pending.clear();
    }

    /// The power goes: what `outcome` picks is all there is.
    pub(super) fn crash(&mut self, file: u64, unit_bytes: u64, outcome: &mut dyn Outcome) {
        self.fail_sync(file, unit_bytes, outcome);
        self.live = self.durable.clone();
        self.reserved_pages = 0;
        self.open = 0;
    }

    /// Behind everybody's back: both images change, nothing is pending.
    pub(super) fn damage(&mut self, change: impl Fn(&mut Image)) {
        self.sync();
        self.bad_pages.clear();
        change(&mut self.live);
        change(&mut self.durable);
    }

    /// One of the legal states after a power cut; see [`crate::sim`].
    ///
    /// First the size: after how many operations. Resizes up to there are done. Then each unit that a
    /// pending write touches: after how many of its own operations, where a cut counts exactly if the
    /// size shows it.
    fn settle(&self, file: u64, unit_bytes: u64, outcome: &mut dyn Outcome) -> Image {
        let sized_by = self.pick_size(file, outcome);
        let mut image = self.durable.clone();
        for operation in &self.pending[..sized_by] {
            image.resize(operation.size_after(image.size()));
        }
        let mut units: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (n, operation) in self.pending.iter().enumerate() {
            if let Operation::Write { at, bytes } = operation {
                for unit in at / unit_bytes..(at + bytes.len() as u64).div_ceil(unit_bytes) {
                    units.entry(unit).or_default().push(n);
                }
            }
        }
        for (unit, writes) in units {
            let start = unit * unit_bytes;
            if start < image.size() {
                let bytes =
                    self.settle_unit(start..start + unit_bytes, &writes, sized_by, file, outcome);
                let kept =
                    bytes.len().min(usize::try_from(image.size() - start).unwrap_or(usize::MAX));
                image.write(&bytes[..kept], start);
            }
        }
        image
    }

    /// How many of the operations count for the size.
    fn pick_size(&self, file: u64, outcome: &mut dyn Outcome) -> usize {
        let mut size = self.durable.size();
        let mut points = vec![0];
        for (n, operation) in self.pending.iter().enumerate() {
            let after = operation.size_after(size);
            if after != size {
                points.push(n + 1);
            }
            size = after;
        }
        points[pick(outcome, Choice::Size { file }, points.len())]
    }

    fn settle_unit(
        &self,
        span: std::ops::Range<u64>,
        writes: &[usize],
        sized_by: usize,
        file: u64,
        outcome: &mut dyn Outcome,
    ) -> Vec<u8> {
        let cuts =
            self.pending.iter().enumerate().filter(|(_, operation)| operation.cuts_below(span.end));
        let cuts: Vec<usize> = cuts.map(|(n, _)| n).collect();
        let mut steps = [writes, &cuts].concat();
        steps.sort_unstable();
        let after_cut =
            |n: Option<usize>| n.map_or(0, |cut| steps.partition_point(|step| *step <= cut));
        let oldest = after_cut(cuts.iter().copied().rfind(|cut| *cut < sized_by));
        let undone = cuts.iter().copied().find(|cut| *cut >= sized_by);
        let newest = undone.map_or(steps.len(), |cut| steps.partition_point(|step| *step < cut));
        let states = self.replay(span, &steps[..newest], oldest);
        let picked = pick(outcome, Choice::Bytes { file }, states.len());
        states.into_iter().nth(picked).unwrap_or_default()
    }

    /// The bytes of `span` after the first `oldest` of the given operations, and after each further one that
    /// changes them.
    fn replay(&self, span: std::ops::Range<u64>, steps: &[usize], oldest: usize) -> Vec<Vec<u8>> {
        let index = |position: u64| usize::try_from(position - span.start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; index(span.end)];
        self.durable.read(&mut bytes, span.start);
        let mut states = Vec::new();
        for (taken, step) in steps.iter().enumerate() {
            if taken >= oldest && states.last() != Some(&bytes) {
                states.push(bytes.clone());
            }
            match &self.pending[*step] {
                Operation::Write { at, bytes: written } => {
                    let from = span.start.max(*at);
                    let to = span.end.min(at + written.len() as u64);
                    let skipped = usize::try_from(from - at).unwrap_or(usize::MAX);
                    let len = index(to) - index(from);
                    bytes[index(from)..index(to)].copy_from_slice(&written[skipped..skipped + len]);
                }
                Operation::Resize { to, .. } => bytes[index((*to).max(span.start))..].fill(0),
            }
        }
        if states.last() != Some(&bytes) {
            states.push(bytes);
        }
        states
    }
}

/// Asks only where there is a choice, and believes no answer out of range.
pub(super) fn pick(outcome: &mut dyn Outcome, choice: Choice, options: usize) -> usize {
    if options < 2 { 0 } else { outcome.pick(choice, options).min(options - 1) }
}

#[cfg(test)]
mod tests {
    //! Goal: exactly the legal states come out of a crash. Method: all outcomes of small files, by hand and
    //! against the rules; the extremes of random work against the live and the last synced image.

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::sim::outcome::{Kept, Lost, Outcomes, Seeded};

    fn bytes_of(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(image.size()).unwrap()];
        image.read(&mut bytes, 0);
        bytes
    }

    /// All states, each as the first byte of every unit: a text such as "ab-", where "-" is zero.
    #[track_caller]
    fn check_states(work: impl FnOnce(&mut FileNode), want: &[&str]) {
        let mut file = FileNode::default();
        work(&mut file);
        let mut outcomes = Outcomes::new();
        let mut states = BTreeSet::new();
        while let Some(mut outcome) = outcomes.another() {
            let bytes = bytes_of(&file.settle(0, 512, &mut outcome));
            let first = |unit: &[u8]| if unit[0] == 0 { '-' } else { char::from(unit[0]) };
            states.insert(bytes.chunks(512).map(first).collect::<String>());
        }
        assert_eq!(states, want.iter().map(|state| (*state).to_owned()).collect());
    }

    fn units(text: &str) -> Vec<u8> {
        text.bytes().flat_map(|byte| [byte; 512]).collect()
    }

    #[test]
    fn a_write_tears_between_units_and_its_size_comes_apart_from_its_bytes() {
        check_states(|file| file.write(&units("ab"), 0), &["", "--", "a-", "-b", "ab"]);
    }

    #[test]
    fn synced_bytes_stay() {
        let work = |file: &mut FileNode| {
            file.write(&units("ab"), 0);
            file.sync();
            file.write(&units("c"), 512);
        };
        check_states(work, &["ab", "ac"]);
    }

    #[test]
    fn writes_to_one_unit_keep_their_order_and_to_two_units_do_not() {
        let synced = |file: &mut FileNode| {
            file.write(&units("--"), 0);
            file.sync();
        };
        let one = |file: &mut FileNode| {
            synced(file);
            file.write(b"a", 0);
            file.write(b"b", 1);
        };
        let mut file = FileNode::default();
        one(&mut file);
        let mut outcomes = Outcomes::new();
        while let Some(mut outcome) = outcomes.another() {
            let bytes = bytes_of(&file.settle(0, 512, &mut outcome));
            assert_ne!(&bytes[..2], b"-b", "the later write without the earlier one");
        }
        let two = |file: &mut FileNode| {
            synced(file);
            file.write(b"a", 0);
            file.write(b"b", 512);
        };
        check_states(two, &["--", "a-", "-b", "ab"]);
    }

    #[test]
    fn a_cut_that_shows_is_complete_and_one_that_does_not_took_nothing() {
        let work = |file: &mut FileNode| {
            file.write(&units("abc"), 0);
            file.sync();
            file.resize(512);
            file.write(&units("X"), 1024);
        };
        check_states(work, &["abc", "a", "a--", "a-X"]);
    }

    #[test]
    fn an_overwrite_before_a_cut_may_be_there_or_not_where_the_cut_left_it() {
        let work = |file: &mut FileNode| {
            file.write(&units("ab"), 0);
            file.sync();
            file.write(&units("cd"), 0);
            file.resize(512);
        };
        check_states(work, &["ab", "cb", "ad", "cd", "a", "c"]);
    }

    #[test]
    fn a_size_without_its_bytes_leaves_a_hole() {
        let work = |file: &mut FileNode| {
            file.write(&units("a"), 0);
            file.sync();
            file.write(&units("b"), 1024);
            file.write(&units("c"), 512);
        };
        check_states(work, &["a", "a--", "ac-", "a-b", "acb"]);
    }

    #[test]
    fn room_that_was_reserved_and_not_synced_may_be_missing_with_what_is_in_it() {
        let work = |file: &mut FileNode| {
            file.allocate(1024);
            file.write(&units("a"), 0);
        };
        check_states(work, &["", "--", "a-"]);
        let synced = |file: &mut FileNode| {
            file.allocate(1024);
            file.sync();
            file.write(&units("a"), 0);
        };
        check_states(synced, &["--", "a-"]);
    }

    #[test]
    fn bytes_that_are_cut_and_written_again_are_old_new_or_zero() {
        let work = |file: &mut FileNode| {
            file.write(&units("ab"), 0);
            file.sync();
            file.resize(512);
            file.write(&units("c"), 512);
        };
        check_states(work, &["ab", "a", "a-", "ac"]);
    }

    #[test]
    fn writing_the_same_bytes_again_is_no_choice() {
        let mut file = FileNode::default();
        file.write(&units("ab"), 0);
        file.sync();
        file.write(&units("ab"), 0);
        let mut outcomes = Outcomes::new();
        let mut count = 0;
        while let Some(mut outcome) = outcomes.another() {
            file.settle(0, 512, &mut outcome);
            count += 1;
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn a_bad_page_fails_reads_until_all_of_it_is_written() {
        let mut file = FileNode::default();
        file.write(&[1; 12_000], 0);
        file.spoil(5000);
        let mut buf = [0; 12_000];
        assert_eq!(file.read(&mut buf, 0), Some(4096));
        assert_eq!(file.read(&mut buf, 4096), None);
        assert_eq!(file.read(&mut buf, 8192), Some(12_000 - 8192));
        file.write(&[2; 4095], 4097);
        assert_eq!(file.read(&mut buf[..1], 8191), None);
        file.write(&[2; 4096], 4096);
        assert_eq!(file.read(&mut buf, 0), Some(12_000));
        assert_eq!(file.read(&mut buf, 12_000), Some(0));
    }

    #[test]
    fn after_a_failed_sync_later_syncs_do_not_bring_the_bytes_back() {
        let mut file = FileNode::default();
        file.write(&units("ab"), 0);
        file.sync();
        file.write(&units("X"), 0);
        file.fail_sync(0, 512, &mut Lost);
        file.write(&units("c"), 1024);
        file.sync();
        assert_eq!(bytes_of(&file.live), units("Xbc"));
        file.crash(0, 512, &mut Kept);
        assert_eq!(bytes_of(&file.live), units("abc"));
    }

    fn any_work() -> impl Strategy<Value = Vec<(u64, Option<Vec<u8>>, bool)>> {
        let bytes = prop::option::weighted(0.8, prop::collection::vec(1..=255u8, 0..2000));
        prop::collection::vec((0..6000u64, bytes, prop::bool::weighted(0.2)), 0..12)
    }

    fn all_states(file: &FileNode, unit_bytes: u64) -> BTreeSet<Vec<u8>> {
        let mut outcomes = Outcomes::new();
        let mut states = BTreeSet::new();
        while let Some(mut outcome) = outcomes.another() {
            states.insert(bytes_of(&file.settle(0, unit_bytes, &mut outcome)));
        }
        states
    }

    proptest! {
        #[test]
        fn small_units_leave_whatever_large_units_may_leave(
            work in prop::collection::vec((3500..4600u64, prop::option::weighted(0.7, (1..500usize, 1..=9u8))), 0..5),
            synced in 0..5usize,
        ) {
            let mut file = FileNode::default();
            for (n, (at, write)) in work.into_iter().enumerate() {
                match write {
                    Some((len, fill)) => file.write(&vec![fill; len], at),
                    None => file.resize(at),
                }
                if n + 1 == synced {
                    file.sync();
                }
            }
            prop_assert!(all_states(&file, 4096).is_subset(&all_states(&file, 512)));
        }

        #[test]
        fn a_crash_lies_between_the_last_sync_and_now(work in any_work(), seed: u64, big_units: bool) {
            let mut file = FileNode::default();
            let mut synced = Vec::new();
            for (at, bytes, sync) in work {
                match bytes {
                    Some(bytes) => file.write(&bytes, at),
                    None => file.resize(at),
                }
                if sync {
                    file.sync();
                    synced = bytes_of(&file.live);
                }
            }
            let unit_bytes = if big_units { 4096 } else { 512 };
            prop_assert_eq!(bytes_of(&file.settle(0, unit_bytes, &mut Lost)), synced);
            prop_assert_eq!(bytes_of(&file.settle(0, unit_bytes, &mut Kept)), bytes_of(&file.live));
            let some = bytes_of(&file.settle(0, unit_bytes, &mut Seeded::new(seed)));
            prop_assert_eq!(&some, &bytes_of(&file.settle(0, unit_bytes, &mut Seeded::new(seed))));
            file.crash(0, unit_bytes, &mut Seeded::new(seed));
            prop_assert_eq!(bytes_of(&file.live), some);
            prop_assert!(!file.is_pending());
        }
    }
}
