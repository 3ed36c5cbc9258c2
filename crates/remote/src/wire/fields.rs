//! Reading and writing single fields. Reading checks that the bytes are there before it takes them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use file_tree::{
    Access, Attr, Caller, FileKind, Ino, Name, RenameMode, SetTime, Stability, Timestamp,
};

use super::{GROUPS_MAX, NANOS_PER_SECOND, TEXT_BYTES_MAX, WireError, cut};

/// What is left of a received frame.
pub(super) struct Fields {
    rest: Bytes,
}

impl Fields {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.rest.try_get_u8().map_err(|_| WireError::TooShort)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.rest.try_get_u16_le().map_err(|_| WireError::TooShort)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.rest.try_get_u32_le().map_err(|_| WireError::TooShort)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.rest.try_get_u64_le().map_err(|_| WireError::TooShort)
    }

    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.rest.try_get_i64_le().map_err(|_| WireError::TooShort)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.rest.len() {
            return Err(WireError::TooShort);
        }
        Ok(self.rest.split_to(len))
    }

    /// Everything that is left: the payload.
    pub(super) fn payload(self, max: usize) -> Result<Bytes, WireError> {
        if self.rest.len() > max {
            return Err(WireError::TooMuch(self.rest.len() - max));
        }
        Ok(self.rest)
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(WireError::TooMuch(more)),
        }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::BadValue(field)),
        }
    }

    pub(super) fn text(&mut self, max: usize) -> Result<String, WireError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(WireError::BadValue("length of a text"));
        }
        let bytes = self.bytes(len)?;
        let text = str::from_utf8(&bytes).map_err(|_| WireError::BadValue("text"))?;
        Ok(text.to_owned())
    }

    pub(super) fn ino(&mut self) -> Result<Ino, WireError> {
        self.u64().map(Ino)
    }

    pub(super) fn name(&mut self) -> Result<Name, WireError> {
        let len = usize::from(self.u8()?);
        let bytes = self.bytes(len)?;
        Name::new(&bytes).map_err(|_| WireError::BadValue("name"))
    }

    pub(super) fn caller(&mut self) -> Result<Caller, WireError> {
        let uid = self.u32()?;
        let gid = self.u32()?;
        let checks_done = self.flag("checks done")?;
        let count = usize::from(self.u16()?);
        if count > GROUPS_MAX || count * 4 > self.remaining() {
            return Err(WireError::BadValue("number of groups"));
        }
        let groups = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(Caller { uid, gid, groups, checks_done })
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, WireError> {
        let seconds = self.i64()?;
        let nanos = self.u32()?;
        if nanos >= NANOS_PER_SECOND {
            return Err(WireError::BadValue("nanoseconds"));
        }
        Ok(Timestamp { seconds, nanos })
    }

    pub(super) fn set_time(&mut self) -> Result<Option<SetTime>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(SetTime::Now)),
            2 => Ok(Some(SetTime::At(self.time()?))),
            _ => Err(WireError::BadValue("time to set")),
        }
    }

    pub(super) fn optional_u32(&mut self) -> Result<Option<u32>, WireError> {
        if self.flag("presence")? { self.u32().map(Some) } else { Ok(None) }
    }

    pub(super) fn optional_u64(&mut self) -> Result<Option<u64>, WireError> {
        if self.flag("presence")? { self.u64().map(Some) } else { Ok(None) }
    }

    pub(super) fn kind(&mut self) -> Result<FileKind, WireError> {
        match self.u8()? {
            1 => Ok(FileKind::Regular),
            2 => Ok(FileKind::Directory),
            3 => Ok(FileKind::Symlink),
            4 => Ok(FileKind::Fifo),
            5 => Ok(FileKind::Socket),
            6 => Ok(FileKind::CharDevice),
            7 => Ok(FileKind::BlockDevice),
            _ => Err(WireError::BadValue("kind of file")),
        }
    }

    pub(super) fn access(&mut self) -> Result<Access, WireError> {
        match self.u8()? {
            1 => Ok(Access::Read),
            2 => Ok(Access::Write),
            3 => Ok(Access::ReadWrite),
            _ => Err(WireError::BadValue("access")),
        }
    }

    pub(super) fn rename_mode(&mut self) -> Result<RenameMode, WireError> {
        match self.u8()? {
            0 => Ok(RenameMode::Replace),
            1 => Ok(RenameMode::NoReplace),
            2 => Ok(RenameMode::Exchange),
            _ => Err(WireError::BadValue("mode of a rename")),
        }
    }

    pub(super) fn stability(&mut self) -> Result<Stability, WireError> {
        match self.u8()? {
            0 => Ok(Stability::Written),
            1 => Ok(Stability::Durable),
            _ => Err(WireError::BadValue("stability")),
        }
    }

    pub(super) fn attr(&mut self) -> Result<Attr, WireError> {
        Ok(Attr {
            ino: self.ino()?,
            kind: self.kind()?,
            mode: self.u32()?,
            nlink: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            size: self.u64()?,
            allocated: self.u64()?,
            rdev: self.u64()?,
            atime: self.time()?,
            mtime: self.time()?,
            ctime: self.time()?,
        })
    }
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    let text = cut(text, TEXT_BYTES_MAX);
    out.put_u16_le(u16::try_from(text.len()).expect("cut to less than 64 KiB"));
    out.put_slice(text.as_bytes());
}

