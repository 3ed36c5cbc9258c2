//! The store on disk: the `fjall` engine, a log-structured merge tree with its own journal.
//!
//! All tables share one keyspace of the engine, told apart by a prefix:
//!
//! ```text
//! 0x00 "format"             -> magic "strandline meta", version u16
//! 0x00 "applied"            -> position u64                            integers big-endian
//! 0x01 table u8, key ...    -> value
//! ```
//!
//! One keyspace and not one per table, because the engine keeps a memtable per keyspace: this way one
//! limit bounds the memory of all tables, and a table that is seldom written holds no engine journal back.
//!
//! Invariants: the `applied` row is written in the same engine batch as the rows it speaks of, and commits
//! are serialised by `commits`, so `applied` never goes back.
//!
//! The engine does its own file I/O, outside of `host`; a simulation uses [`crate::Memory`].

use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fjall::{
    Database, Error, Guard, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable,
};

use crate::{
    Applied, Batch, KeyRange, MetaError, MetaStore, OpenError, Order, Snapshot, Table, Visit,
};

/// Blocks of the tree that the engine keeps in memory.
const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Rows not yet in the tree; the engine holds up to four such tables more while it writes them out.
const MEMTABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files of the tree that stay open.
const OPEN_FILES_MAX: usize = 64;

/// One to write memtables out, one to merge.
const WORKER_THREADS: usize = 2;

const ROWS: &str = "rows";
const FORMAT_KEY: &[u8] = b"\x00format";
const APPLIED_KEY: &[u8] = b"\x00applied";
const ROW_PREFIX: u8 = 1;
const MAGIC: &[u8] = b"strandline meta";
const VERSION: u16 = 1;

/// A store in a directory.
pub struct Fjall {
    database: Database,
    rows: Keyspace,
    applied: AtomicU64,
    commits: Mutex<()>,
}

impl fmt::Debug for Fjall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fjall").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl Fjall {
    /// Opens the store in `path`, creating it if there is none. A new one, and its name, is durable on
    /// return.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] while it is open elsewhere, [`OpenError::UnknownVersion`] and
    /// [`OpenError::Damaged`] for what this version cannot use, [`OpenError::Io`] for the disk's refusals.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        clear_unfinished(path).map_err(|source| OpenError::Io { path: path.into(), source })?;
        let failed = |error| open_error(path, error);
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES_MAX)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(WORKER_THREADS)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX);
        let rows = database.keyspace(ROWS, options).map_err(failed)?;
        check_format(path, &database, &rows)?;
        let applied = match rows.get(APPLIED_KEY).map_err(failed)? {
            None => 0,
            Some(bytes) => position(&bytes).ok_or_else(|| {
                damaged(path, format!("the applied position has {} bytes", bytes.len()))
            })?,
        };
        Ok(Self { database, rows, applied: AtomicU64::new(applied), commits: Mutex::new(()) })
    }
}

impl MetaStore for Fjall {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        let value = self.rows.get(row_key(table, key)).map_err(read_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        scan(&self.database.snapshot(), &self.rows, (table, range), order, visit)
    }

    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError> {
        let _one_at_a_time = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        batch.check(self.applied(), applied)?;
        let mut changes = self.database.batch();
        for (table, key, value) in batch.changes() {
            match value {
                Some(value) => changes.insert(&self.rows, row_key(table, key), value.as_ref()),
                None => changes.remove(&self.rows, row_key(table, key)),
            }
        }
        changes.insert(&self.rows, APPLIED_KEY, applied.0.to_be_bytes());
        changes.commit().map_err(|error| write_error(&error))?;
        self.applied.store(applied.0, Ordering::Release);
        Ok(())
    }

