//! A file of frames seen as memory: the limit of reading records where they lie.
#![expect(unsafe_code, reason = "a mapping is memory that others could change")]

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use memmap2::Mmap;

/// Where the payload of a frame of a record of 256 B begins in the original's log.
const HEADER_BYTES: usize = 24;
/// What such a frame takes.
const FRAME_BYTES: usize = 280;

/// The mapped file.
#[derive(Debug)]
pub(crate) struct MappedFrames {
    map: Mmap,
}

impl MappedFrames {
    /// Writes so many frames into a file below `dir` that has no name afterwards, and maps it.
    pub(crate) fn create(dir: &Path, frames: usize) -> anyhow::Result<Self> {
        let path = dir.join("mapped");
        fs::write(&path, vec![0x5A; frames * FRAME_BYTES])
            .with_context(|| format!("write {}", path.display()))?;
        let file = File::open(&path)?;
        file.sync_all()?;
        fs::remove_file(&path)?;
        // SAFETY: the file has no name and no other handle than this one, which only reads: nobody writes to it
        // and nobody cuts it while it is mapped.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// The 256 bytes of a record.
    pub(crate) fn payload(&self, number: usize) -> &[u8] {
        let at = number * FRAME_BYTES + HEADER_BYTES;
        &self.map[at..at + 256]
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the mapping shows every frame of a file that nobody else can reach.

    use super::*;

    #[test]
    fn all_frames_are_mapped_and_nobody_else_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let frames = MappedFrames::create(dir.path(), 1_000).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for number in [0, 999] {
            assert_eq!(frames.payload(number), [0x5A; 256]);
        }
    }
}
