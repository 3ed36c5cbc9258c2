//! Files in memory: the locks that serialise changes of one file, and a cache of rows that is exact.
//!
//! Who changes a file holds its stripe from reading the row until the commit has returned. Readers take no
//! stripe, so that they never wait for the disk. For the cache to stay exact beside them, a file counts as
//! *changing* from before the commit until after it: its row is then read from the store, which shows a
//! commit at once or not at all, and what was read meanwhile is not kept.
//!
//! Limits: [`CACHED_FILES_MAX`] files, none with a link target over [`CACHED_TARGET_BYTES_MAX`]. At that
//! size the older half goes, by last use.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use file_tree::Ino;
use strands::Position;

use crate::rows::{Body, Inode};

/// Most files in the cache of one volume; about 250 bytes each.
pub(super) const CACHED_FILES_MAX: usize = 32_768;
/// Longer link targets are read from their row each time.
const CACHED_TARGET_BYTES_MAX: usize = 128;
/// Files share this many locks.
const STRIPES: usize = 64;

/// Locks a mutex; what a panicking holder left behind is checked by those who come after.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file's row, and a place in the journal that its last change is before.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) inode: Inode,
    pub(super) changed_before: Position,
}

/// What the cache says about a file.
#[derive(Debug)]
pub(super) enum Look {
    /// This is its row.
    Known(Box<Known>),
    /// Read the row, then offer it to [`Inodes::learn`] with this.
    Unknown(Unread),
}

/// Permission to teach the cache a row that is read after this moment; void if a change begins meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    version: Option<u64>,
}

/// The right to change some files.
#[derive(Debug)]
pub(super) struct Held<'a> {
    _stripes: Vec<MutexGuard<'a, ()>>,
}

#[derive(Debug)]
pub(super) struct Inodes {
    stripes: [Mutex<()>; STRIPES],
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    /// Used since the last time that the older half went.
    young: HashMap<Ino, Known>,
    old: HashMap<Ino, Known>,
    changing: HashSet<Ino>,
    /// Counts the changes begun, by stripe.
    versions: [u64; STRIPES],
}

impl Inodes {
    pub(super) fn new() -> Self {
        let cache = Cache {
            young: HashMap::new(),
            old: HashMap::new(),
            changing: HashSet::new(),
            versions: [0; STRIPES],
        };
        Self { stripes: std::array::from_fn(|_| Mutex::new(())), cache: Mutex::new(cache) }
    }

    /// Waits for the right to change these files. Nobody may ask for more while holding some.
    pub(super) fn hold(&self, inos: &[Ino]) -> Held<'_> {
        let mut stripes: Vec<_> = inos.iter().map(|ino| stripe(*ino)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        Held { _stripes: stripes.into_iter().map(|stripe| lock(&self.stripes[stripe])).collect() }
    }

    /// Waits for the right to change all files.
    pub(super) fn hold_all(&self) -> Held<'_> {
        Held { _stripes: self.stripes.iter().map(lock).collect() }
    }

    pub(super) fn look(&self, ino: Ino) -> Look {
        let mut cache = lock(&self.cache);
        if cache.changing.contains(&ino) {
            return Look::Unknown(Unread { version: None });
        }
        match cache.find(ino) {
            Some(known) => Look::Known(Box::new(known)),
            None => Look::Unknown(Unread { version: Some(cache.versions[stripe(ino)]) }),
        }
    }

    /// Keeps a row that was read after [`Inodes::look`], unless a change began since.
    pub(super) fn learn(&self, ino: Ino, unread: Unread, known: Known) {
        let mut cache = lock(&self.cache);
        if unread.version == Some(cache.versions[stripe(ino)]) {
            cache.keep(ino, known);
        }
    }

    /// A commit that changes these files is about to be made; the caller holds them.
    pub(super) fn begin(&self, inos: impl Iterator<Item = Ino>) {
        let mut cache = lock(&self.cache);
        for ino in inos {
            cache.versions[stripe(ino)] += 1;
            cache.changing.insert(ino);
            cache.young.remove(&ino);
            cache.old.remove(&ino);
        }
    }

    /// The commit was made: these are the files now, where that is known.
    pub(super) fn finish(&self, files: impl Iterator<Item = (Ino, Option<Known>)>) {
        let mut cache = lock(&self.cache);
        for (ino, known) in files {
            cache.changing.remove(&ino);
            if let Some(known) = known {
                cache.keep(ino, known);
            }
        }
    }
}

impl Cache {
    fn find(&mut self, ino: Ino) -> Option<Known> {
        if let Some(known) = self.young.get(&ino) {
            return Some(known.clone());
        }
        let known = self.old.remove(&ino)?;
        self.keep(ino, known.clone());
        Some(known)
    }

