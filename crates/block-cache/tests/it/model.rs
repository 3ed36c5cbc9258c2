//! Goal: whatever is done to the cache in whatever order, a read gives the newest bytes, a hole or cold,
//! and never anything else; what is not saved is never cold. Model: what each byte of each strand truly is;
//! a byte of which that is not known has to be cold.

use std::ops::Range;

use block_cache::{BlockCache, Fill, Gap, GapKind, PieceId, WriteError};

use crate::support::{MIB, PIECE, Rng, cache, generation, piece};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Byte {
    /// Nothing is a hole.
    value: Option<u8>,
    /// Its write, while it is not saved.
    dirty: Option<u64>,
}

/// The beginning of a strand, and what is around the border between its first two pieces.
#[derive(Clone, Debug)]
struct Truth(Vec<Option<Byte>>);

const HEAD: u64 = 256 << 10;
const BEFORE: u64 = 64 << 10;
const AFTER: u64 = 256 << 10;

impl Truth {
    fn new() -> Self {
        Self(vec![None; usize::try_from(HEAD + BEFORE + AFTER).unwrap()])
    }

    /// Where a byte of the strand is.
    fn place(at: u64) -> usize {
        let place = match at.checked_sub(PIECE - BEFORE) {
            Some(later) => HEAD + later.min(BEFORE + AFTER),
            None => at.min(HEAD),
        };
        usize::try_from(place).unwrap()
    }

    fn range(range: &Range<u64>) -> Range<usize> {
        Self::place(range.start)..Self::place(range.end)
    }

    fn known(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Byte)> {
        let places = Self::range(&range);
        let known = self.0[places.clone()].iter().zip(places);
        known.filter_map(|(byte, place)| {
            let place = place as u64;
            let at = if place < HEAD { place } else { PIECE - BEFORE + (place - HEAD) };
            Some((at, (*byte)?))
        })
    }
}

/// A fill that began, with what was true then.
struct Began<'a> {
    fill: Fill<'a>,
    id: PieceId,
    truth: Truth,
}

struct Twin<'a> {
    cache: &'a BlockCache,
    strands: Vec<Truth>,
    /// There was always room, so that nothing was evicted and every hole could be noted.
    roomy: bool,
    generation: u64,
    refused: u64,
    label: String,
}

const STRANDS: u64 = 3;

impl<'a> Twin<'a> {
    fn step(&mut self, rng: &mut Rng, fills: &mut Vec<Began<'a>>) {
        let strand = rng.below(STRANDS);
        let range = range(rng);
        match rng.below(20) {
            0..=8 => self.write(strand, range.clone(), rng),
            9 => self.truncate(strand, range.start),
            10 => self.punch(strand, range.clone()),
            11 => {
                self.cache.forget(strand, range.clone());
                self.bytes(strand, &range).fill(None);
            }
            12 if rng.one_in(3) => {
                self.cache.remove(strand);
                self.bytes(strand, &(0..u64::MAX)).fill(None);
            }
            13 | 14 => self.save(rng),
            15 => {
                self.cache.evict(rng.below(100_000));
                self.roomy = false;
            }
            16 | 17 => self.begin_fill(PieceId::at(strand, range.start), fills),
            18 if !fills.is_empty() => {
                let which = usize::try_from(rng.below(fills.len() as u64)).unwrap();
                self.end_fill(&fills.swap_remove(which));
            }
            _ => {}
        }
        let strand = rng.below(STRANDS);
        let len = 1 + rng.below(9000);
        self.check(strand, range.start.saturating_sub(rng.below(500)), len);
    }

    fn bytes(&mut self, strand: u64, range: &Range<u64>) -> &mut [Option<Byte>] {
        &mut self.strands[usize::try_from(strand).unwrap()].0[Truth::range(range)]
    }

