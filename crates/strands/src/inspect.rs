//! Looking at one commit without opening the data path: for people and tools. Changes nothing.

use crate::commit::{self, RawOp};
use crate::types::{StrandId, Table};

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