    fn applied(&self) -> Applied {
        Applied(self.applied.load(Ordering::Acquire))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MetaError> {
        let engine = self.database.snapshot();
        let applied = match engine.get(&self.rows, APPLIED_KEY).map_err(read_error)? {
            None => 0,
            Some(bytes) => position(&bytes).ok_or_else(|| MetaError::Damaged {
                why: format!("the applied position has {} bytes", bytes.len()),
            })?,
        };
        Ok(Box::new(Moment { engine, rows: self.rows.clone(), applied: Applied(applied) }))
    }

    fn sync(&self) -> Result<Applied, MetaError> {
        let covered = self.applied();
        self.database.persist(PersistMode::SyncData).map_err(|error| write_error(&error))?;
        Ok(covered)
    }
}

/// A snapshot of the engine, and the position that it holds.
struct Moment {
    engine: fjall::Snapshot,
    rows: Keyspace,
    applied: Applied,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl Snapshot for Moment {
    fn applied(&self) -> Applied {
        self.applied
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        scan(&self.engine, &self.rows, (table, range), order, visit)
    }
}

fn scan(
    engine: &fjall::Snapshot,
    rows: &Keyspace,
    (table, range): (Table, KeyRange<'_>),
    order: Order,
    visit: &mut Visit<'_>,
) -> Result<(), MetaError> {
    if crate::memory::is_empty(range) {
        return Ok(());
    }
    let found = engine.range(rows, row_range(table, range));
    match order {
        Order::Ascending => show(found, visit),
        Order::Descending => show(found.rev(), visit),
    }
}

fn show(rows: impl Iterator<Item = Guard>, visit: &mut Visit<'_>) -> Result<(), MetaError> {
    for row in rows {
        let (key, value) = row.into_inner().map_err(read_error)?;
        let key =
            key.get(2..).ok_or_else(|| MetaError::Damaged { why: "a row has no table".into() })?;
        if visit(key, &value).is_break() {
            break;
        }
    }
    Ok(())
}

fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(2 + key.len());
    prefixed.extend_from_slice(&[ROW_PREFIX, table.0]);
    prefixed.extend_from_slice(key);
    prefixed
}

fn row_range(table: Table, (start, end): KeyRange<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match start {
        Bound::Unbounded => Bound::Included(row_key(table, b"")),
        bound => bound.map(|key| row_key(table, key)),
    };
    let end = match end {
        Bound::Unbounded => Bound::Excluded(after_table(table)),
        bound => bound.map(|key| row_key(table, key)),
    };
    (start, end)
}

/// The first key that is behind all rows of `table`.
fn after_table(table: Table) -> Vec<u8> {
    match table.0.checked_add(1) {
        Some(next) => vec![ROW_PREFIX, next],
        None => vec![ROW_PREFIX + 1],
    }
}

/// Reads the format row; writes it, synced, if the store is new.
fn check_format(path: &Path, database: &Database, rows: &Keyspace) -> Result<(), OpenError> {
    let failed = |error| open_error(path, error);
    let Some(found) = rows.get(FORMAT_KEY).map_err(failed)? else {
        if !rows.is_empty().map_err(failed)? {
            return Err(damaged(path, "it holds rows but no format row".into()));
        }
        let format = [MAGIC, &VERSION.to_be_bytes()].concat();
        rows.insert(FORMAT_KEY, format).map_err(failed)?;
        database.persist(PersistMode::SyncAll).map_err(failed)?;
        return sync_name(path).map_err(|source| OpenError::Io { path: path.into(), source });
    };
    match found.strip_prefix(MAGIC).map(<[u8; 2]>::try_from) {
        Some(Ok(version)) if u16::from_be_bytes(version) == VERSION => Ok(()),
        Some(Ok(version)) => Err(OpenError::UnknownVersion {
            path: path.into(),
            at: "row format, byte 15",
            found: u16::from_be_bytes(version).to_string(),
        }),
        Some(Err(_)) | None => {
            Err(damaged(path, "the format row is not one of a meta store".into()))
        }
    }
}

/// Clears what an interrupted creation leaves and the engine would then trip over: a first journal
/// without the `version` file, which the engine writes last and before it takes any row.
#[expect(clippy::disallowed_methods, reason = "the engine's files are not behind host::Disk")]
fn clear_unfinished(path: &Path) -> io::Result<()> {
    if path.join("version").try_exists()? {
        return Ok(());
    }
    match fs::remove_file(path.join("0.jnl")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The engine syncs what is in its directory, but not the directory's own name.
#[expect(clippy::disallowed_methods, reason = "the engine's files are not behind host::Disk")]
fn sync_name(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent)?.sync_all()
}

fn position(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn damaged(path: &Path, why: String) -> OpenError {
    OpenError::Damaged { path: path.into(), why }
}

/// The engine's error enum may grow, so what is not known here counts as damage: the store is a view and
/// can be rebuilt. So does what the system says of files that are gone, cut or empty.
fn open_error(path: &Path, error: Error) -> OpenError {
    let path: PathBuf = path.into();
    match error {
        Error::Locked => OpenError::Locked { path },
        Error::Io(source) | Error::Storage(LsmError::Io(source)) => {
            if says_damage(&source) {
                OpenError::Damaged { path, why: source.to_string() }
            } else {
                OpenError::Io { path, source }
            }
        }
        Error::InvalidVersion(_) => match version_file(&path) {
            Some(version) => {
                let found = version.to_string();
                OpenError::UnknownVersion { path, at: "file version, byte 3", found }
            }
            None => OpenError::Damaged { path, why: "its file version says none".to_owned() },
        },
        Error::Storage(LsmError::InvalidVersion(found)) => {
            OpenError::UnknownVersion { path, at: "a tree's manifest", found: found.to_string() }
        }
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

/// The version that the engine's own file says, if it says one.
#[expect(clippy::disallowed_methods, reason = "the engine's files are not behind host::Disk")]
fn version_file(path: &Path) -> Option<u8> {
    let bytes = fs::read(path.join("version")).ok()?;
    bytes.strip_prefix(b"FJL")?.first().copied()
}

/// Whether an error speaks of what the engine's files are and not of the disk.
fn says_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
    )
}

fn read_error(error: Error) -> MetaError {
    match error {
        Error::Io(source) | Error::Storage(LsmError::Io(source)) => MetaError::Io(source),
        other => MetaError::Damaged { why: other.to_string() },
    }
}

fn write_error(error: &Error) -> MetaError {
    MetaError::Stopped { why: error.to_string() }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests copy and damage the engine's files behind its back"
)]
mod tests {
    //! Goal: the store on disk behaves as every store does; what was synced is there in a copy taken while
    //! it runs, which is what a killed process leaves; and a copy cut short holds whole commits only.

    use std::cell::Cell;

    use super::*;
    use crate::conformance::{check_all, rows};

    const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

    /// Copies a store's files; zeros that a journal was extended with are left out.
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let journal = target.extension().is_some_and(|extension| extension == "jnl");
                fs::write(target, &bytes[..if journal { used } else { bytes.len() }]).unwrap();
            }
        }
    }

