//! A file of frames that a log of the same records would hold, without the log: the limit of reading one.
//!
//! Frame `i` lies at `i * frame_bytes`; what it holds is fixed, and not what a log writes.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::measure::timed;

/// Read in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct RawLog {
    path: PathBuf,
    frame_bytes: usize,
    frames: usize,
}

impl RawLog {
    /// Writes the file and syncs it.
    pub(crate) fn create(path: &Path, frame_bytes: usize, frames: usize) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("create {}", path.display()))?;
        let per_piece = PIECE_BYTES / frame_bytes;
        let piece: Vec<u8> = (0..=u8::MAX).cycle().take(per_piece * frame_bytes).collect();
        for first in (0..frames).step_by(per_piece) {
            let len = per_piece.min(frames - first) * frame_bytes;
            file.write_all_at(&piece[..len], (first * frame_bytes) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { path: path.to_owned(), frame_bytes, frames })
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> usize {
        self.frames * self.frame_bytes
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long it takes to open the file, read it from end to end and take the CRC-32C of each frame.
    pub(crate) fn read_and_check(&self) -> anyhow::Result<Duration> {
        let mut piece = vec![0; PIECE_BYTES / self.frame_bytes * self.frame_bytes];
        timed(|| {
            let file = File::open(&self.path)?;
            let mut at = 0;
            while at < self.bytes() {
                let len = piece.len().min(self.bytes() - at);
                file.read_exact_at(&mut piece[..len], at as u64)?;
                for frame in piece[..len].chunks_exact(self.frame_bytes) {
                    black_box(crc32c::crc32c(frame));
                }
                at += len;
            }
            Ok(())
        })
    }

    /// How long it takes to read the frames with these numbers one by one.
    pub(crate) fn read_each(&self, numbers: &[usize]) -> anyhow::Result<Duration> {
        let mut frame = vec![0; self.frame_bytes];
        timed(|| {
            let file = File::open(&self.path)?;
            for number in numbers {
                file.read_exact_at(&mut frame, (number * self.frame_bytes) as u64)?;
                black_box(&frame);
            }
            Ok(())
        })
    }
}

/// How long it takes to make a file of `size` reserved bytes whose name and size survive the power: what
/// opening a log costs at least, which begins a segment.
pub(crate) fn reserve(dir: &Path, size: u64) -> anyhow::Result<Duration> {
    let path = dir.join("reserved");
    let time = timed(|| {
        let file = File::create_new(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)?;
        file.sync_all()?;
        Ok(File::open(dir)?.sync_all()?)
    })?;
    fs::remove_file(&path)?;
    Ok(time)
}

#[cfg(test)]
mod tests {
    //! Goal: the file is as long as said, and reading it to the end or in parts works.

    use super::*;

    #[test]
    fn a_raw_log_is_read_whole_and_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        let log = RawLog::create(&path, 280, 10_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2_800_000);
        assert_eq!(log.bytes(), 2_800_000);
        log.read_and_check().unwrap();
        log.read_each(&[0, 9_999]).unwrap();
        assert!(log.read_each(&[10_000]).is_err());
    }

    #[test]
    fn what_was_reserved_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        reserve(dir.path(), 1 << 20).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