    fn write(&mut self, strand: u64, range: Range<u64>, rng: &mut Rng) {
        self.generation += 1;
        let number = self.generation;
        let bytes = rng.bytes(usize::try_from(range.end - range.start).unwrap());
        match self.cache.write(strand, range.start, &bytes, generation(number)) {
            Ok(()) => {
                for (byte, value) in self.bytes(strand, &range).iter_mut().zip(bytes) {
                    *byte = Some(Byte { value: Some(value), dirty: Some(number) });
                }
            }
            Err(WriteError::CacheFull(_)) => self.refused += 1,
            Err(error @ WriteError::BeyondEnd { .. }) => panic!("{}: {error}", self.label),
        }
        self.roomy &= self.cache.stats().evicted_pieces == 0;
    }

    fn truncate(&mut self, strand: u64, len: u64) {
        self.cache.truncate(strand, len);
        self.bytes(strand, &(len..u64::MAX)).fill(None);
    }

    fn punch(&mut self, strand: u64, range: Range<u64>) {
        self.cache.punch_hole(strand, range.clone());
        self.bytes(strand, &range).fill(Some(Byte { value: None, dirty: None }));
    }

    /// Saves some dirty pieces, some of them with a generation of long ago.
    fn save(&mut self, rng: &mut Rng) {
        let mut found = Vec::new();
        self.cache.dirty(usize::MAX, &mut found);
        self.check_dirty(&found.iter().map(|dirty| dirty.id).collect::<Vec<_>>());
        for dirty in found {
            if rng.one_in(2) {
                let stale = rng.one_in(3);
                let number =
                    if stale { rng.below(self.generation + 1) } else { dirty.newest.get() };
                self.cache.mark_saved(dirty.id, generation(number));
                let bytes = self.bytes(dirty.id.strand, &dirty.id.range());
                for byte in bytes.iter_mut().flatten() {
                    byte.dirty = byte.dirty.filter(|write| *write > number);
                }
            }
        }
    }

    /// Every byte that is not saved lies in a listed range of a listed piece.
    #[track_caller]
    fn check_dirty(&self, listed: &[PieceId]) {
        let mut ranges = Vec::new();
        for (strand, truth) in (0..).zip(&self.strands) {
            let mut id = None;
            let known = truth.known(0..u64::MAX);
            for (at, _) in known.filter(|(_, byte)| byte.dirty.is_some()) {
                let now = PieceId::at(strand, at);
                if id.replace(now) != Some(now) {
                    assert!(listed.contains(&now), "{}: {now} is dirty", self.label);
                    self.cache.dirty_ranges(now, &mut ranges).unwrap();
                }
                let next = ranges.partition_point(|range| range.end <= at);
                let is_in = ranges.get(next).is_some_and(|range| range.contains(&at));
                assert!(is_in, "{}: {at} of {now} is dirty", self.label);
            }
        }
    }

    fn begin_fill(&mut self, id: PieceId, fills: &mut Vec<Began<'a>>) {
        if let Some(fill) = self.cache.fill(id) {
            let truth = self.strands[usize::try_from(id.strand).unwrap()].clone();
            fills.push(Began { fill, id, truth });
        }
    }

