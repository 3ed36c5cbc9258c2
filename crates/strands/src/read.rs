//! Reading rows and bytes.
//!
//! A read of bytes is planned under the state's lock (what lies in the journal, pinned so that a trim
//! cannot take it away) and completed from the extents (what lies in blocks); what neither knows is a
//! hole. The three answers for bytes that are not at hand stay apart: a hole is zeros, a block is
//! fetched, and what should be there and is not is [`ReadError::Unresolvable`].

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use block_store::{BlockName, BlockStore};
use bytes::{Bytes, BytesMut};
use durable_log::Slice;

use crate::error::ReadError;
use crate::extents;
use crate::overlay::Version;
use crate::shared::{Shared, lock, stored_value};
use crate::types::{Order, Position, StrandId, Table};

/// What a hole means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    /// Zeros, as in a sparse file.
    Zeros,
    /// An error: the strand was written without gaps.
    Refuse,
}

/// Where the bytes of one read lie, in order and without gaps.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    strand: StrandId,
    start: u64,
    len: u32,
    holes: Holes,
    parts: Vec<Part>,
    /// [`crate::shared::State::extent_changes`] before it was made.
    extent_changes: u64,
}

#[derive(Debug)]
enum Part {
    Journal(Slice),
    Block { name: BlockName, range: Range<u32> },
    Hole { len: u32 },
}

/// A range of the strand and its bytes in the journal.
struct Pinned {
    start: u64,
    end: u64,
    slice: Slice,
}

impl Part {
    fn len(&self) -> u32 {
        match self {
            Self::Journal(slice) => slice.len(),
            Self::Block { range, .. } => range.end - range.start,
            Self::Hole { len } => *len,
        }
    }
}

impl Shared {
    /// Finds `len` bytes of a strand from `start`.
    pub(crate) fn plan_read(
        &self,
        strand: StrandId,
        start: u64,
        len: u32,
        holes: Holes,
    ) -> Result<ReadPlan, ReadError> {
        let unresolvable = |offset, why: String| ReadError::Unresolvable { strand, offset, why };
        let end = start
            .checked_add(len.into())
            .ok_or_else(|| unresolvable(start, "a range beyond the largest offset".to_owned()))?;
        let (parts, extent_changes) = self.parts(strand, start, end)?;
        if self.read_state().removed.contains_key(&strand) {
            return Err(unresolvable(start, "the strand was removed".to_owned()));
        }
        let plan = ReadPlan { strand, start, len, holes, parts, extent_changes };
        match (holes, plan.first_hole()) {
            (Holes::Refuse, Some(offset)) => {
                Err(unresolvable(offset, "neither the journal nor a block holds it".to_owned()))
            }
            _ => Ok(plan),
        }
    }

    /// Where `start..end` lies, as of one moment, and the count of [`State::extent_changes`] then.
    ///
    /// [`State::extent_changes`]: crate::shared::State::extent_changes
    ///
    /// Extents are rows that are read one after the other, so a pack or a truncate between two of them
    /// would show a state that never was: then all is read again, and in the end under the lock that
    /// keeps it as it is.
    fn parts(&self, strand: StrandId, start: u64, end: u64) -> Result<(Vec<Part>, u64), ReadError> {
        for _ in 0..UNLOCKED_TRIES {
            let before = self.read_state().extent_changes;
            let parts = self.parts_once(strand, start, end);
            if self.read_state().extent_changes == before {
                return parts.map(|parts| (parts, before));
            }
        }
        let _extents = self.lock_extents(std::iter::once(strand));
        let now = self.read_state().extent_changes;
        Ok((self.parts_once(strand, start, end)?, now))
    }

    fn parts_once(&self, strand: StrandId, start: u64, end: u64) -> Result<Vec<Part>, ReadError> {
        let mut parts = Vec::new();
        let mut at = start;
        for pinned in self.pinned(strand, start, end)? {
            self.plan_blocks(&mut parts, strand, at, pinned.start)?;
            parts.push(Part::Journal(pinned.slice));
            at = pinned.end;
        }
        self.plan_blocks(&mut parts, strand, at, end)?;
        Ok(parts)
    }

