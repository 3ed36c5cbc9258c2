//! A commit: one list of operations, applied whole or not at all; and how it lies in a journal record.
//!
//! ```text
//! record  = head operations payload
//! head    = version u8 (1) | zero [u8; 3] | domain u32 | operations u32 | payload_at u32
//! put     = 1 u8 | table u8 | key u16 | value u32 | key bytes | value bytes
//! delete  = 2 u8 | table u8 | key u16 | key bytes
//! write   = 3 u8 | strand u64 | offset u64 | length u32        its bytes lie in the payload, in order
//! truncate= 4 u8 | strand u64 | length u64
//! remove  = 5 u8 | strand u64
//! packed  = 6 u8 | strand u64 | start u64 | length u32 | before u64
//! placed  = 7 u8 | strand u64 | start u64 | length u32
//! needs   = 8 u8 | block [u8; 20]
//! ```
//!
//! All integers little-endian. `payload_at` counts from the record's first byte; the payload holds the
//! bytes of all writes without gaps, so that a read goes straight to them. The journal's own checksums
//! cover everything. `docs/formats/commit.md` says what each operation means.
//!
//! Invariant: decoding checks every length against what is there; a record that does not add up exactly
//! is refused as a whole.

use block_store::BlockName;
use bytes::Bytes;
use meta_store::KEY_BYTES_MAX;

use crate::error::CommitError;
use crate::extents::EXTENTS;
use crate::recover::NODE;
use crate::shared::REMOVED;
use crate::staged::Staged;
use crate::types::{StrandId, Table};

/// Operations to be applied together. Chain the calls, then give it to [`crate::Strands::commit`].
#[derive(Clone, Debug, Default)]
pub struct Commit {
    ops: Vec<Op>,
    /// What the placed ranges hold; gone when the extents are among the operations.
    staged: Vec<Staged>,
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put {
        table: Table,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        table: Table,
        key: Bytes,
    },
    Write {
        strand: StrandId,
        offset: u64,
        bytes: Bytes,
    },
    Truncate {
        strand: StrandId,
        len: u64,
    },
    Remove {
        strand: StrandId,
    },
    /// The bytes of the range that commits before `before` wrote now lie in a block: the journal need
    /// not keep them. The extents themselves are rows in the same commit.
    Packed {
        strand: StrandId,
        start: u64,
        len: u32,
        before: u64,
    },
    /// The bytes of the range are written by this commit, and lie in blocks: the extents are rows in the
    /// same commit.
    Placed {
        strand: StrandId,
        start: u64,
        len: u32,
    },
    /// The block may not have been durable when the commit was made: the commit is, only when the block is.
    Needs {
        block: BlockName,
    },
}

impl Commit {
    /// A commit that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row. Keys are at most [`meta_store::KEY_BYTES_MAX`] long.
    pub fn put(
        &mut self,
        table: Table,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> &mut Self {
        self.push(Op::Put { table, key: key.into(), value: value.into() })
    }

    /// Removes a row; nothing happens if it is not there.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) -> &mut Self {
        self.push(Op::Delete { table, key: key.into() })
    }

    /// Writes bytes into a strand, over what was there.
    pub fn write(&mut self, strand: StrandId, offset: u64, bytes: Bytes) -> &mut Self {
        if bytes.is_empty() {
            return self;
        }
        self.push(Op::Write { strand, offset, bytes })
    }

    /// Cuts a strand to `len` bytes: what lay beyond is a hole from now on.
    pub fn truncate(&mut self, strand: StrandId, len: u64) -> &mut Self {
        self.push(Op::Truncate { strand, len })
    }

