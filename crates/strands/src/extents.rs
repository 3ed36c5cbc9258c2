//! Extents: which bytes of a strand lie in which block, as rows of the meta store.
//!
//! ```text
//! key   = strand u64 BE | start u64 BE
//! value = version u8 (1) | block name [u8; 20] | at u32 LE | length u32 LE | generation u64 LE
//! ```
//!
//! An extent is at most one block long, and extents of one strand never overlap: the commit that adds
//! some cuts what they cover ([`replace`]).

use std::ops::Bound;

use block_store::{BLOCK_BYTES_MAX, BlockName};
use bytes::Bytes;

use crate::commit::Commit;
use crate::error::ReadError;
use crate::read::{Seen, show_rows};
use crate::shared::Shared;
use crate::types::{Order, Position, StrandId, Table};

/// Rows of [`Extent`]s.
pub(crate) const EXTENTS: Table = Table(1);

/// A run of a strand's bytes within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u32,
    pub(crate) block: BlockName,
    /// Where in the block's payload it begins.
    pub(crate) at: u32,
    /// The newest commit whose bytes it holds.
    pub(crate) generation: Position,
}

/// Where rows come from: the overlay over the meta store.
pub(crate) trait Rows {
    fn rows(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError>;
}

impl Extent {
    /// One past its last byte in the strand.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// The part inside `start..end`, which must overlap it.
    pub(crate) fn cut(&self, start: u64, end: u64) -> Self {
        let from = self.start.max(start);
        let to = self.end().min(end);
        let skip = u32::try_from(from - self.start).expect("within an extent");
        let len = u32::try_from(to - from).expect("within an extent");
        Self { start: from, len, at: self.at + skip, ..*self }
    }

    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(VALUE_BYTES);
        value.push(VERSION);
        value.extend_from_slice(&self.block.to_bytes());
        value.extend_from_slice(&self.at.to_le_bytes());
        value.extend_from_slice(&self.len.to_le_bytes());
        value.extend_from_slice(&self.generation.get().to_le_bytes());
        value
    }

    /// Whether its numbers can be.
    pub(crate) fn is_sound(&self) -> bool {
        let fits = self.at.checked_add(self.len).is_some_and(|end| end <= BLOCK_BYTES_MAX);
        fits && self.len > 0 && self.start.checked_add(self.len.into()).is_some()
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let start = u64::from_be_bytes(*key.get(8..)?.first_chunk()?);
        let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
        if value[0] != VERSION {
            return None;
        }
        let extent = Self {
            start,
            len: u32::from_le_bytes(*value[25..].first_chunk()?),
            at: u32::from_le_bytes(*value[21..].first_chunk()?),
            block: BlockName::from_bytes(value[1..].first_chunk()?),
            generation: Position::new(u64::from_le_bytes(*value[29..].first_chunk()?)),
        };
        extent.is_sound().then_some(extent)
    }
}

/// Extents of a strand that overlap `start..end`, in order, whole.
pub(crate) fn overlapping(
    rows: &impl Rows,
    strand: StrandId,
    start: u64,
    end: u64,
) -> Result<Vec<Extent>, ReadError> {
    let mut found = Vec::new();
    let (low, from) = (key(strand, 0), key(strand, start));
    let before =
        rows.rows(EXTENTS, (Bound::Included(&low), Bound::Excluded(&from)), Order::Descending, 1)?;
    found.extend(read(strand, before)?.into_iter().filter(|extent| extent.end() > start));
    let mut next = start;
    while next < end {
        let (from, to) = (key(strand, next), key(strand, end));
        let page = rows.rows(
            EXTENTS,
            (Bound::Included(&from), Bound::Excluded(&to)),
            Order::Ascending,
            PAGE_ROWS,
        )?;
        let page = read(strand, page)?;
        let whole = page.len() < PAGE_ROWS;
        next = page.last().map_or(end, |extent| extent.start + 1);
        found.extend(page);
        if whole {
            break;
        }
    }
    Ok(found)
}

/// Shows `visit` at most `limit` extents of all strands, in order of strand and start, behind the one that begins
/// at `after`.
pub(crate) fn page(
    shared: &Shared,
    after: Option<(StrandId, u64)>,
    limit: usize,
    visit: impl FnMut(StrandId, Extent),
) -> Result<(), ReadError> {
    let after = after.map(|(strand, start)| key(strand, start));
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut page = Page { visit, broken: None };
    show_rows(shared, EXTENTS, (from, Bound::Unbounded), Order::Ascending, limit, &mut page)?;
    page.broken.map_or(Ok(()), |key| {
        Err(ReadError::Failed(format!("the extent row `{key}` cannot be read")))
    })
}

