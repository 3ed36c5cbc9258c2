//! The bytes of a block: building, parsing, verifying. Pure: no I/O.
//!
//! ```text
//! header    magic "sl.block" | version u32 | name, 20 bytes                                  32 bytes
//! payload   the pieces back to back                                                 0 to 4 MiB
//! footer    per piece: strand u64 | start u64 | generation u64 | len u32 | at u32            32 bytes each
//!           per 64 KiB of payload: crc32c u32                                                 4 bytes each
//! trailer   payload_len u32 | pieces u32 | version u32 | crc32c u32 | magic "sl.blend"       24 bytes
//! ```
//!
//! Integers are little-endian, the name is as [`BlockName::to_bytes`]. The trailer's checksum covers
//! header, footer and the trailer before it. There is nothing else in a block, and no padding, so its
//! size follows from the trailer; a block of another size is damaged.
//!
//! Invariant: a [`Footer`] is consistent: its pieces are not empty, lie back to back, and fill the payload.
//! Whoever holds one needs no more bounds checks than "within the payload".

use std::ops::Range;

use bytes::Bytes;

use crate::crc::{crc32c, crc32c_of};
use crate::{BLOCK_BYTES_MAX, BLOCK_PIECES_MAX, BlockName, CHUNK_BYTES};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 32;
/// Bytes at the end from which the footer is found.
pub const TRAILER_BYTES: usize = 24;
/// Bytes of the footer per piece.
pub const PIECE_BYTES: usize = 32;
/// Bytes of the footer per chunk of payload.
pub const CHECKSUM_BYTES: usize = 4;
/// Most bytes in a whole block.
pub const BLOCK_FILE_BYTES_MAX: usize = HEADER_BYTES
    + BLOCK_BYTES_MAX as usize
    + BLOCK_PIECES_MAX as usize * PIECE_BYTES
    + (BLOCK_BYTES_MAX / CHUNK_BYTES) as usize * CHECKSUM_BYTES
    + TRAILER_BYTES;

const HEADER_MAGIC: &[u8; 8] = b"sl.block";
const TRAILER_MAGIC: &[u8; 8] = b"sl.blend";
const VERSION: u32 = 1;
/// The part of the trailer that its checksum covers.
const TRAILER_COVERED: usize = 12;

/// Bytes that are not a block. Positions are bytes from the block's beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Written by a version that this one does not know.
    #[error("unknown version {found} at byte {at}")]
    UnknownVersion {
        /// Where the version stands.
        at: u64,
        /// What stands there.
        found: u32,
    },
    /// Not what was written.
    #[error("{why} at byte {at}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
}

/// A run of a strand's bytes, as it stands in a block's footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// The strand.
    pub strand: u64,
    /// Where in the strand the piece starts.
    pub start: u64,
    /// Generation of the strand when the bytes were accepted.
    pub generation: u64,
    /// Bytes in the piece; at least one.
    pub len: u32,
}

/// A piece and where in the block's payload it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The piece.
    pub piece: Piece,
    /// Its first byte, counted from the beginning of the payload.
    pub at: u32,
}

impl Placed {
    /// The payload bytes of the piece, as [`crate::BlockStore::read`] takes them.
    pub fn range(&self) -> Range<u32> {
        self.at..self.at + self.piece.len
    }
}

/// What a block holds: its name, its pieces, and a checksum per chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    name: BlockName,
    payload_len: u32,
    pieces: Vec<Placed>,
    checksums: Box<[u32]>,
}

impl Footer {
    /// The block's name as the block itself knows it.
    pub fn name(&self) -> BlockName {
        self.name
    }

    /// Bytes of payload.
    pub fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// The pieces in order of their place.
    pub fn pieces(&self) -> &[Placed] {
        &self.pieces
    }

    /// Bytes of the whole block.
    pub fn block_bytes(&self) -> u64 {
        Layout { payload_len: self.payload_len as usize, pieces: self.pieces.len() }.size() as u64
    }