    /// Brings what was true when the fill began.
    fn end_fill(&mut self, began: &Began<'_>) {
        let known = began.truth.known(began.id.range());
        let known: Vec<_> = known.filter_map(|(at, byte)| Some((at, byte.value?))).collect();
        for run in known.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
            let bytes: Vec<u8> = run.iter().map(|(_, value)| *value).collect();
            began.fill.bring(run[0].0, &bytes);
        }
        self.check(began.id.strand, began.id.start(), 70_000);
    }

    #[track_caller]
    fn check(&self, strand: u64, offset: u64, len: u64) {
        let mut got = vec![0xEE; usize::try_from(len).unwrap()];
        let mut gaps = Vec::new();
        self.cache.read(strand, offset, &mut got, &mut gaps);
        let mut gaps = gaps.iter().peekable();
        let truth = &self.strands[usize::try_from(strand).unwrap()];
        let mut truth = truth.known(offset..offset + len).peekable();
        for (at, got) in (offset..).zip(got) {
            let is_past = |gap: &&Gap| gap.range.end <= at;
            while gaps.next_if(is_past).is_some() {}
            let kind = gaps.peek().filter(|gap| gap.range.contains(&at)).map(|gap| gap.kind);
            let byte = truth.next_if(|(known, _)| *known == at).map(|(_, byte)| byte);
            self.check_byte(at, kind, got, byte);
        }
        assert!(self.cache.stats().allocated_bytes <= self.cache.stats().budget_bytes);
    }

    #[track_caller]
    fn check_byte(&self, at: u64, kind: Option<GapKind>, got: u8, truth: Option<Byte>) {
        let right = match (kind, truth) {
            // Without room to note a hole, zeros stand for it.
            (None, Some(Byte { value: None, .. })) => got == 0 && !self.roomy,
            (None, Some(Byte { value: Some(value), .. })) => got == value,
            (Some(GapKind::Hole), Some(Byte { value: None, .. })) => got == 0,
            (Some(GapKind::Cold), Some(Byte { value: Some(_), dirty })) => {
                dirty.is_none() && !self.roomy && got == 0xEE
            }
            (Some(GapKind::Cold), Some(Byte { value: None, .. }) | None) => got == 0xEE,
            (None, None) | (Some(GapKind::Hole), Some(_) | None) => false,
        };
        assert!(right, "{}: byte {at} is {kind:?} {got}, in truth {truth:?}", self.label);
    }
}

/// Ranges that meet each other and the edges of granules, pages, chunks and pieces.
fn range(rng: &mut Rng) -> Range<u64> {
    let near = [0, 64, 4096, 5 * 4096, 65_536, 2 * 65_536, PIECE, PIECE, PIECE + 65_536];
    let near = near[usize::try_from(rng.below(near.len() as u64)).unwrap()];
    let start = match rng.below(4) {
        0 => near,
        1 => (near + rng.below(20_000)) / 64 * 64,
        _ => (near + rng.below(9000)).saturating_sub(rng.below(9000)),
    };
    let len = match rng.below(8) {
        0 => 1 + rng.below(3),
        1 => 64 * (1 + rng.below(64)),
        2 => 4096,
        3 => 40_000 + rng.below(40_000),
        _ => 1 + rng.below(6000),
    };
    start..start + len
}

#[track_caller]
fn run(seed: u64, budget: u64, steps: u64) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let cache = cache(budget);
    let mut fills = Vec::new();
    let mut twin = Twin {
        cache: &cache,
        strands: vec![Truth::new(); STRANDS as usize],
        roomy: budget > 32 * MIB,
        generation: 0,
        refused: 0,
        label: String::new(),
    };
    for step in 0..steps {
        twin.label = format!("seed {seed}, budget {budget}, step {step}");
        twin.step(&mut rng, &mut fills);
    }
    fills.iter().for_each(|began| twin.end_fill(began));
    drop(fills);
    for strand in 0..STRANDS {
        twin.check(strand, 0, 200_000);
        twin.check(strand, PIECE - 20_000, 200_000);
    }
    let refused = twin.refused;
    for id in (0..STRANDS).flat_map(|strand| [piece(strand, 0), piece(strand, 1)]) {
        cache.mark_saved(id, generation(u64::MAX));
    }
    cache.evict(u64::MAX);
    assert_eq!(cache.stats().pieces, 0, "seed {seed}: nothing is dirty, nothing is pinned");
    (refused, cache.stats().evicted_pieces)
}

#[test]
fn a_roomy_cache_is_what_the_model_says() {
    for seed in 0..8 {
        run(seed, 64 * MIB, 120);
    }
}

#[test]
fn a_tight_cache_is_what_the_model_says() {
    let (mut refused, mut evicted) = (0, 0);
    for seed in 100..110 {
        let (more_refused, more_evicted) = run(seed, 100_000 + (seed - 100) * 30_000, 160);
        refused += more_refused;
        evicted += more_evicted;
    }
    assert!(refused > 50 && evicted > 50, "{refused} writes refused, {evicted} pieces evicted");
}
