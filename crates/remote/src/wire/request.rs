//! What a client asks: one kind per call of [`file_tree::FileTree`].

use bytes::{BufMut, Bytes, BytesMut};
use file_tree::{Access, Caller, Ino, Name, NewNode, RenameMode, SetAttr};

use super::fields::{
    Fields, put_access, put_caller, put_kind, put_name, put_optional_u32, put_optional_u64,
    put_rename_mode, put_set_time,
};
use super::{Frame, LINK_BYTES_MAX, PAYLOAD_BYTES_MAX, RequestId, WireError, begin, finish, open};

/// One call. The fields are those of the call of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the argument of that name of the FileTree call")]
pub enum Request {
    /// [`file_tree::FileTree::lookup`]
    Lookup { caller: Caller, dir: Ino, name: Name },
    /// [`file_tree::FileTree::attr`]
    Attr { ino: Ino },
    /// [`file_tree::FileTree::set_attr`]
    SetAttr { caller: Caller, ino: Ino, change: SetAttr },
    /// [`file_tree::FileTree::read_link`]
    ReadLink { ino: Ino },
    /// [`file_tree::FileTree::make`]
    Make { caller: Caller, dir: Ino, name: Name, node: NewNode },
    /// [`file_tree::FileTree::create`]
    Create { caller: Caller, dir: Ino, name: Name, mode: u32 },
    /// [`file_tree::FileTree::link`]
    Link { caller: Caller, ino: Ino, dir: Ino, name: Name },
    /// [`file_tree::FileTree::unlink`]
    Unlink { caller: Caller, dir: Ino, name: Name },
    /// [`file_tree::FileTree::remove_dir`]
    RemoveDir { caller: Caller, dir: Ino, name: Name },
    /// [`file_tree::FileTree::rename`]
    Rename { caller: Caller, from: (Ino, Name), to: (Ino, Name), mode: RenameMode },
    /// [`file_tree::FileTree::open`]
    Open { caller: Caller, ino: Ino, access: Access },
    /// [`file_tree::FileTree::release`]
    Release { ino: Ino },
    /// [`file_tree::FileTree::read`], of at most [`PAYLOAD_BYTES_MAX`]
    Read { ino: Ino, offset: u64, len: u32 },
    /// [`file_tree::FileTree::write`], of at most [`PAYLOAD_BYTES_MAX`]
    Write { ino: Ino, offset: u64, bytes: Bytes },
    /// [`file_tree::FileTree::commit`]
    Commit { ino: Ino },
    /// [`file_tree::FileTree::list`]; answered with at most [`super::LIST_ITEMS_MAX`] items
    List { caller: Caller, dir: Ino, after: u64, max: u32 },
    /// [`file_tree::FileTree::stat`]
    Stat,
}

impl Request {
    /// The frame of this request.
    pub fn frame(&self, id: RequestId) -> Frame {
        let mut out = begin(id, self.kind());
        let mut payload = Bytes::new();
        match self {
            Self::Lookup { caller, dir, name }
            | Self::Unlink { caller, dir, name }
            | Self::RemoveDir { caller, dir, name } => put_place(&mut out, caller, *dir, name),
            Self::Attr { ino }
            | Self::ReadLink { ino }
            | Self::Release { ino }
            | Self::Commit { ino } => {
                out.put_u64_le(ino.0);
            }
            Self::SetAttr { caller, ino, change } => {
                put_caller(&mut out, caller);
                out.put_u64_le(ino.0);
                put_change(&mut out, change);
            }
            Self::Make { caller, dir, name, node } => {
                put_place(&mut out, caller, *dir, name);
                put_node(&mut out, node);
            }
            Self::Create { caller, dir, name, mode } => {
                put_place(&mut out, caller, *dir, name);
                out.put_u32_le(*mode);
            }
            Self::Link { caller, ino, dir, name } => {
                put_place(&mut out, caller, *dir, name);
                out.put_u64_le(ino.0);
            }
            Self::Rename { caller, from, to, mode } => {
                put_place(&mut out, caller, from.0, &from.1);
                out.put_u64_le(to.0.0);
                put_name(&mut out, &to.1);
                put_rename_mode(&mut out, *mode);
            }
            Self::Open { caller, ino, access } => {
                put_caller(&mut out, caller);
                out.put_u64_le(ino.0);
                put_access(&mut out, *access);
            }
            Self::Read { ino, offset, len } => {
                out.put_u64_le(ino.0);
                out.put_u64_le(*offset);
                out.put_u32_le(*len);
            }
            Self::Write { ino, offset, bytes } => {
                out.put_u64_le(ino.0);
                out.put_u64_le(*offset);
                payload = bytes.clone();
            }
            Self::List { caller, dir, after, max } => {
                put_caller(&mut out, caller);
                out.put_u64_le(dir.0);
                out.put_u64_le(*after);
                out.put_u32_le(*max);
            }
            Self::Stat => {}
        }
        finish(out, payload)
    }

