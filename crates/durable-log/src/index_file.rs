//! Index files: the entries of a sealed segment's index, beside the segment, `.idx` instead of `.seg`.
//!
//! ```text
//!  0  8 bytes  magic "strndidx"
//!  8  u32      format version, 1
//! 12  u32      CRC-32C of bytes 0..12 and 16 to the end
//! 16  u64      number of the segment
//! 24  u64      salt of the segment
//! 32  u64      bytes of the segment's frames
//! 40           entries of 16 bytes, in order:
//!  0  u32      offset of the frame's first record, from the segment's base
//!  4  u32      where the frame begins, from the first frame, divided by 8
//!  8  i64      highest timestamp of any frame of the log before this one, milliseconds since 1970;
//!              -2^63 if there is none
//! ```
//!
//! Written when a segment is sealed, and not synced: it only saves work. A segment of less than
//! [`FRAMES_BYTES_MIN`] gets none: its frames are walked as quickly. It is read when the
//! segment is first read after an opening. One that is missing, cut, damaged, of another version or
//! another segment is made again from the segment and written over. One that is whole and wrong all
//! the same is noticed at use, because a frame must begin where an entry points; its times are believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Host, OpenMode};

use crate::frame::{self, u32_at, u64_at};
use crate::index::{self, Index, IndexWriter};
use crate::seal::{self, Flaw};
use crate::segment::{self, Place, Segment};
use crate::spare;
use crate::walk::{Step, Walker};

const SUFFIX: &str = "idx";
const MAGIC: [u8; 8] = *b"strndidx";
pub(crate) const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 16;
/// No index is longer: a segment of 5 GiB, which none reaches, has fewer entries.
pub(crate) const BYTES_MAX: u64 = (5 << 30) / index::STRIDE_BYTES * ENTRY_BYTES as u64;
/// Least bytes of frames for which an index is kept.
const FRAMES_BYTES_MIN: u64 = 64 << 10;

/// The index file of the segment in the file `segment`.
pub(crate) fn path_of(segment: &Path) -> PathBuf {
    segment.with_extension(SUFFIX)
}

/// The entries of a segment's index as they are kept. The index must have the segment's base.
fn encode(segment: &Segment, index: &Index, end: Place) -> Vec<u8> {
    let base = segment.header.base;
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[16..24].copy_from_slice(&segment.header.number.to_le_bytes());
    bytes[24..32].copy_from_slice(&segment.header.salt.to_le_bytes());
    bytes[32..40].copy_from_slice(&(end.at.get() - base.at.get()).to_le_bytes());
    for slot in 0..index.len() {
        let place = index.place(slot);
        if place.at >= end.at {
            break;
        }
        let offset = u32::try_from(place.offset - base.offset).unwrap_or(u32::MAX);
        let words = (place.at.get() - base.at.get()) / frame::ALIGN;
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(words).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&index.newest_ms(slot).to_le_bytes());
    }
    seal::seal(&mut bytes, MAGIC, VERSION);
    bytes
}

/// The index that the bytes hold, if they are those of this segment's index file.
fn decode(segment: &Segment, end: Place, bytes: &[u8]) -> Option<Index> {
    let base = segment.header.base;
    let frames_bytes = end.at.get() - base.at.get();
    let entries = bytes.get(HEADER_BYTES..)?;
    let whole = seal::check(bytes, MAGIC, VERSION, false).is_ok()
        && u64_at(bytes, 16) == segment.header.number
        && u64_at(bytes, 24) == segment.header.salt
        && u64_at(bytes, 32) == frames_bytes
        && entries.len() % ENTRY_BYTES == 0;
    if !whole {
        return None;
    }
    let places = parse(entries).map(|Entry { records, frames_bytes, newest_ms }| {
        let place = Place { offset: base.offset + records, at: base.at.plus(frames_bytes) };
        (place, newest_ms)
    });
    let begins = |last: &mut Option<(Place, i64)>, (place, newest): (Place, i64)| {
        let follows = last.map_or(place == base, |(before, before_newest)| {
            place.offset >= before.offset
                && place.at.get() >= before.at.get() + index::STRIDE_BYTES
                && newest >= before_newest
        });
        let good = follows && place.at < end.at && place.offset <= end.offset;
        *last = Some((place, newest));
        Some(good)
    };
    let good = places.clone().scan(None, begins).all(|good| good);
    (good && (frames_bytes == 0 || !entries.is_empty()))
        .then(|| Index::from_entries(base, frames_bytes, places))
}

/// An entry as it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// From the segment's base to the frame's first record.
    pub(crate) records: u64,
    /// From the segment's base to the frame.
    pub(crate) frames_bytes: u64,
    /// Highest time of any frame of the log before it.
    pub(crate) newest_ms: i64,
}