    fn keep(&mut self, ino: Ino, known: Known) {
        if matches!(&known.inode.body, Body::Symlink { target } if target.len() > CACHED_TARGET_BYTES_MAX)
        {
            return;
        }
        if self.young.len() >= CACHED_FILES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ino, known);
    }
}

fn stripe(ino: Ino) -> usize {
    usize::try_from(ino.0 % STRIPES as u64).expect("below the count of stripes")
}

#[cfg(test)]
mod tests {
    //! Goal: whoever asks the cache gets the row of the last commit or none, however readers and changes
    //! interleave; and the cache stays within its limit.

    use file_tree::{Caller, FileKind, Timestamp, rules};
    use strands::StrandId;

    use super::*;

    fn known(ino: Ino, seconds: i64) -> Known {
        let now = Timestamp { seconds, nanos: 0 };
        let dir =
            rules::new_attr(&Caller::root(), &root(now), Ino(1), FileKind::Directory, 0o755, now);
        let attr = rules::new_attr(&Caller::root(), &dir, ino, FileKind::Regular, 0o644, now);
        let body = Body::Regular { strand: StrandId::from_raw(ino.0) };
        Known { inode: Inode { attr, body }, changed_before: Position::START }
    }

    fn root(now: Timestamp) -> file_tree::Attr {
        file_tree::Attr {
            ino: Ino(1),
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
        }
    }

    /// The moment that the cached row carries.
    fn seen(inodes: &Inodes, ino: Ino) -> Option<i64> {
        match inodes.look(ino) {
            Look::Known(known) => Some(known.inode.attr.mtime.seconds),
            Look::Unknown(_) => None,
        }
    }

    fn unread(inodes: &Inodes, ino: Ino) -> Unread {
        match inodes.look(ino) {
            Look::Known(_) => panic!("the cache knows {ino}"),
            Look::Unknown(unread) => unread,
        }
    }

    fn change(inodes: &Inodes, ino: Ino, seconds: i64) {
        inodes.begin([ino].into_iter());
        inodes.finish([(ino, Some(known(ino, seconds)))].into_iter());
    }

    const FILE: Ino = Ino(7);

    #[test]
    fn a_row_that_was_read_is_kept() {
        let inodes = Inodes::new();
        inodes.learn(FILE, unread(&inodes, FILE), known(FILE, 1));
        assert_eq!(seen(&inodes, FILE), Some(1));
        change(&inodes, FILE, 2);
        assert_eq!(seen(&inodes, FILE), Some(2));
    }

    #[test]
    fn a_row_read_before_a_change_is_not_kept_after_it() {
        let inodes = Inodes::new();
        let early = unread(&inodes, FILE);
        change(&inodes, FILE, 2);
        inodes.learn(FILE, early, known(FILE, 1));
        assert_eq!(seen(&inodes, FILE), Some(2));
        let early = {
            inodes.begin([FILE].into_iter());
            inodes.finish([(FILE, None)].into_iter());
            unread(&inodes, FILE)
        };
        inodes.begin([FILE].into_iter());
        inodes.learn(FILE, early, known(FILE, 1));
        inodes.finish([(FILE, None)].into_iter());
        assert_eq!(seen(&inodes, FILE), None);
    }

    #[test]
    fn a_row_read_during_a_change_is_not_kept() {
        let inodes = Inodes::new();
        change(&inodes, FILE, 1);
        inodes.begin([FILE].into_iter());
        let during = unread(&inodes, FILE);
        inodes.learn(FILE, during, known(FILE, 1));
        assert_eq!(seen(&inodes, FILE), None, "who asks during a change must read the row");
        inodes.finish([(FILE, None)].into_iter());
        inodes.learn(FILE, during, known(FILE, 1));
        assert_eq!(seen(&inodes, FILE), None);
    }

    #[test]
    fn the_cache_stays_within_its_limit_and_keeps_what_is_used() {
        let inodes = Inodes::new();
        change(&inodes, FILE, 1);
        for number in 0..3 * CACHED_FILES_MAX as u64 {
            change(&inodes, Ino(100 + number), 2);
            assert_eq!(seen(&inodes, FILE), Some(1));
        }
        let cache = lock(&inodes.cache);
        assert!(cache.young.len() + cache.old.len() <= CACHED_FILES_MAX);
        assert!(cache.changing.is_empty());
    }

    #[test]
    fn files_of_one_stripe_are_held_once() {
        let inodes = Inodes::new();
        let held = inodes.hold(&[Ino(1), Ino(1 + STRIPES as u64), Ino(1), Ino(2)]);
        assert_eq!(held._stripes.len(), 2);
    }
}
