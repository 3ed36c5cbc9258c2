//! Which bytes of one chunk are here: to the byte, in words.
//!
//! A chunk is [`CHUNK_BYTES`] long and has three kinds of bytes: data, hole (known to be zeros) and cold
//! (not known here). It is divided into granules of 64 bytes. A granule of one kind is a bit in a word
//! (`data`, `hole`, or neither for cold), so that one word stands for one page of 4 KiB; a granule of
//! several kinds is an entry in `mixed`, a sorted list with a mask of its 64 bytes for each kind. Only the
//! edges of writes that do not begin or end at a granule make such entries.
//!
//! Invariants: no bit is set in both `data` and `hole`; a granule in `mixed` has no bit in either, and is
//! really of several kinds; `data_bytes` and `hole_bytes` are what words and masks add up to, so that
//! "is all of it here?" is one comparison.
//!
//! The list never grows by itself: [`Coverage::growth`] says what a change may need, and the owner pays for
//! it before it calls [`Coverage::reserve`].

use std::ops::Range;

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: u32 = 64 << 10;
/// Bytes of a page: what one word of coverage stands for.
pub(crate) const PAGE_BYTES: u32 = 4 << 10;
/// Pages of a chunk.
pub(crate) const PAGES: usize = (CHUNK_BYTES / PAGE_BYTES) as usize;

const GRANULE_BYTES: u32 = 64;
const GRANULES: u32 = CHUNK_BYTES / GRANULE_BYTES;
/// Entries of `mixed` that are reserved first.
const MIXED_MIN: usize = 4;
const _: () = assert!(GRANULES as usize == PAGES * 64, "a page is a word of granules");

/// What is known about a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Hole,
    Cold,
}

#[derive(Clone, Copy, Debug)]
struct Mixed {
    granule: u32,
    data: u64,
    hole: u64,
}

/// Kinds of the bytes of one chunk.
#[derive(Debug)]
pub(crate) struct Coverage {
    data: [u64; PAGES],
    hole: [u64; PAGES],
    mixed: Vec<Mixed>,
    data_bytes: u32,
    hole_bytes: u32,
}

impl Coverage {
    /// All cold.
    pub(crate) const fn new() -> Self {
        Self { data: [0; PAGES], hole: [0; PAGES], mixed: Vec::new(), data_bytes: 0, hole_bytes: 0 }
    }

    pub(crate) fn data_bytes(&self) -> u32 {
        self.data_bytes
    }

    pub(crate) fn hole_bytes(&self) -> u32 {
        self.hole_bytes
    }

    /// Whether any byte of a page is data.
    pub(crate) fn page_has_data(&self, page: usize) -> bool {
        self.data[page] != 0
            || self.mixed.iter().any(|mixed| mixed.granule as usize / 64 == page && mixed.data != 0)
    }

    /// Bytes that the list takes on the heap.
    pub(crate) fn heap_bytes(&self) -> u64 {
        list_bytes(self.mixed.capacity())
    }

    /// Bytes that [`Self::reserve`] would take from the heap.
    pub(crate) fn growth(&self, range: &Range<u32>, kind: Kind) -> u64 {
        self.grown(range, kind).map_or(0, list_bytes)
    }

    /// Makes room in the list for [`Self::set`] with the same arguments, or on parts of the range that are
    /// not of that kind.
    pub(crate) fn reserve(&mut self, range: &Range<u32>, kind: Kind) {
        if let Some(capacity) = self.grown(range, kind) {
            let mut grown = Vec::with_capacity(capacity);
            grown.append(&mut self.mixed);
            self.mixed = grown;
        }
    }

    /// How long the list has to become, if it has to.
    fn grown(&self, range: &Range<u32>, kind: Kind) -> Option<usize> {
        let edges = [range.start, range.end];
        let new = edges.iter().filter(|at| self.is_new_edge(**at, kind)).count();
        let needed = (self.mixed.len() + new).min(GRANULES as usize);
        (needed > self.mixed.capacity()).then(|| needed.next_power_of_two().max(MIXED_MIN))
    }

