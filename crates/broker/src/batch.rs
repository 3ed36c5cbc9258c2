//! Record batches, version 2, as Kafka defines them: bytes to records and back. Pure.
//!
//! ```text
//!   0  base offset        i64   stamped by the broker
//!   8  length             i32   bytes after this field: the batch has 12 more
//!  12  leader epoch       i32   stamped by the broker
//!  16  magic              i8    2
//!  17  crc                u32   CRC-32C of everything from 21 to the end
//!  21  attributes         i16   bits 0-2 codec, 3 timestamps by the broker, 4 transactional, 5 control
//!  23  last offset delta  i32   offset of the last record minus the base offset
//!  27  base timestamp     i64   milliseconds since 1970
//!  35  max timestamp      i64
//!  43  producer id        i64   -1: none
//!  51  producer epoch     i16
//!  53  base sequence      i32
//!  57  records            i32   how many; then the records, all of them compressed as one run if a codec is set
//! ```
//!
//! All integers are big-endian. A record is `length, attributes, timestamp delta, offset delta, key length,
//! key, value length, value, header count, headers`, with zigzag varints for all numbers but the
//! attributes (one byte), and -1 for the length of what is absent.
//!
//! Invariant: no input panics, and none makes this module hold more than the input or the caller's bound justifies.

mod build;
mod codec;
mod header;
mod record;

pub use build::{Builder, NewRecord};
pub use codec::Compression;
#[cfg(test)]
pub(crate) use header::crc_of;
pub use header::{Batch, Batches, Header, Stamped, batches, stamp};
pub use record::{Record, RecordHeader, Records};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Why bytes are not a record batch, or not records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does. At the end of a fetched run that is legal.
    #[error("{have} bytes of {need}")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that would be there.
        need: usize,
    },
    /// A message format other than 2.
    #[error("message format {0} is not 2")]
    Magic(i8),
    /// The length field cannot be.
    #[error("length {0} cannot be")]
    Length(i32),
    /// A count in the header is negative.
    #[error("{0} cannot be negative")]
    Negative(&'static str),
    /// The checksum does not match.
    #[error("checksum {found:08x} is not {expected:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes have.
        found: u32,
    },
    /// A codec that does not exist.
    #[error("codec {0} does not exist")]
    Codec(u8),
    /// The compressed records do not decompress.
    #[error("records do not decompress: {0}")]
    Compressed(String),
    /// The records are larger than the caller allows.
    #[error("records have over {limit} bytes when decompressed")]
    OverLimit {
        /// The caller's bound.
        limit: usize,
    },
    /// A record contradicts itself or its batch.
    #[error("record {index}: {what}")]
    Record {
        /// Which record of the batch, from 0.
        index: u32,
        /// What is wrong.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
