//! The files of segments: open as long as they are written to, and then opened when they are needed.
//!
//! A log may have more segments than a process may have open files. So of the segments that are
//! sealed only some have theirs open, and the one that was opened first is closed for the next. A
//! mapping stays when its file is closed.
//!
//! A file is opened by its name, so the name must lead to it:
//!
//! * Who is to read on when a segment is trimmed keeps its file open: a slice and an iterator do, and
//!   what is mapped needs none. A reader that comes too late finds no file, and says that the segment
//!   was trimmed.
//! * What was opened is looked at: it must begin with the header that the segment had. Who then has
//!   the file also has the segment, so it does not become another one (`crate::spare`).
//! * While a segment has lost its name and is still found, its file is *held*: it is not closed
//!   (`crate::trim`). So is that of the segment that is written to.
//!
//! Not here: the name, and what the header says (`crate::segment`).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};
use host::{File, Host};

use crate::core::lock;
use crate::sync::{Mutex, MutexGuard};

/// The files of one log that may be closed at any time.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) host: Host,
    open_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The one that was opened first is in front.
    open: VecDeque<Arc<Slot>>,
    /// How many are about to be added.
    opening: usize,
}

/// Where the open file of a segment is, if it has one.
type Slot = ArcSwapOption<Opened>;

/// A file that is open for as long as somebody has this.
#[derive(Debug)]
pub(crate) struct Opened(Arc<dyn File>);

impl Deref for Opened {
    type Target = dyn File;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// An open file, as a reader borrows it.
pub(crate) struct FileRef(Guard<Option<Arc<Opened>>>);

impl Deref for FileRef {
    type Target = dyn File;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().expect("only an open file is lent").deref()
    }
}

impl FileRef {
    /// The file, to keep it open.
    pub(crate) fn share(&self) -> Arc<Opened> {
        Arc::clone(self.0.as_ref().expect("only an open file is lent"))
    }
}

/// The file of one segment.
pub(crate) struct SegmentFile {
    files: Arc<Files>,
    slot: Arc<Slot>,
    /// Held by who opens the file, or says who may close it.
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    /// Nobody closes it.
    held: bool,
    /// Somebody may still have it open.
    last: Weak<Opened>,
}

impl fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentFile").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Files {
    /// For at most so many sealed segments with open files.
    pub(crate) fn new(host: &Host, open_max: usize) -> Arc<Self> {
        let table = Mutex::default();
        Arc::new(Self { host: host.clone(), open_max: open_max.max(1), table })
    }

    /// Closes files until there is room for one more.
    fn with_room(&self) -> MutexGuard<'_, Table> {
        let mut table = lock(&self.table);
        while table.open.len() + table.opening >= self.open_max
            && let Some(first) = table.open.pop_front()
        {
            first.store(None);
        }
        table
    }

    /// Adds a file that `open` opens. The room is made first, so that there are never too many.
    fn add(
        &self,
        slot: &Arc<Slot>,
        open: &dyn Fn() -> io::Result<Arc<Opened>>,
    ) -> io::Result<Arc<Opened>> {
        self.with_room().opening += 1;
        let opened = open();
        let mut table = lock(&self.table);
        table.opening -= 1;
        if let Ok(opened) = &opened {
            slot.store(Some(Arc::clone(opened)));
            table.open.push_back(Arc::clone(slot));
        }
        opened
    }

    /// From now on the file is not closed for others.
    fn take_out(&self, slot: &Arc<Slot>) {
        lock(&self.table).open.retain(|other| !Arc::ptr_eq(other, slot));
    }
}

impl SegmentFile {
    /// A file that is open, and held.
    pub(crate) fn held(files: &Arc<Files>, file: Arc<dyn File>) -> Self {
        let slot = Arc::new(ArcSwapOption::from_pointee(Opened(file)));
        let life = Mutex::new(Life { held: true, last: Weak::new() });
        Self { files: Arc::clone(files), slot, life }
    }

    /// A file that is not open.
    pub(crate) fn closed(files: &Arc<Files>) -> Self {
        Self { files: Arc::clone(files), slot: Arc::default(), life: Mutex::default() }
    }

    /// Whether it is open now.
    pub(crate) fn is_open(&self) -> bool {
        self.slot.load().is_some()
    }

    /// The file; `open` opens it if need be.
    #[inline]
    pub(crate) fn get(
        &self,
        open: &dyn Fn(&Host) -> io::Result<Arc<dyn File>>,
    ) -> io::Result<FileRef> {
        let found = self.slot.load();
        match found.is_some() {
            true => Ok(FileRef(found)),
            false => self.open(&mut lock(&self.life), open),
        }
    }

    #[cold]
    fn open(
        &self,
        life: &mut Life,
        open: &dyn Fn(&Host) -> io::Result<Arc<dyn File>>,
    ) -> io::Result<FileRef> {
        if let Some(opened) = self.slot.load_full() {
            return Ok(FileRef(Guard::from_inner(Some(opened))));
        }
        let last = life.last.upgrade();
        let reopen = || match &last {
            Some(opened) => Ok(Arc::clone(opened)),
            None => open(&self.files.host).map(|file| Arc::new(Opened(file))),
        };
        let opened = match life.held {
            true => reopen().inspect(|opened| self.slot.store(Some(Arc::clone(opened)))),
            false => self.files.add(&self.slot, &reopen),
        }?;
        life.last = Arc::downgrade(&opened);
        Ok(FileRef(Guard::from_inner(Some(opened))))
    }

    /// Opens it if need be, and nobody closes it from now on.
    pub(crate) fn hold(&self, open: &dyn Fn(&Host) -> io::Result<Arc<dyn File>>) -> io::Result<()> {
        let mut life = lock(&self.life);
        if life.held {
            return Ok(());
        }
        // If it is open, it stays so.
        self.files.take_out(&self.slot);
        life.held = true;
        let opened = self.open(&mut life, open).map(drop);
        life.held = opened.is_ok();
        opened
    }

    /// It may be closed from now on, when others need to be open.
    pub(crate) fn release(&self) {
        let mut life = lock(&self.life);
        let held = std::mem::take(&mut life.held);
        if let Some(opened) = self.slot.load_full().filter(|_| held) {
            life.last = Arc::downgrade(&opened);
            self.files.with_room().open.push_back(Arc::clone(&self.slot));
        }
    }

    /// Closes it, but for who has borrowed it.
    pub(crate) fn close(&self) {
        let mut life = lock(&self.life);
        life.held = false;
        self.files.take_out(&self.slot);
        self.slot.store(None);
    }

    /// The open file of a segment that has gone.
    pub(crate) fn into_file(self) -> Option<Arc<dyn File>> {
        self.files.take_out(&self.slot);
        self.slot.swap(None).map(|opened| Arc::clone(&opened.0))
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        self.files.take_out(&self.slot);
    }
}
