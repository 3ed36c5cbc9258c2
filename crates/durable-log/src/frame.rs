//! Frames: how one append lies in a segment.
//!
//! ```text
//!  0  u32  magic "frm1"
//!  4  u32  CRC-32C of salt (u64), location of this frame (u64), bytes 8..40 of this header
//!  8  u32  bytes of the payload
//! 12  u32  CRC-32C of the payload
//! 16  u32  number of records
//! 20  u32  how many records before the first one were not known durable (`first - synced_through`)
//! 24  u64  offset of the first record
//! 32  i64  time of the append, milliseconds since 1970
//! 40       payload: per record a u32 length and its bytes
//!          zeros up to a multiple of 8
//! ```
//!
//! All integers are little-endian. A frame begins at a multiple of 8. The header's checksum covers
//! the lengths and the payload's checksum, so a header that checks says truly what follows it; the
//! salt and the location in it keep bytes of another file or place from looking valid. A frame
//! without records is a mark: it only says what is durable. Zeros are never a frame.
//!
//! Not here: where frames begin and end in a file (`crate::walk`, `crate::tail`).

use crate::crc;
use crate::mutation::{Step, left_out};
use crate::position::{Location, Offset};

/// A multiple of [`ALIGN`].
pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const ALIGN: u64 = 8;
/// Bytes before each record: its length.
pub(crate) const RECORD_PREFIX_BYTES: u64 = 4;
/// No version of this format writes longer payloads.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 1 << 30;
pub(crate) const MAGIC: [u8; 4] = *b"frm1";

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    pub(crate) records: u32,
    pub(crate) unsynced_before: u32,
    pub(crate) first: Offset,
    pub(crate) timestamp_ms: i64,
}

impl Header {
    /// Highest offset that was known to be durable when the frame was built.
    pub(crate) fn synced_through(&self) -> Offset {
        Offset::new(self.first.get().saturating_sub(u64::from(self.unsynced_before)))
    }

    pub(crate) fn next(&self) -> Offset {
        Offset::new(self.first.get().saturating_add(u64::from(self.records)))
    }

    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes)
    }

    pub(crate) fn encode(&self, salt: u64, at: Location) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        self.encode_to(&mut bytes, salt, at);
        bytes
    }

    /// Writes it to `to`, all of whose bytes it sets.
    #[inline]
    pub(crate) fn encode_to(&self, to: &mut [u8; HEADER_BYTES], salt: u64, at: Location) {
        // Whole words from the beginning: a processor waits when it reads back, as one word, what was
        // just written as two.
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let covered = [
            pair(self.payload_bytes, self.payload_crc),
            pair(self.records, self.unsynced_before),
            self.first.get(),
            self.timestamp_ms.cast_unsigned(),
        ];
        let crc = crc::of_words(&[salt, at.get(), covered[0], covered[1], covered[2], covered[3]]);
        let begin = pair(u32::from_le_bytes(MAGIC), crc);
        let (words, _) = to.as_chunks_mut::<8>();
        for (word, value) in words.iter_mut().zip([begin].iter().chain(&covered)) {
            *word = value.to_le_bytes();
        }
    }

    /// The header, or `None` when these bytes are not a header that was written at `at` under `salt`.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], salt: u64, at: Location) -> Option<Self> {
        if bytes[0..4] != MAGIC
            || (u32_at(bytes, 4) != header_crc(bytes, salt, at)
                && !left_out(Step::CheckFrameHeader))
        {
            return None;
        }
        Some(Self::peek(bytes))
    }

    /// What the bytes say, believed as they are: for bytes that were checked before.
    #[inline]
    pub(crate) fn peek(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            payload_bytes: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 12),
            records: u32_at(bytes, 16),
            unsynced_before: u32_at(bytes, 20),
            first: Offset::new(u64_at(bytes, 24)),
            timestamp_ms: u64_at(bytes, 32).cast_signed(),
        }
    }
}

/// Whether whole frames of so many bytes together can have so many records.
pub(crate) fn can_hold(bytes: u64, records: u64) -> bool {
    let payload = bytes.checked_sub(HEADER_BYTES as u64);
    let most = payload.map(|payload| payload / RECORD_PREFIX_BYTES);
    bytes.is_multiple_of(ALIGN) && if bytes == 0 { records == 0 } else { most >= Some(records) }
}

/// Bytes of a frame with such a payload, padding included.
pub(crate) fn frame_bytes(payload_bytes: u32) -> u64 {
    (HEADER_BYTES as u64 + u64::from(payload_bytes)).next_multiple_of(ALIGN)
}

/// Where the first record's bytes lie in a frame at `at`.
pub(crate) fn first_record(at: Location) -> Location {
    at.plus(HEADER_BYTES as u64 + RECORD_PREFIX_BYTES)
}

/// Zeros after such a payload.
pub(crate) fn padding(payload_bytes: u32) -> usize {
    payload_bytes.wrapping_neg() as usize % 8
}

/// Whether the lengths in a payload add up to that many records and to its own length.
pub(crate) fn records_add_up(payload: &[u8], records: u32) -> bool {
    let mut rest = payload;
    for _ in 0..records {
        match split_record(rest) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The first record of `payload` and what follows it.
pub(crate) fn split_record(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = payload.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// Where in `payload` the record after `n` others begins, and its length.
#[inline]
pub(crate) fn nth_record(payload: &[u8], n: u64) -> Option<(u32, u32)> {
    let mut rest = payload;
    for _ in 0..n {
        rest = split_record(rest)?.1;
    }
    let (record, after) = split_record(rest)?;
    let start = payload.len() - after.len() - record.len();
    Some((u32::try_from(start).ok()?, u32::try_from(record.len()).ok()?))
}

fn header_crc(bytes: &[u8; HEADER_BYTES], salt: u64, at: Location) -> u32 {
    let word = |at| u64_at(bytes, at);
    crc::of_words(&[salt, at.get(), word(8), word(16), word(24), word(32)])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    //! Goal: a header reads back as written, and only where and under the salt it was written.

    use proptest::prelude::*;

    use super::*;

    fn sample() -> Header {
        Header {
            payload_bytes: 9,
            payload_crc: 7,
            records: 1,
            unsynced_before: 3,
            first: Offset::new(11),
            timestamp_ms: -5,
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let at = Location::new(64);
        let good = sample().encode(1, at);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes, 1, at), None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_not_a_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES], 0, Location::new(0)), None);
    }

    proptest! {
        #[test]
        fn a_header_reads_back_only_where_it_was_written(
            payload_bytes: u32, payload_crc: u32, records: u32, unsynced_before: u32, first: u64,
            timestamp_ms: i64, salt: u64, at: u64, other: u64,
        ) {
            let header = Header {
                payload_bytes, payload_crc, records, unsynced_before, first: Offset::new(first), timestamp_ms,
            };
            let bytes = header.encode(salt, Location::new(at));
            prop_assert_eq!(Header::decode(&bytes, salt, Location::new(at)), Some(header));
            if other != at {
                prop_assert_eq!(Header::decode(&bytes, salt, Location::new(other)), None);
            }
            if other != salt {
                prop_assert_eq!(Header::decode(&bytes, other, Location::new(at)), None);
            }
        }
    }
}
