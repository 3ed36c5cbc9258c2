//! Block files in folders: where a block lies, reading it with its checksums verified, walking them all.
//!
//! ```text
//! DIR/dddddddd-eeeeeeeeeeeeeeee/cccccccccccccc/NAME.blk       domain-epoch, counter / 256, the name in full
//!                                             /NAME.unsynced  a block that is not durable yet
//!                                             /NAME.tmp       a block being written
//! ```
//!
//! Not here: writing, which is durable or not as its owner needs; open handles (`handles`), memory for answers
//! (`buffers`), what is known of a block's pages (`pages`).

mod buffers;
mod handles;
mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use host::{DirEntry, Disk, File, OpenMode};

use self::buffers::Buffers;
use self::handles::{Handle, Handles};
use self::pages::Pages;
use crate::format::{BLOCK_FILE_BYTES_MAX, HEADER_BYTES, Layout, TRAILER_BYTES};
use crate::{BlockName, CHUNK_BYTES, Footer, FormatError, Listed, ReadError};

/// The folder for objects beside those of blocks.
pub(crate) const OBJECTS_FOLDER: &str = "objects";

/// How the file of a block ends that is not durable yet.
const UNSYNCED: &str = "unsynced";

/// How much of a file's end is read at once in the hope that it holds the footer.
const TAIL_GUESS_BYTES: usize = 4096;

/// How much is read before it is checked: what was just read is still near the processor then.
const STEP_BYTES: u32 = 2 * CHUNK_BYTES;

/// The files of one store.
#[derive(Debug)]
pub(crate) struct BlockFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    handles: Handles,
    buffers: Buffers,
}

/// What an entry of a folder is.
pub(crate) enum Found {
    Block(Listed),
    /// A block that was put and perhaps never synced.
    Unsynced(Listed),
    Leftover,
    Stranger,
}

impl BlockFiles {
    /// The files below `dir`, which need not exist yet.
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk: Arc::clone(disk),
            dir: dir.into(),
            handles: Handles::default(),
            buffers: Buffers::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn folder(&self, name: BlockName) -> PathBuf {
        self.dir
            .join(format!("{:08x}-{:016x}", name.domain, name.epoch))
            .join(format!("{:014x}", name.counter >> 8))
    }

    pub(crate) fn path(&self, name: BlockName) -> PathBuf {
        self.folder(name).join(format!("{name}.blk"))
    }

    /// Where a block lies until it is synced.
    pub(crate) fn unsynced_path(&self, name: BlockName) -> PathBuf {
        self.folder(name).join(format!("{name}.{UNSYNCED}"))
    }