    /// Whether an edge here may make a mixed granule of one that is not.
    fn is_new_edge(&self, at: u32, kind: Kind) -> bool {
        if at.is_multiple_of(GRANULE_BYTES) {
            return false;
        }
        let (data, hole) = self.masks(at / GRANULE_BYTES);
        match kind {
            Kind::Data => data != u64::MAX,
            Kind::Hole => hole != u64::MAX,
            Kind::Cold => data | hole != 0,
        }
    }

    /// Makes every byte of `range` one of `kind`. Room for its edges was reserved.
    pub(crate) fn set(&mut self, range: Range<u32>, kind: Kind) {
        let (head, tail) = (range.start % GRANULE_BYTES, range.end % GRANULE_BYTES);
        let first = range.start.div_ceil(GRANULE_BYTES);
        let last = range.end / GRANULE_BYTES;
        if first > last {
            return self.set_bits(last, below(tail) & !below(head), kind);
        }
        if head != 0 {
            self.set_bits(first - 1, !below(head), kind);
        }
        self.set_granules(first..last, kind);
        if tail != 0 {
            self.set_bits(last, below(tail), kind);
        }
    }

    fn set_granules(&mut self, granules: Range<u32>, kind: Kind) {
        if granules.is_empty() {
            return;
        }
        self.drop_mixed(&granules);
        for word in granules.start / 64..granules.end.div_ceil(64) {
            let from = granules.start.saturating_sub(word * 64);
            let to = (granules.end - word * 64).min(64);
            let mask = below(to) & !below(from);
            let (data, hole) = (&mut self.data[word as usize], &mut self.hole[word as usize]);
            self.data_bytes -= (*data & mask).count_ones() * GRANULE_BYTES;
            *data &= !mask;
            // Most chunks have no holes: their words need not even be fetched.
            if self.hole_bytes > 0 {
                self.hole_bytes -= (*hole & mask).count_ones() * GRANULE_BYTES;
                *hole &= !mask;
            }
            match kind {
                Kind::Data => {
                    *data |= mask;
                    self.data_bytes += mask.count_ones() * GRANULE_BYTES;
                }
                Kind::Hole => {
                    *hole |= mask;
                    self.hole_bytes += mask.count_ones() * GRANULE_BYTES;
                }
                Kind::Cold => {}
            }
        }
    }

    /// Forgets the entries of these granules: they get one kind.
    fn drop_mixed(&mut self, granules: &Range<u32>) {
        if self.mixed.is_empty() {
            return;
        }
        let first = self.mixed_from(granules.start);
        let last = self.mixed_from(granules.end);
        for mixed in self.mixed.drain(first..last) {
            self.data_bytes -= mixed.data.count_ones();
            self.hole_bytes -= mixed.hole.count_ones();
        }
    }

    /// Makes some bytes of one granule bytes of `kind`.
    fn set_bits(&mut self, granule: u32, bits: u64, kind: Kind) {
        let (mut data, mut hole) = self.masks(granule);
        self.data_bytes -= data.count_ones();
        self.hole_bytes -= hole.count_ones();
        data &= !bits;
        hole &= !bits;
        match kind {
            Kind::Data => data |= bits,
            Kind::Hole => hole |= bits,
            Kind::Cold => {}
        }
        self.data_bytes += data.count_ones();
        self.hole_bytes += hole.count_ones();
        self.store(granule, data, hole);
    }

    fn store(&mut self, granule: u32, data: u64, hole: u64) {
        let (word, bit) = (granule as usize / 64, 1 << (granule % 64));
        let place = self.mixed_from(granule);
        let is_listed = self.mixed.get(place).is_some_and(|mixed| mixed.granule == granule);
        let is_mixed = !matches!((data, hole), (0, 0) | (u64::MAX, 0) | (0, u64::MAX));
        self.data[word] &= !bit;
        self.hole[word] &= !bit;
        match (is_mixed, is_listed) {
            (true, true) => self.mixed[place] = Mixed { granule, data, hole },
            (true, false) => {
                debug_assert!(self.mixed.len() < self.mixed.capacity(), "room was reserved");
                self.mixed.insert(place, Mixed { granule, data, hole });
            }
            (false, is_listed) => {
                if is_listed {
                    self.mixed.remove(place);
                }
                if data != 0 {
                    self.data[word] |= bit;
                }
                if hole != 0 {
                    self.hole[word] |= bit;
                }
            }
        }
    }

