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
use crate::extents::{self, Extent};
use crate::overlay::Version;
use crate::pieces::Placed;
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

/// Bytes that somebody wants: `len` of a strand from `start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) strand: StrandId,
    pub(crate) start: u64,
    pub(crate) len: u32,
    pub(crate) holes: Holes,
}

/// Where a plan may look for what the journal does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    /// In the cache.
    AtHand,
    /// In the cache, and in extents for what it does not hold.
    Everywhere,
}

/// Where the bytes of one read lie, in order and without gaps.
#[derive(Debug)]
pub(crate) struct ReadPlan<'c> {
    wanted: Wanted,
    end: u64,
    looks: Looks,
    parts: Vec<Part>,
    /// [`crate::shared::State::extent_changes`] before it was made.
    extent_changes: u64,
    /// The whole answer, if a part of it came from the cache while it was planned; else empty.
    answer: Vec<u8>,
    /// What of it the journal held.
    in_journal: Vec<Placed>,
    /// What comes from blocks is brought here.
    bring_to: Option<&'c Cache>,
    /// Begun before it was looked up where the bytes are; none, if the journal got bytes of the range meanwhile.
    fills: Vec<Fill<'c>>,
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
    /// Not at hand, and not looked for elsewhere.
    Cold {
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
            Self::Hole { len } | Self::Cached { len } | Self::Cold { len } => *len,
        }
    }
}

impl Shared {
    /// Reads bytes, wherever they are.
    pub(crate) fn read(&self, wanted: Wanted) -> Result<Bytes, ReadError> {
        let bring_to = self.cache.as_ref().filter(|cache| cache.admits(&wanted));
        let plan = self.plan_read(wanted, bring_to)?;
        self.note(&plan);
        let fetched = self.fetch(plan);
        self.warn_of(&fetched);
        fetched
    }

    /// The bytes, if journal and cache hold all of them; else nothing, and then no block was asked for.
    pub(crate) fn read_at_hand(&self, wanted: Wanted) -> Result<Option<Bytes>, ReadError> {
        let mut plan = ReadPlan::new(wanted, Looks::AtHand, None)?;
        if !self.try_plan(&mut plan)?
            || plan.parts.iter().any(|part| matches!(part, Part::Cold { .. }))
        {
            return Ok(None);
        }
        self.note(&plan);
        let fetched = plan.fetch(&self.blocks).map_err(FetchError::into_inner);
        self.warn_of(&fetched);
        fetched.map(Some)
    }

    /// Tells the cache of a read that needs what lies in blocks.
    fn note(&self, plan: &ReadPlan<'_>) {
        if let Some(cache) = &self.cache
            && plan.touches_blocks()
        {
            cache.note_read(plan.wanted.strand, plan.wanted.start, plan.end);
            cache.count(plan.cached_bytes(), plan.block_bytes());
        }
    }

    /// Bytes that cannot be found are also told to the operator, at most once in [`WARN_EVERY`]: a client that
    /// tries for ever does not look into blocks.
    fn warn_of(&self, fetched: &Result<Bytes, ReadError>) {
        if let Err(error) = fetched {
            let now = self.host.clock.monotonic();
            let mut warned = lock(&self.warned);
            if warned.is_none_or(|then| now.since(then) >= WARN_EVERY) {
                tracing::warn!(%error, "bytes that should be there cannot be read");
                *warned = Some(now);
            }
        }
    }

    /// One past the last byte of a strand that was written and not cut since.
    pub(crate) fn end(&self, strand: StrandId) -> Result<u64, ReadError> {
        let in_journal = self.read_state().pieces.end(strand);
        Ok(in_journal.max(extents::end(self, strand)?))
    }

