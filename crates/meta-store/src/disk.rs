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

use crate::{Applied, Batch, KeyRange, MetaError, MetaStore, OpenError, Order, Table, Visit};

/// Blocks of the tree that the engine keeps in memory.
const CACHE_BYTES_MAX: u64 = 6 * 1024 * 1024;

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
    /// Opens the store in `path`, creating it if there is none. A new one, and its name, is durable on return.
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
        if crate::memory::is_empty(range) {
            return Ok(());
        }
        let rows = self.database.snapshot().range(&self.rows, row_range(table, range));
        match order {
            Order::Ascending => show(rows, visit),
            Order::Descending => show(rows.rev(), visit),
        }
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

    fn sync(&self) -> Result<Applied, MetaError> {
        let covered = self.applied();
        self.database.persist(PersistMode::SyncData).map_err(|error| write_error(&error))?;
        Ok(covered)
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
/// can be rebuilt.
fn open_error(path: &Path, error: Error) -> OpenError {
    let path: PathBuf = path.into();
    match error {
        Error::Locked => OpenError::Locked { path },
        Error::Io(source) | Error::Storage(LsmError::Io(source)) => OpenError::Io { path, source },
        Error::InvalidVersion(found) => {
            let found = found.map_or_else(|| "none".to_owned(), |version| format!("{version:?}"));
            OpenError::UnknownVersion { path, at: "file version, byte 3", found }
        }
        Error::Storage(LsmError::InvalidVersion(found)) => {
            OpenError::UnknownVersion { path, at: "a tree's manifest", found: found.to_string() }
        }
        other => OpenError::Damaged { path, why: other.to_string() },
    }
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