    /// Reads a footer. `header` is the block's first bytes, `tail` everything behind the payload.
    ///
    /// # Errors
    ///
    /// [`FormatError`] with the position of what is wrong.
    pub fn parse(header: &[u8; HEADER_BYTES], tail: &[u8]) -> Result<Self, FormatError> {
        let tail_at = tail
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or_else(|| damaged(HEADER_BYTES, "the footer is missing"))?;
        let (tables, trailer) = tail.split_at(tail_at);
        let layout = Layout::parse(trailer, None)?;
        if tables.len() != layout.tables_len() {
            return Err(damaged(layout.footer_at(), "the footer has the wrong size"));
        }
        let name = parse_header(header)?;
        let crc = crc32c_of(&[header, &tail[..tail_at + TRAILER_COVERED]]);
        if crc != u32_at(trailer, TRAILER_COVERED) {
            return Err(damaged(layout.footer_at(), "the footer's checksum does not match"));
        }
        let (pieces, checksums) = tables.split_at(layout.pieces * PIECE_BYTES);
        let payload_len = u32_at(trailer, 0);
        Ok(Self {
            name,
            payload_len,
            pieces: parse_pieces(pieces, payload_len, layout.footer_at())?,
            checksums: checksums.chunks_exact(CHECKSUM_BYTES).map(|crc| u32_at(crc, 0)).collect(),
        })
    }

    /// Looks at a block's first bytes only: are they those of a block, and of a version that is known?
    pub(crate) fn check_header(header: &[u8; HEADER_BYTES]) -> Result<(), FormatError> {
        parse_header(header).map(drop)
    }

    /// The checksums alone, for readers that need no pieces.
    pub(crate) fn into_chunks(self) -> Chunks {
        Chunks { payload_len: self.payload_len, checksums: self.checksums }
    }
}

/// Length and checksums of a payload: what a range read needs.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    payload_len: u32,
    checksums: Box<[u32]>,
}

impl Chunks {
    pub(crate) fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// About how much memory this takes in a map.
    pub(crate) fn memory_bytes(&self) -> u64 {
        128 + (self.checksums.len() * CHECKSUM_BYTES) as u64
    }

    /// `range` of the payload grown to whole chunks. The range must lie within the payload.
    pub(crate) fn widen(&self, range: &Range<u32>) -> Range<u32> {
        let start = range.start / CHUNK_BYTES * CHUNK_BYTES;
        let end = range.end.div_ceil(CHUNK_BYTES).saturating_mul(CHUNK_BYTES).min(self.payload_len);
        start..end
    }

    /// Checks `bytes`, the payload from `start` on, which are whole chunks as [`Chunks::widen`] gives them.
    pub(crate) fn verify(&self, start: u32, bytes: &[u8]) -> Result<(), FormatError> {
        let first = (start / CHUNK_BYTES) as usize;
        for (n, chunk) in bytes.chunks(CHUNK_BYTES as usize).enumerate() {
            if self.checksums.get(first + n) != Some(&crc32c(chunk)) {
                let at = HEADER_BYTES + (first + n) * CHUNK_BYTES as usize;
                return Err(damaged(at, "the checksum of a chunk does not match"));
            }
        }
        Ok(())
    }
}

/// Where the parts of a block lie; follows from its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    payload_len: usize,
    pieces: usize,
}

impl Layout {
    /// Reads the layout from a trailer and, if `size` is known, checks it against the block's size. What it
    /// returns is within the limits of a block.
    pub(crate) fn parse(trailer: &[u8], size: Option<u64>) -> Result<Self, FormatError> {
        let (payload_len, pieces) = (u32_at(trailer, 0), u32_at(trailer, 4));
        let layout = Self { payload_len: payload_len as usize, pieces: pieces as usize };
        // Before anything is believed, positions are told from the end that is known.
        let trailer_at = size.map_or(0, |size| size.saturating_sub(TRAILER_BYTES as u64));
        if trailer.len() != TRAILER_BYTES || trailer[16..] != *TRAILER_MAGIC {
            return Err(FormatError::Damaged {
                at: trailer_at + 16,
                why: "the closing magic is missing",
            });
        }
        let version = u32_at(trailer, 8);
        if version != VERSION {
            return Err(FormatError::UnknownVersion { at: trailer_at + 8, found: version });
        }
        if payload_len > BLOCK_BYTES_MAX || pieces > BLOCK_PIECES_MAX {
            return Err(FormatError::Damaged {
                at: trailer_at,
                why: "the block claims more than a block may hold",
            });
        }
        if size.is_some_and(|size| size != layout.size() as u64) {
            return Err(FormatError::Damaged {
                at: trailer_at,
                why: "the block's size is not what its trailer says",
            });
        }
        Ok(layout)
    }

    pub(crate) fn footer_at(self) -> usize {
        HEADER_BYTES + self.payload_len
    }

