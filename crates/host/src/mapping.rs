//! Files seen as memory.
//!
//! A mapping shows what the page cache holds. It goes on existing when the file is closed or
//! unlinked. A page that lies behind the file's end, or that the disk cannot deliver, ends the process
//! (SIGBUS): who cannot live with that reads with [`crate::File::read_at`], which gives an error.
#![expect(
    unsafe_code,
    reason = "nobody but the owner of a file knows which of its bytes stay as they are"
)]

use std::io;
use std::ops::Range;

use memmap2::{MmapOptions, MmapRaw};

/// The beginning of a file, mapped for reading.
#[derive(Debug)]
pub struct Mapping(MmapRaw);

impl Mapping {
    pub(crate) fn new(file: &std::fs::File, bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        MmapOptions::new().len(len).map_raw_read_only(file).map(Self)
    }

    /// How many bytes are mapped; the file may be shorter.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the file, where they are. Panics when the range is not within the mapping.
    ///
    /// # Safety
    ///
    /// As long as the slice lives, the file is at least `range.end` long, and nobody writes to the
    /// range: not through this process, nor another one.
    pub unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.0.len(), "the range is mapped");
        // SAFETY: the range lies within one mapping, which lives as long as `self`; the caller vouches
        // that its bytes are there and do not change.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a mapping shows what was written before and after it was made, and outlives the file's name.

    use crate::{Host, OpenMode};

    #[test]
    fn a_mapping_shows_what_is_written_and_outlives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapped");
        let file = Host::real().disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        // Longer than the file is now.
        let mapping = file.map(1 << 20).unwrap();
        assert_eq!((mapping.len(), mapping.is_empty()), (1 << 20, false));
        // SAFETY: these bytes were written and are not written again.
        assert_eq!(unsafe { mapping.bytes(0..6) }, b"before");
        file.write_all_at(b"after", 5000).unwrap();
        drop(file);
        Host::real().disk.unlink(&path).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.bytes(5000..5005) }, b"after");
    }

    #[test]
    #[should_panic(expected = "the range is mapped")]
    fn what_is_not_mapped_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = Host::real().disk.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let mapping = file.map(100).unwrap();
        // SAFETY: it panics before it looks at bytes.
        unsafe { mapping.bytes(50..101) };
    }
}
