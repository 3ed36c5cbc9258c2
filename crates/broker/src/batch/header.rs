//! The 61 bytes before the records: parsed, checked, stamped, and walked over from batch to batch.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::codec::{self, Compression};
use crate::batch::record::Records;
use crate::batch::{BatchError, HEADER_BYTES};

/// Bytes before those that the length field counts.
const LENGTH_FROM: usize = 12;
/// Where the magic lies; the broker stamps only bytes before it.
pub(crate) const MAGIC_AT: usize = 16;
/// Where the bytes begin that the checksum covers.
const CRC_FROM: usize = 21;
/// Up to here a batch is copied rather than written as two parts when its bytes are shared.
const COPY_BYTES_MAX: usize = 16 << 10;

/// The fields of a batch before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch: at least [`HEADER_BYTES`].
    pub bytes: usize,
    /// Under which leader epoch the broker took it.
    pub leader_epoch: i32,
    /// CRC-32C of what follows it.
    pub crc: u32,
    /// Codec and flags as they are on the wire.
    pub attributes: i16,
    /// Offset of the last record minus the base offset; not negative.
    pub last_offset_delta: i32,
    /// What record timestamps are relative to, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// Largest timestamp of its records.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The producer's sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records; not negative.
    pub record_count: i32,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, which may end right after it.
    ///
    /// # Errors
    ///
    /// [`BatchError::Magic`] is told from any 17 bytes, the rest only from a whole header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        match bytes.get(MAGIC_AT).map(|magic| i8::from_be_bytes([*magic])) {
            Some(2) | None => {}
            Some(magic) => return Err(BatchError::Magic(magic)),
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let length = i32::from_be_bytes(field(head, 8));
        let size = usize::try_from(length).ok().and_then(|length| length.checked_add(LENGTH_FROM));
        let Some(size) = size.filter(|size| *size >= HEADER_BYTES) else {
            return Err(BatchError::Length(length));
        };
        let header = Self {
            base_offset: i64::from_be_bytes(field(head, 0)),
            bytes: size,
            leader_epoch: i32::from_be_bytes(field(head, 12)),
            crc: u32::from_be_bytes(field(head, 17)),
            attributes: i16::from_be_bytes(field(head, 21)),
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: i64::from_be_bytes(field(head, 27)),
            max_timestamp: i64::from_be_bytes(field(head, 35)),
            producer_id: i64::from_be_bytes(field(head, 43)),
            producer_epoch: i16::from_be_bytes(field(head, 51)),
            base_sequence: i32::from_be_bytes(field(head, 53)),
            record_count: i32::from_be_bytes(field(head, 57)),
        };
        if header.last_offset_delta < 0 {
            return Err(BatchError::Negative("last offset delta"));
        }
        if header.record_count < 0 {
            return Err(BatchError::Negative("record count"));
        }
        Ok(header)
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let [_, low] = self.attributes.to_be_bytes();
        Compression::from_code(low & 7)
    }

    /// Whether the broker's time stands for all records, instead of the producer's times.
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }

    /// Whether it belongs to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    /// Whether its records are marks of the broker, not data.
    pub const fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    /// Offset of the last record.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Offset of the record after the last.
    pub const fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }
}

/// The bytes of one field; `at` is a constant within the header.
fn field<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| head[at + i])
}

/// One whole batch: its parsed header and its bytes, shared with where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
}

impl Batch {
    /// Takes the batch at the beginning of `bytes`; more may follow it. The checksum is not checked.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = Header::parse(bytes)?;
        if bytes.len() < header.bytes {
            return Err(BatchError::Truncated { have: bytes.len(), need: header.bytes });
        }
        Ok(Self { header, bytes: bytes.slice(..header.bytes) })
    }

    /// The fields before the records.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// All bytes of the batch.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All bytes of the batch, handed over.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    ///
    /// [`BatchError::Checksum`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (expected, found) = (self.header.crc, crc_of(&self.bytes));
        if expected == found { Ok(()) } else { Err(BatchError::Checksum { expected, found }) }
    }

    /// The records, decompressed into at most `decompressed_bytes_max`. Without a codec nothing is copied.
    pub fn records(&self, decompressed_bytes_max: usize) -> Result<Records, BatchError> {
        let run = self.bytes.slice(HEADER_BYTES..);
        let run = codec::decompress(self.header.compression()?, run, decompressed_bytes_max)?;
        Ok(Records::new(self.header, run))
    }
}

/// CRC-32C of a whole batch's bytes from the attributes on.
pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(CRC_FROM..).unwrap_or_default())
}

/// The batches of a run of bytes, one after another.
///
/// The first error ends the walk. [`BatchError::Truncated`] for the last batch of fetched bytes is legal.
pub const fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// Walks over batches; made by [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(&self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.slice(batch.bytes.len()..),
            Err(_) => Bytes::new(),
        };
        Some(batch)
    }
}

/// A stamped batch, in as few parts as its bytes could be had without a copy of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// One run of bytes.
    Whole(Bytes),
    /// The stamped head, and the rest as it came.
    Parts(Bytes, Bytes),
}

/// Puts the base offset and the leader epoch into a whole batch. Both lie outside the checksum.
///
/// Bytes that nobody else holds are changed in place; small ones are copied; of large shared ones only the
/// head is.
///
/// # Panics
///
/// If `batch` is shorter than a header: it has been parsed before.
pub fn stamp(batch: Bytes, base_offset: i64, leader_epoch: i32) -> Stamped {
    assert!(batch.len() >= HEADER_BYTES, "a parsed batch has a header");
    match batch.try_into_mut() {
        Ok(mut bytes) => {
            stamp_head(&mut bytes, base_offset, leader_epoch);
            Stamped::Whole(bytes.freeze())
        }
        Err(shared) if shared.len() <= COPY_BYTES_MAX => {
            let mut bytes = BytesMut::from(shared.as_ref());
            stamp_head(&mut bytes, base_offset, leader_epoch);
            Stamped::Whole(bytes.freeze())
        }
        Err(shared) => {
            let mut head = BytesMut::from(&shared[..MAGIC_AT]);
            stamp_head(&mut head, base_offset, leader_epoch);
            Stamped::Parts(head.freeze(), shared.slice(MAGIC_AT..))
        }
    }
}

fn stamp_head(head: &mut [u8], base_offset: i64, leader_epoch: i32) {
    (&mut head[..8]).put_i64(base_offset);
    (&mut head[12..16]).put_i32(leader_epoch);
}
