//! What the tests share: a machine with a directory for one log, and seeing what is in a log.

use std::path::{Path, PathBuf};

use durable_log::{Log, Offset, OpenError, Options, ReadError, Record, Recovery};
use host::sim::Machine;
use host::{Host, OpenMode};
use tempfile::TempDir;

/// A machine and a directory in it for one log.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    _temp: Option<TempDir>,
}

impl Place {
    /// Real files, small segments.
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    /// Real files.
    pub(crate) fn with(options: Options) -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self { host: Host::real(), dir: temp.path().join("log"), options, _temp: Some(temp) }
    }

    /// The simulated machine as it is now, small segments.
    pub(crate) fn on(machine: &Machine) -> Self {
        Self { host: machine.host(), dir: "/log".into(), options: small(), _temp: None }
    }

    /// The same place on the machine as it is now.
    pub(crate) fn again(&self, machine: &Machine) -> Self {
        Self { options: self.options.clone(), ..Self::on(machine) }
    }

    /// Simulated files, small segments.
    pub(crate) fn simulated() -> Self {
        Self::on(&Machine::new(1))
    }

    pub(crate) fn try_open(&self) -> Result<(Log, Recovery), OpenError> {
        Log::open(&self.host, &self.dir, self.options.clone())
    }

    #[track_caller]
    pub(crate) fn open(&self) -> Log {
        self.try_open().unwrap().0
    }

    #[track_caller]
    pub(crate) fn reopen(&self) -> (Log, Recovery) {
        self.try_open().unwrap()
    }

    /// The segment files, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        // A crash may leave no directory.
        let names =
            self.host.disk.list(&self.dir).unwrap_or_default().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".seg")).map(|name| self.dir.join(name)).collect()
    }

    /// Removes the index files; false if there were none.
    pub(crate) fn remove_indexes(&self) -> bool {
        let listed = self.host.disk.list(&self.dir).unwrap_or_default();
        let indexes: Vec<_> =
            listed.into_iter().filter(|entry| entry.name.ends_with(".idx")).collect();
        for entry in &indexes {
            self.host.disk.unlink(&self.dir.join(&entry.name)).unwrap();
        }
        !indexes.is_empty()
    }

    pub(crate) fn read_file(&self, path: &Path) -> Vec<u8> {
        let file = self.host.disk.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) {
        let file = self.host.disk.open(path, OpenMode::Create).unwrap();
        file.set_size(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

/// Segments so small that a few appends fill one; and little may be unsynced, because the table of chunks that
/// each opening makes is as large as that takes.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 4096,
        append_bytes_max: 64 << 10,
        sync_ahead_bytes: 1 << 20,
        unsynced_bytes_max: 1 << 20,
        ..Options::default()
    }
}

/// All records from the log's start on.
#[track_caller]
pub(crate) fn all(log: &Log) -> Vec<Vec<u8>> {
    from(log, log.positions().start)
}

/// All records from an offset on, which must be the next ones.
#[track_caller]
pub(crate) fn from(log: &Log, offset: Offset) -> Vec<Vec<u8>> {
    let mut expected = offset;
    let mut records = Vec::new();
    show(log, offset, |record| {
        assert_eq!(record.offset, expected);
        expected = expected + 1;
        records.push(record.bytes.to_vec());
    })
    .unwrap();
    records
}

/// Shows all records from an offset on.
pub(crate) fn show(
    log: &Log,
    from: Offset,
    mut visit: impl FnMut(Record<'_>),
) -> Result<(), ReadError> {
    let mut records = log.iter(from)?;
    while let Some(record) = records.next()? {
        visit(record);
    }
    Ok(())
}
