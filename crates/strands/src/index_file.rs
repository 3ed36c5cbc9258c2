//! The file that holds a checkpoint of the journal's index: how it lies on disk, and when it is believed.
//!
//! ```text
//!  0  8 bytes  magic "sl.index"
//!  8  u32      format version, 1
//! 12  u32      CRC-32C of bytes 0..12 and 16 to the end
//! 16  16 bytes id of the data directory
//! 32  u64      position: of the commits before this one, the pieces
//! 40  u64      reached: commits before this one may have taken pieces away already
//! 48  u64      number of the journal's segment that holds the commit before `reached`
//! 56  u64      salt of that segment
//! 64  u64      number of pieces
//! 72  pieces
//!
//! piece = strand step | gap | length | zigzag of: location, less where the last piece ends | zigzag of: commit, less
//!         the last piece's
//! ```
//!
//! Integers of the header are little-endian; those of pieces are LEB128 of 64 bits at most. Pieces are in order of
//! strand and start. The step is the strand's number less the last piece's; the gap is where the piece begins in its
//! strand, less where the last piece of the same strand ends.
//!
//! Invariant: the file is a help and never the truth. One that is missing, torn, of another directory, of an unknown
//! version, of another life of the journal, or ahead of it is passed over, and the whole journal is read. What is read
//! of it takes memory in proportion to its size, and its size is limited.
//!
//! Not here: what a checkpoint means and when one is taken (`index_checkpoint.rs`). In `docs/formats/index.md` the same
//! for who reads files.

use std::io;
use std::path::Path;

use durable_log::{Landmark, Location, Offset};
use host::{Host, OpenMode};

use crate::pieces::{Piece, Placed};
use crate::types::{Position, StoreId, StrandId};

/// Its name in the journal's directory.
pub(crate) const NAME: &str = "index";
/// What opening the journal removes when a crash left it.
const UNFINISHED: &str = "index.new";
/// Most bytes of a checkpoint of the journal's index: more than a million pieces can need.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

const MAGIC: &[u8; 8] = b"sl.index";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
/// Five numbers of a byte each.
const PIECE_BYTES_MIN: usize = 5;

/// Why a file is no checkpoint of a journal's index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexFileError {
    /// It is not what was written.
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// Another version of the program wrote it.
    #[error("it has unknown version {found} at byte 8")]
    UnknownVersion {
        /// What stands there.
        found: u32,
    },
}

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: StoreId,
    /// The pieces are those that commits before this one wrote.
    pub(crate) position: Position,
    /// Behind the commits that may have taken some of them away.
    pub(crate) landmark: Landmark,
}

/// Where the last piece was.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    strand: u64,
    end: u64,
    at: u64,
    written: u64,
}

/// Writes pieces, in order of strand and start.
#[derive(Debug)]
pub(crate) struct Encoder {
    out: Vec<u8>,
    last: Last,
    pieces: u64,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { out: vec![0; HEADER_BYTES], last: Last::default(), pieces: 0 }
    }

    pub(crate) fn piece(&mut self, placed: &Placed) {
        let Placed { strand, start, piece: Piece { len, at, written } } = *placed;
        let (strand, at, written) = (strand.get(), at.get(), written.get());
        let step = strand - self.last.strand;
        let from = if step == 0 { self.last.end } else { 0 };
        put(&mut self.out, step);
        put(&mut self.out, start - from);
        put(&mut self.out, len.into());
        put(&mut self.out, zigzag(at, self.last.at));
        put(&mut self.out, zigzag(written, self.last.written));
        let len = u64::from(len);
        self.last = Last { strand, end: start + len, at: at + len, written };
        self.pieces += 1;
    }

    pub(crate) fn finish(mut self, header: &Header) -> Vec<u8> {
        let out = &mut self.out;
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&header.store.0);
        let Landmark { next, segment, salt } = header.landmark;
        let numbers = [header.position.get(), next.get(), segment, salt, self.pieces];
        for (field, number) in out[32..HEADER_BYTES].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let crc = checksum(out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        self.out
    }
}

