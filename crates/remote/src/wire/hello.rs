//! The first frame of each direction: which version, which volume, welcome or not and why.
//!
//! Magic and version lie at the same place in every version to come, so that either side can say what
//! it does not understand.

use bytes::{BufMut, Bytes};
use file_tree::Ino;

use super::fields::{Fields, put_text};
use super::{
    Frame, MAGIC, RequestId, TEXT_BYTES_MAX, VERSION, VOLUME_NAME_BYTES_MAX, WireError, begin,
    finish, open,
};

const KIND_HELLO: u8 = 0xF0;
const KIND_WELCOME: u8 = 0xF1;
const KIND_REFUSED: u8 = 0xF2;

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A client of this version asks for a volume.
    Volume(String),
    /// A client of another version; the rest of its hello is unknown.
    OtherVersion(u16),
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloAnswer {
    /// Requests may follow.
    Welcome(Welcome),
    /// The server closes the connection after this.
    Refused {
        /// The version that the server speaks.
        version: u16,
        /// What kind of refusal.
        code: RefusalCode,
        /// The same for people.
        reason: String,
    },
    /// A server of another version; the rest of its answer is unknown.
    OtherVersion(u16),
}

/// What a welcome tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The root directory of the volume.
    pub root: Ino,
    /// Requests that the server handles at a time on this connection; further ones wait unread.
    pub requests_max: u32,
}

/// Why a hello was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The server does not speak the client's version.
    Version,
    /// There is no volume of that name.
    NoSuchVolume,
    /// The volume is there but cannot be opened.
    VolumeFailed,
    /// The server has as many connections as it takes.
    TooManyConnections,
}

impl Hello {
    /// The frame of a hello of this version. The name is cut at [`VOLUME_NAME_BYTES_MAX`] by nobody:
    /// a longer one is refused by the caller before.
    pub fn frame(volume: &str) -> Frame {
        let mut out = begin(RequestId(0), KIND_HELLO);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        put_text(&mut out, volume);
        finish(out, Bytes::new())
    }

    /// Reads a received frame.
    ///
    /// # Errors
    ///
    /// Any [`WireError`] when the bytes are no hello at all.
    pub fn decode(frame: Bytes) -> Result<Self, WireError> {
        let (_, kind, mut fields) = open(frame)?;
        if kind != KIND_HELLO {
            return Err(WireError::UnknownKind(kind));
        }
        let version = magic_and_version(&mut fields)?;
        if version != VERSION {
            return Ok(Self::OtherVersion(version));
        }
        let volume = fields.text(VOLUME_NAME_BYTES_MAX)?;
        fields.end()?;
        Ok(Self::Volume(volume))
    }
}

impl HelloAnswer {
    /// The frame of this answer.
    pub fn frame(&self) -> Frame {
        let kind = match self {
            Self::Welcome(_) | Self::OtherVersion(_) => KIND_WELCOME,
            Self::Refused { .. } => KIND_REFUSED,
        };
        let mut out = begin(RequestId(0), kind);
        out.put_slice(&MAGIC);
        match self {
            Self::Welcome(welcome) => {
                out.put_u16_le(VERSION);
                out.put_u64_le(welcome.root.0);
                out.put_u32_le(welcome.requests_max);
            }
            Self::OtherVersion(version) => out.put_u16_le(*version),
            Self::Refused { version, code, reason } => {
                out.put_u16_le(*version);
                out.put_u8(code.number());
                put_text(&mut out, reason);
            }
        }
        finish(out, Bytes::new())
    }

    /// Reads a received frame.
    ///
    /// # Errors
    ///
    /// Any [`WireError`] when the bytes are no answer to a hello.
    pub fn decode(frame: Bytes) -> Result<Self, WireError> {
        let (_, kind, mut fields) = open(frame)?;
        if kind != KIND_WELCOME && kind != KIND_REFUSED {
            return Err(WireError::UnknownKind(kind));
        }
        let version = magic_and_version(&mut fields)?;
        let answer = if kind == KIND_REFUSED {
            let code = RefusalCode::from_number(fields.u8()?)?;
            Self::Refused { version, code, reason: fields.text(TEXT_BYTES_MAX)? }
        } else if version != VERSION {
            return Ok(Self::OtherVersion(version));
        } else {
            Self::Welcome(Welcome { root: fields.ino()?, requests_max: fields.u32()? })
        };
        fields.end()?;
        Ok(answer)
    }
}

impl RefusalCode {
    fn number(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::NoSuchVolume => 2,
            Self::VolumeFailed => 3,
            Self::TooManyConnections => 4,
        }
    }

    fn from_number(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Version),
            2 => Ok(Self::NoSuchVolume),
            3 => Ok(Self::VolumeFailed),
            4 => Ok(Self::TooManyConnections),
            _ => Err(WireError::BadValue("refusal")),
        }
    }
}

fn magic_and_version(fields: &mut Fields) -> Result<u16, WireError> {
    if fields.bytes(MAGIC.len())? != MAGIC[..] {
        return Err(WireError::BadValue("magic"));
    }
    fields.u16()
}
