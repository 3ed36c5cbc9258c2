//! The rows that a partition needs beside its bytes: tables 32 to 36.
//!
//! ```text
//! table         key                                     value
//! 32 topics     name                                    1 u8 | id [16] | partitions u32 | durability u8 | created i64
//! 33 segments   id [16] | partition u32 | offset u64    1 u8 | strand u64 | bytes u64
//! 34 index      id [16] | partition u32 | offset u64    1 u8 | strand u64 | at u64 | max timestamp before i64
//! 35 epochs     id [16] | partition u32 | epoch u32     1 u8 | start offset u64
//! 36 deleted    id [16]                                 1 u8
//! ```
//!
//! All integers are big-endian, so that keys sort as their numbers do. `docs/formats/topics.md` says what
//! each field means.
//!
//! Invariants: a segment's first batch has an index row, put in the same commit as the batch and the
//! segment's row; so has any batch before which 256 KiB or more lie since the last index row. Decoding
//! checks every length, and an unknown version is refused.

use std::ops::Bound;

use bytes::Bytes;
use strands::{Commit, Order, ReadError, StrandId, Strands, Table};

use crate::error::Fault;
use crate::types::{Durability, TopicConfig, TopicId};

pub(crate) const TOPICS: Table = Table(32);
pub(crate) const SEGMENTS: Table = Table(33);
pub(crate) const INDEX: Table = Table(34);
pub(crate) const EPOCHS: Table = Table(35);
pub(crate) const DELETED: Table = Table(36);

const VERSION: u8 = 1;
/// In a segment's row: this is the last one, and the strand knows its own end.
const OPEN: u64 = u64::MAX;
/// Rows that are read at once.
const PAGE_ROWS: usize = 1024;

/// One partition, as it begins the keys of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicId,
    pub(crate) number: u32,
}

impl PartitionKey {
    /// Where an offset's row of this partition is.
    fn at(self, offset: i64) -> Vec<u8> {
        let mut key = self.topic.to_bytes().to_vec();
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&offset.to_be_bytes());
        key
    }

    fn at_epoch(self, epoch: u32) -> Vec<u8> {
        let mut key = self.topic.to_bytes().to_vec();
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&epoch.to_be_bytes());
        key
    }
}

/// A topic's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicRow {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
    pub(crate) config: TopicConfig,
    /// When it was created, in milliseconds since 1970.
    pub(crate) created_ms: i64,
}

impl TopicRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.id.to_bytes());
        value.extend_from_slice(&self.partitions.to_be_bytes());
        value.push(match self.config.durability {
            Durability::Synced => 0,
            Durability::Written => 1,
        });
        value.extend_from_slice(&self.created_ms.to_be_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let mut reader = Reader::new(value)?;
        let id = TopicId::from_bytes(reader.array()?);
        let partitions = u32::from_be_bytes(reader.array()?);
        let durability = match reader.array()? {
            [0] => Durability::Synced,
            [1] => Durability::Written,
            [other] => return Err(RowError::Durability(other)),
        };
        let created_ms = i64::from_be_bytes(reader.array()?);
        reader.finish(Self { id, partitions, config: TopicConfig { durability }, created_ms })
    }
}

/// One strand of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset of its first record.
    pub(crate) base: i64,
    pub(crate) strand: StrandId,
    /// Bytes of its batches.
    pub(crate) bytes: u64,
}

/// Puts the row of a segment that batches are still added to.
pub(crate) fn put_open_segment(commit: &mut Commit, key: PartitionKey, segment: &Segment) {
    commit.put(SEGMENTS, key.at(segment.base), segment_value(segment.strand, OPEN));
}

/// Puts the row of a segment that another follows.
pub(crate) fn put_sealed_segment(commit: &mut Commit, key: PartitionKey, segment: &Segment) {
    commit.put(SEGMENTS, key.at(segment.base), segment_value(segment.strand, segment.bytes));
}

fn segment_value(strand: StrandId, bytes: u64) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&strand.get().to_be_bytes());
    value.extend_from_slice(&bytes.to_be_bytes());
    value
}

/// The strand and the bytes, which are `None` for the last segment.
fn decode_segment(value: &[u8]) -> Result<(StrandId, Option<u64>), RowError> {
    let mut reader = Reader::new(value)?;
    let strand = StrandId::from_raw(reader.u64()?);
    let bytes = reader.u64()?;
    reader.finish((strand, (bytes != OPEN).then_some(bytes)))
}

