//! Batches from records, as a producer makes them: for the command line and for tests.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::codec::{self, Compression};
use crate::batch::header::crc_of;
use crate::batch::record::RecordHeader;
use crate::batch::{BatchError, HEADER_BYTES};

/// A record that has no place yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value, if there is one.
    pub value: Option<Bytes>,
    /// The headers in their order.
    pub headers: Vec<RecordHeader>,
}

/// Collects records into one batch with base offset 0 and no producer id.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    compression: Compression,
    run: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// A batch without records; one must follow, for brokers refuse empty batches.
    pub fn new(compression: Compression) -> Self {
        Self { compression, base_timestamp: -1, max_timestamp: -1, ..Self::default() }
    }

    /// Adds a record at the end.
    ///
    /// # Errors
    ///
    /// [`BatchError::Length`] if a field, or the batch, has 2 GiB or more. The batch is then of no use.
    pub fn push(&mut self, record: &NewRecord) -> Result<&mut Self, BatchError> {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let mut body = vec![0];
        put_varlong(&mut body, record.timestamp.wrapping_sub(self.base_timestamp));
        put_varint(&mut body, self.count);
        put_nullable(&mut body, record.key.as_ref())?;
        put_nullable(&mut body, record.value.as_ref())?;
        put_length(&mut body, record.headers.len())?;
        for header in &record.headers {
            put_nullable(&mut body, Some(&header.key))?;
            put_nullable(&mut body, header.value.as_ref())?;
        }
        put_length(&mut self.run, body.len())?;
        self.run.extend_from_slice(&body);
        self.count = self.count.checked_add(1).ok_or(BatchError::Length(i32::MAX))?;
        Ok(self)
    }

    /// Bytes that the batch would have without compression.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.run.len()
    }

    /// Records so far.
    pub const fn record_count(&self) -> i32 {
        self.count
    }

    /// The batch.
    ///
    /// # Errors
    ///
    /// [`BatchError::Compressed`] if the codec fails, [`BatchError::Length`] if the batch has 2 GiB or more.
    pub fn build(self) -> Result<Bytes, BatchError> {
        let run = codec::compress(self.compression, self.run)?;
        let length = HEADER_BYTES - 12 + run.len();
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + run.len());
        batch.put_i64(0);
        batch.put_i32(i32::try_from(length).map_err(|_| BatchError::Length(i32::MAX))?);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(i16::from(self.compression.code()));
        batch.put_i32(self.count.saturating_sub(1).max(0));
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.max_timestamp);
        batch.put_i64(-1);
        batch.put_i16(-1);
        batch.put_i32(-1);
        batch.put_i32(self.count);
        batch.put_slice(&run);
        let crc = crc_of(&batch);
        (&mut batch[17..21]).put_u32(crc);
        Ok(batch.freeze())
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&Bytes>) -> Result<(), BatchError> {
    match bytes {
        Some(bytes) => {
            put_length(out, bytes.len())?;
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
    Ok(())
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), BatchError> {
    put_varint(out, i32::try_from(length).map_err(|_| BatchError::Length(i32::MAX))?);
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        let [low, ..] = rest.to_le_bytes();
        out.push(low | 0x80);
        rest >>= 7;
    }
    let [low, ..] = rest.to_le_bytes();
    out.push(low);
}
