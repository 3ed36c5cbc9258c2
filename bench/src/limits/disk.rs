//! Writing a file as plainly as the system allows: the limit of everything that ends on the disk.
//!
//! The file is *recycled*: all its bytes were written and synced before, so that a write changes neither its
//! size nor its extents and a sync writes nothing but the data. That is the cheapest durable write there is
//! (a merely preallocated file costs some more for each page that is written for the first time).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Advice, fadvise};

use crate::logs::{SEGMENT_BYTES, WRITE_BYTES};
use crate::measure::{timed, with_ticks};

/// Removes what the page cache holds of a file (`posix_fadvise`); only of what is synced and mapped by nobody.
pub(crate) fn drop_cached(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// Puts a file into a folder as plainly as that is durable: a temporary file, written and synced, renamed, and
/// the folder synced.
pub(crate) fn put_file(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let file = File::create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Written and synced in pieces of this size when the file is made.
const FILL_BYTES: usize = 1 << 20;

/// A file whose bytes were all written before.
#[derive(Debug)]
pub(crate) struct RecycledFile {
    file: File,
    size: u64,
    at: u64,
}

impl RecycledFile {
    /// Makes the file, at least `size` bytes long.
    pub(crate) fn create(path: &Path, size: usize) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("create {}", path.display()))?;
        let fill = vec![0x5A; FILL_BYTES];
        let pieces = size.div_ceil(FILL_BYTES);
        for piece in 0..pieces {
            file.write_all_at(&fill, (piece * FILL_BYTES) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, size: (pieces * FILL_BYTES) as u64, at: 0 })
    }

    /// How long it takes to write `piece` `count` times, one after the other, with an `fdatasync` after
    /// every `sync_every` of them and after the last. Begins anew at the end of the file.
    pub(crate) fn write(
        &mut self,
        piece: &[u8],
        count: usize,
        sync_every: usize,
    ) -> anyhow::Result<Duration> {
        timed(|| {
            for number in 1..=count {
                self.write_one(piece)?;
                if number % sync_every == 0 || number == count {
                    self.file.sync_data()?;
                }
            }
            Ok(())
        })
    }

    /// How long it takes to hand `piece` to the system `count` times.
    pub(crate) fn write_unsynced(
        &mut self,
        piece: &[u8],
        count: usize,
    ) -> anyhow::Result<Duration> {
        timed(|| (0..count).try_for_each(|_| self.write_one(piece)))
    }

    /// How long it takes to write so many bytes in the original's pieces, with an `fdatasync` for each of its
    /// segments and at the end.
    pub(crate) fn write_as_original(&mut self, bytes: usize) -> anyhow::Result<Duration> {
        let sync_every = usize::try_from(SEGMENT_BYTES)? / WRITE_BYTES;
        self.write(&vec![0xC3; WRITE_BYTES], bytes.div_ceil(WRITE_BYTES), sync_every)
    }

    /// How long it takes to write so many bytes in the original's pieces while another thread calls `fdatasync`
    /// at each interval. With `to_the_end`, the last byte is synced too.
    pub(crate) fn write_ticking(
        &mut self,
        bytes: usize,
        interval: Duration,
        to_the_end: bool,
    ) -> anyhow::Result<Duration> {
        let (file, piece) = (self.file.try_clone()?, vec![0xC3; WRITE_BYTES]);
        let write = || {
            timed(|| {
                for _ in 0..bytes.div_ceil(WRITE_BYTES) {
                    self.write_one(&piece)?;
                }
                if to_the_end {
                    self.file.sync_data()?;
                }
                Ok(())
            })
        };
        with_ticks(interval, || Ok(file.sync_data()?), write)
    }

    /// Writes one piece and waits until the disk has it.
    pub(crate) fn write_durably(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.write_one(piece)?;
        Ok(self.file.sync_data()?)
    }

    fn write_one(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        let len = piece.len() as u64;
        if self.at + len > self.size {
            self.at = 0;
        }
        self.file.write_all_at(piece, self.at)?;
        self.at += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: writing goes round in the file and never makes it longer, for that would cost more.

    use super::*;

    #[test]
    fn the_file_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        let mut file = RecycledFile::create(&path, 2 * FILL_BYTES).unwrap();
        file.write(&[1; FILL_BYTES], 5, 2).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 * FILL_BYTES);
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
}
