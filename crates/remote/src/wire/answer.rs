//! What a server answers: one kind per shape of result, and failures.

use bytes::{BufMut, Bytes, BytesMut};
use file_tree::{Attr, DirItem, Stat, TreeError, WriteEpoch, Written};

use super::fields::{Fields, put_attr, put_name, put_stability, put_text};
use super::{
    Frame, LINK_BYTES_MAX, LIST_ITEMS_MAX, PAYLOAD_BYTES_MAX, RequestId, TEXT_BYTES_MAX, WireError,
    begin, finish, open,
};

/// The result of one [`super::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Attributes of the file.
    Attr(Attr),
    /// Done; nothing to tell.
    Done,
    /// The target of a symbolic link.
    Link(Bytes),
    /// Bytes of a file.
    Data(Bytes),
    /// The bytes are written.
    Written(Written),
    /// Everything before is on stable storage.
    Committed(WriteEpoch),
    /// Entries of a directory.
    Items(Vec<DirItem>),
    /// Room and limits.
    Stat(Stat),
    /// The call failed.
    Failed(TreeError),
}

const KIND_ATTR: u8 = 0x81;
const KIND_DONE: u8 = 0x82;
const KIND_LINK: u8 = 0x83;
const KIND_DATA: u8 = 0x84;
const KIND_WRITTEN: u8 = 0x85;
const KIND_COMMITTED: u8 = 0x86;
const KIND_ITEMS: u8 = 0x87;
const KIND_STAT: u8 = 0x88;
const KIND_FAILED: u8 = 0x89;

/// Fewest bytes of one directory item: cookie, a name of one byte, attributes.
const ITEM_BYTES_MIN: usize = 8 + 2 + ATTR_BYTES;
/// Bytes of attributes.
const ATTR_BYTES: usize = 8 + 1 + 4 * 4 + 3 * 8 + 3 * 12;

// The largest list must fit in a frame.
const _: () = assert!(
    LIST_ITEMS_MAX as usize * (8 + 1 + file_tree::Name::BYTES_MAX + ATTR_BYTES) + 64
        < super::FRAME_BYTES_MAX
);

impl Answer {
    /// The frame of this answer.
    ///
    /// An answer that is larger than the protocol allows, which a tree gives only by mistake, becomes a
    /// failure that says so.
    pub fn frame(self, id: RequestId) -> Frame {
        let mut out = begin(id, self.kind());
        let mut payload = Bytes::new();
        match self {
            Self::Attr(attr) => put_attr(&mut out, &attr),
            Self::Done => {}
            Self::Link(target) if target.len() > LINK_BYTES_MAX => return too_large(id),
            Self::Link(bytes) => payload = bytes,
            Self::Data(data) if data.len() > PAYLOAD_BYTES_MAX => return too_large(id),
            Self::Data(bytes) => payload = bytes,
            Self::Written(written) => {
                put_stability(&mut out, written.stability);
                out.put_u64_le(written.epoch.0);
                put_attr(&mut out, &written.attr);
            }
            Self::Committed(epoch) => out.put_u64_le(epoch.0),
            Self::Items(items) => match u32::try_from(items.len()) {
                Ok(count) if count <= LIST_ITEMS_MAX => put_items(&mut out, count, &items),
                _ => return too_large(id),
            },
            Self::Stat(stat) => {
                out.put_u64_le(stat.total_bytes);
                out.put_u64_le(stat.available_bytes);
                out.put_u64_le(stat.files);
            }
            Self::Failed(error) => put_error(&mut out, &error),
        }
        finish(out, payload)
    }