pub(super) fn put_name(out: &mut BytesMut, name: &Name) {
    let bytes = name.as_bytes();
    out.put_u8(u8::try_from(bytes.len()).expect("a name has at most 255 bytes"));
    out.put_slice(bytes);
}

/// Writes a caller. More than [`GROUPS_MAX`] groups are cut; `Request::check` refuses such a caller.
pub(super) fn put_caller(out: &mut BytesMut, caller: &Caller) {
    out.put_u32_le(caller.uid);
    out.put_u32_le(caller.gid);
    out.put_u8(u8::from(caller.checks_done));
    let groups = &caller.groups[..caller.groups.len().min(GROUPS_MAX)];
    out.put_u16_le(u16::try_from(groups.len()).expect("cut to less than 65,536"));
    for group in groups {
        out.put_u32_le(*group);
    }
}

pub(super) fn put_time(out: &mut BytesMut, time: Timestamp) {
    out.put_i64_le(time.seconds);
    // A tree that breaks the rule must not cost the connection.
    out.put_u32_le(time.nanos.min(NANOS_PER_SECOND - 1));
}

pub(super) fn put_set_time(out: &mut BytesMut, time: Option<SetTime>) {
    match time {
        None => out.put_u8(0),
        Some(SetTime::Now) => out.put_u8(1),
        Some(SetTime::At(at)) => {
            out.put_u8(2);
            put_time(out, at);
        }
    }
}

pub(super) fn put_optional_u32(out: &mut BytesMut, value: Option<u32>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        out.put_u32_le(value);
    }
}

pub(super) fn put_optional_u64(out: &mut BytesMut, value: Option<u64>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        out.put_u64_le(value);
    }
}

pub(super) fn put_kind(out: &mut BytesMut, kind: FileKind) {
    out.put_u8(match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    });
}

pub(super) fn put_access(out: &mut BytesMut, access: Access) {
    out.put_u8(match access {
        Access::Read => 1,
        Access::Write => 2,
        Access::ReadWrite => 3,
    });
}

pub(super) fn put_rename_mode(out: &mut BytesMut, mode: RenameMode) {
    out.put_u8(match mode {
        RenameMode::Replace => 0,
        RenameMode::NoReplace => 1,
        RenameMode::Exchange => 2,
    });
}

pub(super) fn put_stability(out: &mut BytesMut, stability: Stability) {
    out.put_u8(match stability {
        Stability::Written => 0,
        Stability::Durable => 1,
    });
}

pub(super) fn put_attr(out: &mut BytesMut, attr: &Attr) {
    out.put_u64_le(attr.ino.0);
    put_kind(out, attr.kind);
    out.put_u32_le(attr.mode);
    out.put_u32_le(attr.nlink);
    out.put_u32_le(attr.uid);
    out.put_u32_le(attr.gid);
    out.put_u64_le(attr.size);
    out.put_u64_le(attr.allocated);
    out.put_u64_le(attr.rdev);
    put_time(out, attr.atime);
    put_time(out, attr.mtime);
    put_time(out, attr.ctime);
}