    fn tables_len(self) -> usize {
        self.pieces * PIECE_BYTES + self.payload_len.div_ceil(CHUNK_BYTES as usize) * CHECKSUM_BYTES
    }

    /// Bytes behind the payload.
    pub(crate) fn tail_len(self) -> usize {
        self.tables_len() + TRAILER_BYTES
    }

    fn size(self) -> usize {
        self.footer_at() + self.tail_len()
    }
}

/// A whole block in memory, its bytes and its footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    bytes: Bytes,
    footer: Footer,
}

impl Block {
    /// Reads and verifies a whole block, every checksum included.
    ///
    /// # Errors
    ///
    /// [`FormatError`] with the position of what is wrong.
    pub fn decode(bytes: Bytes) -> Result<Self, FormatError> {
        let header = bytes
            .first_chunk()
            .ok_or_else(|| damaged(0, "the block is shorter than its header"))?;
        let magic_ends = bytes.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES);
        let trailer_at = magic_ends
            .ok_or_else(|| damaged(HEADER_BYTES, "the block is shorter than its trailer"))?;
        parse_header(header)?;
        let layout = Layout::parse(&bytes[trailer_at..], Some(bytes.len() as u64))?;
        let footer = Footer::parse(header, &bytes[layout.footer_at()..])?;
        footer.clone().into_chunks().verify(0, &bytes[HEADER_BYTES..layout.footer_at()])?;
        Ok(Self { bytes, footer })
    }

    /// The block's name.
    pub fn name(&self) -> BlockName {
        self.footer.name
    }

    /// What it holds.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// All bytes, as they are stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload; shares the block's memory.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..HEADER_BYTES + self.footer.payload_len as usize)
    }
}

/// The piece does not fit: finish the block and begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of {len} bytes does not fit into the {room} bytes left in the block")]
pub struct BlockFull {
    /// Bytes in the piece.
    pub len: u32,
    /// Bytes that are left; 0 when the block holds as many pieces as it may.
    pub room: u32,
}

