//! V1, V2: how fast a file on a mounted volume is written and read from front to end, 1 MiB at a time.
//!
//! The product is mounted as its users do it: the server, and a mount in a process of its own that talks to it
//! over the Unix socket. 256 MiB per measurement; `MB/s`, more is better.
//!
//! - **V1 parity**: create, write, close: every byte has survived the process when the time ends. (So did the
//!   benchmarks of the seeds: no sync.)
//! - **V1 honest**: the same and an `fsync` before the close: every byte is on the disk.
//! - **V2 honest**: the kernel's copy of the file is dropped before each measurement, so that every byte comes
//!   through FUSE; server and mount are warm.
//!
//! Limit of all: the same calls on a FUSE file system that does nothing, served by the same crate with the same
//! options (`null_fuse.rs`).

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use crate::measure::{Context, Pair, megabytes_per_second, timed};
use crate::null_fuse;
use crate::product::{Mounted, Product};
use crate::rows::{MEGABYTES_PER_SECOND, Row, Variant};

/// The rows of this file.
pub(crate) const ROWS: [Row; 3] = [
    Row {
        id: "V1",
        variant: Variant::Honest,
        unit: MEGABYTES_PER_SECOND,
        what: "write a file on a mount, 1 MiB at a time, fsync inside",
        limit: "a null FUSE file system",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Writing::prepare(context, Sync::BeforeClose)?)),
    },
    Row {
        id: "V1",
        variant: Variant::Parity,
        unit: MEGABYTES_PER_SECOND,
        what: "write a file on a mount, 1 MiB at a time, without a sync",
        limit: "a null FUSE file system",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Writing::prepare(context, Sync::Never)?)),
    },
    Row {
        id: "V2",
        variant: Variant::Honest,
        unit: MEGABYTES_PER_SECOND,
        what: "read a file on a mount, 1 MiB at a time, nothing cached by the kernel",
        limit: "a null FUSE file system",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Reading::prepare(context)?)),
    },
];

const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 256;

/// Whether a file is synced when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Never,
    BeforeClose,
}

/// A file system that does nothing.
struct NullMount {
    mounted: Mounted,
    _dir: TempDir,
}

impl NullMount {
    fn start(context: &Context) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let mut command = Command::new(env::current_exe()?);
        let mounted =
            Mounted::start(command.arg(null_fuse::COMMAND).arg(dir.path()), dir.path().to_owned())?;
        Ok(Self { mounted, _dir: dir })
    }
}

struct Writing {
    context: Context,
    null: NullMount,
    pieces: usize,
    sync: Sync,
}

impl Writing {
    fn prepare(context: &Context, sync: Sync) -> anyhow::Result<Self> {
        let null = NullMount::start(context)?;
        Ok(Self { context: context.clone(), null, pieces: context.amount(PIECES), sync })
    }
}

impl Pair for Writing {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let product = Product::start(&self.context)?;
        let mounted = product.mount("bench")?;
        write(&mounted.dir().join("file"), self.pieces, self.sync)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let path = self.null.mounted.dir().join("file");
        let result = write(&path, self.pieces, self.sync)?;
        fs::remove_file(&path)?;
        Ok(result)
    }
}

fn write(path: &Path, pieces: usize, sync: Sync) -> anyhow::Result<f64> {
    let piece: Vec<u8> = (0..PIECE_BYTES).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let time = timed(|| {
        let mut file = File::create_new(path)?;
        for _ in 0..pieces {
            file.write_all(&piece)?;
        }
        if sync == Sync::BeforeClose {
            file.sync_all()?;
        }
        Ok(())
    })?;
    Ok(megabytes_per_second(time, pieces * PIECE_BYTES))
}

struct Reading {
    null: NullMount,
    mounted: Mounted,
    pieces: usize,
    /// Outlives its mount.
    _product: Product,
}

impl Reading {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let pieces = context.amount(PIECES);
        let null = NullMount::start(context)?;
        let product = Product::start(context)?;
        let mounted = product.mount("bench")?;
        for dir in [mounted.dir(), null.mounted.dir()] {
            write(&dir.join("file"), pieces, Sync::BeforeClose)?;
        }
        product.wait_idle()?;
        Ok(Self { null, mounted, pieces, _product: product })
    }
}

impl Pair for Reading {
    fn subject(&mut self) -> anyhow::Result<f64> {
        read(&self.mounted.dir().join("file"), self.pieces)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        read(&self.null.mounted.dir().join("file"), self.pieces)
    }
}

fn read(path: &Path, pieces: usize) -> anyhow::Result<f64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let time = timed(|| {
        for _ in 0..pieces {
            file.read_exact(&mut piece)?;
        }
        Ok(())
    })?;
    Ok(megabytes_per_second(time, pieces * PIECE_BYTES))
}
