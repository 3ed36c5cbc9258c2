//! What the tests share: opening a log in a fresh directory, and seeing what is in one.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use durable_log::{Log, Offset, OpenError, Options, Recovery};
use host::Host;
use tempfile::TempDir;

/// A machine and a directory in it for one log.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    _temp: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    pub(crate) fn with(options: Options) -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self { host: Host::real(), dir: temp.path().join("log"), options, _temp: temp }
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
        let names = self.host.disk.list(&self.dir).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".seg")).map(|name| self.dir.join(name)).collect()
    }
}

/// Segments so small that a few appends fill one.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 4096, append_bytes_max: 64 << 10, ..Options::default() }
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
    log.scan(offset, &mut |record| {
        assert_eq!(record.offset, expected);
        expected = expected + 1;
        records.push(record.bytes.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    records
}

pub(crate) fn read_file(path: &Path) -> Vec<u8> {
    let file = Host::real().disk.open(path, host::OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) {
    let file = Host::real().disk.open(path, host::OpenMode::Create).unwrap();
    file.set_size(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}