    fn commit_numbers(store: &Fjall, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            let mut batch = Batch::new();
            batch.put(Table(1), n.to_be_bytes().to_vec(), vec![b'a'; 50]);
            batch.put(Table(2), n.to_be_bytes().to_vec(), vec![b'b'; 50]);
            store.commit(&batch, Applied(n)).unwrap();
        }
    }

    /// The store holds exactly what the commits 1 to `applied` of `commit_numbers` wrote.
    #[track_caller]
    fn check_numbers(store: &Fjall) -> u64 {
        let applied = store.applied().0;
        for table in [Table(1), Table(2)] {
            let found = rows(store, table, ALL, Order::Ascending);
            let keys: Vec<_> = found.iter().map(|(key, _)| position(key).unwrap()).collect();
            assert_eq!(keys, (1..=applied).collect::<Vec<_>>(), "{table:?}");
        }
        applied
    }

    #[test]
    fn conforms() {
        let dir = tempfile::tempdir().unwrap();
        let made = Cell::new(0);
        check_all(&|| {
            made.set(made.get() + 1);
            Box::new(Fjall::open(dir.path().join(made.get().to_string())).unwrap())
        });
    }

    #[test]
    fn a_reopened_store_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let store = Fjall::open(dir.path().join("meta")).unwrap();
            assert_eq!(check_numbers(&store), round * 100);
            commit_numbers(&store, round * 100 + 1..=(round + 1) * 100);
        }
    }

    #[test]
    fn rows_outlive_the_memtable_and_the_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Fjall::open(dir.path()).unwrap();
        for n in 1..=60u8 {
            let mut batch = Batch::new();
            batch.put(Table(1), vec![n % 20], vec![n; 300_000]);
            store.commit(&batch, Applied(n.into())).unwrap();
        }
        drop(store);
        let store = Fjall::open(dir.path()).unwrap();
        assert_eq!(store.applied(), Applied(60));
        for n in 41..=60u8 {
            assert_eq!(store.get(Table(1), &[n % 20]).unwrap().unwrap(), vec![n; 300_000]);
        }
    }

    #[test]
    fn a_copy_of_a_running_store_holds_what_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Fjall::open(dir.path().join("live")).unwrap();
        commit_numbers(&store, 1..=500);
        assert_eq!(store.sync().unwrap(), Applied(500));
        commit_numbers(&store, 501..=505);
        copy(&dir.path().join("live"), &dir.path().join("copy"));
        let applied = check_numbers(&Fjall::open(dir.path().join("copy")).unwrap());
        assert!((500..=505).contains(&applied), "{applied}");
    }

    #[test]
    fn a_journal_cut_anywhere_leaves_whole_commits() {
        let dir = tempfile::tempdir().unwrap();
        let store = Fjall::open(dir.path().join("live")).unwrap();
        let journal = |store: &str| dir.path().join(store).join("0.jnl");
        let len = |store: &str| fs::metadata(journal(store)).unwrap().len();
        copy(&dir.path().join("live"), &dir.path().join("empty"));
        commit_numbers(&store, 1..=10);
        store.sync().unwrap();
        copy(&dir.path().join("live"), &dir.path().join("full"));
        let (from, to) = (len("empty"), len("full"));
        let mut prefixes = std::collections::BTreeSet::new();
        for cut in (from..=to).step_by(37) {
            let name = format!("cut-{cut}");
            copy(&dir.path().join("full"), &dir.path().join(&name));
            fs::OpenOptions::new().write(true).open(journal(&name)).unwrap().set_len(cut).unwrap();
            prefixes.insert(check_numbers(&Fjall::open(dir.path().join(&name)).unwrap()));
        }
        assert!(prefixes.len() > 5, "{prefixes:?}");
    }

    #[test]
    fn a_second_opener_is_told_that_the_store_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Fjall::open(dir.path()).unwrap();
        assert!(matches!(Fjall::open(dir.path()), Err(OpenError::Locked { .. })));
    }

    #[test]
    fn an_unknown_version_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = Fjall::open(dir.path()).unwrap();
        store.rows.insert(FORMAT_KEY, [MAGIC, &[0, 2]].concat()).unwrap();
        drop(store);
        let error = Fjall::open(dir.path()).unwrap_err();
        assert!(
            matches!(&error, OpenError::UnknownVersion { found, .. } if found == "2"),
            "{error}"
        );

        fs::write(dir.path().join("version"), b"FJL\x09").unwrap();
        let error = Fjall::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::UnknownVersion { at: "file version, byte 3", .. }),
            "{error}"
        );
    }

    #[test]
    fn a_store_without_a_format_row_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Fjall::open(dir.path()).unwrap();
        commit_numbers(&store, 1..=2);
        store.rows.remove(FORMAT_KEY).unwrap();
        drop(store);
        assert!(matches!(Fjall::open(dir.path()), Err(OpenError::Damaged { .. })));
    }

    /// All files below a directory.
    fn files(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    /// Ways to damage a file.
    const HURTS: [fn(&Path); 4] = [
        |path| fs::write(path, b"").unwrap(),
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.iter_mut().skip(5).step_by(997).for_each(|byte| *byte ^= 0x40);
            fs::write(path, bytes).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
    ];

    #[test]
    fn whatever_file_is_damaged_cut_or_gone_is_told_as_damage_or_takes_no_row_away() {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("live");
        let store = Fjall::open(&live).unwrap();
        // Enough for tables on disk, besides the journal.
        for n in 1..=40u8 {
            let mut batch = Batch::new();
            batch.put(Table(1), vec![n], vec![n; 300_000]);
            store.commit(&batch, Applied(n.into())).unwrap();
        }
        store.sync().unwrap();
        drop(store);
        let whole = dir.path().join("whole");
        copy(&live, &whole);
        let all = files(&whole);
        assert!(all.len() > 5, "{all:?}");
        let mut told = 0;
        for (file, hurt) in all.iter().flat_map(|file| HURTS.map(|hurt| (file, hurt))) {
            let copied = dir.path().join("copy");
            copy(&whole, &copied);
            hurt(&copied.join(file.strip_prefix(&whole).unwrap()));
            match Fjall::open(&copied) {
                // All that it says it has, it has: nothing, if it takes itself for new.
                Ok(store) => {
                    let applied = store.applied().0;
                    for n in 1..=u8::try_from(applied).unwrap() {
                        assert_eq!(store.get(Table(1), &[n]).unwrap().unwrap(), vec![n; 300_000]);
                    }
                }
                Err(OpenError::Damaged { .. }) => told += 1,
                Err(error) => panic!("{}: {error:?}", file.display()),
            }
            fs::remove_dir_all(copied).unwrap();
        }
        assert!(told > 10, "{told} times");
    }

    #[test]
    fn a_creation_that_was_interrupted_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Fjall::open(dir.path().join("whole")).unwrap());
        let whole = dir.path().join("whole");
        let parts: [&[&str]; 4] =
            [&["lock"], &["lock", "0.jnl"], &["lock", "0.jnl", "keyspaces"], &[]];
        for (n, kept) in parts.into_iter().enumerate() {
            let path = dir.path().join(n.to_string());
            fs::create_dir(&path).unwrap();
            for name in kept {
                match *name {
                    "keyspaces" => fs::create_dir(path.join(name)).unwrap(),
                    _ => drop(fs::copy(whole.join(name), path.join(name)).unwrap()),
                }
            }
            let store = Fjall::open(&path).unwrap();
            commit_numbers(&store, 1..=3);
            assert_eq!(check_numbers(&store), 3);
        }
    }
}
