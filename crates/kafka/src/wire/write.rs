//! Writing a frame: small fields are gathered in one buffer, payload is spliced in by reference.
//!
//! Invariant: `splices` are in rising order of their place in `head`, and a finished frame is the
//! head with every splice put in at its place.

use bytes::{BufMut, Bytes, BytesMut};

use super::Dialect;

/// Byte strings of at least this size are sent from where they lie; shorter ones are copied, which is
/// cheaper than one more piece.
pub const SHARE_BYTES_MIN: usize = 1024;

const HEAD_BYTES_TYPICAL: usize = 256;

/// Why a message has no encoding. Nothing of it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string, array or frame is longer than its length field can say.
    #[error("a length of {length} does not fit the protocol's length field")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// The version is not one of this message's.
    #[error("version {version} is not between {min} and {max}")]
    BadVersion {
        /// The version asked for.
        version: i16,
        /// The oldest one known here.
        min: i16,
        /// The newest one known here.
        max: i16,
    },
}

/// A frame ready to be sent, in order, as pieces.
#[derive(Clone, Debug)]
pub struct Chunks {
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Chunks {
    /// The pieces in the order in which they are sent; none is empty.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The pieces, to be consumed while they are sent.
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// The size of all pieces together, with the four bytes of the frame's size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All pieces copied into one, for tests and small messages.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.bytes);
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}

/// Collects one frame. Errors are kept and reported by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    head: BytesMut,
    splices: Vec<(usize, Bytes)>,
    error: Option<EncodeError>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Begins a frame, with room for its size.
    pub fn new() -> Self {
        let mut head = BytesMut::with_capacity(HEAD_BYTES_TYPICAL);
        head.put_i32(0);
        Self { head, splices: Vec::new(), error: None }
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    /// Writes an unsigned variable-length integer.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8((value & 0x7f) as u8);
    }

    /// Writes the length of a string, or null.
    pub fn short_length(&mut self, length: Option<usize>, dialect: Dialect) {
        if dialect.flexible {
            return self.compact_length(length);
        }
        match length.map(i16::try_from) {
            None => self.head.put_i16(-1),
            Some(Ok(plain)) => self.head.put_i16(plain),
            Some(Err(_)) => self.too_long(length),
        }
    }

    /// Writes the count of an array or the length of a long byte string, or null.
    pub fn long_length(&mut self, length: Option<usize>, dialect: Dialect) {
        if dialect.flexible {
            return self.compact_length(length);
        }
        match length.map(i32::try_from) {
            None => self.head.put_i32(-1),
            Some(Ok(plain)) => self.head.put_i32(plain),
            Some(Err(_)) => self.too_long(length),
        }
    }

    fn compact_length(&mut self, length: Option<usize>) {
        match length.map(|length| u32::try_from(length.saturating_add(1))) {
            None => self.uvarint(0),
            Some(Ok(compact)) => self.uvarint(compact),
            Some(Err(_)) => self.too_long(length),
        }
    }

    fn too_long(&mut self, length: Option<usize>) {
        self.error = Some(EncodeError::TooLong { length: length.unwrap_or_default() });
    }

    /// Writes payload: long ones stay where they are and are sent from there.
    pub fn payload(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.head.put_slice(bytes);
        } else {
            self.splices.push((self.head.len(), bytes.clone()));
        }
    }

    /// Writes the (empty) tag section that ends every structure of a flexible version.
    pub fn no_tags(&mut self, dialect: Dialect) {
        if dialect.flexible {
            self.head.put_u8(0);
        }
    }

    /// Fills in the frame's size and hands the frame over.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] when any length did not fit its field.
    pub fn finish(mut self) -> Result<Chunks, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let spliced: usize = self.splices.iter().map(|(_, bytes)| bytes.len()).sum();
        let bytes = self.head.len() + spliced;
        let body = bytes - size_of::<i32>();
        let size = i32::try_from(body).map_err(|_| EncodeError::TooLong { length: body })?;
        self.head[..size_of::<i32>()].copy_from_slice(&size.to_be_bytes());
        let head = self.head.freeze();
        let mut parts = Vec::with_capacity(2 * self.splices.len() + 1);
        let mut from = 0;
        for (place, payload) in self.splices {
            if from < place {
                parts.push(head.slice(from..place));
            }
            parts.push(payload);
            from = place;
        }
        if from < head.len() {
            parts.push(head.slice(from..));
        }
        Ok(Chunks { parts, bytes })
    }
}