    /// Ends a strand. It can never be read or written again, and its room is given back later.
    pub fn remove(&mut self, strand: StrandId) -> &mut Self {
        self.push(Op::Remove { strand })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(crate) fn push(&mut self, op: Op) -> &mut Self {
        self.ops.push(op);
        self
    }

    pub(crate) fn stage(&mut self, staged: Staged) {
        self.staged.push(staged);
    }

    /// The payload of the placed ranges. Those whose strand the commit changes in another way as well are
    /// written into the journal instead: extents are made for one change of a strand at a time.
    pub(crate) fn take_staged(&mut self) -> Vec<Staged> {
        let mut staged = std::mem::take(&mut self.staged);
        staged.retain(|staged| {
            let of_strand = self.ops.iter().filter(|op| op.strand() == Some(staged.strand()));
            let is_alone = of_strand.count() == 1;
            if !is_alone {
                let placed = self.ops.iter_mut().find(|op| {
                    matches!(op, Op::Placed { strand, start, .. }
                        if (*strand, *start) == (staged.strand(), staged.start()))
                });
                if let Some(op) = placed {
                    *op = staged.write();
                }
            }
            is_alone
        });
        staged
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// Bytes of strands in this commit.
    pub(crate) fn payload_len(&self) -> u64 {
        self.writes().map(|bytes| bytes.len() as u64).sum()
    }

    /// The payload's pieces, in the order of the operations.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Bytes> {
        self.ops.iter().filter_map(|op| match op {
            Op::Write { bytes, .. } => Some(bytes),
            _ => None,
        })
    }

    /// The blocks that have to be durable before the commit is.
    pub(crate) fn needed(&self) -> Vec<BlockName> {
        let needed = self.ops.iter().filter_map(|op| match op {
            Op::Needs { block } => Some(*block),
            _ => None,
        });
        needed.collect()
    }

    /// Bytes of strands that this commit says to be in blocks.
    pub(crate) fn placed_len(&self) -> u64 {
        let placed = self.ops.iter().map(|op| match op {
            Op::Placed { len, .. } => u64::from(*len),
            _ => 0,
        });
        placed.sum()
    }

    /// Whether it changes more than where bytes lie and what the data path notes for itself.
    pub(crate) fn changes_what_users_see(&self) -> bool {
        self.ops.iter().any(|op| match op {
            Op::Put { table, .. } | Op::Delete { table, .. } => {
                ![NODE, EXTENTS, REMOVED].contains(table)
            }
            Op::Write { .. } | Op::Truncate { .. } | Op::Remove { .. } | Op::Placed { .. } => true,
            Op::Packed { .. } | Op::Needs { .. } => false,
        })
    }

    /// Whether a row of [`EXTENTS`] is among the operations.
    pub(crate) fn changes_extents(&self) -> bool {
        self.ops.iter().any(|op| match op {
            Op::Put { table, .. } | Op::Delete { table, .. } => *table == EXTENTS,
            Op::Write { .. }
            | Op::Truncate { .. }
            | Op::Remove { .. }
            | Op::Packed { .. }
            | Op::Placed { .. }
            | Op::Needs { .. } => false,
        })
    }

    /// Everything of the record before its payload.
    pub(crate) fn encode_head(&self, limit: u64) -> Result<Vec<u8>, CommitError> {
        let body: usize = self.ops.iter().map(head_len).sum();
        let head = HEAD_BYTES + body;
        let size = head as u64 + self.payload_len();
        let (Ok(payload_at), Ok(count), true) =
            (u32::try_from(head), u32::try_from(self.ops.len()), size <= limit)
        else {
            return Err(CommitError::TooLarge { size, limit });
        };
        let mut out = Vec::with_capacity(head);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.extend_from_slice(&DOMAIN.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&payload_at.to_le_bytes());
        for op in &self.ops {
            encode_op(op, &mut out).ok_or(CommitError::TooLarge { size, limit })?;
        }
        debug_assert_eq!(out.len(), head);
        Ok(out)
    }
}

impl Op {
    /// The strand whose bytes it changes.
    fn strand(&self) -> Option<StrandId> {
        match self {
            Self::Put { .. } | Self::Delete { .. } | Self::Needs { .. } => None,
            Self::Write { strand, .. }
            | Self::Truncate { strand, .. }
            | Self::Remove { strand }
            | Self::Packed { strand, .. }
            | Self::Placed { strand, .. } => Some(*strand),
        }
    }
}

/// One operation as it lies in a record: payload by place, not by copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawOp<'a> {
    Put {
        table: Table,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        table: Table,
        key: &'a [u8],
    },
    /// `at` counts from the record's first byte.
    Write {
        strand: StrandId,
        offset: u64,
        at: u32,
        len: u32,
    },
    Truncate {
        strand: StrandId,
        len: u64,
    },
    Remove {
        strand: StrandId,
    },
    Packed {
        strand: StrandId,
        start: u64,
        len: u32,
        before: u64,
    },
    Placed {
        strand: StrandId,
        start: u64,
        len: u32,
    },
    Needs {
        block: BlockName,
    },
}

