//! Reading primitives from a frame that nobody vouches for.
//!
//! Invariants: the position never passes the end; memory for decoded values is charged to a budget
//! that grows with the frame, before it is allocated; byte strings are slices of the frame.

use bytes::Bytes;

use super::Dialect;

/// Decoded values may take this many times the size of their frame in memory.
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 32;
/// Decoded values of even the smallest frame may take this much.
pub const DECODED_BYTES_FLOOR: usize = 4 * 1024;
/// Decoded values (without record batches, which stay in the frame) never take more than this.
pub const DECODED_BYTES_MAX: usize = 32 * 1024 * 1024;

const VARINT_BYTES_MAX: u32 = 5;

/// Why bytes are not the message they were said to be. All are final for the connection they came
/// from: what follows in the stream cannot be trusted either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("the frame ends {missing} bytes before the end of a field at byte {at}")]
    Truncated {
        /// Where the field begins.
        at: usize,
        /// How many bytes are not there.
        missing: usize,
    },
    /// The message ends and bytes are left over.
    #[error("{bytes} bytes follow the end of the message")]
    Trailing {
        /// How many bytes are left.
        bytes: usize,
    },
    /// More elements than a frame of this size may claim.
    #[error("the message would take more than {limit} bytes of memory")]
    TooLong {
        /// The budget that was exceeded.
        limit: usize,
    },
    /// A negative length other than the one that stands for null.
    #[error("a length of {length} at byte {at} is not a length")]
    BadLength {
        /// Where the length begins.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// Null where the protocol demands a value.
    #[error("null at byte {at} where a value is needed")]
    Null {
        /// Where the value should begin.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where its first byte lies.
        at: usize,
    },
    /// A variable-length integer of more than 32 bits.
    #[error("the variable-length integer at byte {at} does not fit 32 bits")]
    BadVarint {
        /// Where it begins.
        at: usize,
    },
    /// A version that this message does not have here.
    #[error("version {version} is not between {min} and {max}")]
    BadVersion {
        /// The version asked for.
        version: i16,
        /// The oldest one decoded here.
        min: i16,
        /// The newest one decoded here.
        max: i16,
    },
}

/// A position in a frame, with the memory budget for what is decoded from it.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    budget: usize,
    limit: usize,
}

impl<'a> Reader<'a> {
    /// Reads `frame` from its first byte.
    pub fn new(frame: &'a Bytes) -> Self {
        let limit = frame
            .len()
            .saturating_mul(DECODED_BYTES_PER_FRAME_BYTE)
            .clamp(DECODED_BYTES_FLOOR, DECODED_BYTES_MAX);
        Self { frame, at: 0, budget: limit, limit }
    }

    /// Bytes that were not read yet.
    pub fn left(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Skips to the end and fails unless it is the end already.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        if bytes > self.left() {
            return Err(DecodeError::Truncated { at: self.at, missing: bytes - self.left() });
        }
        let start = self.at;
        self.at += bytes;
        Ok(&self.frame[start..self.at])
    }

    /// Reads `N` bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    /// Reads an unsigned variable-length integer: seven bits a byte, lowest first.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0_u64;
        for place in 0..VARINT_BYTES_MAX {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::BadVarint { at });
            }
        }
        Err(DecodeError::BadVarint { at })
    }

    /// Reads the length of a string or byte string, or `None` for null.
    pub fn short_length(&mut self, dialect: Dialect) -> Result<Option<usize>, DecodeError> {
        if dialect.flexible {
            return self.compact_length();
        }
        let at = self.at;
        let length = i16::from_be_bytes(self.array()?);
        Self::plain_length(at, i64::from(length))
    }

    /// Reads the count of an array or the length of a long byte string, or `None` for null.
    pub fn long_length(&mut self, dialect: Dialect) -> Result<Option<usize>, DecodeError> {
        if dialect.flexible {
            return self.compact_length();
        }
        let at = self.at;
        let length = i32::from_be_bytes(self.array()?);
        Self::plain_length(at, i64::from(length))
    }

    fn plain_length(at: usize, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            _ => {
                usize::try_from(length).map(Some).map_err(|_| DecodeError::BadLength { at, length })
            }
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Reads `bytes` bytes as a slice of the frame.
    pub fn slice(&mut self, bytes: usize) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.take(bytes)?;
        Ok(self.frame.slice(start..self.at))
    }

    /// Reads a string of `bytes` bytes.
    pub fn string(&mut self, bytes: usize) -> Result<String, DecodeError> {
        let at = self.at;
        let text = str::from_utf8(self.take(bytes)?).map_err(|_| DecodeError::NotUtf8 { at })?;
        Ok(text.to_owned())
    }

    /// An empty vector with room for `count` elements, after checking that the rest of the frame can
    /// hold them (one byte each is the least any element takes) and that the budget allows them.
    pub fn vector<T>(&mut self, count: usize) -> Result<Vec<T>, DecodeError> {
        if count > self.left() {
            return Err(DecodeError::Truncated { at: self.at, missing: count - self.left() });
        }
        let bytes = count.saturating_mul(size_of::<T>());
        self.budget =
            self.budget.checked_sub(bytes).ok_or(DecodeError::TooLong { limit: self.limit })?;
        Ok(Vec::with_capacity(count))
    }

    /// Skips the tag section that ends every structure of a flexible version.
    pub fn skip_tags(&mut self, dialect: Dialect) -> Result<(), DecodeError> {
        if !dialect.flexible {
            return Ok(());
        }
        // Each turn takes at least two bytes or fails, so the claimed count bounds nothing.
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let bytes = self.uvarint()? as usize;
            self.take(bytes)?;
        }
        Ok(())
    }

    /// Where the next byte lies in the frame.
    pub fn position(&self) -> usize {
        self.at
    }
}