/// Gathers pieces into a block.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    pieces: Vec<Placed>,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockBuilder {
    /// A builder without pieces.
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], pieces: Vec::new() }
    }

    /// Bytes of payload so far.
    pub fn payload_len(&self) -> u32 {
        // Bounded by `add`.
        u32::try_from(self.bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX)
    }

    /// Whether there is no piece yet.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How long the next piece may be.
    pub fn room(&self) -> u32 {
        if self.pieces.len() < BLOCK_PIECES_MAX as usize {
            BLOCK_BYTES_MAX - self.payload_len()
        } else {
            0
        }
    }

    /// Copies a piece, gathered from `parts`, to the end of the payload and returns its place there.
    ///
    /// # Errors
    ///
    /// [`BlockFull`] when it is longer than [`BlockBuilder::room`]; the builder is as it was.
    ///
    /// # Panics
    ///
    /// If the piece is empty or `parts` are not `piece.len` bytes together: the caller has its numbers
    /// wrong.
    pub fn add(&mut self, piece: Piece, parts: &[&[u8]]) -> Result<u32, BlockFull> {
        assert!(piece.len > 0, "an empty piece of strand {}", piece.strand);
        let given: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(given, piece.len as usize, "bytes given for a piece of strand {}", piece.strand);
        if piece.len > self.room() {
            return Err(BlockFull { len: piece.len, room: self.room() });
        }
        let at = self.payload_len();
        self.bytes.reserve(given);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.pieces.push(Placed { piece, at });
        Ok(at)
    }

    /// Closes the block under `name`.
    pub fn finish(self, name: BlockName) -> Block {
        let payload_len = self.payload_len();
        let Self { mut bytes, pieces } = self;
        bytes[..HEADER_BYTES].copy_from_slice(&header(name));
        let footer_at = bytes.len();
        let checksums: Box<[u32]> =
            bytes[HEADER_BYTES..].chunks(CHUNK_BYTES as usize).map(crc32c).collect();
        bytes.reserve_exact(
            Layout { payload_len: payload_len as usize, pieces: pieces.len() }.tail_len(),
        );
        for Placed { piece, at } in &pieces {
            bytes.extend_from_slice(&piece.strand.to_le_bytes());
            bytes.extend_from_slice(&piece.start.to_le_bytes());
            bytes.extend_from_slice(&piece.generation.to_le_bytes());
            bytes.extend_from_slice(&piece.len.to_le_bytes());
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        for crc in &checksums {
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes.extend_from_slice(&payload_len.to_le_bytes());
        // Bounded by `add`.
        bytes.extend_from_slice(&u32::try_from(pieces.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let crc = crc32c_of(&[&bytes[..HEADER_BYTES], &bytes[footer_at..]]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(TRAILER_MAGIC);
        Block { bytes: bytes.into(), footer: Footer { name, payload_len, pieces, checksums } }
    }
}

/// The bytes before the payload of the block `name`.
pub(crate) fn header(name: BlockName) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..].copy_from_slice(&name.to_bytes());
    header
}

fn parse_header(header: &[u8; HEADER_BYTES]) -> Result<BlockName, FormatError> {
    let Some((magic, rest)) = header.split_first_chunk::<8>() else {
        return Err(damaged(0, "no header"));
    };
    if magic != HEADER_MAGIC {
        return Err(damaged(0, "the opening magic is missing"));
    }
    let version = u32_at(rest, 0);
    if version != VERSION {
        return Err(FormatError::UnknownVersion { at: 8, found: version });
    }
    let name = rest[4..].first_chunk().ok_or_else(|| damaged(12, "no name"))?;
    Ok(BlockName::from_bytes(name))
}

fn parse_pieces(
    table: &[u8],
    payload_len: u32,
    table_at: usize,
) -> Result<Vec<Placed>, FormatError> {
    let mut next = 0u32;
    let mut pieces = Vec::with_capacity(table.len() / PIECE_BYTES);
    for (n, row) in table.chunks_exact(PIECE_BYTES).enumerate() {
        let piece = Piece {
            strand: u64_at(row, 0),
            start: u64_at(row, 8),
            generation: u64_at(row, 16),
            len: u32_at(row, 24),
        };
        let at = u32_at(row, 28);
        let end = at.checked_add(piece.len).filter(|end| *end <= payload_len);
        let (Some(end), true, Some(_)) =
            (end, piece.len > 0 && at == next, piece.start.checked_add(piece.len.into()))
        else {
            return Err(damaged(table_at + n * PIECE_BYTES, "a piece does not lie where it must"));
        };
        next = end;
        pieces.push(Placed { piece, at });
    }
    if next != payload_len {
        return Err(damaged(table_at, "the pieces do not fill the payload"));
    }
    Ok(pieces)
}

fn damaged(at: usize, why: &'static str) -> FormatError {
    FormatError::Damaged { at: at as u64, why }
}

/// The integer at `at`; 0 if `bytes` end before, which every caller has ruled out by size.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// As [`u32_at`].
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    //! Goal: a block gives back what went in; any other bytes are refused with a position, without a panic.
    //! Method: build blocks, compare; flip each bit, cut at each byte, replace versions.

    use proptest::prelude::*;

    use super::*;
    use crate::conformance::sample;

    const NAME: BlockName = BlockName { domain: 1, epoch: 2, counter: 3 };

    fn decode(bytes: &[u8]) -> Result<Block, FormatError> {
        Block::decode(Bytes::copy_from_slice(bytes))
    }

    #[track_caller]
    fn check_change(change: impl FnOnce(&mut Vec<u8>), want: FormatError) {
        let mut bytes = sample(1, &[3, 4]).bytes().to_vec();
        change(&mut bytes);
        assert_eq!(decode(&bytes), Err(want));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut builder = BlockBuilder::new();
        let piece = Piece { strand: 0x0102, start: 0x0304, generation: 0x0506, len: 2 };
        assert_eq!(builder.add(piece, &[b"h", b"", b"i"]), Ok(0));
        let block = builder.finish(NAME);
        let mut want = b"sl.block\x01\0\0\0".to_vec();
        want.extend_from_slice(b"\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03hi");
        want.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\x06\x05\0\0\0\0\0\0");
        want.extend_from_slice(b"\x02\0\0\0\0\0\0\0");
        want.extend_from_slice(&crc32c::crc32c(b"hi").to_le_bytes());
        want.extend_from_slice(b"\x02\0\0\0\x01\0\0\0\x01\0\0\0");
        let covered = [&want[..32], &want[34..]].concat();
        want.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
        want.extend_from_slice(b"sl.blend");
        assert_eq!(block.bytes().as_ref(), want);
        assert_eq!(block.footer().block_bytes(), want.len() as u64);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let block = sample(1, &[5, 1, 90]);
        for bit in 0..block.bytes().len() * 8 {
            let mut bytes = block.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let block = sample(1, &[5, 1, 90]);
        for len in 0..block.bytes().len() {
            assert!(decode(&block.bytes()[..len]).is_err(), "cut to {len}");
        }
        assert!(decode(&[block.bytes(), &b"x"[..]].concat()).is_err());
    }

    #[test]
    fn an_unknown_version_is_named_with_its_place() {
        check_change(|bytes| bytes[8] = 2, FormatError::UnknownVersion { at: 8, found: 2 });
        let trailer_at = 32 + 7 + 64 + 4;
        check_change(
            |bytes| bytes[trailer_at + 8] = 9,
            FormatError::UnknownVersion { at: trailer_at as u64 + 8, found: 9 },
        );
    }

    #[test]
    fn a_damaged_chunk_is_named_with_its_place() {
        check_change(
            |bytes| bytes[33] ^= 1,
            FormatError::Damaged { at: 32, why: "the checksum of a chunk does not match" },
        );
    }

    #[test]
    fn a_footer_that_lies_with_a_right_checksum_is_refused() {
        for (at, value) in [(24, 8u32), (24, 0), (24, u32::MAX), (28, 1), (60, 2), (56, 5)] {
            let mut bytes = sample(1, &[3, 4]).bytes().to_vec();
            let (table_at, crc_at) = (32 + 7, bytes.len() - 12);
            bytes[table_at + at..table_at + at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c(&[&bytes[..32], &bytes[table_at..crc_at]].concat());
            bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
            let refused = decode(&bytes);
            assert!(
                matches!(refused, Err(FormatError::Damaged { .. })),
                "{value} at {at}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_full_block_takes_no_more() {
        let mut builder = BlockBuilder::new();
        let bytes = vec![7; BLOCK_BYTES_MAX as usize];
        let piece = |len| Piece { strand: 1, start: 0, generation: 1, len };
        assert_eq!(builder.add(piece(BLOCK_BYTES_MAX - 1), &[&bytes[1..]]), Ok(0));
        assert_eq!(builder.add(piece(2), &[b"no"]), Err(BlockFull { len: 2, room: 1 }));
        assert_eq!(builder.add(piece(1), &[b"y"]), Ok(BLOCK_BYTES_MAX - 1));
        assert_eq!(builder.room(), 0);
        let block = builder.finish(NAME);
        assert_eq!(Block::decode(block.bytes().clone()), Ok(block));
    }

    #[test]
    fn a_full_piece_table_takes_no_more() {
        let mut builder = BlockBuilder::new();
        for start in 0..u64::from(BLOCK_PIECES_MAX) {
            builder.add(Piece { strand: 1, start, generation: 1, len: 1 }, &[b"x"]).unwrap();
        }
        let one_more = builder.add(Piece { strand: 1, start: 0, generation: 1, len: 1 }, &[b"x"]);
        assert_eq!(one_more, Err(BlockFull { len: 1, room: 0 }));
        let block = builder.finish(NAME);
        assert_eq!(Block::decode(block.bytes().clone()), Ok(block));
    }

    proptest! {
        #[test]
        fn a_block_gives_back_its_pieces(
            pieces in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u64>(), 1u32..100_000), 0..12),
        ) {
            let mut builder = BlockBuilder::new();
            let mut want = Vec::new();
            for (strand, start, generation, len) in pieces {
                let piece = Piece { strand, start: start.into(), generation, len };
                let bytes: Vec<u8> = (0..len).map(|i| (i ^ start).to_le_bytes()[0]).collect();
                let at = builder.add(piece, &[&bytes]).unwrap();
                want.push((Placed { piece, at }, bytes));
            }
            let block = Block::decode(builder.finish(NAME).bytes().clone()).unwrap();
            prop_assert_eq!(block.name(), NAME);
            prop_assert_eq!(block.footer().pieces().len(), want.len());
            for (found, (placed, bytes)) in block.footer().pieces().iter().zip(want) {
                prop_assert_eq!(*found, placed);
                let range = placed.range();
                prop_assert_eq!(block.payload().slice(range.start as usize..range.end as usize), bytes);
            }
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), dress: bool) {
            if dress && bytes.len() > 60 {
                let trailer_at = bytes.len() - TRAILER_BYTES;
                bytes[..12].copy_from_slice(b"sl.block\x01\0\0\0");
                bytes[trailer_at + 8..trailer_at + 12].copy_from_slice(&VERSION.to_le_bytes());
                bytes[trailer_at + 16..].copy_from_slice(TRAILER_MAGIC);
            }
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
