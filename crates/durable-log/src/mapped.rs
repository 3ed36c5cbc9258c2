//! The mapping of a segment file, and which of its bytes may be looked at there.
//!
//! Invariant, on which the `unsafe` here leans: bytes below `readable` are durable bytes of this
//! segment. Nobody writes to those again: the writer adds behind them, a rescue goes on in another
//! file, and a file is used again only by the handle that made it, when nobody holds its segment, and with
//! it the mapping. Nor is the file cut before them while the segment is held.
//!
//! Not here: what the bytes mean (`crate::find`).
#![expect(
    unsafe_code,
    reason = "durable bytes of a mapped file do not change; only the log knows that"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use host::Mapping;

/// A segment file as memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    mapping: Mapping,
    /// Position in the file up to which bytes may be looked at.
    readable: AtomicU64,
}

impl Mapped {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self { mapping, readable: AtomicU64::new(0) }
    }

    /// Says that the segment is durable up to this position of its file.
    #[inline]
    pub(crate) fn extend(&self, durable: u64) {
        let durable = durable.min(self.mapping.len());
        if durable > self.readable.load(Ordering::Relaxed) {
            self.readable.fetch_max(durable, Ordering::AcqRel);
        }
    }

    /// The bytes at these positions of the file; `None` unless all of them may be looked at.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.readable.load(Ordering::Acquire) {
            return None;
        }
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        // SAFETY: by the module's invariant the file is at least as long as `readable`, and bytes
        // below that are not written to as long as the mapping lives.
        Some(unsafe { self.mapping.bytes(range) })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is not known to be durable is not shown, also when it is in the file already.

    use host::{Host, OpenMode};

    use super::*;

    #[test]
    fn only_durable_bytes_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = Host::real().disk.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"durable, written", 0).unwrap();
        let mapped = Mapped::new(file.map(4096).unwrap());
        assert_eq!(mapped.bytes(0..1), None);
        mapped.extend(7);
        mapped.extend(3);
        assert_eq!(mapped.bytes(0..7), Some(&b"durable"[..]));
        assert_eq!(mapped.bytes(0..8), None);
        assert_eq!(mapped.bytes(0..u64::MAX), None);
        mapped.extend(u64::MAX);
        assert_eq!(mapped.bytes(0..4097), None);
    }
}