    /// Place of the first entry at or after a granule.
    fn mixed_from(&self, granule: u32) -> usize {
        self.mixed.partition_point(|mixed| mixed.granule < granule)
    }

    /// Masks of the bytes of a granule: data, hole.
    fn masks(&self, granule: u32) -> (u64, u64) {
        let (word, bit) = (granule as usize / 64, 1 << (granule % 64));
        if self.data[word] & bit != 0 {
            return (u64::MAX, 0);
        }
        if self.hole[word] & bit != 0 {
            return (0, u64::MAX);
        }
        match self.mixed.get(self.mixed_from(granule)) {
            Some(mixed) if mixed.granule == granule => (mixed.data, mixed.hole),
            _ => (0, 0),
        }
    }

    /// Whether every byte of `range` is data or a hole.
    pub(crate) fn covers(&self, range: Range<u32>) -> bool {
        if self.data_bytes + self.hole_bytes == CHUNK_BYTES {
            return true;
        }
        let granules = range.start / GRANULE_BYTES..range.end.div_ceil(GRANULE_BYTES);
        let known = (granules.start / 64..granules.end.div_ceil(64)).all(|word| {
            let from = granules.start.saturating_sub(word * 64);
            let to = (granules.end - word * 64).min(64);
            let known = self.data[word as usize] | self.hole[word as usize];
            below(to) & !below(from) & !known == 0
        });
        known || (!self.mixed.is_empty() && self.covers_mixed(range))
    }

    /// The same where granules may be mixed.
    fn covers_mixed(&self, range: Range<u32>) -> bool {
        let mut at = range.start;
        while at < range.end {
            let (kind, end) = self.run(at, range.end);
            if kind == Kind::Cold {
                return false;
            }
            at = end;
        }
        true
    }

    /// The kind of the byte at `at`, and where the run of that kind ends, at most at `end`.
    pub(crate) fn run(&self, at: u32, end: u32) -> (Kind, u32) {
        let (data, hole) = self.masks(at / GRANULE_BYTES);
        let bit = 1 << (at % GRANULE_BYTES);
        let kind = match (data & bit != 0, hole & bit != 0) {
            (true, _) => Kind::Data,
            (_, true) => Kind::Hole,
            _ => Kind::Cold,
        };
        let mut to = at;
        while to < end {
            let ahead =
                if to.is_multiple_of(GRANULE_BYTES) { self.granules_of(kind, to, end) } else { 0 };
            let step = if ahead > 0 { ahead } else { self.bytes_of(kind, to) };
            if step == 0 {
                break;
            }
            to += step;
        }
        (kind, to.min(end))
    }

    /// Bytes of whole granules of one kind from `at` on, which begins one; 0 if the first is mixed.
    fn granules_of(&self, kind: Kind, at: u32, end: u32) -> u32 {
        let first = at / GRANULE_BYTES;
        let mut last = end.div_ceil(GRANULE_BYTES);
        if kind == Kind::Cold && !self.mixed.is_empty() {
            let next = self.mixed.get(self.mixed_from(first));
            last = next.map_or(last, |mixed| mixed.granule.min(last));
        }
        let mut granule = first;
        while granule < last {
            let word = granule as usize / 64;
            let bits = match kind {
                Kind::Data => self.data[word],
                Kind::Hole => self.hole[word],
                Kind::Cold => !(self.data[word] | self.hole[word]),
            };
            let same = (!(bits >> (granule % 64))).trailing_zeros().min(64 - granule % 64);
            granule += same;
            if same == 0 || !granule.is_multiple_of(64) {
                break;
            }
        }
        (granule.min(last) - first) * GRANULE_BYTES
    }