/// Extents that are shown to `visit`, up to the first row that is none.
struct Page<V> {
    visit: V,
    /// The key of that row.
    broken: Option<String>,
}

impl<V: FnMut(StrandId, Extent)> Seen for Page<V> {
    fn newer(&mut self, key: Bytes, value: Bytes) {
        self.stored(&key, &value);
    }

    fn stored(&mut self, key: &[u8], value: &[u8]) {
        match decode_row(key, value) {
            _ if self.broken.is_some() => {}
            Some((strand, extent)) => (self.visit)(strand, extent),
            None => self.broken = Some(key.escape_ascii().to_string()),
        }
    }
}

/// The extent of a row and the strand that it is of.
pub(crate) fn decode_row(key: &[u8], value: &[u8]) -> Option<(StrandId, Extent)> {
    let strand = StrandId::from_raw(u64::from_be_bytes(*key.first_chunk()?));
    (key.len() == KEY_BYTES).then_some(strand).zip(Extent::decode(key, value))
}

/// One past the last byte of a strand that lies in a block.
pub(crate) fn end(rows: &impl Rows, strand: StrandId) -> Result<u64, ReadError> {
    Ok(last(rows, strand, 1)?.first().map_or(0, Extent::end))
}

/// At most `limit` extents of a strand, from its end.
pub(crate) fn last(
    rows: &impl Rows,
    strand: StrandId,
    limit: usize,
) -> Result<Vec<Extent>, ReadError> {
    let (low, high) = (key(strand, 0), key(strand, u64::MAX));
    let range = (Bound::Included(&low[..]), Bound::Included(&high[..]));
    read(strand, rows.rows(EXTENTS, range, Order::Descending, limit)?)
}

/// Adds to `commit` the rows that put `new` in the place of what `old` (all extents that overlap them)
/// says. `new` is in order and does not overlap itself.
pub(crate) fn replace(commit: &mut Commit, strand: StrandId, old: &[Extent], new: &[Extent]) {
    for extent in old {
        let mut kept_from = extent.start;
        let mut kept = Vec::new();
        let first = new.partition_point(|new| new.end() <= extent.start);
        for cover in new[first..].iter().take_while(|new| new.start < extent.end()) {
            if cover.start > kept_from {
                kept.push(extent.cut(kept_from, cover.start));
            }
            kept_from = cover.end();
        }
        if kept_from < extent.end() {
            kept.push(extent.cut(kept_from, extent.end()));
        }
        if kept.as_slice() != [*extent] {
            commit.delete(EXTENTS, key(strand, extent.start));
            kept.iter().for_each(|rest| put(commit, strand, rest));
        }
    }
    new.iter().for_each(|extent| put(commit, strand, extent));
}

/// Adds to `commit` the rows that end a strand at `len`. `old`: all extents that reach beyond it.
pub(crate) fn truncate(commit: &mut Commit, strand: StrandId, old: &[Extent], len: u64) {
    for extent in old {
        commit.delete(EXTENTS, key(strand, extent.start));
        if extent.start < len {
            put(commit, strand, &extent.cut(extent.start, len));
        }
    }
}

/// Adds to `commit` the row that takes away the extent at `start`.
pub(crate) fn remove(commit: &mut Commit, strand: StrandId, start: u64) {
    commit.delete(EXTENTS, key(strand, start));
}

fn put(commit: &mut Commit, strand: StrandId, extent: &Extent) {
    commit.put(EXTENTS, key(strand, extent.start), extent.encode());
}

fn key(strand: StrandId, start: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_BYTES);
    key.extend_from_slice(&strand.get().to_be_bytes());
    key.extend_from_slice(&start.to_be_bytes());
    key
}

fn read(strand: StrandId, rows: Vec<(Bytes, Bytes)>) -> Result<Vec<Extent>, ReadError> {
    rows.iter()
        .map(|(key, value)| {
            Extent::decode(key, value).ok_or_else(|| ReadError::Unresolvable {
                strand,
                offset: key
                    .get(8..)
                    .and_then(<[u8]>::first_chunk)
                    .map_or(0, |at| u64::from_be_bytes(*at)),
                why: "its extent row cannot be read".to_owned(),
            })
        })
        .collect()
}

const VERSION: u8 = 1;
const KEY_BYTES: usize = 8 + 8;
const VALUE_BYTES: usize = 1 + 20 + 4 + 4 + 8;
/// Rows fetched at once, so that a read of a huge range stays bounded in memory per step.
const PAGE_ROWS: usize = 256;