    /// Reads a received frame.
    ///
    /// # Errors
    ///
    /// Any [`WireError`] when the bytes are no answer.
    pub fn decode(frame: Bytes) -> Result<(RequestId, Self), WireError> {
        let (id, kind, mut fields) = open(frame)?;
        let answer = match kind {
            KIND_LINK => return Ok((id, Self::Link(fields.payload(LINK_BYTES_MAX)?))),
            KIND_DATA => return Ok((id, Self::Data(fields.payload(PAYLOAD_BYTES_MAX)?))),
            KIND_ATTR => Self::Attr(fields.attr()?),
            KIND_DONE => Self::Done,
            KIND_WRITTEN => Self::Written(Written {
                stability: fields.stability()?,
                epoch: WriteEpoch(fields.u64()?),
                attr: fields.attr()?,
            }),
            KIND_COMMITTED => Self::Committed(WriteEpoch(fields.u64()?)),
            KIND_ITEMS => Self::Items(items(&mut fields)?),
            KIND_STAT => Self::Stat(Stat {
                total_bytes: fields.u64()?,
                available_bytes: fields.u64()?,
                files: fields.u64()?,
            }),
            KIND_FAILED => Self::Failed(error(&mut fields)?),
            unknown => return Err(WireError::UnknownKind(unknown)),
        };
        fields.end()?;
        Ok((id, answer))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Attr(_) => KIND_ATTR,
            Self::Done => KIND_DONE,
            Self::Link(_) => KIND_LINK,
            Self::Data(_) => KIND_DATA,
            Self::Written(_) => KIND_WRITTEN,
            Self::Committed(_) => KIND_COMMITTED,
            Self::Items(_) => KIND_ITEMS,
            Self::Stat(_) => KIND_STAT,
            Self::Failed(_) => KIND_FAILED,
        }
    }
}

fn too_large(id: RequestId) -> Frame {
    Answer::Failed(TreeError::Failed("an answer over the protocol's limits".into())).frame(id)
}

fn put_items(out: &mut BytesMut, count: u32, items: &[DirItem]) {
    out.put_u32_le(count);
    for item in items {
        out.put_u64_le(item.cookie);
        put_name(out, &item.name);
        put_attr(out, &item.attr);
    }
}

fn items(fields: &mut Fields) -> Result<Vec<DirItem>, WireError> {
    let count = fields.u32()?;
    let bad = WireError::BadValue("number of items");
    if count > LIST_ITEMS_MAX {
        return Err(bad);
    }
    let count = usize::try_from(count).map_err(|_| bad)?;
    if count * ITEM_BYTES_MIN > fields.remaining() {
        return Err(WireError::TooShort);
    }
    let item =
        |_| Ok(DirItem { cookie: fields.u64()?, name: fields.name()?, attr: fields.attr()? });
    (0..count).map(item).collect()
}

/// Writes an error: its number, and a text for those that carry one.
fn put_error(out: &mut BytesMut, error: &TreeError) {
    let (number, text): (u8, Option<&str>) = match error {
        TreeError::NotFound => (1, None),
        TreeError::Stale => (2, None),
        TreeError::Exists => (3, None),
        TreeError::NotADirectory => (4, None),
        TreeError::IsADirectory => (5, None),
        TreeError::NotEmpty => (6, None),
        TreeError::AccessDenied => (7, None),
        TreeError::NotPermitted => (8, None),
        TreeError::Invalid(_) => (9, None),
        TreeError::NameTooLong => (10, None),
        TreeError::TooLarge => (11, None),
        TreeError::TooManyLinks => (12, None),
        TreeError::NoSpace => (13, None),
        TreeError::NotSupported => (14, None),
        TreeError::Damaged(text) => (15, Some(text)),
        TreeError::Failed(text) => (16, Some(text)),
        TreeError::Unreachable(text) => (17, Some(text)),
    };
    out.put_u8(number);
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn error(fields: &mut Fields) -> Result<TreeError, WireError> {
    Ok(match fields.u8()? {
        1 => TreeError::NotFound,
        2 => TreeError::Stale,
        3 => TreeError::Exists,
        4 => TreeError::NotADirectory,
        5 => TreeError::IsADirectory,
        6 => TreeError::NotEmpty,
        7 => TreeError::AccessDenied,
        8 => TreeError::NotPermitted,
        9 => TreeError::Invalid("the server refuses an argument"),
        10 => TreeError::NameTooLong,
        11 => TreeError::TooLarge,
        12 => TreeError::TooManyLinks,
        13 => TreeError::NoSpace,
        14 => TreeError::NotSupported,
        15 => TreeError::Damaged(fields.text(TEXT_BYTES_MAX)?),
        16 => TreeError::Failed(fields.text(TEXT_BYTES_MAX)?),
        17 => TreeError::Unreachable(fields.text(TEXT_BYTES_MAX)?),
        _ => return Err(WireError::BadValue("error")),
    })
}
