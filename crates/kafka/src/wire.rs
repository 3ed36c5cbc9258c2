//! The Kafka wire protocol as pure functions: bytes to messages and back, for both directions.
//!
//! ```text
//! frame    := size i32 | body of `size` bytes                        all integers big-endian
//! request  := api_key i16 | api_version i16 | correlation_id i32 | client_id string? | tags* | message
//! response := correlation_id i32 | tags* | message                   * flexible versions only
//! ```
//!
//! Server, client and tests share one definition per message (see [`messages`]). Decoding input of a
//! stranger never panics, never recurses and allocates at most [`DECODED_BYTES_PER_FRAME_BYTE`] times
//! the frame (and never more than [`DECODED_BYTES_MAX`]), whatever counts the input claims: a count is
//! charged before the vector is made. Payload (`records`) is a slice of the frame; encoding
//! splices payload between the encoded parts instead of copying it.
//!
//! Not here: sockets (`crate::server`, `crate::client`), what a request does, the inside of a record
//! batch (`broker::batch`).

mod api;
mod define;
mod error_code;
mod field;
mod frame;
pub mod messages;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use api::{ApiKey, VersionRange};
pub use error_code::ErrorCode;
pub use field::{Field, Uuid};
pub use frame::{
    Message, REQUEST_HEAD_BYTES, Request, RequestHead, decode_request, decode_response,
    encode_request, encode_response,
};
pub use read::{
    DECODED_BYTES_FLOOR, DECODED_BYTES_MAX, DECODED_BYTES_PER_FRAME_BYTE, DecodeError, Reader,
};
pub use write::{Chunks, EncodeError, SHARE_BYTES_MIN, Writer};

/// How a message is laid out: its version, and whether that version is a flexible one (compact
/// lengths and tagged fields).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The version of the API that both sides agreed on.
    pub version: i16,
    /// Compact strings and arrays, and a tag section after every structure.
    pub flexible: bool,
}