/// Checks the file and reads its header.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<Header, IndexFileError> {
    let damaged = |at, why| Err(IndexFileError::Damaged { at, why });
    if !bytes.starts_with(MAGIC) {
        return damaged(0, "it does not begin as one");
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return damaged(bytes.len() as u64, "it ends here");
    };
    if u32::from_le_bytes([header[12], header[13], header[14], header[15]]) != checksum(bytes) {
        return damaged(12, "it does not match its checksum");
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if version != VERSION {
        return Err(IndexFileError::UnknownVersion { found: version });
    }
    let number = |at: usize| {
        header[at..].first_chunk().map_or(0, |number: &[u8; 8]| u64::from_le_bytes(*number))
    };
    let mut store = StoreId::default();
    store.0.copy_from_slice(&header[16..32]);
    let (position, next) = (Position::new(number(32)), Offset::new(number(40)));
    if position > Position::of(next) {
        return damaged(40, "it reached less far than its position");
    }
    if number(64) > (bytes.len() / PIECE_BYTES_MIN) as u64 {
        return damaged(64, "so many pieces have no room in it");
    }
    let landmark = Landmark { next, segment: number(48), salt: number(56) };
    Ok(Header { store, position, landmark })
}

/// Shows the pieces of a file whose header was read, in order; those that were shown before an error may be anything.
pub(crate) fn decode_pieces(
    bytes: &[u8],
    header: &Header,
    mut show: impl FnMut(Placed),
) -> Result<(), IndexFileError> {
    let count = bytes.get(64..HEADER_BYTES).and_then(<[u8]>::first_chunk);
    let count = count.map_or(0, |count| u64::from_le_bytes(*count));
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut last = Last::default();
    for number in 0..count {
        let at = (bytes.len() - rest.len()) as u64;
        let placed = take_piece(&mut rest, &mut last, number == 0)
            .filter(|placed| placed.piece.written < header.position)
            .ok_or(IndexFileError::Damaged { at, why: "a piece that cannot be" })?;
        show(placed);
    }
    if rest.is_empty() {
        return Ok(());
    }
    let at = (bytes.len() - rest.len()) as u64;
    Err(IndexFileError::Damaged { at, why: "there is more than the pieces" })
}

fn take_piece(rest: &mut &[u8], last: &mut Last, is_first: bool) -> Option<Placed> {
    let step = take(rest)?;
    let strand = last.strand.checked_add(step)?;
    let from = if step == 0 && !is_first { last.end } else { 0 };
    let start = from.checked_add(take(rest)?)?;
    let len = u32::try_from(take(rest)?).ok().filter(|len| *len > 0)?;
    let at = unzigzag(take(rest)?, last.at);
    let written = unzigzag(take(rest)?, last.written);
    let end = start.checked_add(len.into())?;
    *last = Last { strand, end, at: at.checked_add(len.into())?, written };
    let piece = Piece { len, at: Location::new(at), written: Position::new(written) };
    Some(Placed { strand: StrandId::from_raw(strand), start, piece })
}