    /// Opens a block's file for reading, wherever it lies, and says where.
    pub(crate) fn find(&self, name: BlockName) -> io::Result<(PathBuf, Arc<dyn File>)> {
        // Its name changes once, when it is synced, which may be between the first two looks.
        let paths = [self.path(name), self.unsynced_path(name), self.path(name)];
        for path in paths {
            match self.disk.open(&path, OpenMode::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(|file| (path, file)),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Remembers the file of a block that was just written, so that reading it costs no opening.
    pub(crate) fn keep(&self, file: Arc<dyn File>, footer: &Footer) {
        let deletes = self.handles.deletes();
        self.handles.keep(footer.name(), Arc::new(Handle::new(file, footer.clone())), deletes);
    }

    /// Shows `visit` each file two folders down and what it is, in order of name. The error comes with the
    /// folder that could not be listed.
    pub(crate) fn walk(
        &self,
        visit: &mut dyn FnMut(PathBuf, Found) -> ControlFlow<()>,
    ) -> Result<(), (PathBuf, io::Error)> {
        for epoch in self.folders(&self.dir)? {
            for folder in self.folders(&epoch)? {
                let files = self.disk.list(&folder);
                for file in files.map_err(|source| (folder.clone(), source))? {
                    let path = folder.join(&file.name);
                    let found = self.recognise(&path, &file);
                    if visit(path, found).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn folders(&self, dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let entries = self.disk.list(dir).map_err(|source| (dir.into(), source))?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.is_dir && entry.name != OBJECTS_FOLDER)
            .map(|entry| dir.join(entry.name))
            .collect())
    }

    /// A block in a folder where it would not be looked for is a stranger.
    fn recognise(&self, path: &Path, entry: &DirEntry) -> Found {
        let Some((stem, kind)) = entry.name.rsplit_once('.').filter(|_| !entry.is_dir) else {
            return Found::Stranger;
        };
        let listed = |name| Listed { name, bytes: entry.bytes, modified_ms: entry.modified_ms };
        match (stem.parse::<BlockName>(), kind) {
            (Ok(name), "blk") if self.path(name) == path => Found::Block(listed(name)),
            (Ok(name), UNSYNCED) if self.unsynced_path(name) == path => {
                Found::Unsynced(listed(name))
            }
            (Ok(_), "tmp") => Found::Leftover,
            (Ok(_) | Err(_), _) => Found::Stranger,
        }
    }

    /// Closes the block's file: it is about to go, or has gone.
    pub(crate) fn forget(&self, name: BlockName) {
        self.handles.forget(name);
    }

    pub(crate) fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        Ok(self.load(name)?.1)
    }

    /// `range` of the block's payload, its checksums verified.
    pub(crate) fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        let handle = self.handle(name)?;
        let payload_len = handle.chunks.payload_len();
        if range.start > range.end || range.end > payload_len {
            return Err(ReadError::OutOfRange { name, range, payload_len });
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let known = Pages::is_small(&range).then(|| handle.pages.widen(&range)).flatten();
        let by_page = known.is_some();
        let wide = known.unwrap_or_else(|| handle.chunks.widen(&range));
        let len = (wide.end - wide.start) as usize;
        let bytes = self.buffers.filled(len, |bytes| match by_page {
            true => self.read_pages(&handle, name, wide.start, bytes),
            false => self.read_chunks(&handle, name, wide.start, bytes),
        })?;
        if !by_page && Pages::is_small(&range) {
            handle.pages.note(wide.start, &bytes);
        }
        Ok(bytes.slice((range.start - wide.start) as usize..(range.end - wide.start) as usize))
    }

    /// Has the system fetch a block's payload ahead. A block that cannot be opened is left to who reads it.
    pub(crate) fn will_need(&self, name: BlockName) {
        if let Ok(handle) = self.handle(name) {
            let payload_end = HEADER_BYTES as u64 + u64::from(handle.chunks.payload_len());
            handle.file.will_need(HEADER_BYTES as u64..payload_end);
        }
    }

    /// Fills `to` with whole chunks of the payload, each checked.
    fn read_chunks(
        &self,
        handle: &Handle,
        name: BlockName,
        start: u32,
        to: &mut [u8],
    ) -> Result<(), ReadError> {
        for (at, step) in
            (start..).step_by(STEP_BYTES as usize).zip(to.chunks_mut(STEP_BYTES as usize))
        {
            self.read_exact(&*handle.file, name, step, HEADER_BYTES + at as usize)?;
            handle.chunks.verify(at, step).map_err(|source| self.wrong(name, source))?;
        }
        Ok(())
    }

    /// Fills `to` with whole pages of the payload, each checked.
    fn read_pages(
        &self,
        handle: &Handle,
        name: BlockName,
        start: u32,
        to: &mut [u8],
    ) -> Result<(), ReadError> {
        self.read_exact(&*handle.file, name, to, HEADER_BYTES + start as usize)?;
        handle.pages.verify(start, to).map_err(|source| self.wrong(name, source))
    }

    fn wrong(&self, name: BlockName, source: FormatError) -> ReadError {
        ReadError::from_format(name, self.path(name).display().to_string(), source)
    }

    /// All bytes of a block as they are in its file, not verified.
    pub(crate) fn read_whole(&self, name: BlockName) -> Result<Bytes, ReadError> {
        let (file, footer) = self.load(name)?;
        let mut bytes = vec![0; usize::try_from(footer.block_bytes()).unwrap_or(0)];
        self.read_exact(&*file, name, &mut bytes, 0)?;
        Ok(bytes.into())
    }

    /// Opens a block's file and reads its footer.
    fn load(&self, name: BlockName) -> Result<(Arc<dyn File>, Footer), ReadError> {
        let (path, file) = match self.find(name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReadError::Missing { name });
            }
            Err(source) => return Err(ReadError::Io { name, source }),
        };
        let size = file.size().map_err(|source| ReadError::Io { name, source })?;
        let wrong = |source| ReadError::from_format(name, path.display().to_string(), source);
        let size = match usize::try_from(size) {
            Ok(size) if (HEADER_BYTES + TRAILER_BYTES..=BLOCK_FILE_BYTES_MAX).contains(&size) => {
                size
            }
            _ => return Err(wrong(FormatError::Damaged { at: size, why: "no block ends" })),
        };
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&*file, name, &mut header, 0)?;
        Footer::check_header(&header).map_err(wrong)?;
        let mut tail = vec![0; (size - HEADER_BYTES).min(TAIL_GUESS_BYTES)];
        let tail_at = size - tail.len();
        self.read_exact(&*file, name, &mut tail, tail_at)?;
        let layout =
            Layout::parse(&tail[tail.len() - TRAILER_BYTES..], Some(size as u64)).map_err(wrong)?;
        if layout.tail_len() > tail.len() {
            tail = vec![0; layout.tail_len()];
            self.read_exact(&*file, name, &mut tail, layout.footer_at())?;
        }
        let footer =
            Footer::parse(&header, &tail[tail.len() - layout.tail_len()..]).map_err(wrong)?;
        if footer.name() != name {
            return Err(wrong(FormatError::Damaged {
                at: 12,
                why: "the file holds another block",
            }));
        }
        Ok((file, footer))
    }

    fn read_exact(
        &self,
        file: &dyn File,
        name: BlockName,
        buf: &mut [u8],
        at: usize,
    ) -> Result<(), ReadError> {
        file.read_exact_at(buf, at as u64).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                let why = "the file ended while it was read";
                let place = self.path(name).display().to_string();
                ReadError::Damaged { name, place, at: at as u64, why }
            }
            _ => ReadError::Io { name, source },
        })
    }

    fn handle(&self, name: BlockName) -> Result<Arc<Handle>, ReadError> {
        if let Some(handle) = self.handles.find(name) {
            return Ok(handle);
        }
        let deletes = self.handles.deletes();
        let (file, footer) = self.load(name)?;
        let handle = Arc::new(Handle::new(file, footer));
        self.handles.keep(name, Arc::clone(&handle), deletes);
        Ok(handle)
    }
}