    /// Finds where bytes are. Those in blocks will be brought to `bring_to`.
    pub(crate) fn plan_read<'c>(
        &self,
        wanted: Wanted,
        bring_to: Option<&'c Cache>,
    ) -> Result<ReadPlan<'c>, ReadError> {
        let mut plan = ReadPlan::new(wanted, Looks::Everywhere, bring_to)?;
        self.plan_at_one_moment(&mut plan)?;
        if self.read_state().removed.contains_key(&wanted.strand) {
            return Err(wanted.unresolvable(wanted.start, "the strand was removed"));
        }
        match (wanted.holes, plan.first_hole()) {
            (Holes::Refuse, Some(offset)) => {
                Err(wanted.unresolvable(offset, "neither the journal nor a block holds it"))
            }
            _ => Ok(plan),
        }
    }

    /// Finds where the plan's range lies, as of one moment; and the count of [`State::extent_changes`] then.
    ///
    /// [`State::extent_changes`]: crate::shared::State::extent_changes
    ///
    /// Extents are rows that are read one after the other, so a pack or a truncate between two of them
    /// would show a state that never was: then all is read again, and in the end under the lock that
    /// keeps it as it is.
    fn plan_at_one_moment(&self, plan: &mut ReadPlan<'_>) -> Result<(), ReadError> {
        for _ in 0..UNLOCKED_TRIES {
            if self.try_plan(plan)? {
                return Ok(());
            }
        }
        let _extents = self.lock_extents(std::iter::once(plan.wanted.strand));
        self.plan_once(plan)?;
        self.is_unchanged(plan);
        Ok(())
    }

    /// Plans, and says whether that was of one moment.
    fn try_plan(&self, plan: &mut ReadPlan<'_>) -> Result<bool, ReadError> {
        let planned = self.plan_once(plan);
        // What lies in the journal was found under one lock.
        let is_whole = (planned.is_ok() && plan.is_journal()) || self.is_unchanged(plan);
        if is_whole { planned.map(|()| true) } else { Ok(false) }
    }

    /// Whether no extents have changed since the plan was begun. Its fills were begun after that: where the journal
    /// holds something else now, they may have missed the write that ends them, and end here.
    fn is_unchanged(&self, plan: &mut ReadPlan<'_>) -> bool {
        let state = self.read_state();
        let is_unchanged = state.extent_changes == plan.extent_changes;
        let is_safe = plan.fills.is_empty()
            || state.pieces.overlapping(plan.wanted.strand, plan.wanted.start, plan.end)
                == plan.in_journal;
        drop(state);
        if !is_safe {
            plan.fills.clear();
        }
        is_unchanged
    }

    fn plan_once(&self, plan: &mut ReadPlan<'_>) -> Result<(), ReadError> {
        plan.parts.clear();
        plan.fills.clear();
        let mut at = plan.wanted.start;
        for pinned in self.pinned(plan)? {
            self.plan_gap(plan, at, pinned.start)?;
            plan.parts.push(Part::Journal(pinned.slice));
            at = pinned.end;
        }
        self.plan_gap(plan, at, plan.end)
    }

    /// The journal's part of a read. From now on the plan is of this moment.
    fn pinned(&self, plan: &mut ReadPlan<'_>) -> Result<Vec<Pinned>, ReadError> {
        let wanted = plan.wanted;
        let state = self.read_state();
        plan.extent_changes = state.extent_changes;
        plan.in_journal = state.pieces.overlapping(wanted.strand, wanted.start, plan.end);
        plan.in_journal
            .iter()
            .map(|placed| {
                let slice = self.log.slice(placed.piece.at, placed.piece.len);
                let slice =
                    slice.map_err(|error| wanted.unresolvable(placed.start, error.to_string()))?;
                Ok(Pinned { start: placed.start, end: placed.end(), slice })
            })
            .collect()
    }

    /// Fills `start..end`, which the journal does not hold, from the cache and from what lies below it.
    ///
    /// What the cache holds follows from the extents, so it is of the same moment as they are.
    fn plan_gap(&self, plan: &mut ReadPlan<'_>, start: u64, end: u64) -> Result<(), ReadError> {
        let mut at = start;
        if start < end
            && let Some(cache) = &self.cache
            && cache.holds_some(plan.wanted.strand, start, end)
        {
            for cold in plan.read_cache(cache, start, end) {
                plan.push_cached(at, cold.start);
                self.plan_blocks(plan, cold.start, cold.end)?;
                at = cold.end;
            }
            plan.push_cached(at, end);
            at = end;
        }
        self.plan_blocks(plan, at, end)
    }

    /// Fills `start..end`, which neither journal nor cache hold, from extents and holes.
    fn plan_blocks(&self, plan: &mut ReadPlan<'_>, start: u64, end: u64) -> Result<(), ReadError> {
        if start >= end {
            return Ok(());
        }
        if plan.looks == Looks::AtHand {
            plan.parts.push(Part::Cold { len: len_of(start, end) });
            return Ok(());
        }
        plan.begin_fills(start..end);
        let mut at = start;
        for extent in self.extents(plan, start, end)? {
            let extent = extent.cut(start, end);
            if extent.start < at {
                return Err(plan.wanted.unresolvable(extent.start, "two extents claim it"));
            }
            plan.push_hole(at, extent.start);
            let range = extent.at..extent.at + extent.len;
            plan.parts.push(Part::Block { name: extent.block, range });
            at = extent.end();
        }
        plan.push_hole(at, end);
        Ok(())
    }

    /// The extents that overlap `start..end`. One that holds all of it is remembered for as long as no extents
    /// change.
    fn extents(&self, plan: &ReadPlan<'_>, start: u64, end: u64) -> Result<Vec<Extent>, ReadError> {
        let strand = plan.wanted.strand;
        let known = self.cache.as_ref().map(Cache::known);
        let found = known.and_then(|known| known.find(strand, start..end, plan.extent_changes));
        if let Some(extent) = found {
            return Ok(vec![extent]);
        }
        let extents = extents::overlapping(self, strand, start, end)?;
        if let (Some(known), [extent]) = (known, &extents[..])
            // What was just read is of the plan's moment.
            && self.read_state().extent_changes == plan.extent_changes
        {
            known.note(strand, *extent, plan.extent_changes);
        }
        Ok(extents)
    }

    /// Reads what was planned, and plans again when a block is gone that collection may have taken: what
    /// replaced it was committed before it went. When no extents have changed, it is lost.
    fn fetch(&self, mut plan: ReadPlan<'_>) -> Result<Bytes, ReadError> {
        for _ in 0..PLANS_MAX {
            match plan.fetch(&self.blocks) {
                Ok(bytes) => return Ok(bytes),
                Err(FetchError::Other(error)) => return Err(error),
                Err(FetchError::Missing(error)) => {
                    if self.read_state().extent_changes == plan.extent_changes {
                        return Err(error);
                    }
                    plan = self.plan_read(plan.wanted, plan.bring_to)?;
                }
            }
        }
        plan.fetch(&self.blocks).map_err(FetchError::into_inner)
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

impl Wanted {
    fn unresolvable(&self, offset: u64, why: impl Into<String>) -> ReadError {
        ReadError::Unresolvable { strand: self.strand, offset, why: why.into() }
    }
}

impl<'c> ReadPlan<'c> {
    fn new(wanted: Wanted, looks: Looks, bring_to: Option<&'c Cache>) -> Result<Self, ReadError> {
        let end = wanted.start.checked_add(wanted.len.into()).ok_or_else(|| {
            wanted.unresolvable(wanted.start, "a range beyond the largest offset")
        })?;
        Ok(Self {
            wanted,
            end,
            looks,
            parts: Vec::new(),
            extent_changes: 0,
            answer: Vec::new(),
            in_journal: Vec::new(),
            bring_to,
            fills: Vec::new(),
        })
    }

    /// Takes what the cache holds of `start..end` into the answer; the ranges that it does not hold.
    fn read_cache(&mut self, cache: &Cache, start: u64, end: u64) -> Vec<Range<u64>> {
        if self.answer.is_empty() {
            self.answer = vec![0; self.wanted.len as usize];
        }
        let place = |at: u64| usize::try_from(at - self.wanted.start).expect("within a read");
        let (from, to) = (place(start), place(end));
        cache.read(self.wanted.strand, start, &mut self.answer[from..to])
    }

    fn push_cached(&mut self, start: u64, end: u64) {
        if start < end {
            self.parts.push(Part::Cached { len: len_of(start, end) });
        }
    }

    fn push_hole(&mut self, start: u64, end: u64) {
        if start < end {
            self.parts.push(Part::Hole { len: len_of(start, end) });
        }
    }

    /// Tells the cache that bytes of a range may come: they may be brought only if it is looked up after this
    /// where they are.
    fn begin_fills(&mut self, range: Range<u64>) {
        if let Some(cache) = self.bring_to {
            cache.begin_fills(&mut self.fills, self.wanted.strand, range);
        }
    }

    /// The parts that lie in blocks: where in the strand, which block, and where in it.
    fn in_blocks(&self) -> impl Iterator<Item = (u64, BlockName, Range<u32>)> {
        let mut at = self.wanted.start;
        self.parts.iter().filter_map(move |part| {
            let start = at;
            at += u64::from(part.len());
            match part {
                Part::Block { name, range } => Some((start, *name, range.clone())),
                Part::Journal(_) | Part::Hole { .. } | Part::Cached { .. } | Part::Cold { .. } => {
                    None
                }
            }
        })
    }

    /// Fetches only what lies in blocks, to bring it into the cache. Returns how many bytes.
    pub(crate) fn fetch_blocks(&self, blocks: &Arc<dyn BlockStore>) -> Result<u64, FetchError> {
        let mut fetched = 0;
        for (at, name, range) in self.in_blocks() {
            fetched += self.fetch_block(name, range, at, blocks)?.len() as u64;
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
        let bytes = blocks.read(name, range).map_err(|error| {
            let why = error.to_string();
            let wrap = match error {
                block_store::ReadError::Missing { .. } => FetchError::Missing,
                block_store::ReadError::Damaged { .. }
                | block_store::ReadError::UnknownVersion { .. }
                | block_store::ReadError::OutOfRange { .. }
                | block_store::ReadError::Away { .. }
                | block_store::ReadError::Io { .. } => FetchError::Other,
            };
            wrap(self.wanted.unresolvable(at, why))
        })?;
        bring(&self.fills, at, &bytes);
        Ok(bytes)
    }

    fn cached_bytes(&self) -> u64 {
        let cached = |part: &&Part| matches!(part, Part::Cached { .. });
        self.parts.iter().filter(cached).map(|part| u64::from(part.len())).sum()
    }

    fn block_bytes(&self) -> u64 {
        self.in_blocks().map(|(.., range)| u64::from(range.end - range.start)).sum()
    }

    fn touches_blocks(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Block { .. } | Part::Cached { .. }))
    }

    fn is_journal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Journal(_)))
    }

    /// Reads the bytes. One part comes back as it lies; several are gathered.
    fn fetch(&mut self, blocks: &Arc<dyn BlockStore>) -> Result<Bytes, FetchError> {
        let mut answer = std::mem::take(&mut self.answer);
        if let [part] = &self.parts[..] {
            return Ok(match self.fetch_part(part, self.wanted.start, blocks)? {
                Some(bytes) => bytes,
                None => Bytes::from(answer),
            });
        }
        answer.resize(self.wanted.len as usize, 0);
        let mut at = self.wanted.start;
        let mut rest = &mut answer[..];
        for part in &self.parts {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(part.len() as usize);
            match part {
                Part::Hole { .. } => place.fill(0),
                Part::Journal(_) | Part::Block { .. } | Part::Cached { .. } | Part::Cold { .. } => {
                    if let Some(bytes) = self.fetch_part(part, at, blocks)? {
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
    ) -> Result<Option<Bytes>, FetchError> {
        let unresolvable = |why: String| FetchError::Other(self.wanted.unresolvable(at, why));
        Ok(match part {
            Part::Journal(slice) => {
                Some(slice.read().map_err(|error| unresolvable(error.to_string()))?)
            }
            Part::Block { name, range } => {
                Some(self.fetch_block(*name, range.clone(), at, blocks)?)
            }
            Part::Hole { len } => Some(Bytes::from(vec![0; *len as usize])),
            Part::Cached { .. } => None,
            Part::Cold { .. } => return Err(unresolvable("it was not looked for".to_owned())),
        })
    }

    fn first_hole(&self) -> Option<u64> {
        let mut at = self.wanted.start;
        for part in &self.parts {
            if matches!(part, Part::Hole { .. }) {
                return Some(at);
            }
            at += u64::from(part.len());
        }
        None
    }
}

fn len_of(start: u64, end: u64) -> u32 {
    u32::try_from(end - start).expect("a part of a read of at most 4 GiB")
}

/// Brings bytes at `at` of the strand into the pieces that are being filled.
fn bring(fills: &[Fill<'_>], at: u64, bytes: &[u8]) {
    let first = fills.partition_point(|fill| fill.id().range().end <= at);
    let end = at + bytes.len() as u64;
    for fill in fills[first..].iter().take_while(|fill| fill.id().start() < end) {
        fill.bring(at, bytes);
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