fn parse(entries: &[u8]) -> impl Iterator<Item = Entry> + Clone {
    entries.chunks_exact(ENTRY_BYTES).map(|entry| Entry {
        records: u64::from(u32_at(entry, 0)),
        frames_bytes: u64::from(u32_at(entry, 4)) * frame::ALIGN,
        newest_ms: u64_at(entry, 8).cast_signed(),
    })
}

/// What an index file says about itself, for who has not the segment, and its entries.
pub(crate) struct Kept<E> {
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    pub(crate) frames_bytes: u64,
    pub(crate) entries: E,
}

/// What the bytes of an index file say.
pub(crate) fn look(bytes: &[u8]) -> Result<Kept<impl Iterator<Item = Entry>>, Flaw> {
    seal::check(bytes, MAGIC, VERSION, false)?;
    let entries = bytes.get(HEADER_BYTES..).ok_or(Flaw::Short)?;
    if entries.len() % ENTRY_BYTES != 0 {
        return Err(Flaw::Short);
    }
    Ok(Kept {
        segment: u64_at(bytes, 16),
        salt: u64_at(bytes, 24),
        frames_bytes: u64_at(bytes, 32),
        entries: parse(entries),
    })
}

/// Keeps the index of a segment that ended at `end`. What goes wrong costs the next reader a walk.
pub(crate) fn write(host: &Host, segment: &Segment, index: &Index, end: Place) {
    let is_small = end.at.get() - segment.header.base.at.get() < FRAMES_BYTES_MIN;
    // After a rescue the stretch began in the segment before; entries for a walk from here differ.
    if is_small || index.base() != segment.header.base {
        return;
    }
    let path = path_of(&segment.path);
    let bytes = encode(segment, index, end);
    let written = host.disk.open(&path, OpenMode::Create).and_then(|file| {
        file.set_size(0)?;
        file.write_all_at(&bytes, 0)
    });
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "the index of a segment was not kept");
    }
}

/// Removes the kept index of a segment that is about to go. One that stays is never believed again and
/// goes when the log is opened.
pub(crate) fn remove(host: &Host, segment: &Segment) {
    let end = segment.end().unwrap_or(segment.header.base);
    if end.at.get() - segment.header.base.at.get() < FRAMES_BYTES_MIN {
        return;
    }
    let path = path_of(&segment.path);
    if let Err(error) = spare::remove_if_there(host, &path) {
        tracing::debug!(path = %path.display(), %error, "the index of a trimmed segment stays for now");
    }
}

/// The number of the segment whose index file has this name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let segment = Path::new(name).with_extension("seg");
    (path_of(&segment) == Path::new(name)).then(|| segment::number(segment.to_str()?))?
}

/// The kept index of a segment that ended at `end`; `None` if it is not there or not believed.
pub(crate) fn read(host: &Host, segment: &Segment, end: Place) -> Option<Index> {
    let frames_bytes = end.at.get() - segment.header.base.at.get();
    if frames_bytes < FRAMES_BYTES_MIN {
        return None;
    }
    let file = host.disk.open(&path_of(&segment.path), OpenMode::Read).ok()?;
    let entries_max = frames_bytes / index::STRIDE_BYTES + 1;
    let size = file.size().ok()?;
    if size < HEADER_BYTES as u64 || size > HEADER_BYTES as u64 + entries_max * ENTRY_BYTES as u64 {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    decode(segment, end, &bytes)
}

/// Makes the index of a segment that ended at `end` from its frames, as far as they are good, and
/// keeps it if all of them are.
pub(crate) fn rebuild(
    host: &Host,
    segment: &Segment,
    end: Place,
    newest_ms: i64,
) -> io::Result<Arc<Index>> {
    let base = segment.header.base;
    let source = |to: &mut [u8], at| segment.read_at(to, at);
    let mut walker =
        Walker::new(&source, segment.header.salt, base.at, base.offset, end.at, Vec::new());
    let mut writer = IndexWriter::new(base, end.at.get() - base.at.get(), newest_ms);
    let whole = loop {
        match walker.step()? {
            Step::Frame(frame) => {
                let place = Place { offset: frame.header.first, at: frame.at };
                writer.frame(place, frame.header.timestamp_ms);
            }
            Step::End => break true,
            Step::Bad(_) => break false,
        }
    };
    let index = Arc::clone(writer.index());
    tracing::debug!(segment = %segment.path.display(), whole, "made the index of a segment again");
    if whole {
        write(host, segment, &index, end);
    }
    Ok(index)
}