/// All segments of a partition, in order. The last one's bytes are where its strand ends.
pub(crate) fn segments(strands: &Strands, key: PartitionKey) -> Result<Vec<Segment>, Fault> {
    let mut segments = Vec::new();
    for (row, value) in all(strands, SEGMENTS, &key.at(0), &key.at(i64::MAX))? {
        let (strand, sealed) =
            decode_segment(&value).map_err(|why| damaged(SEGMENTS, &row, &why))?;
        let bytes = match sealed {
            Some(bytes) => bytes,
            None => strands.end(strand)?,
        };
        segments.push(Segment { base: offset_of(SEGMENTS, &row)?, strand, bytes });
    }
    Ok(segments)
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset of its first record.
    pub(crate) base: i64,
    pub(crate) strand: StrandId,
    /// Bytes of the strand before it.
    pub(crate) at: u64,
}

/// An index row: a batch's place, and the largest timestamp of all batches before it in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) place: Place,
    pub(crate) max_timestamp_before: i64,
}

pub(crate) fn put_index(commit: &mut Commit, key: PartitionKey, entry: &IndexEntry) {
    let mut value = vec![VERSION];
    value.extend_from_slice(&entry.place.strand.get().to_be_bytes());
    value.extend_from_slice(&entry.place.at.to_be_bytes());
    value.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
    commit.put(INDEX, key.at(entry.place.base), value);
}

/// The last index row whose batch begins at or before `offset`.
pub(crate) fn index_before(
    strands: &Strands,
    key: PartitionKey,
    offset: i64,
) -> Result<Option<IndexEntry>, Fault> {
    let (from, to) = (key.at(0), key.at(offset));
    let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
    let Some((row, value)) = strands.rows(INDEX, range, Order::Descending, 1)?.into_iter().next()
    else {
        return Ok(None);
    };
    let base = offset_of(INDEX, &row)?;
    decode_index(base, &value).map(Some).map_err(|why| damaged(INDEX, &row, &why))
}

fn decode_index(base: i64, value: &[u8]) -> Result<IndexEntry, RowError> {
    let mut reader = Reader::new(value)?;
    let place = Place { base, strand: StrandId::from_raw(reader.u64()?), at: reader.u64()? };
    let max_timestamp_before = i64::from_be_bytes(reader.array()?);
    reader.finish(IndexEntry { place, max_timestamp_before })
}

/// The first batch of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) epoch: i32,
    pub(crate) start: i64,
}

pub(crate) fn put_epoch(commit: &mut Commit, key: PartitionKey, epoch: Epoch) {
    let mut value = vec![VERSION];
    value.extend_from_slice(&epoch.start.to_be_bytes());
    commit.put(EPOCHS, key.at_epoch(epoch.epoch.cast_unsigned()), value);
}

/// All epochs in which a partition got batches, in order.
pub(crate) fn epochs(strands: &Strands, key: PartitionKey) -> Result<Vec<Epoch>, Fault> {
    let rows = all(strands, EPOCHS, &key.at_epoch(0), &key.at_epoch(u32::MAX))?;
    let decode = |(row, value): &(Bytes, Bytes)| {
        decode_epoch(row, value).map_err(|why| damaged(EPOCHS, row, &why))
    };
    rows.iter().map(decode).collect()
}

fn decode_epoch(row: &[u8], value: &[u8]) -> Result<Epoch, RowError> {
    let epoch = row.last_chunk().ok_or(RowError::Length)?;
    let mut reader = Reader::new(value)?;
    let start = i64::from_be_bytes(reader.array()?);
    reader.finish(Epoch { epoch: i32::from_be_bytes(*epoch), start })
}

/// Notes that a topic's rows and strands are to be removed.
pub(crate) fn put_deleted(commit: &mut Commit, id: TopicId) {
    commit.put(DELETED, id.to_bytes().to_vec(), vec![VERSION]);
}

/// Topics whose rows and strands are not all removed yet.
pub(crate) fn deleted(strands: &Strands) -> Result<Vec<TopicId>, Fault> {
    let decode = |(row, value): &(Bytes, Bytes)| {
        let id = <[u8; 16]>::try_from(&row[..]).map_err(|_| RowError::Length);
        let id = id.and_then(|id| Reader::new(value)?.finish(TopicId::from_bytes(id)));
        id.map_err(|why| damaged(DELETED, row, &why))
    };
    all(strands, DELETED, &[], &[0xff; 17])?.iter().map(decode).collect()
}