    /// Reads a received frame.
    ///
    /// # Errors
    ///
    /// Any [`WireError`] when the bytes are no request.
    pub fn decode(frame: Bytes) -> Result<(RequestId, Self), WireError> {
        let (id, kind, mut fields) = open(frame)?;
        if kind == kinds::WRITE {
            let (ino, offset) = (fields.ino()?, fields.u64()?);
            return Ok((
                id,
                Self::Write { ino, offset, bytes: fields.payload(PAYLOAD_BYTES_MAX)? },
            ));
        }
        let request = Self::decode_body(kind, &mut fields)?;
        fields.end()?;
        Ok((id, request))
    }

    fn decode_body(kind: u8, fields: &mut Fields) -> Result<Self, WireError> {
        Ok(match kind {
            kinds::LOOKUP => {
                let (caller, dir, name) = place(fields)?;
                Self::Lookup { caller, dir, name }
            }
            kinds::ATTR => Self::Attr { ino: fields.ino()? },
            kinds::SET_ATTR => {
                let (caller, ino) = (fields.caller()?, fields.ino()?);
                Self::SetAttr { caller, ino, change: change(fields)? }
            }
            kinds::READ_LINK => Self::ReadLink { ino: fields.ino()? },
            kinds::MAKE => {
                let (caller, dir, name) = place(fields)?;
                Self::Make { caller, dir, name, node: node(fields)? }
            }
            kinds::CREATE => {
                let (caller, dir, name) = place(fields)?;
                Self::Create { caller, dir, name, mode: fields.u32()? }
            }
            kinds::LINK => {
                let (caller, dir, name) = place(fields)?;
                Self::Link { caller, ino: fields.ino()?, dir, name }
            }
            kinds::UNLINK => {
                let (caller, dir, name) = place(fields)?;
                Self::Unlink { caller, dir, name }
            }
            kinds::REMOVE_DIR => {
                let (caller, dir, name) = place(fields)?;
                Self::RemoveDir { caller, dir, name }
            }
            kinds::RENAME => {
                let (caller, dir, name) = place(fields)?;
                let to = (fields.ino()?, fields.name()?);
                Self::Rename { caller, from: (dir, name), to, mode: fields.rename_mode()? }
            }
            kinds::OPEN => {
                let (caller, ino) = (fields.caller()?, fields.ino()?);
                Self::Open { caller, ino, access: fields.access()? }
            }
            kinds::RELEASE => Self::Release { ino: fields.ino()? },
            kinds::READ => read(fields)?,
            kinds::COMMIT => Self::Commit { ino: fields.ino()? },
            kinds::LIST => {
                let (caller, dir) = (fields.caller()?, fields.ino()?);
                Self::List { caller, dir, after: fields.u64()?, max: fields.u32()? }
            }
            kinds::STAT => Self::Stat,
            unknown => return Err(WireError::UnknownKind(unknown)),
        })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Lookup { .. } => kinds::LOOKUP,
            Self::Attr { .. } => kinds::ATTR,
            Self::SetAttr { .. } => kinds::SET_ATTR,
            Self::ReadLink { .. } => kinds::READ_LINK,
            Self::Make { .. } => kinds::MAKE,
            Self::Create { .. } => kinds::CREATE,
            Self::Link { .. } => kinds::LINK,
            Self::Unlink { .. } => kinds::UNLINK,
            Self::RemoveDir { .. } => kinds::REMOVE_DIR,
            Self::Rename { .. } => kinds::RENAME,
            Self::Open { .. } => kinds::OPEN,
            Self::Release { .. } => kinds::RELEASE,
            Self::Read { .. } => kinds::READ,
            Self::Write { .. } => kinds::WRITE,
            Self::Commit { .. } => kinds::COMMIT,
            Self::List { .. } => kinds::LIST,
            Self::Stat => kinds::STAT,
        }
    }
}

