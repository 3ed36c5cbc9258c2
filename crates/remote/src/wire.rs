//! Bytes to messages and back: the file protocol, version 1. Pure: no sockets, no clock.
//!
//! ```text
//! +------------+----------------+---------+--------+---------------------+
//! | length u32 | request id u64 | kind u8 | body   | payload (some kinds) |   all little-endian
//! +------------+----------------+---------+--------+---------------------+
//! ```
//!
//! `length` counts what follows it and is at most [`FRAME_BYTES_MAX`]. The payload of a write and of an
//! answered read is simply the rest of the frame, so that it is sent from where it lies and handed on
//! as a slice of what was received. `docs/formats/remote.md` has every body byte by byte.
//!
//! Written by hand, not with a serialisation crate: the layout is the contract between releases and has
//! to be stated byte by byte anyway, every count is checked against the bytes that are there before
//! anything is allocated, and the payload stays out of it.
//!
//! Not here: when frames are read and written (`crate::frames`, `crate::outbox`).

mod answer;
mod fields;
mod hello;
mod request;

use bytes::{BufMut, Bytes, BytesMut};

pub use answer::Answer;
pub use hello::{Hello, HelloAnswer, RefusalCode, Welcome};
pub use request::Request;

use fields::Fields;

/// The protocol version that both halves here speak.
pub const VERSION: u16 = 1;

/// First bytes of a hello and of its answer.
pub const MAGIC: [u8; 8] = *b"SL-FILES";

/// Largest payload of one read or write, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Largest value of a frame's length field, in bytes: a full payload and 64 KiB for the rest.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 64 * 1024;

/// Smallest value of a frame's length field: request id and kind.
pub const FRAME_BYTES_MIN: usize = 8 + 1;

/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;

/// Most entries in the answer to one list request.
pub const LIST_ITEMS_MAX: u32 = 1024;

/// Most further groups of one caller.
pub const GROUPS_MAX: usize = 8192;

/// Longest volume name in bytes.
pub const VOLUME_NAME_BYTES_MAX: usize = 255;

/// Longest symbolic link target in bytes.
pub const LINK_BYTES_MAX: usize = 4095;

/// Nanoseconds after a second are below this.
pub const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Longest text that says why something was refused or failed, in bytes; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Why received bytes are not a frame of this protocol. The connection they came on is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length field is over [`FRAME_BYTES_MAX`].
    #[error("frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(u32),
    /// The frame ends before its fields do.
    #[error("frame is too short")]
    TooShort,
    /// Bytes are left after the last field.
    #[error("{0} bytes too many in the frame")]
    TooMuch(usize),
    /// The kind is unknown, or not one that this side may receive.
    #[error("unknown kind of frame {0:#04x}")]
    UnknownKind(u8),
    /// A field holds a value that it may not hold.
    #[error("bad value for {0}")]
    BadValue(&'static str),
}

/// A frame ready to be sent: everything up to the payload, and the payload where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Length field, request id, kind and body.
    pub head: Bytes,
    /// The payload; empty for most kinds.
    pub payload: Bytes,
}

impl Frame {
    /// Bytes on the wire, the length field included.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// Names one request of a connection; its answer carries the same number. Hellos carry 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Reads a frame's length field.
///
/// # Errors
///
/// [`WireError::TooLong`] and [`WireError::TooShort`] when no frame has this length.
pub fn frame_length(field: [u8; LENGTH_BYTES]) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(field);
    let bytes = usize::try_from(length).map_err(|_| WireError::TooLong(length))?;
    match bytes {
        _ if bytes > FRAME_BYTES_MAX => Err(WireError::TooLong(length)),
        _ if bytes < FRAME_BYTES_MIN => Err(WireError::TooShort),
        _ => Ok(bytes),
    }
}

/// Begins a frame; [`finish`] fills in the length.
fn begin(id: RequestId, kind: u8) -> BytesMut {
    let mut head = BytesMut::with_capacity(128);
    head.put_u32_le(0);
    head.put_u64_le(id.0);
    head.put_u8(kind);
    head
}

/// Ends a frame that [`begin`] began.
fn finish(mut head: BytesMut, payload: Bytes) -> Frame {
    let length = head.len() - LENGTH_BYTES + payload.len();
    assert!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes was built");
    let length = u32::try_from(length).expect("just checked against a smaller limit");
    head[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Frame { head: head.freeze(), payload }
}

/// Splits a received frame (without its length field) into request id, kind and the fields.
fn open(frame: Bytes) -> Result<(RequestId, u8, Fields), WireError> {
    let mut fields = Fields::new(frame);
    let id = RequestId(fields.u64()?);
    let kind = fields.u8()?;
    Ok((id, kind, fields))
}

/// The longest prefix of `text` that has at most `max` bytes and ends between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
