//! Logs that are measured: opened on the real machine, filled, left behind as a crash leaves them.

use std::path::Path;

use durable_log::{Committer, Log, Offset, Options};
use host::Host;

use crate::measure::Context;

/// Opens the log in `dir`.
pub(crate) fn open(dir: &Path, options: Options) -> anyhow::Result<Log> {
    Ok(Log::open(&Host::real(), dir, options)?.0)
}

/// The original's segments.
pub(crate) const SEGMENT_BYTES: u64 = 256 << 20;

/// Bytes that the original, and we where its work is repeated, hands to the system at a time.
pub(crate) const WRITE_BYTES: usize = 64 << 10;

/// The default limits with the original's segments.
pub(crate) fn original_options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::default() }
}

/// Payload byte i is (7 * i) mod 256, as in the original.
pub(crate) fn payload<const BYTES: usize>() -> [u8; BYTES] {
    let mut byte = 0_u8;
    [(); BYTES].map(|()| {
        let this = byte;
        byte = byte.wrapping_add(7);
        this
    })
}

/// Bytes that an append of so many bytes adds to a log.
pub(crate) fn frame_bytes(context: &Context, payload_bytes: usize) -> anyhow::Result<usize> {
    let dir = context.temp_dir()?;
    let log = open(dir.path(), Options::default())?;
    let payload = vec![0; payload_bytes];
    log.append(&[&payload])?;
    log.append(&[&payload])?;
    let bytes = log.stats().bytes / 2;
    log.close()?;
    Ok(usize::try_from(bytes)?)
}

/// Appends one record, when there is room for it; gives the offset after it.
pub(crate) fn append_when_room(log: &Log, payload: &[u8]) -> anyhow::Result<Offset> {
    if !log.has_room() {
        log.wait_room();
    }
    Ok(log.append(&[payload])?.next)
}

/// Appends `records` times the same and syncs.
pub(crate) fn fill(log: &Log, payload: &[u8], records: usize) -> anyhow::Result<()> {
    for _ in 0..records {
        if !log.has_room() {
            log.sync()?;
        }
        log.append(&[payload])?;
    }
    log.sync()?;
    Ok(())
}

/// Appends `appends` times as the original did: what fills a buffer of 64 KiB goes to the system at once.
/// `frame_bytes` is what an append adds.
pub(crate) fn append_buffered(
    log: &Log,
    payload: &[u8],
    appends: usize,
    frame_bytes: usize,
) -> anyhow::Result<()> {
    let appends_per_write = WRITE_BYTES / frame_bytes;
    for number in 1..=appends {
        if !log.has_room() {
            log.sync()?;
        }
        log.append(&[payload])?;
        if number % appends_per_write == 0 {
            log.write_out()?;
        }
    }
    Ok(())
}

/// A log with a committer thread, as in a server; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    _committer: Committer,
    pub(crate) log: Log,
}

impl Served {
    /// Opens the log in `dir` and starts its committer.
    pub(crate) fn open(dir: &Path, options: Options) -> anyhow::Result<Self> {
        let log = open(dir, options)?;
        Ok(Self { _committer: log.start_committer()?, log })
    }

    /// Makes everything durable and removes all segments but the active one.
    pub(crate) fn sync_and_trim(&self) -> anyhow::Result<()> {
        let durable = self.log.sync()?;
        self.log.trim(durable)?;
        Ok(())
    }
}
