//! Whole requests and responses: header and message together.
//!
//! The response to ApiVersions has no tags in its header in any version, so that a client that
//! guessed the version wrong can still read the answer.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{ApiKey, Chunks, DecodeError, Dialect, EncodeError, Field, Reader, Writer};

/// The part of a request's header that lies at the same place in every version of every API.
pub const REQUEST_HEAD_BYTES: usize = 8;

/// A request or a response: which API it belongs to and which versions of it are known here.
pub trait Message: Field + Default {
    /// The API.
    const API: ApiKey;
    /// Versions with an encoder and a decoder.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tags.
    const FLEXIBLE_FROM: i16;

    /// The layout of `version`.
    fn dialect(version: i16) -> Dialect {
        Dialect { version, flexible: version >= Self::FLEXIBLE_FROM }
    }
}

/// A message that is answered by a `Response` of the same version.
pub trait Request: Message {
    /// The answer.
    type Response: Message;
}

/// What every request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The API's number, known here or not.
    pub api_key: i16,
    /// The version of request and response.
    pub api_version: i16,
    /// Given back in the response.
    pub correlation_id: i32,
}

impl RequestHead {
    /// Reads the head from the first bytes of a frame's body.
    pub fn parse(head: [u8; REQUEST_HEAD_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = head;
        Self {
            api_key: i16::from_be_bytes([a, b]),
            api_version: i16::from_be_bytes([c, d]),
            correlation_id: i32::from_be_bytes([e, f, g, h]),
        }
    }
}

/// The header's client id is an old-style string in all versions; only the tags are new.
const CLIENT_ID: Dialect = Dialect { version: 0, flexible: false };

fn known<M: Message>(version: i16) -> Result<Dialect, DecodeError> {
    if M::VERSIONS.contains(&version) {
        return Ok(M::dialect(version));
    }
    Err(DecodeError::BadVersion { version, min: *M::VERSIONS.start(), max: *M::VERSIONS.end() })
}

fn writable<M: Message>(version: i16) -> Result<Dialect, EncodeError> {
    if M::VERSIONS.contains(&version) {
        return Ok(M::dialect(version));
    }
    Err(EncodeError::BadVersion { version, min: *M::VERSIONS.start(), max: *M::VERSIONS.end() })
}

fn response_header<M: Message>(message: Dialect) -> Dialect {
    Dialect { flexible: message.flexible && M::API != ApiKey::ApiVersions, ..message }
}

/// Decodes a request from the body of a frame (without the frame's size). Gives the client's name for
/// itself, if any, and the message.
///
/// # Errors
///
/// [`DecodeError::BadVersion`] when the head asks for a version that is not known here; others when
/// the bytes are not such a message.
pub fn decode_request<M: Request>(body: &Bytes) -> Result<(Option<String>, M), DecodeError> {
    let mut input = Reader::new(body);
    let head = RequestHead::parse(input.array()?);
    let dialect = known::<M>(head.api_version)?;
    let client_id = Option::<String>::decode(&mut input, CLIENT_ID)?;
    input.skip_tags(dialect)?;
    let message = M::decode(&mut input, dialect)?;
    input.finish()?;
    Ok((client_id, message))
}

/// Encodes a request as a frame.
///
/// # Errors
///
/// [`EncodeError`] when the version is unknown here or something is too long for its field.
pub fn encode_request<M: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &Option<String>,
    message: &M,
) -> Result<Chunks, EncodeError> {
    let dialect = writable::<M>(version)?;
    let mut out = Writer::new();
    out.raw(&M::API.number().to_be_bytes());
    out.raw(&version.to_be_bytes());
    out.raw(&correlation_id.to_be_bytes());
    client_id.encode(&mut out, CLIENT_ID);
    out.no_tags(dialect);
    message.encode(&mut out, dialect);
    out.finish()
}

/// Decodes a response of `version` from the body of a frame. Gives the correlation id and the message.
///
/// # Errors
///
/// As [`decode_request`].
pub fn decode_response<M: Message>(body: &Bytes, version: i16) -> Result<(i32, M), DecodeError> {
    let dialect = known::<M>(version)?;
    let mut input = Reader::new(body);
    let correlation_id = i32::decode(&mut input, dialect)?;
    input.skip_tags(response_header::<M>(dialect))?;
    let message = M::decode(&mut input, dialect)?;
    input.finish()?;
    Ok((correlation_id, message))
}

/// Encodes a response as a frame.
///
/// # Errors
///
/// As [`encode_request`].
pub fn encode_response<M: Message>(
    version: i16,
    correlation_id: i32,
    message: &M,
) -> Result<Chunks, EncodeError> {
    let dialect = writable::<M>(version)?;
    let mut out = Writer::new();
    out.raw(&correlation_id.to_be_bytes());
    out.no_tags(response_header::<M>(dialect));
    message.encode(&mut out, dialect);
    out.finish()
}
