//! M2: what a buffered append of 256 B costs one thread, and so what every change costs at least.
//!
//! - **honest**: append alone, as the server does it: a committer thread syncs in the background, segments are
//!   trimmed. Time is taken over bursts that stay below what may be unsynced, so that no append waits for the
//!   disk; between bursts, untimed, all is synced. Limit: copying the same 256 B into memory, round a ring
//!   of the size of one burst. (`ns/append`, less is better.)
//! - **parity**: the original's benchmark: segments of 256 MiB, no sync is asked for, but what was appended is
//!   handed to the system in pieces of 64 KiB, and every roll of a segment and the final close, both of which
//!   sync, are timed. (Our log lets no more than 64 MiB be unsynced, so it syncs more often.) Limit: `pwrite` of
//!   the same bytes in pieces of 64 KiB into a recycled file, with an `fdatasync` every 256 MiB and at the end.
//!
//! The original took 172 ns (1,491 MB/s) on an Apple M1 Max.

use std::thread::JoinHandle;
use std::time::Duration;

use durable_log::{Log, Options};
use host::Host;
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::limits::memory::Ring;
use crate::measure::{Context, Pair, nanos_each, timed};
use crate::rows::{NANOS_PER_APPEND, Row, Variant};

/// The rows of this file.
pub(crate) const ROWS: [Row; 2] = [
    Row {
        id: "M2",
        variant: Variant::Honest,
        unit: NANOS_PER_APPEND,
        what: "append of 256 B, one thread, not waiting for the disk; limit: memcpy",
        pairs: 9,
        prepare: |context| Ok(Box::new(Honest::prepare(context)?)),
    },
    Row {
        id: "M2",
        variant: Variant::Parity,
        unit: NANOS_PER_APPEND,
        what: "append of 256 B, rolls and close inside; limit: pwrite of 64 KiB",
        pairs: 5,
        prepare: |context| Ok(Box::new(Parity::prepare(context)?)),
    },
];

/// The payload of every append.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// Payload byte i is (7 * i) mod 256, as in the original.
pub(crate) fn payload() -> [u8; PAYLOAD_BYTES] {
    let mut byte = 0_u8;
    [(); PAYLOAD_BYTES].map(|()| {
        let this = byte;
        byte = byte.wrapping_add(7);
        this
    })
}

/// Bytes that an append of the payload adds to the log.
pub(crate) fn frame_bytes(context: &Context) -> anyhow::Result<usize> {
    let dir = context.temp_dir()?;
    let (log, _) = Log::open(&Host::real(), dir.path(), Options::default())?;
    log.append(&[&payload()])?;
    log.append(&[&payload()])?;
    let bytes = log.stats().bytes / 2;
    log.close()?;
    Ok(usize::try_from(bytes)?)
}

/// Appends of one burst: about half of what may be unsynced.
const BURST: usize = 100_000;
const BURSTS: usize = 10;

struct Honest {
    log: Log,
    committer: Option<JoinHandle<()>>,
    ring: Ring,
    burst: usize,
    _dir: TempDir,
}

impl Honest {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let (log, _) = Log::open(&Host::real(), dir.path(), Options::default())?;
        let committer = host::spawn("committer", {
            let log = log.clone();
            move || log.run_committer()
        })?;
        let burst = context.amount(BURST);
        let ring = Ring::new(burst * frame_bytes(context)?);
        Ok(Self { log, committer: Some(committer), ring, burst, _dir: dir })
    }
}

impl Pair for Honest {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let payload = payload();
        let mut time = Duration::ZERO;
        for _ in 0..BURSTS {
            time += timed(|| {
                for _ in 0..self.burst {
                    self.log.append(&[&payload])?;
                }
                Ok(())
            })?;
            let durable = self.log.sync()?;
            self.log.trim(durable)?;
        }
        Ok(nanos_each(time, BURSTS * self.burst))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.ring.copy(&payload(), BURSTS * self.burst)?;
        Ok(nanos_each(time, BURSTS * self.burst))
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.log.stop_committer();
        if let Some(committer) = self.committer.take() {
            committer.join().expect("the committer does not panic");
        }
    }
}

/// Two rolls of 256 MiB happen on the way.
const APPENDS: usize = 2_000_000;
const SEGMENT_BYTES: u64 = 256 << 20;
const WRITE_BYTES: usize = 64 << 10;

struct Parity {
    dir: TempDir,
    file: RecycledFile,
    appends: usize,
    frame_bytes: usize,
}

impl Parity {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let (appends, frame_bytes) = (context.amount(APPENDS), frame_bytes(context)?);
        let file = RecycledFile::create(&dir.path().join("raw"), appends * frame_bytes)?;
        Ok(Self { dir, file, appends, frame_bytes })
    }
}

impl Pair for Parity {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.dir.path())?;
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        let (log, _) = Log::open(&Host::real(), dir.path(), options)?;
        let payload = payload();
        let appends_per_write = WRITE_BYTES / self.frame_bytes;
        let time = timed(|| {
            for number in 1..=self.appends {
                if !log.has_room() {
                    log.sync()?;
                }
                log.append(&[&payload])?;
                if number % appends_per_write == 0 {
                    log.write_out()?;
                }
            }
            Ok(log.close()?)
        })?;
        Ok(nanos_each(time, self.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let writes = (self.appends * self.frame_bytes).div_ceil(WRITE_BYTES);
        let sync_every = usize::try_from(SEGMENT_BYTES)? / WRITE_BYTES;
        let time = self.file.write(&vec![0xC3; WRITE_BYTES], writes, sync_every)?;
        Ok(nanos_each(time, self.appends))
    }
}
