//! Which bytes of which strand lie in the journal: the index in memory over everything not yet packed.
//!
//! A piece is a run of bytes that one write put into the journal and that nothing newer has covered. It
//! knows its place ([`Location`]) and the commit that wrote it (its generation). Pieces of one strand
//! never overlap: a new write cuts what it covers.
//!
//! Invariant: whatever the journal holds for a byte is newer than whatever a block holds for it, because
//! packing takes pieces out ([`Pieces::packed`]) only in the commit that says where they went.

use std::collections::BTreeMap;

use durable_log::Location;

use crate::types::{Position, StrandId};

#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Pieces {
    strands: BTreeMap<StrandId, BTreeMap<u64, Piece>>,
    count: usize,
    bytes: u64,
}

/// A run of bytes in the journal, keyed by its start in the strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) len: u32,
    pub(crate) at: Location,
    /// The commit that wrote it.
    pub(crate) written: Position,
}

/// A piece with its place in the strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) strand: StrandId,
    pub(crate) start: u64,
    pub(crate) piece: Piece,
}

impl Pieces {
    /// Notes a write, cutting what it covers.
    pub(crate) fn write(&mut self, strand: StrandId, start: u64, piece: Piece) {
        self.clear(strand, start, start + u64::from(piece.len), Position::new(u64::MAX));
        self.insert(strand, start, piece);
    }

    /// Forgets everything of a strand at `len` and beyond.
    pub(crate) fn truncate(&mut self, strand: StrandId, len: u64) {
        self.clear(strand, len, u64::MAX, Position::new(u64::MAX));
    }

    /// Forgets a strand.
    pub(crate) fn remove(&mut self, strand: StrandId) {
        self.truncate(strand, 0);
    }

    /// Forgets what commits before `before` wrote into the range: it lies in a block now.
    pub(crate) fn packed(&mut self, strand: StrandId, start: u64, len: u32, before: Position) {
        self.clear(strand, start, start.saturating_add(len.into()), before);
    }

    /// Pieces that overlap `start..end`, cut to it, in order.
    pub(crate) fn overlapping(&self, strand: StrandId, start: u64, end: u64) -> Vec<Placed> {
        let Some(pieces) = self.strands.get(&strand) else { return Vec::new() };
        let first = first_overlap(pieces, start);
        pieces.range(first..end).map(|(at, piece)| cut(strand, *at, *piece, start, end)).collect()
    }

    /// One past the last byte of a strand that lies here.
    pub(crate) fn end(&self, strand: StrandId) -> u64 {
        let last = self.strands.get(&strand).and_then(BTreeMap::last_key_value);
        last.map_or(0, |(start, piece)| start + u64::from(piece.len))
    }

    /// Everything that commits before `before` wrote, by strand and start.
    pub(crate) fn written_before(&self, before: Position) -> Vec<Placed> {
        let mut found = Vec::new();
        self.page((StrandId::from_raw(0), 0), usize::MAX, |placed| {
            if placed.piece.written < before {
                found.push(placed);
            }
        });
        found
    }

    /// Shows at most `limit` pieces from the place `from` on, by strand and start; returns where to go on.
    pub(crate) fn page(
        &self,
        from: (StrandId, u64),
        limit: usize,
        mut show: impl FnMut(Placed),
    ) -> Option<(StrandId, u64)> {
        let mut left = limit;
        for (strand, pieces) in self.strands.range(from.0..) {
            let first = if *strand == from.0 { from.1 } else { 0 };
            for (start, piece) in pieces.range(first..) {
                if left == 0 {
                    return Some((*strand, *start));
                }
                left -= 1;
                show(Placed { strand: *strand, start: *start, piece: *piece });
            }
        }
        None
    }

    /// Takes on all pieces of a strand that has none, by their starts, in order; none overlaps another.
    pub(crate) fn fill(&mut self, strand: StrandId, pieces: Vec<(u64, Piece)>) {
        if pieces.is_empty() {
            return;
        }
        self.count += pieces.len();
        self.bytes += pieces.iter().map(|(_, piece)| u64::from(piece.len)).sum::<u64>();
        self.strands.insert(strand, pieces.into_iter().collect());
    }

    /// Whether there are the same bytes of the same strands, however they are cut and wherever they lie.
    pub(crate) fn covers_the_same_as(&self, other: &Self) -> bool {
        let covered = |start: &u64, piece: &Piece| (*start, *start + u64::from(piece.len));
        let joined = |pieces: &BTreeMap<u64, Piece>| {
            let mut runs: Vec<(u64, u64)> = Vec::new();
            for (start, end) in pieces.iter().map(|(start, piece)| covered(start, piece)) {
                match runs.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => runs.push((start, end)),
                }
            }
            runs
        };
        self.bytes == other.bytes
            && self.strands.len() == other.strands.len()
            && self.strands.iter().all(|(strand, pieces)| {
                other.strands.get(strand).is_some_and(|others| joined(pieces) == joined(others))
            })
    }

    /// Number of pieces.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Cuts away `start..end` of what commits before `before` wrote.
    fn clear(&mut self, strand: StrandId, start: u64, end: u64, before: Position) {
        let Some(pieces) = self.strands.get(&strand) else { return };
        let first = first_overlap(pieces, start);
        let hit: Vec<_> = pieces
            .range(first..end)
            .filter(|(_, piece)| piece.written < before)
            .map(|(at, piece)| (*at, *piece))
            .collect();
        for (at, piece) in hit {
            self.take(strand, at);
            let piece_end = at + u64::from(piece.len);
            if at < start {
                self.insert(strand, at, cut(strand, at, piece, at, start).piece);
            }
            if piece_end > end {
                self.insert(strand, end, cut(strand, at, piece, end, piece_end).piece);
            }
        }
        if self.strands.get(&strand).is_some_and(BTreeMap::is_empty) {
            self.strands.remove(&strand);
        }
    }

    fn insert(&mut self, strand: StrandId, start: u64, piece: Piece) {
        let old = self.strands.entry(strand).or_default().insert(start, piece);
        debug_assert!(old.is_none(), "pieces never overlap");
        self.count += 1;
        self.bytes += u64::from(piece.len);
    }

    fn take(&mut self, strand: StrandId, start: u64) {
        let taken = self.strands.get_mut(&strand).and_then(|pieces| pieces.remove(&start));
        if let Some(piece) = taken {
            self.count -= 1;
            self.bytes -= u64::from(piece.len);
        }
    }
}

impl Placed {
    /// One past its last byte in the strand.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.piece.len)
    }
}

/// Start of the first piece that reaches beyond `at`.
fn first_overlap(pieces: &BTreeMap<u64, Piece>, at: u64) -> u64 {
    match pieces.range(..at).next_back() {
        Some((start, piece)) if start + u64::from(piece.len) > at => *start,
        _ => at,
    }
}

/// The part of a piece inside `start..end`, which overlaps it.
fn cut(strand: StrandId, at: u64, piece: Piece, start: u64, end: u64) -> Placed {
    let from = at.max(start);
    let to = (at + u64::from(piece.len)).min(end);
    let skip = u32::try_from(from - at).expect("within a piece");
    let len = u32::try_from(to - from).expect("within a piece");
    Placed { strand, start: from, piece: Piece { len, at: piece.at.plus(skip.into()), ..piece } }
}