/// Why a record is not a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Made by a newer version.
    #[error("a commit of version {0}, which this version does not know")]
    Version(u8),
    /// Of another domain.
    #[error("a commit of domain {0}, which is not this one")]
    Domain(u32),
    /// An operation that this version does not know.
    #[error("an operation of kind {0}, which this version does not know")]
    Kind(u8),
    /// Lengths that do not add up.
    #[error("a commit whose lengths do not add up")]
    Lengths,
}

/// Reads a record, giving each operation to `visit` in order; the whole record is checked.
pub(crate) fn decode<'a>(
    record: &'a [u8],
    visit: impl FnMut(RawOp<'a>),
) -> Result<(), DecodeError> {
    let end = decode_operations(record, record.len(), visit)?;
    if end == record.len() { Ok(()) } else { Err(DecodeError::Lengths) }
}

/// Reads a record of which only the part before its payload is there, as the ledger keeps it.
pub(crate) fn decode_head<'a>(
    head: &'a [u8],
    visit: impl FnMut(RawOp<'a>),
) -> Result<(), DecodeError> {
    if head_of(head)?.len() != head.len() {
        return Err(DecodeError::Lengths);
    }
    decode_operations(head, u32::MAX as usize, visit).map(drop)
}

/// The part of a record before its payload.
pub(crate) fn head_of(record: &[u8]) -> Result<&[u8], DecodeError> {
    let (_, payload_at) = read_head(record)?;
    record.get(..payload_at as usize).ok_or(DecodeError::Lengths)
}

/// How many operations there are, and where the payload begins.
fn read_head(record: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut head = Reader { rest: record };
    let version = head.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    head.take(3)?;
    let domain = head.u32()?;
    if domain != DOMAIN {
        return Err(DecodeError::Domain(domain));
    }
    Ok((head.u32()?, head.u32()?))
}

/// Shows the operations; returns where the payload ends, which is at most `limit`.
fn decode_operations<'a>(
    record: &'a [u8],
    limit: usize,
    mut visit: impl FnMut(RawOp<'a>),
) -> Result<usize, DecodeError> {
    let (count, payload_at) = read_head(record)?;
    let operations = record.get(HEAD_BYTES..payload_at as usize).ok_or(DecodeError::Lengths)?;
    let mut reader = Reader { rest: operations };
    let mut at = payload_at;
    for _ in 0..count {
        let op = decode_op(&mut reader, at)?;
        if let RawOp::Write { len, .. } = op {
            at = at.checked_add(len).ok_or(DecodeError::Lengths)?;
            if at as usize > limit {
                return Err(DecodeError::Lengths);
            }
        }
        visit(op);
    }
    if reader.rest.is_empty() { Ok(at as usize) } else { Err(DecodeError::Lengths) }
}

/// Number of the only domain that a data directory has today.
pub(crate) const DOMAIN: u32 = 0;
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const WRITE: u8 = 3;
const TRUNCATE: u8 = 4;
const REMOVE: u8 = 5;
const PACKED: u8 = 6;
const PLACED: u8 = 7;
const NEEDS: u8 = 8;

fn head_len(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => 8 + key.len() + value.len(),
        Op::Delete { key, .. } => 4 + key.len(),
        Op::Write { .. } => 21,
        Op::Truncate { .. } => 17,
        Op::Remove { .. } => 9,
        Op::Packed { .. } => 29,
        Op::Placed { .. } => 21,
        Op::Needs { .. } => 1 + BlockName::BYTES,
    }
}

