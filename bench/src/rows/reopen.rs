//! Opening a data path whose journal is full: how long a restart waits.
//!
//! - **RJ1G**: the journal holds 1.1 GiB in pieces of 32 KiB. **RJ1M**: a million pieces of 1 KiB, which is as many as the
//!   journal's index may hold. Of the first an eighth came after the last checkpoint of the journal's index.
//! - plain: left as a kill leaves it. **-full**: the same, and the checkpoint of the journal's index deleted, so that all
//!   of the journal is read. **-closed**: closed in order.
//!
//! Limit of all: reading as many bytes as the journal holds with a CRC-32C for each piece, from the page cache.
//!
//! The journal is written once for all pairs of a row; nothing is packed.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use strands::{Options, Strands};

use crate::limits::raw_log::RawLog;
use crate::measure::{Both, Context, Pair, micros, timed};
use crate::node;
use crate::rows::{MICROS, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 6] = [
    row("RJ1G", "open after a kill, 1.1 GiB of 32 KiB", large::<{ Stop::KILLED }>),
    row("RJ1G-full", "the same without the index's checkpoint", large::<{ Stop::FORGOTTEN }>),
    row("RJ1G-closed", "open after a clean stop, 1.1 GiB of 32 KiB", large::<{ Stop::CLOSED }>),
    row("RJ1M", "open after a kill, 1,000,000 pieces of 1 KiB", small::<{ Stop::KILLED }>),
    row("RJ1M-full", "the same without the index's checkpoint", small::<{ Stop::FORGOTTEN }>),
    row("RJ1M-closed", "open after a clean stop, 1,000,000 pieces", small::<{ Stop::CLOSED }>),
];

const fn row(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, MICROS, what, "read and CRC-32C of as many bytes", prepare)
}

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

/// How the data path ended.
struct Stop;

impl Stop {
    const KILLED: u8 = 0;
    const FORGOTTEN: u8 = 1;
    const CLOSED: u8 = 2;
}

/// Strands that the pieces are spread over.
const STRANDS: usize = 100;

fn large<const STOP: u8>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    reopen(context, STOP, 36 << 10, 32 << 10)
}

fn small<const STOP: u8>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    reopen(context, STOP, 1_000_000, 1 << 10)
}

/// Nothing is packed, however much there is.
fn options() -> Options {
    Options {
        pack_after_bytes: 1 << 40,
        journal_bytes_max: 1 << 40,
        journal_pieces_max: usize::MAX,
        ..Options::default()
    }
}

fn reopen(
    context: &Context,
    stop: u8,
    pieces: usize,
    size: usize,
) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let pieces = context.amount(pieces);
    let raw = RawLog::create(&dir.path().join("raw"), size + 64, pieces)?;
    let path = dir.path().join("node");
    end(write(&path, pieces, size)?, stop)?;
    let subject = move || {
        if stop == Stop::FORGOTTEN {
            forget(&path)?;
        }
        let mut opened = None;
        let time = timed(|| {
            opened = Some(node::open(&path, options())?);
            Ok(())
        })?;
        if let Some(strands) = opened {
            let held = strands.status().unpacked_bytes;
            anyhow::ensure!(held == (pieces * size) as u64, "the journal holds {held} bytes");
            end(strands, stop)?;
        }
        Ok(micros(time))
    };
    let limit = move || {
        let _keep = &dir;
        Ok(micros(raw.read_and_check()?))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn end(strands: Strands, stop: u8) -> anyhow::Result<()> {
    if stop == Stop::CLOSED {
        strands.close()?;
    }
    Ok(())
}

fn write(path: &Path, pieces: usize, size: usize) -> anyhow::Result<Strands> {
    let strands = node::open(path, options())?;
    let ids: Vec<_> = (0..STRANDS).map(|_| strands.mint()).collect::<Result<_, _>>()?;
    let bytes = Bytes::from(vec![0x5A; size]);
    for number in 0..pieces {
        let offset = (number / STRANDS * size) as u64;
        node::write(&strands, ids[number % STRANDS], offset, &bytes)?;
    }
    strands.ticket(strands.positions().appended).wait_durable()?;
    Ok(strands)
}

fn forget(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path.join("journal/index")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