    /// The journal's part of a read.
    fn pinned(&self, strand: StrandId, start: u64, end: u64) -> Result<Vec<Pinned>, ReadError> {
        let state = self.read_state();
        let pieces = state.pieces.overlapping(strand, start, end);
        pieces
            .into_iter()
            .map(|placed| {
                let slice = self.log.slice(placed.piece.at, placed.piece.len).map_err(|error| {
                    ReadError::Unresolvable { strand, offset: placed.start, why: error.to_string() }
                })?;
                Ok(Pinned { start: placed.start, end: placed.end(), slice })
            })
            .collect()
    }

    /// Fills `start..end`, which the journal does not hold, from extents and holes.
    fn plan_blocks(
        &self,
        parts: &mut Vec<Part>,
        strand: StrandId,
        start: u64,
        end: u64,
    ) -> Result<(), ReadError> {
        let mut at = start;
        if start < end {
            for extent in extents::overlapping(self, strand, start, end)? {
                let extent = extent.cut(start, end);
                if extent.start < at {
                    let why = "two extents claim it".to_owned();
                    return Err(ReadError::Unresolvable { strand, offset: extent.start, why });
                }
                push_hole(parts, at, extent.start);
                parts.push(Part::Block {
                    name: extent.block,
                    range: extent.at..extent.at + extent.len,
                });
                at = extent.end();
            }
        }
        push_hole(parts, at, end);
        Ok(())
    }
}

impl Shared {
    /// Reads what was planned. Bytes that cannot be found are also told to the operator, at most once
    /// in [`WARN_EVERY`]: a client that tries for ever does not look into blocks.
    pub(crate) fn fetch(&self, plan: ReadPlan) -> Result<Bytes, ReadError> {
        let fetched = self.fetch_planned(plan);
        if let Err(error) = &fetched {
            let now = self.host.clock.monotonic();
            let mut warned = lock(&self.warned);
            if warned.is_none_or(|then| now.since(then) >= WARN_EVERY) {
                tracing::warn!(%error, "bytes that should be there cannot be read");
                *warned = Some(now);
            }
        }
        fetched
    }
}

impl Shared {
    /// Reads what was planned, and plans again when a block is gone that collection may have taken: what
    /// replaced it was committed before it went. When no extents have changed, it is lost.
    fn fetch_planned(&self, mut plan: ReadPlan) -> Result<Bytes, ReadError> {
        for _ in 0..PLANS_MAX {
            match plan.fetch(&self.blocks) {
                Ok(bytes) => return Ok(bytes),
                Err(FetchError::Other(error)) => return Err(error),
                Err(FetchError::Missing(error)) => {
                    if self.read_state().extent_changes == plan.extent_changes {
                        return Err(error);
                    }
                    plan = self.plan_read(plan.strand, plan.start, plan.len, plan.holes)?;
                }
            }
        }
        plan.fetch(&self.blocks).map_err(FetchError::into_inner)
    }
}

/// Why planned bytes did not come.
enum FetchError {
    /// A block is not there.
    Missing(ReadError),
    Other(ReadError),
}

impl FetchError {
    fn into_inner(self) -> ReadError {
        match self {
            Self::Missing(error) | Self::Other(error) => error,
        }
    }
}

impl ReadPlan {
    /// Whether no block has to be read, so that the bytes come from the page cache or memory.
    pub(crate) fn is_at_hand(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Block { .. }))
    }

    /// Reads the bytes. One part comes back as it lies; several are gathered.
    fn fetch(&self, blocks: &Arc<dyn BlockStore>) -> Result<Bytes, FetchError> {
        let mut at = self.start;
        let mut gathered = BytesMut::new();
        let many = self.parts.len() > 1;
        if many {
            gathered.reserve(self.parts.iter().map(|part| part.len() as usize).sum());
        }
        for part in &self.parts {
            let bytes = self.fetch_part(part, at, blocks)?;
            if !many {
                return Ok(bytes);
            }
            gathered.extend_from_slice(&bytes);
            at += u64::from(part.len());
        }
        Ok(gathered.freeze())
    }

    fn fetch_part(
        &self,
        part: &Part,
        at: u64,
        blocks: &Arc<dyn BlockStore>,
    ) -> Result<Bytes, FetchError> {
        let unresolvable =
            |why: String| ReadError::Unresolvable { strand: self.strand, offset: at, why };
        match part {
            Part::Journal(slice) => {
                slice.read().map_err(|error| FetchError::Other(unresolvable(error.to_string())))
            }
            Part::Block { name, range } => blocks.read(*name, range.clone()).map_err(|error| {
                let wrap = match error {
                    block_store::ReadError::Missing { .. } => FetchError::Missing,
                    _ => FetchError::Other,
                };
                wrap(unresolvable(error.to_string()))
            }),
            Part::Hole { len } => Ok(Bytes::from(vec![0; *len as usize])),
        }
    }

    fn first_hole(&self) -> Option<u64> {
        let mut at = self.start;
        for part in &self.parts {
            if matches!(part, Part::Hole { .. }) {
                return Some(at);
            }
            at += u64::from(part.len());
        }
        None
    }
}