/// `None` when a length does not fit its field, a key not the meta store, or a write ends beyond the
/// largest offset: what is refused here can never reach the journal, where nothing could refuse it.
fn encode_op(op: &Op, out: &mut Vec<u8>) -> Option<()> {
    match op {
        Op::Put { key, .. } | Op::Delete { key, .. } if key.len() > KEY_BYTES_MAX => return None,
        Op::Write { offset, bytes, .. } if offset.checked_add(bytes.len() as u64).is_none() => {
            return None;
        }
        Op::Put { table, key, value } => {
            out.extend_from_slice(&[PUT, table.0]);
            out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
            out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        Op::Delete { table, key } => {
            out.extend_from_slice(&[DELETE, table.0]);
            out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
            out.extend_from_slice(key);
        }
        Op::Write { strand, offset, bytes } => {
            out.push(WRITE);
            out.extend_from_slice(&strand.get().to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
        }
        Op::Truncate { strand, len } => {
            out.push(TRUNCATE);
            out.extend_from_slice(&strand.get().to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        Op::Remove { strand } => {
            out.push(REMOVE);
            out.extend_from_slice(&strand.get().to_le_bytes());
        }
        Op::Packed { strand, start, len, before } => {
            out.push(PACKED);
            out.extend_from_slice(&strand.get().to_le_bytes());
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&before.to_le_bytes());
        }
        Op::Placed { strand, start, len } => {
            out.push(PLACED);
            out.extend_from_slice(&strand.get().to_le_bytes());
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        Op::Needs { block } => {
            out.push(NEEDS);
            out.extend_from_slice(&block.to_bytes());
        }
    }
    Some(())
}

fn decode_op<'a>(reader: &mut Reader<'a>, payload_at: u32) -> Result<RawOp<'a>, DecodeError> {
    Ok(match reader.u8()? {
        PUT => {
            let table = Table(reader.u8()?);
            let key = reader.u16()?;
            let value = reader.u32()?;
            RawOp::Put { table, key: reader.take(key.into())?, value: reader.take(value as usize)? }
        }
        DELETE => {
            let table = Table(reader.u8()?);
            let key = reader.u16()?;
            RawOp::Delete { table, key: reader.take(key.into())? }
        }
        WRITE => {
            let strand = reader.strand()?;
            let offset = reader.u64()?;
            let len = reader.u32()?;
            if len == 0 || offset.checked_add(len.into()).is_none() {
                return Err(DecodeError::Lengths);
            }
            RawOp::Write { strand, offset, at: payload_at, len }
        }
        TRUNCATE => RawOp::Truncate { strand: reader.strand()?, len: reader.u64()? },
        REMOVE => RawOp::Remove { strand: reader.strand()? },
        PACKED => RawOp::Packed {
            strand: reader.strand()?,
            start: reader.u64()?,
            len: reader.u32()?,
            before: reader.u64()?,
        },
        PLACED => {
            let (strand, start, len) = (reader.strand()?, reader.u64()?, reader.u32()?);
            if len == 0 || start.checked_add(len.into()).is_none() {
                return Err(DecodeError::Lengths);
            }
            RawOp::Placed { strand, start, len }
        }
        NEEDS => RawOp::Needs { block: BlockName::from_bytes(&reader.array()?) },
        kind => return Err(DecodeError::Kind(kind)),
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Lengths)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Lengths)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn strand(&mut self) -> Result<StrandId, DecodeError> {
        Ok(StrandId::from_raw(self.u64()?))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a commit comes back from its record exactly, and no bytes make the decoder panic or accept
    //! lengths that do not add up.

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 16 << 20;

    fn record(commit: &Commit) -> Vec<u8> {
        let mut record = commit.encode_head(LIMIT).unwrap();
        commit.writes().for_each(|bytes| record.extend_from_slice(bytes));
        record
    }

    fn owned(record: &[u8]) -> Result<Vec<Op>, DecodeError> {
        let mut ops = Vec::new();
        decode(record, |op| ops.push(own(record, op)))?;
        Ok(ops)
    }

    fn own(record: &[u8], op: RawOp<'_>) -> Op {
        let copy = Bytes::copy_from_slice;
        match op {
            RawOp::Put { table, key, value } => {
                Op::Put { table, key: copy(key), value: copy(value) }
            }
            RawOp::Delete { table, key } => Op::Delete { table, key: copy(key) },
            RawOp::Write { strand, offset, at, len } => {
                Op::Write { strand, offset, bytes: copy(&record[at as usize..][..len as usize]) }
            }
            RawOp::Truncate { strand, len } => Op::Truncate { strand, len },
            RawOp::Remove { strand } => Op::Remove { strand },
            RawOp::Packed { strand, start, len, before } => {
                Op::Packed { strand, start, len, before }
            }
            RawOp::Placed { strand, start, len } => Op::Placed { strand, start, len },
            RawOp::Needs { block } => Op::Needs { block },
        }
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let strand = any::<u64>().prop_map(StrandId::from_raw);
        let bytes = |max| prop::collection::vec(any::<u8>(), 1..max).prop_map(Bytes::from);
        prop_oneof![
            (any::<u8>(), bytes(40), bytes(300)).prop_map(|(table, key, value)| Op::Put {
                table: Table(table),
                key,
                value
            }),
            (any::<u8>(), bytes(40))
                .prop_map(|(table, key)| Op::Delete { table: Table(table), key }),
            (strand.clone(), 0..u64::MAX / 2, bytes(2000))
                .prop_map(|(strand, offset, bytes)| Op::Write { strand, offset, bytes }),
            (strand.clone(), any::<u64>()).prop_map(|(strand, len)| Op::Truncate { strand, len }),
            strand.clone().prop_map(|strand| Op::Remove { strand }),
            (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(domain, epoch, counter)| {
                Op::Needs { block: BlockName { domain, epoch, counter } }
            }),
            (strand.clone(), 0..u64::MAX / 2, 1..u32::MAX)
                .prop_map(|(strand, start, len)| Op::Placed { strand, start, len }),
            (strand, any::<u64>(), any::<u32>(), any::<u64>())
                .prop_map(|(strand, start, len, before)| Op::Packed { strand, start, len, before }),
        ]
    }

    proptest! {
        #[test]
        fn every_commit_comes_back_from_its_record(ops in prop::collection::vec(any_op(), 0..20)) {
            let commit = Commit { ops: ops.clone(), ..Commit::default() };
            prop_assert_eq!(owned(&record(&commit)), Ok(ops));
        }

        #[test]
        fn a_cut_record_is_refused(ops in prop::collection::vec(any_op(), 1..8), cut in any::<prop::sample::Index>()) {
            let whole = record(&Commit { ops, ..Commit::default() });
            let cut = cut.index(whole.len());
            prop_assert!(owned(&whole[..cut]).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            let _checked_only_for_panics = owned(&bytes);
        }
    }

    #[test]
    fn a_commit_over_the_limit_is_refused_with_its_size() {
        let mut commit = Commit::new();
        commit.write(StrandId::from_raw(1), 0, Bytes::from(vec![0; 100]));
        assert_eq!(
            commit.encode_head(50),
            Err(CommitError::TooLarge { size: 16 + 21 + 100, limit: 50 })
        );
    }

    #[test]
    fn what_the_view_or_the_index_could_not_take_is_refused_before_the_journal() {
        let refused = |commit: &Commit| {
            matches!(commit.encode_head(LIMIT), Err(CommitError::TooLarge { .. }))
        };
        for (len, want) in [(KEY_BYTES_MAX, false), (KEY_BYTES_MAX + 1, true)] {
            assert_eq!(refused(Commit::new().put(Table(40), vec![1; len], vec![])), want);
            assert_eq!(refused(Commit::new().delete(Table(40), vec![1; len])), want);
        }
        for (offset, want) in [(u64::MAX - 3, false), (u64::MAX - 2, true), (u64::MAX, true)] {
            let strand = StrandId::from_raw(1);
            assert_eq!(
                refused(Commit::new().write(strand, offset, Bytes::from_static(b"abc"))),
                want
            );
        }
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut bytes = record(&Commit::new());
        bytes[0] = 9;
        assert_eq!(owned(&bytes), Err(DecodeError::Version(9)));
    }
}
