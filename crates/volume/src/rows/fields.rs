//! Fields of a row: big-endian numbers one after the other, read with bounds.

use file_tree::Timestamp;

use super::RowError;

/// What is left of a row to read.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of_key(key: &'a [u8]) -> Self {
        Self { rest: key }
    }

    /// The fields after the version, which must be `version`.
    pub(super) fn of_value(value: &'a [u8], version: u8) -> Result<Self, RowError> {
        let mut fields = Self { rest: value };
        match fields.u8()? {
            found if found == version => Ok(fields),
            found => Err(RowError::Version(found)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(RowError::Short)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RowError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RowError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RowError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Seconds since 1970 (i64) and nanoseconds after them (u32).
    pub(super) fn time(&mut self) -> Result<Timestamp, RowError> {
        let seconds = self.array().map(i64::from_be_bytes)?;
        match self.u32()? {
            nanos @ 0..=999_999_999 => Ok(Timestamp { seconds, nanos }),
            _ => Err(RowError::Value("nanoseconds")),
        }
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), RowError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RowError::Trailing) }
    }
}

/// A row being written.
#[derive(Debug)]
pub(super) struct Put {
    value: Vec<u8>,
}

impl Put {
    pub(super) fn new(version: u8) -> Self {
        Self { value: vec![version] }
    }

    pub(super) fn u8(self, field: u8) -> Self {
        self.bytes(&[field])
    }

    pub(super) fn u32(self, field: u32) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    pub(super) fn u64(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    pub(super) fn time(self, field: Timestamp) -> Self {
        self.bytes(&field.seconds.to_be_bytes()).u32(field.nanos)
    }

    pub(super) fn bytes(mut self, field: &[u8]) -> Self {
        self.value.extend_from_slice(field);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.value
    }
}