    /// Bytes of one kind from `at` on within its granule.
    fn bytes_of(&self, kind: Kind, at: u32) -> u32 {
        let (data, hole) = self.masks(at / GRANULE_BYTES);
        let bits = match kind {
            Kind::Data => data,
            Kind::Hole => hole,
            Kind::Cold => !(data | hole),
        };
        let skip = at % GRANULE_BYTES;
        (!(bits >> skip)).trailing_zeros().min(GRANULE_BYTES - skip)
    }
}

/// A word with the lowest `bits` set.
fn below(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn list_bytes(capacity: usize) -> u64 {
    (capacity * size_of::<Mixed>()) as u64
}

#[cfg(test)]
mod tests {
    //! Goal: coverage is exact to the byte. Model: one kind for each byte.

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Twin {
        coverage: Coverage,
        model: Vec<Kind>,
    }

    impl Twin {
        fn new() -> Self {
            Self { coverage: Coverage::new(), model: vec![Kind::Cold; CHUNK_BYTES as usize] }
        }

        fn set(&mut self, range: Range<u32>, kind: Kind) {
            let needed = self.coverage.growth(&range, kind);
            let before = self.coverage.heap_bytes();
            self.coverage.reserve(&range, kind);
            let after = self.coverage.heap_bytes();
            assert_eq!(after, if needed > 0 { needed } else { before });
            self.coverage.set(range.clone(), kind);
            assert_eq!(self.coverage.heap_bytes(), after, "set never grows the list");
            self.model[range.start as usize..range.end as usize].fill(kind);
        }

        #[track_caller]
        fn check(&self) {
            let mut seen = Vec::with_capacity(self.model.len());
            let mut before = None;
            while seen.len() < self.model.len() {
                let at = u32::try_from(seen.len()).unwrap();
                let (kind, end) = self.coverage.run(at, CHUNK_BYTES);
                assert!(end > at && before != Some(kind), "a run is as long as it can be");
                seen.resize(end as usize, kind);
                before = Some(kind);
            }
            assert!(seen == self.model);
            for at in (0..CHUNK_BYTES - 5000).step_by(1777) {
                for len in [1, 63, 64, 65, 4096, 5000] {
                    let bytes = &self.model[at as usize..(at + len) as usize];
                    let known = !bytes.contains(&Kind::Cold);
                    assert_eq!(self.coverage.covers(at..at + len), known, "{len} bytes at {at}");
                }
            }
            let count = |kind| self.model.iter().filter(|byte| **byte == kind).count();
            assert_eq!(self.coverage.data_bytes() as usize, count(Kind::Data));
            assert_eq!(self.coverage.hole_bytes() as usize, count(Kind::Hole));
            for (page, bytes) in self.model.chunks(PAGE_BYTES as usize).enumerate() {
                assert_eq!(self.coverage.page_has_data(page), bytes.contains(&Kind::Data));
            }
        }
    }

    /// Edges near granules, words and anywhere.
    fn edge() -> impl Strategy<Value = u32> {
        prop_oneof![
            0..=CHUNK_BYTES,
            (0..=GRANULES).prop_map(|granule| granule * GRANULE_BYTES),
            (0..=CHUNK_BYTES / PAGE_BYTES).prop_map(|page| page * PAGE_BYTES),
            0..=300_u32,
        ]
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Data), Just(Kind::Data), Just(Kind::Hole), Just(Kind::Cold)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_changes_give_what_the_model_has(
            changes in prop::collection::vec((edge(), edge(), kind()), 1..24),
        ) {
            let mut twin = Twin::new();
            for (one, other, kind) in changes {
                twin.set(one.min(other)..one.max(other), kind);
                twin.check();
            }
        }
    }

    #[test]
    fn every_granule_can_be_mixed() {
        let mut twin = Twin::new();
        for granule in (0..GRANULES).rev() {
            let at = granule * GRANULE_BYTES + granule % GRANULE_BYTES;
            twin.set(at..at + 1, Kind::Data);
        }
        twin.check();
        twin.set(0..CHUNK_BYTES, Kind::Data);
        twin.check();
        assert_eq!(twin.coverage.run(0, CHUNK_BYTES), (Kind::Data, CHUNK_BYTES));
    }
}
