//! Reading rows and bytes.
//!
//! A read of bytes is planned under the state's lock (what lies in the journal, pinned so that a trim
//! cannot take it away) and completed from the cache (which copies bytes of blocks) and the extents (what
//! lies in blocks); what none of them knows is a hole. The three answers for bytes that are not at hand stay apart: a hole is zeros, a block is
//! fetched, and what should be there and is not is [`ReadError::Unresolvable`].

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use block_cache::Fill;
use block_store::{BlockName, BlockStore};
use bytes::Bytes;
use durable_log::Slice;

use crate::cached::Cache;
use crate::error::ReadError;
use crate::extents;
use crate::overlay::Version;
use crate::shared::{Shared, lock, value_within};
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
    /// The whole answer, if a part of it came from the cache while it was planned; else empty.
    answer: Vec<u8>,
}

#[derive(Debug)]
enum Part {
    Journal(Slice),
    Block {
        name: BlockName,
        range: Range<u32>,
    },
    Hole {
        len: u32,
    },
    /// Already in the answer.
    Cached {
        len: u32,
    },
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
            Self::Hole { len } | Self::Cached { len } => *len,
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
        let plan = self.plan_at_one_moment(ReadPlan::new(strand, start, len, holes), end)?;
        if self.read_state().removed.contains_key(&strand) {
            return Err(unresolvable(start, "the strand was removed".to_owned()));
        }
        match (holes, plan.first_hole()) {
            (Holes::Refuse, Some(offset)) => {
                Err(unresolvable(offset, "neither the journal nor a block holds it".to_owned()))
            }
            _ => Ok(plan),
        }
    }

    /// One past the last byte of a strand that was written and not cut since.
    pub(crate) fn end(&self, strand: StrandId) -> Result<u64, ReadError> {
        let in_journal = self.read_state().pieces.end(strand);
        Ok(in_journal.max(extents::end(self, strand)?))
    }

    /// Where the plan's range, which ends at `end`, lies, as of one moment; and the count of
    /// [`State::extent_changes`] then.
    ///
    /// [`State::extent_changes`]: crate::shared::State::extent_changes
    ///
    /// Extents are rows that are read one after the other, so a pack or a truncate between two of them
    /// would show a state that never was: then all is read again, and in the end under the lock that
    /// keeps it as it is.
    fn plan_at_one_moment(&self, mut plan: ReadPlan, end: u64) -> Result<ReadPlan, ReadError> {
        for _ in 0..UNLOCKED_TRIES {
            let before = self.read_state().extent_changes;
            let planned = self.plan_once(&mut plan, end);
            if self.read_state().extent_changes == before {
                plan.extent_changes = before;
                return planned.map(|()| plan);
            }
        }
        let _extents = self.lock_extents(std::iter::once(plan.strand));
        plan.extent_changes = self.read_state().extent_changes;
        self.plan_once(&mut plan, end)?;
        Ok(plan)
    }

    fn plan_once(&self, plan: &mut ReadPlan, end: u64) -> Result<(), ReadError> {
        plan.parts.clear();
        let mut at = plan.start;
        for pinned in self.pinned(plan.strand, plan.start, end)? {
            self.plan_gap(plan, at, pinned.start)?;
            plan.parts.push(Part::Journal(pinned.slice));
            at = pinned.end;
        }
        self.plan_gap(plan, at, end)
    }

    /// Fills `start..end`, which the journal does not hold, from the cache and from what lies below it.
    ///
    /// What the cache holds follows from the extents, so it is of the same moment as they are.
    fn plan_gap(&self, plan: &mut ReadPlan, start: u64, end: u64) -> Result<(), ReadError> {
        let mut at = start;
        if start < end
            && let Some(cache) = &self.cache
            && cache.holds_some(plan.strand, start, end)
        {
            for cold in plan.read_cache(cache, start, end) {
                plan.push_cached(at, cold.start);
                self.plan_blocks(&mut plan.parts, plan.strand, cold.start, cold.end)?;
                at = cold.end;
            }
            plan.push_cached(at, end);
            at = end;
        }
        self.plan_blocks(&mut plan.parts, plan.strand, at, end)
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

    /// Fills `start..end`, which neither journal nor cache hold, from extents and holes.
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
        let fills = match &self.cache {
            Some(cache) if plan.touches_blocks() => self.begin_fills(cache, &mut plan)?,
            Some(_) | None => Vec::new(),
        };
        for _ in 0..PLANS_MAX {
            match plan.fetch(&self.blocks, &fills) {
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
        plan.fetch(&self.blocks, &fills).map_err(FetchError::into_inner)
    }

    /// Begins to bring into the cache what of a plan comes from blocks, and plans again: bytes may be
    /// brought only if it was looked up where they are after the cache was told that they will come.
    fn begin_fills<'c>(
        &self,
        cache: &'c Cache,
        plan: &mut ReadPlan,
    ) -> Result<Vec<Fill<'c>>, ReadError> {
        cache.note_read(plan.strand, plan.start, plan.start + u64::from(plan.len));
        let mut fills = Vec::new();
        if !plan.is_at_hand() {
            fills = cache.fills(plan.strand, plan.in_blocks().map(|(range, ..)| range));
            *plan = self.plan_read(plan.strand, plan.start, plan.len, plan.holes)?;
        }
        let missed = plan.in_blocks().map(|(range, ..)| range.end - range.start).sum();
        cache.count(plan.cached_bytes(), missed);
        Ok(fills)
    }
}