/// One bounded step of removing what is left of a deleted topic; `None` when nothing is.
pub(crate) fn removal(strands: &Strands, id: TopicId) -> Result<Option<Commit>, Fault> {
    let from = id.to_bytes();
    let mut to = from.to_vec();
    to.extend_from_slice(&[0xff; 13]);
    let mut commit = Commit::new();
    for table in [SEGMENTS, INDEX, EPOCHS] {
        let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        for (row, value) in strands.rows(table, range, Order::Ascending, PAGE_ROWS)? {
            if table == SEGMENTS {
                let (strand, _) =
                    decode_segment(&value).map_err(|why| damaged(table, &row, &why))?;
                commit.remove(strand);
            }
            commit.delete(table, row);
        }
        if !commit.is_empty() {
            return Ok(Some(commit));
        }
    }
    if strands.row(DELETED, &from)?.is_none() {
        return Ok(None);
    }
    commit.delete(DELETED, from.to_vec());
    Ok(Some(commit))
}

/// All rows of a range, read page by page.
pub(crate) fn all(
    strands: &Strands,
    table: Table,
    from: &[u8],
    to: &[u8],
) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
    let mut rows = Vec::new();
    let mut start = Bound::Included(Bytes::copy_from_slice(from));
    loop {
        let range = (start.as_ref().map(|key| &key[..]), Bound::Included(to));
        let page = strands.rows(table, range, Order::Ascending, PAGE_ROWS)?;
        let Some((last, _)) = page.last() else { return Ok(rows) };
        let (last, is_last) = (last.clone(), page.len() < PAGE_ROWS);
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
        start = Bound::Excluded(last);
    }
}

fn offset_of(table: Table, row: &[u8]) -> Result<i64, Fault> {
    let offset = row.last_chunk().map(|offset| i64::from_be_bytes(*offset));
    match offset {
        Some(offset) if row.len() == 28 && offset >= 0 => Ok(offset),
        _ => Err(damaged(table, row, &RowError::Length)),
    }
}

/// Says which row cannot be read.
pub(crate) fn damaged(table: Table, row: &[u8], why: &RowError) -> Fault {
    Fault::Damaged(format!("table {}, row {}: {why}", table.0, hex(row)))
}

/// A key for people.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("it is of version {0}, which this version does not know")]
    Version(u8),
    #[error("its length is not right")]
    Length,
    #[error("its durability {0} does not exist")]
    Durability(u8),
    #[error("it is not a topic that can be")]
    Topic,
}

/// Takes a value apart after its version.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(value: &'a [u8]) -> Result<Self, RowError> {
        match value.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            Some((&version, _)) => Err(RowError::Version(version)),
            None => Err(RowError::Length),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RowError::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn finish<T>(&self, row: T) -> Result<T, RowError> {
        if self.rest.is_empty() { Ok(row) } else { Err(RowError::Length) }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: rows come back as they were put, and no other bytes are taken for a row.

    use proptest::prelude::*;

    use super::*;

    fn any_topic() -> impl Strategy<Value = TopicRow> {
        (any::<[u8; 16]>(), any::<u32>(), any::<bool>(), any::<i64>()).prop_map(
            |(id, partitions, synced, created_ms)| TopicRow {
                id: TopicId::from_bytes(id),
                partitions,
                config: TopicConfig {
                    durability: if synced { Durability::Synced } else { Durability::Written },
                },
                created_ms,
            },
        )
    }

    #[test]
    fn an_unknown_version_is_named() {
        assert_eq!(decode_segment(&[2; 17]), Err(RowError::Version(2)));
        assert_eq!(TopicRow::decode(&[7]), Err(RowError::Version(7)));
        assert_eq!(decode_index(0, &[]), Err(RowError::Length));
    }

    proptest! {
        #[test]
        fn any_topic_comes_back(row in any_topic()) {
            prop_assert_eq!(TopicRow::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn keys_sort_as_their_offsets_do(a in 0..i64::MAX, b in 0..i64::MAX) {
            let key = PartitionKey { topic: TopicId::from_bytes([9; 16]), number: 7 };
            prop_assert_eq!(key.at(a).cmp(&key.at(b)), a.cmp(&b));
            prop_assert_eq!(offset_of(INDEX, &key.at(a)).ok(), Some(a));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = TopicRow::decode(&bytes);
            let _ = decode_segment(&bytes);
            let _ = decode_index(0, &bytes);
            let _ = decode_epoch(&bytes, &bytes);
            let _ = offset_of(INDEX, &bytes);
        }
    }
}
