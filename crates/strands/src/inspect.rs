//! Looking at a commit, a root, a ledger without opening the data path: for people and tools. Changes nothing.

use block_store::{BlockName, BlockStore};

use crate::commit::{self, RawOp};
use crate::frames::StreamError;
use crate::index_file::{self, Header, IndexFileError};
use crate::ledger::{self, Entry};
use crate::owner::Owner;
use crate::pieces::Piece;
use crate::root::{Root, RootError};
use crate::types::{Position, StoreId, StrandId, Table};

/// One operation of a commit, as it lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectedOp<'a> {
    /// Sets a row.
    Put {
        /// The row's table.
        table: Table,
        /// The row's key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a row.
    Delete {
        /// The row's table.
        table: Table,
        /// The row's key.
        key: &'a [u8],
    },
    /// Writes bytes into a strand.
    Write {
        /// Which strand.
        strand: StrandId,
        /// Where in it.
        offset: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// Cuts a strand.
    Truncate {
        /// Which strand.
        strand: StrandId,
        /// Its new end.
        len: u64,
    },
    /// Ends a strand.
    Remove {
        /// Which strand.
        strand: StrandId,
    },
    /// Says that older bytes of a range lie in a block now.
    Packed {
        /// Which strand.
        strand: StrandId,
        /// Where the range begins.
        start: u64,
        /// How long it is.
        len: u32,
        /// Bytes that commits before this number wrote.
        before: u64,
    },
    /// Writes a range of a strand whose bytes lie in blocks: their extents are rows in the same commit.
    Placed {
        /// Which strand.
        strand: StrandId,
        /// Where the range begins.
        start: u64,
        /// How long it is.
        len: u32,
    },
    /// The commit is durable only when the block is.
    Needs {
        /// Which block.
        block: BlockName,
    },
}

/// Shows each operation of the commit that a journal record holds; the whole record is checked.
///
/// # Errors
///
/// A sentence that says why the record is not a commit; what was shown until then may be part of one.
pub fn inspect_commit<'a>(
    record: &'a [u8],
    mut visit: impl FnMut(InspectedOp<'a>),
) -> Result<(), String> {
    let shown = commit::decode(record, |op| visit(of_raw(record, op)));
    shown.map_err(|error| error.to_string())
}

/// A root of the store, as far as it is of interest to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedRoot {
    /// Whose store it is.
    pub store: StoreId,
    /// The opening that made it.
    pub epoch: u64,
    /// Counts roots.
    pub seq: u64,
    /// All commits before this one are in it.
    pub position: Position,
    /// When the last of them was made: milliseconds since 1970.
    pub time_ms: i64,
    /// Whether a node can be restored from it alone.
    pub complete: bool,
    /// Of which position its checkpoint is.
    pub checkpoint_at: Position,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// Bytes of the ledger since then.
    pub ledger_bytes: u64,
    /// The blocks that hold both, in order.
    pub blocks: Vec<BlockName>,
}

/// Shows the content of a root object.
///
/// # Errors
///
/// [`RootError`] with the byte that is wrong.
pub fn inspect_root(content: &[u8]) -> Result<InspectedRoot, RootError> {
    let root = Root::decode(content)?;
    let mut blocks: Vec<_> = root.blocks().collect();
    blocks.dedup();
    Ok(InspectedRoot {
        store: root.store,
        epoch: root.epoch,
        seq: root.seq,
        position: root.position,
        time_ms: root.time_ms,
        complete: root.complete,
        checkpoint_at: root.checkpoint_at,
        checkpoint_bytes: root.checkpoint.len(),
        ledger_bytes: root.ledger.len(),
        blocks,
    })
}

/// One entry of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectedEntry {
    /// A commit.
    Commit {
        /// Its number.
        at: Position,
        /// When it was made: milliseconds since 1970.
        time_ms: i64,
        /// How many operations it had.
        operations: u64,
    },
    /// Bytes that lay in the journal at the end of the section, and where they are.
    Packed {
        /// Which strand.
        strand: StrandId,
        /// Where in it.
        start: u64,
        /// How many bytes.
        len: u32,
        /// In which block.
        block: BlockName,
        /// Where in its payload.
        at: u32,
        /// The newest commit whose bytes they are.
        generation: Position,
    },
    /// The end of a section.
    End {
        /// All commits before this one were told of.
        at: Position,
        /// When the last of them was made: milliseconds since 1970.
        time_ms: i64,
        /// Whether a round of packing was complete.
        complete: bool,
    },
}