/// Why planned bytes did not come.
pub(crate) enum FetchError {
    /// A block is not there.
    Missing(ReadError),
    Other(ReadError),
}

impl FetchError {
    pub(crate) fn into_inner(self) -> ReadError {
        match self {
            Self::Missing(error) | Self::Other(error) => error,
        }
    }
}

impl ReadPlan {
    fn new(strand: StrandId, start: u64, len: u32, holes: Holes) -> Self {
        Self { strand, start, len, holes, parts: Vec::new(), extent_changes: 0, answer: Vec::new() }
    }

    /// Takes what the cache holds of `start..end` into the answer; the ranges that it does not hold.
    fn read_cache(&mut self, cache: &Cache, start: u64, end: u64) -> Vec<Range<u64>> {
        if self.answer.is_empty() {
            self.answer = vec![0; self.len as usize];
        }
        let place = |at: u64| usize::try_from(at - self.start).expect("within a read");
        let (from, to) = (place(start), place(end));
        cache.read(self.strand, start, &mut self.answer[from..to])
    }

    fn push_cached(&mut self, start: u64, end: u64) {
        if start < end {
            let len = u32::try_from(end - start).expect("within a read");
            self.parts.push(Part::Cached { len });
        }
    }

    /// The parts that lie in blocks: which range of the strand, which block, and where in it.
    fn in_blocks(&self) -> impl Iterator<Item = (Range<u64>, BlockName, Range<u32>)> {
        let mut at = self.start;
        self.parts.iter().filter_map(move |part| {
            let start = at;
            at += u64::from(part.len());
            match part {
                Part::Block { name, range } => Some((start..at, *name, range.clone())),
                Part::Journal(_) | Part::Hole { .. } | Part::Cached { .. } => None,
            }
        })
    }