/// The kind byte of each request.
mod kinds {
    pub(super) const LOOKUP: u8 = 0x01;
    pub(super) const ATTR: u8 = 0x02;
    pub(super) const SET_ATTR: u8 = 0x03;
    pub(super) const READ_LINK: u8 = 0x04;
    pub(super) const MAKE: u8 = 0x05;
    pub(super) const CREATE: u8 = 0x06;
    pub(super) const LINK: u8 = 0x07;
    pub(super) const UNLINK: u8 = 0x08;
    pub(super) const REMOVE_DIR: u8 = 0x09;
    pub(super) const RENAME: u8 = 0x0A;
    pub(super) const OPEN: u8 = 0x0B;
    pub(super) const RELEASE: u8 = 0x0C;
    pub(super) const READ: u8 = 0x0D;
    pub(super) const WRITE: u8 = 0x0E;
    pub(super) const COMMIT: u8 = 0x0F;
    pub(super) const LIST: u8 = 0x10;
    pub(super) const STAT: u8 = 0x11;
}

fn put_place(out: &mut BytesMut, caller: &Caller, dir: Ino, name: &Name) {
    put_caller(out, caller);
    out.put_u64_le(dir.0);
    put_name(out, name);
}

fn place(fields: &mut Fields) -> Result<(Caller, Ino, Name), WireError> {
    Ok((fields.caller()?, fields.ino()?, fields.name()?))
}

fn read(fields: &mut Fields) -> Result<Request, WireError> {
    let (ino, offset, len) = (fields.ino()?, fields.u64()?, fields.u32()?);
    if usize::try_from(len).is_ok_and(|len| len <= PAYLOAD_BYTES_MAX) {
        Ok(Request::Read { ino, offset, len })
    } else {
        Err(WireError::BadValue("length of a read"))
    }
}

fn put_change(out: &mut BytesMut, change: &SetAttr) {
    put_optional_u32(out, change.mode);
    put_optional_u32(out, change.uid);
    put_optional_u32(out, change.gid);
    put_optional_u64(out, change.size);
    put_set_time(out, change.atime);
    put_set_time(out, change.mtime);
}

fn change(fields: &mut Fields) -> Result<SetAttr, WireError> {
    Ok(SetAttr {
        mode: fields.optional_u32()?,
        uid: fields.optional_u32()?,
        gid: fields.optional_u32()?,
        size: fields.optional_u64()?,
        atime: fields.set_time()?,
        mtime: fields.set_time()?,
    })
}

/// The byte before a new node: what it is to be.
mod nodes {
    pub(super) const FILE: u8 = 1;
    pub(super) const DIRECTORY: u8 = 2;
    pub(super) const SYMLINK: u8 = 3;
    pub(super) const SPECIAL: u8 = 4;
}

/// Writes a new node. Targets over [`LINK_BYTES_MAX`] are refused by the client before.
fn put_node(out: &mut BytesMut, node: &NewNode) {
    match node {
        NewNode::File { mode } => {
            out.put_u8(nodes::FILE);
            out.put_u32_le(*mode);
        }
        NewNode::Directory { mode } => {
            out.put_u8(nodes::DIRECTORY);
            out.put_u32_le(*mode);
        }
        NewNode::Symlink { target } => {
            out.put_u8(nodes::SYMLINK);
            out.put_u16_le(
                u16::try_from(target.len()).expect("a link target has at most 4,095 bytes"),
            );
            out.put_slice(target);
        }
        NewNode::Special { kind, mode, rdev } => {
            out.put_u8(nodes::SPECIAL);
            put_kind(out, *kind);
            out.put_u32_le(*mode);
            out.put_u64_le(*rdev);
        }
    }
}

fn node(fields: &mut Fields) -> Result<NewNode, WireError> {
    Ok(match fields.u8()? {
        nodes::FILE => NewNode::File { mode: fields.u32()? },
        nodes::DIRECTORY => NewNode::Directory { mode: fields.u32()? },
        nodes::SYMLINK => {
            let len = usize::from(fields.u16()?);
            if len > LINK_BYTES_MAX {
                return Err(WireError::BadValue("length of a link target"));
            }
            NewNode::Symlink { target: fields.bytes(len)?.to_vec() }
        }
        nodes::SPECIAL => {
            NewNode::Special { kind: fields.kind()?, mode: fields.u32()?, rdev: fields.u64()? }
        }
        _ => return Err(WireError::BadValue("new node")),
    })
}