/// Why a ledger was not shown to its end.
#[derive(Debug, thiserror::Error)]
pub enum InspectLedgerError {
    /// The content is not a root.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Shows the entries of the ledger that the content of a root object names.
///
/// # Errors
///
/// What was shown until then is in it.
pub fn inspect_ledger(
    blocks: &dyn BlockStore,
    content: &[u8],
    mut visit: impl FnMut(InspectedEntry),
) -> Result<(), InspectLedgerError> {
    let root = Root::decode(content)?;
    ledger::read(blocks, &root, |entry| -> Result<_, InspectLedgerError> {
        visit(match entry {
            Entry::Commit { at, time_ms, head } => {
                let mut operations = 0;
                if let Err(error) = commit::decode_head(head, |_| operations += 1) {
                    return Ok(Err(error.to_string()));
                }
                InspectedEntry::Commit { at, time_ms, operations }
            }
            Entry::Packed { strand, extent } => InspectedEntry::Packed {
                strand,
                start: extent.start,
                len: extent.len,
                block: extent.block,
                at: extent.at,
                generation: extent.generation,
            },
            Entry::End { at, time_ms, complete } => InspectedEntry::End { at, time_ms, complete },
        });
        Ok(Ok(()))
    })
}

/// Shows the content of the object that says whose a store is: its owner, the opening, and when it took the store
/// (milliseconds since 1970).
///
/// # Errors
///
/// A sentence that says what is wrong, and where.
pub fn inspect_owner(content: &[u8]) -> Result<(StoreId, u64, i64), String> {
    Owner::decode(content).map(|owner| (owner.store, owner.epoch, owner.time_ms))
}

/// A checkpoint of the journal's index, as far as it is of interest to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedIndex {
    /// Whose journal it is of.
    pub store: StoreId,
    /// It holds the pieces that commits before this one wrote, ...
    pub position: Position,
    /// ... less some that commits before this one took away.
    pub reached: Position,
    /// The journal's segment that holds the commit before `reached`.
    pub segment: u64,
    /// How many strands have pieces.
    pub strands: u64,
    /// How many pieces there are.
    pub pieces: u64,
    /// How many bytes of strands they are.
    pub bytes: u64,
}

/// Bytes of a strand that one commit wrote into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedPiece {
    /// Which strand.
    pub strand: StrandId,
    /// Where in it.
    pub start: u64,
    /// How many bytes.
    pub len: u32,
    /// Where in the journal.
    pub at: durable_log::Location,
    /// The commit that wrote them.
    pub written: Position,
}

/// Shows the pieces in the bytes of an index file, which are checked, and what the file says of itself.
///
/// # Errors
///
/// [`IndexFileError`] with the byte that is wrong; what was shown until then may be anything.
pub fn inspect_index(
    bytes: &[u8],
    mut visit: impl FnMut(InspectedPiece),
) -> Result<InspectedIndex, IndexFileError> {
    let header = index_file::decode_header(bytes)?;
    let Header { store, position, landmark } = header;
    let (mut strands, mut pieces, mut strand_bytes, mut last) = (0, 0, 0, None);
    index_file::decode_pieces(bytes, &header, |placed| {
        let Piece { len, at, written } = placed.piece;
        strands += u64::from(last.replace(placed.strand) != Some(placed.strand));
        pieces += 1;
        strand_bytes += u64::from(len);
        visit(InspectedPiece { strand: placed.strand, start: placed.start, len, at, written });
    })?;
    Ok(InspectedIndex {
        store,
        position,
        reached: Position::of(landmark.next),
        segment: landmark.segment,
        strands,
        pieces,
        bytes: strand_bytes,
    })
}

fn of_raw<'a>(record: &'a [u8], op: RawOp<'a>) -> InspectedOp<'a> {
    match op {
        RawOp::Put { table, key, value } => InspectedOp::Put { table, key, value },
        RawOp::Delete { table, key } => InspectedOp::Delete { table, key },
        RawOp::Write { strand, offset, at, len } => {
            // Whether the payload is all there is checked when the whole record has been read.
            let bytes = record.get(at as usize..).unwrap_or_default();
            InspectedOp::Write { strand, offset, bytes: &bytes[..bytes.len().min(len as usize)] }
        }
        RawOp::Truncate { strand, len } => InspectedOp::Truncate { strand, len },
        RawOp::Remove { strand } => InspectedOp::Remove { strand },
        RawOp::Packed { strand, start, len, before } => {
            InspectedOp::Packed { strand, start, len, before }
        }
        RawOp::Placed { strand, start, len } => InspectedOp::Placed { strand, start, len },
        RawOp::Needs { block } => InspectedOp::Needs { block },
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is shown is what was committed, and other bytes are refused without panic.

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Commit;

    #[test]
    fn the_operations_of_a_commit_are_shown_in_order() {
        let mut commit = Commit::new();
        let strand = StrandId::from_raw(7);
        commit.put(Table(40), &b"k"[..], &b"v"[..]).write(strand, 9, Bytes::from_static(b"abc"));
        commit.truncate(strand, 2);
        let mut record = commit.encode_head(1000).unwrap();
        record.extend_from_slice(b"abc");
        let mut shown = Vec::new();
        inspect_commit(&record, |op| shown.push(op)).unwrap();
        let want = [
            InspectedOp::Put { table: Table(40), key: b"k", value: b"v" },
            InspectedOp::Write { strand, offset: 9, bytes: b"abc" },
            InspectedOp::Truncate { strand, len: 2 },
        ];
        assert_eq!(shown, want);
        record.pop();
        assert!(inspect_commit(&record, |_| {}).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_or_refused(record in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = inspect_commit(&record, |_| {});
        }
    }
}
