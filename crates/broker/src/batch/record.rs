//! The records of a batch, one after another.

use bytes::Bytes;

use crate::batch::BatchError;
use crate::batch::header::Header;

/// One record. Its bytes are shared with the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or the broker's if the batch says so.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value, if there is one.
    pub value: Option<Bytes>,
    /// The headers in their order; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name; by convention UTF-8.
    pub key: Bytes,
    /// Its value, if there is one.
    pub value: Option<Bytes>,
}

/// Walks over the records of one batch; made by [`crate::batch::Batch::records`].
///
/// The first error ends the walk.
#[derive(Clone, Debug)]
pub struct Records {
    header: Header,
    rest: Bytes,
    index: u32,
    count: u32,
}

impl Records {
    pub(super) fn new(header: Header, run: Bytes) -> Self {
        let count = u32::try_from(header.record_count).unwrap_or(0);
        Self { header, rest: run, index: 0, count }
    }

    fn record(&mut self) -> Result<Record, &'static str> {
        let length = length(&mut self.rest, "its length is not a number")?;
        let mut body = take(&mut self.rest, length.ok_or("its length is negative")?)?;
        let _attributes = take(&mut body, 1)?;
        let timestamp_delta = varlong(&mut body).ok_or("its timestamp is not a number")?;
        let offset_delta = varint(&mut body).ok_or("its offset is not a number")?;
        if !(0..=self.header.last_offset_delta).contains(&offset_delta) {
            return Err("its offset is outside the batch");
        }
        let record = Record {
            offset: self.header.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp: self.timestamp(timestamp_delta)?,
            key: nullable(&mut body)?,
            value: nullable(&mut body)?,
            headers: headers(&mut body)?,
        };
        if body.is_empty() { Ok(record) } else { Err("it is longer than its fields") }
    }

    fn timestamp(&self, delta: i64) -> Result<i64, &'static str> {
        if self.header.is_log_append_time() {
            return Ok(self.header.max_timestamp);
        }
        self.header.base_timestamp.checked_add(delta).ok_or("its timestamp is out of range")
    }

    fn fail(&mut self, what: &'static str) -> Option<Result<Record, BatchError>> {
        let index = self.index;
        self.index = self.count;
        self.rest = Bytes::new();
        Some(Err(BatchError::Record { index, what }))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            return if self.rest.is_empty() {
                None
            } else {
                self.fail("bytes follow the last record")
            };
        }
        match self.record() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(what) => self.fail(what),
        }
    }
}

fn headers(body: &mut Bytes) -> Result<Vec<RecordHeader>, &'static str> {
    let count = varint(body).ok_or("its header count is not a number")?;
    let count = u32::try_from(count).map_err(|_| "its header count is negative")?;
    // No capacity from the count: each header takes bytes, so a false count runs out of them.
    let mut headers = Vec::new();
    for _ in 0..count {
        let key = nullable(body)?.ok_or("a header has no key")?;
        headers.push(RecordHeader { key, value: nullable(body)? });
    }
    Ok(headers)
}

fn nullable(body: &mut Bytes) -> Result<Option<Bytes>, &'static str> {
    match length(body, "a length is not a number")? {
        Some(length) => take(body, length).map(Some),
        None => Ok(None),
    }
}

/// A length; `None` for -1.
fn length(bytes: &mut Bytes, otherwise: &'static str) -> Result<Option<usize>, &'static str> {
    match varint(bytes).ok_or(otherwise)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| "a length is negative"),
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, &'static str> {
    if bytes.len() < length { Err("it ends early") } else { Ok(bytes.split_to(length)) }
}

fn varint(bytes: &mut Bytes) -> Option<i32> {
    let raw = u32::try_from(raw_varint(bytes, 5)?).ok()?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn varlong(bytes: &mut Bytes) -> Option<i64> {
    let raw = raw_varint(bytes, 10)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Seven bits per byte, the lowest first, in at most `bytes_max` bytes.
fn raw_varint(bytes: &mut Bytes, bytes_max: usize) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..bytes_max.min(bytes.len()) {
        let byte = bytes[place];
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            drop(bytes.split_to(place + 1));
            return Some(value);
        }
    }
    None
}
