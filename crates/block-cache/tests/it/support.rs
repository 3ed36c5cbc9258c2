//! What the tests share: a cache of a given size, short names for calls, repeatable randomness.

use block_cache::{
    BlockCache, DirtyPiece, Gap, GapKind, Generation, Options, PIECE_BYTES, PieceId,
};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const PIECE: u64 = PIECE_BYTES as u64;

pub(crate) fn cache(budget_bytes: u64) -> BlockCache {
    BlockCache::new(Options { budget_bytes })
}

pub(crate) fn generation(number: u64) -> Generation {
    Generation::new(number)
}

pub(crate) fn piece(strand: u64, index: u64) -> PieceId {
    PieceId { strand, index }
}

/// Writes and expects room.
#[track_caller]
pub(crate) fn write(cache: &BlockCache, strand: u64, offset: u64, bytes: &[u8], number: u64) {
    cache.write(strand, offset, bytes, generation(number)).unwrap();
}

/// What a read of `len` bytes gives: bytes over a background of 0xEE, and the gaps.
pub(crate) fn read(
    cache: &BlockCache,
    strand: u64,
    offset: u64,
    len: usize,
) -> (Vec<u8>, Vec<Gap>) {
    let (mut bytes, mut gaps) = (vec![0xEE; len], vec![Gap { range: 7..9, kind: GapKind::Cold }]);
    cache.read(strand, offset, &mut bytes, &mut gaps);
    (bytes, gaps)
}

pub(crate) fn cold(range: std::ops::Range<u64>) -> Gap {
    Gap { range, kind: GapKind::Cold }
}

pub(crate) fn hole(range: std::ops::Range<u64>) -> Gap {
    Gap { range, kind: GapKind::Hole }
}

pub(crate) fn dirty(cache: &BlockCache) -> Vec<DirtyPiece> {
    let mut found = Vec::new();
    cache.dirty(usize::MAX, &mut found);
    found
}

pub(crate) fn dirty_ids(cache: &BlockCache) -> Vec<PieceId> {
    dirty(cache).iter().map(|dirty| dirty.id).collect()
}

/// Marks all that is dirty now as saved.
pub(crate) fn save_all(cache: &BlockCache) {
    for dirty in dirty(cache) {
        cache.mark_saved(dirty.id, dirty.newest);
    }
}

/// Numbers that a seed repeats.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