/// The bytes of the file, if there is one.
pub(crate) fn read(host: &Host, dir: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match host.disk.open(&dir.join(NAME), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.size()?;
    let len = usize::try_from(size).ok().filter(|_| size <= FILE_BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::other("it is longer than any checkpoint"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Puts the file in the place of the last one. After a power cut there is one of the two, or none.
pub(crate) fn write(host: &Host, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(UNFINISHED);
    match host.disk.unlink(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = host.disk.open(&unfinished, OpenMode::CreateNew)?;
    let written = file.write_all_at(bytes, 0).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // What there is of it only takes room.
        let _ = host.disk.unlink(&unfinished);
        return Err(error);
    }
    host.disk.rename(&unfinished, &dir.join(NAME))
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// The difference of two numbers, wrapping, such that small ones either way are small.
fn zigzag(to: u64, from: u64) -> u64 {
    let difference = to.wrapping_sub(from).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

fn unzigzag(coded: u64, from: u64) -> u64 {
    let difference = (coded >> 1) ^ (coded & 1).wrapping_neg();
    from.wrapping_add(difference)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, others) = rest.split_first()?;
        *rest = others;
        let low = u64::from(byte & 0x7f);
        if low << shift >> shift != low {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Goal: what was encoded is decoded again; whatever else the bytes are, they are refused or give pieces that are
    //! in order, apart from each other and not more than the bytes have room for. Method: random pieces; every cut,
    //! flipped bits, and random bytes under a checksum that matches.

    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        let landmark = Landmark { next: Offset::new(2_000_000), segment: 7, salt: u64::MAX };
        Header { store: StoreId([3; 16]), position: Position::new(1_000_000), landmark }
    }

    fn encode(pieces: &[Placed]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        pieces.iter().for_each(|placed| encoder.piece(placed));
        encoder.finish(&header())
    }

    fn decode(bytes: &[u8]) -> Result<(Header, Vec<Placed>), IndexFileError> {
        let header = decode_header(bytes)?;
        let mut pieces = Vec::new();
        decode_pieces(bytes, &header, |placed| pieces.push(placed))?;
        Ok((header, pieces))
    }

    /// Lets the checksum match again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() >= 16 {
            let crc = checksum(&bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    fn any_pieces() -> impl Strategy<Value = Vec<Placed>> {
        let step = prop_oneof![Just(0u64), 1..3u64, 0..u64::MAX / 64];
        let gap = prop_oneof![Just(0u64), 0..100_000u64];
        let piece = (step, gap, 1..u32::MAX, 0..u64::MAX / 8, 0..1_000_000u64);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| {
            let (mut strand, mut end) = (0, 0);
            let place = |(step, gap, len, at, written): (u64, u64, u32, u64, u64)| {
                strand += step;
                let start = gap + if step == 0 { end } else { 0 };
                end = start + u64::from(len);
                let (at, written) = (Location::new(at), Position::new(written));
                let piece = Piece { len, at, written };
                Placed { strand: StrandId::from_raw(strand), start, piece }
            };
            pieces.into_iter().map(place).collect()
        })
    }

    #[track_caller]
    fn check_sound(bytes: &[u8]) {
        let Ok((_, pieces)) = decode(bytes) else { return };
        assert!(pieces.len() * PIECE_BYTES_MIN <= bytes.len());
        for pair in pieces.windows(2) {
            let ([one, next], same) = ([pair[0], pair[1]], pair[0].strand == pair[1].strand);
            assert!(one.strand < next.strand || same && one.end() <= next.start);
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(pieces in any_pieces()) {
            prop_assert_eq!(decode(&encode(&pieces)), Ok((header(), pieces)));
        }

        #[test]
        fn a_file_that_is_cut_or_has_a_flipped_bit_is_refused(
            pieces in any_pieces(), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let bytes = encode(&pieces);
            let at = at.index(bytes.len());
            prop_assert!(decode(&bytes[..at]).is_err());
            let mut flipped = bytes;
            flipped[at] ^= 1 << bit;
            prop_assert!(decode(&flipped).is_err());
        }

        #[test]
        fn forged_bytes_are_refused_or_sound(
            pieces in any_pieces(), at in any::<prop::sample::Index>(),
            forged in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = encode(&pieces);
            let at = at.index(bytes.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&forged);
            check_sound(&sealed(bytes));
        }

        #[test]
        fn random_bytes_behind_a_header_are_refused_or_sound(
            count in prop_oneof![0..20u64, any::<u64>()],
            body in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..100),
        ) {
            let mut bytes = encode(&[]);
            bytes[64..72].copy_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&body);
            check_sound(&sealed(bytes));
        }
    }

    #[test]
    fn pieces_of_one_strand_one_after_the_other_take_few_bytes() {
        let place = |number: u64| {
            let at = Location::new(number * 32_900);
            let piece = Piece { len: 32 << 10, at, written: Position::new(number) };
            Placed { strand: StrandId::from_raw(9), start: number << 15, piece }
        };
        let pieces: Vec<_> = (0..1000).map(place).collect();
        assert!(encode(&pieces).len() < 9_000);
    }

    #[test]
    fn an_unknown_version_is_told_from_damage() {
        let mut bytes = encode(&[]);
        bytes[8] = 2;
        assert_eq!(
            decode(&sealed(bytes.clone())),
            Err(IndexFileError::UnknownVersion { found: 2 })
        );
        bytes[0] = b'x';
        let error = decode(&bytes).unwrap_err();
        assert!(matches!(error, IndexFileError::Damaged { at: 0, .. }), "{error}");
    }
}