fn push_hole(parts: &mut Vec<Part>, start: u64, end: u64) {
    if start < end {
        let len = u32::try_from(end - start).expect("a part of a read of at most 4 GiB");
        parts.push(Part::Hole { len });
    }
}

/// Rows of the overlay and the meta store together, newest version of each.
///
/// The overlay is read first: what leaves it meanwhile is found in the store.
pub(crate) fn merged_rows(
    shared: &Shared,
    table: Table,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    order: Order,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
    let (newer, whole) = shared.read_state().overlay.range(table, range, order, limit);
    let last_newer = if whole { None } else { newer.last().map(|(key, _)| key.clone()) };
    let mut merge = Merge { newer: newer.into_iter().peekable(), order, limit, rows: Vec::new() };
    let mut broken = None;
    shared.meta.scan(
        meta_store::Table(table.0),
        range,
        match order {
            Order::Ascending => meta_store::Order::Ascending,
            Order::Descending => meta_store::Order::Descending,
        },
        &mut |key, stored| {
            if last_newer.as_ref().is_some_and(|last| precedes(order, last, key)) {
                return ControlFlow::Break(());
            }
            match stored_value(&Bytes::copy_from_slice(stored)) {
                Ok(value) => merge.stored(key, stamp(stored), value),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    match broken {
        Some(error) => Err(error),
        None => Ok(merge.finish()),
    }
}

struct Merge<I: Iterator<Item = (Bytes, Version)>> {
    newer: std::iter::Peekable<I>,
    order: Order,
    limit: usize,
    rows: Vec<(Bytes, Bytes)>,
}

impl<I: Iterator<Item = (Bytes, Version)>> Merge<I> {
    /// Takes a stored row, after all newer rows that come before it.
    fn stored(&mut self, key: &[u8], at: Position, value: Bytes) -> ControlFlow<()> {
        while self.newer.peek().is_some_and(|(newer, _)| precedes(self.order, newer, key)) {
            self.take_newer();
        }
        match self.newer.peek() {
            // The store may have got a newer version since the overlay was read.
            Some((newer, version)) if newer == key && version.at >= at => self.take_newer(),
            Some((newer, _)) if newer == key => {
                self.newer.next();
                self.push(Bytes::copy_from_slice(key), value);
            }
            _ => self.push(Bytes::copy_from_slice(key), value),
        }
        if self.rows.len() >= self.limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn finish(mut self) -> Vec<(Bytes, Bytes)> {
        while self.newer.peek().is_some() {
            self.take_newer();
        }
        self.rows
    }

    fn take_newer(&mut self) {
        if let Some((key, version)) = self.newer.next()
            && let Some(value) = version.value
        {
            self.push(key, value);
        }
    }

    fn push(&mut self, key: Bytes, value: Bytes) {
        if self.rows.len() < self.limit {
            self.rows.push((key, value));
        }
    }
}

fn stamp(stored: &[u8]) -> Position {
    Position::new(stored.first_chunk().map_or(0, |at| u64::from_le_bytes(*at)))
}

fn precedes(order: Order, one: &[u8], other: &[u8]) -> bool {
    match order {
        Order::Ascending => one.cmp(other) == Ordering::Less,
        Order::Descending => one.cmp(other) == Ordering::Greater,
    }
}

/// How often a read is planned without a lock before it takes one.
const UNLOCKED_TRIES: u32 = 8;

/// How often a read is planned again because blocks went while it was under way.
const PLANS_MAX: u32 = 4;

/// Between two warnings about bytes that cannot be found.
const WARN_EVERY: Duration = Duration::from_secs(10);