    /// Fetches only what lies in blocks, to bring it into the cache. Returns how many bytes.
    pub(crate) fn fetch_blocks(
        &self,
        blocks: &Arc<dyn BlockStore>,
        fills: &[Fill<'_>],
    ) -> Result<u64, FetchError> {
        let mut fetched = 0;
        for (strand_range, name, range) in self.in_blocks() {
            let bytes = self.fetch_block(name, range, strand_range.start, blocks)?;
            bring(fills, strand_range.start, &bytes);
            fetched += bytes.len() as u64;
        }
        Ok(fetched)
    }

    fn fetch_block(
        &self,
        name: BlockName,
        range: Range<u32>,
        at: u64,
        blocks: &Arc<dyn BlockStore>,
    ) -> Result<Bytes, FetchError> {
        blocks.read(name, range).map_err(|error| {
            let why = error.to_string();
            let wrap = match error {
                block_store::ReadError::Missing { .. } => FetchError::Missing,
                _ => FetchError::Other,
            };
            wrap(ReadError::Unresolvable { strand: self.strand, offset: at, why })
        })
    }

    fn cached_bytes(&self) -> u64 {
        let cached = |part: &&Part| matches!(part, Part::Cached { .. });
        self.parts.iter().filter(cached).map(|part| u64::from(part.len())).sum()
    }

    fn touches_blocks(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Block { .. } | Part::Cached { .. }))
    }

    /// Whether no block has to be read, so that the bytes come from the page cache or memory.
    pub(crate) fn is_at_hand(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Block { .. }))
    }

    /// Reads the bytes. One part comes back as it lies; several are gathered.
    fn fetch(
        &mut self,
        blocks: &Arc<dyn BlockStore>,
        fills: &[Fill<'_>],
    ) -> Result<Bytes, FetchError> {
        let mut answer = std::mem::take(&mut self.answer);
        if let [part] = &self.parts[..] {
            return Ok(match self.fetch_part(part, self.start, blocks, fills)? {
                Some(bytes) => bytes,
                None => Bytes::from(answer),
            });
        }
        answer.resize(self.len as usize, 0);
        let mut at = self.start;
        let mut rest = &mut answer[..];
        for part in &self.parts {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(part.len() as usize);
            match part {
                Part::Hole { .. } => place.fill(0),
                Part::Journal(_) | Part::Block { .. } | Part::Cached { .. } => {
                    if let Some(bytes) = self.fetch_part(part, at, blocks, fills)? {
                        place.copy_from_slice(&bytes);
                    }
                }
            }
            rest = after;
            at += u64::from(part.len());
        }
        Ok(Bytes::from(answer))
    }

    /// The bytes of a part; nothing if they are in the answer already.
    fn fetch_part(
        &self,
        part: &Part,
        at: u64,
        blocks: &Arc<dyn BlockStore>,
        fills: &[Fill<'_>],
    ) -> Result<Option<Bytes>, FetchError> {
        let unresolvable =
            |why: String| ReadError::Unresolvable { strand: self.strand, offset: at, why };
        Ok(match part {
            Part::Journal(slice) => {
                let bytes = slice.read();
                Some(bytes.map_err(|error| FetchError::Other(unresolvable(error.to_string())))?)
            }
            Part::Block { name, range } => {
                let bytes = self.fetch_block(*name, range.clone(), at, blocks)?;
                bring(fills, at, &bytes);
                Some(bytes)
            }
            Part::Hole { len } => Some(Bytes::from(vec![0; *len as usize])),
            Part::Cached { .. } => None,
        })
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

/// Brings bytes at `at` of the strand into the pieces that are being filled.
fn bring(fills: &[Fill<'_>], at: u64, bytes: &[u8]) {
    let first = fills.partition_point(|fill| fill.id().range().end <= at);
    let end = at + bytes.len() as u64;
    for fill in fills[first..].iter().take_while(|fill| fill.id().start() < end) {
        fill.bring(at, bytes);
    }
}

fn push_hole(parts: &mut Vec<Part>, start: u64, end: u64) {
    if start < end {
        let len = u32::try_from(end - start).expect("a part of a read of at most 4 GiB");
        parts.push(Part::Hole { len });
    }
}

/// Rows of the overlay and the meta store together, newest version of each; at most `limit` of them.
pub(crate) fn merged_rows(
    shared: &Shared,
    table: Table,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    order: Order,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
    let mut rows = Vec::new();
    show_rows(shared, table, range, order, limit, &mut rows)?;
    Ok(rows)
}

/// Shows these rows to `seen`, in order.
///
/// The overlay is read first: what leaves it meanwhile is found in the store.
pub(crate) fn show_rows(
    shared: &Shared,
    table: Table,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    order: Order,
    limit: usize,
    seen: &mut impl Seen,
) -> Result<(), ReadError> {
    let (newer, whole) = shared.read_state().overlay.range(table, range, order, limit);
    let last_newer = if whole { None } else { newer.last().map(|(key, _)| key.clone()) };
    let mut merge = Merge { newer: newer.into_iter().peekable(), order, left: limit, seen };
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
            match value_within(stored) {
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
        None => {
            merge.finish();
            Ok(())
        }
    }
}

/// Who is shown rows.
pub(crate) trait Seen {
    /// A row that the overlay holds.
    fn newer(&mut self, key: Bytes, value: Bytes);
    /// A row that the meta store holds.
    fn stored(&mut self, key: &[u8], value: &[u8]);
}

impl Seen for Vec<(Bytes, Bytes)> {
    fn newer(&mut self, key: Bytes, value: Bytes) {
        self.push((key, value));
    }

    fn stored(&mut self, key: &[u8], value: &[u8]) {
        self.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
    }
}

struct Merge<'a, I: Iterator<Item = (Bytes, Version)>, S> {
    newer: std::iter::Peekable<I>,
    order: Order,
    /// How many more rows are wanted.
    left: usize,
    seen: &'a mut S,
}

impl<I: Iterator<Item = (Bytes, Version)>, S: Seen> Merge<'_, I, S> {
    /// Takes a stored row, after all newer rows that come before it.
    fn stored(&mut self, key: &[u8], at: Position, value: &[u8]) -> ControlFlow<()> {
        while self.newer.peek().is_some_and(|(newer, _)| precedes(self.order, newer, key)) {
            self.take_newer();
        }
        match self.newer.peek() {
            // The store may have got a newer version since the overlay was read.
            Some((newer, version)) if newer == key && version.at >= at => self.take_newer(),
            Some((newer, _)) if newer == key => {
                self.newer.next();
                self.show_stored(key, value);
            }
            _ => self.show_stored(key, value),
        }
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn finish(mut self) {
        while self.newer.peek().is_some() {
            self.take_newer();
        }
    }

    fn take_newer(&mut self) {
        if let Some((key, version)) = self.newer.next()
            && let Some(value) = version.value
            && self.left > 0
        {
            self.left -= 1;
            self.seen.newer(key, value);
        }
    }

    fn show_stored(&mut self, key: &[u8], value: &[u8]) {
        if self.left > 0 {
            self.left -= 1;
            self.seen.stored(key, value);
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
