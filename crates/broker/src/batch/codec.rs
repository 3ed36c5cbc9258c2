//! The five ways in which the records of a batch may be compressed.
//!
//! Snappy comes in two forms: bare, and in the frame of Java's snappy-java ("xerial"): an 8-byte magic, two
//! big-endian i32 versions, then blocks of an i32 length and that many bytes. Both are read; bare is written.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::batch::BatchError;

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy's densest element is 3 bytes for 64, so a larger claim is a lie.
const SNAPPY_RATIO_MAX: usize = 22;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, bare or in the frame of snappy-java.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec that the lowest three bits of the attributes name.
    pub const fn from_code(code: u8) -> Result<Self, BatchError> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::Codec(other)),
        }
    }

    /// The lowest three bits of the attributes.
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Gives back the records as they were before compression, in at most `limit` bytes.
pub(super) fn decompress(
    compression: Compression,
    input: Bytes,
    limit: usize,
) -> Result<Bytes, BatchError> {
    let output = match compression {
        Compression::None => return Ok(input),
        Compression::Gzip => read(flate2::bufread::MultiGzDecoder::new(&*input), limit)?,
        Compression::Snappy => unsnappy(&input, limit)?,
        Compression::Lz4 => read(lz4_flex::frame::FrameDecoder::new(&*input), limit)?,
        Compression::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&*input).map_err(broken)?;
            read(decoder, limit)?
        }
    };
    Ok(output.into())
}

/// Compresses a run of records.
pub(super) fn compress(compression: Compression, input: Vec<u8>) -> Result<Vec<u8>, BatchError> {
    match compression {
        Compression::None => Ok(input),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&input).map_err(broken)?;
            encoder.finish().map_err(broken)
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(&input).map_err(broken),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&input).map_err(broken)?;
            encoder.finish().map_err(broken)
        }
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            Ok(ruzstd::encoding::compress_to_vec(&*input, level))
        }
    }
}

/// Reads to the end or to one byte over `limit`, so that memory follows what really comes out.
fn read(decoder: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    let take = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(take).read_to_end(&mut output).map_err(broken::<io::Error>)?;
    if output.len() > limit { Err(BatchError::OverLimit { limit }) } else { Ok(output) }
}

fn unsnappy(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        unsnappy_block(input, &mut output, limit)?;
        return Ok(output);
    }
    let mut blocks = input.get(XERIAL_HEADER_BYTES..).unwrap_or_default();
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(broken)?;
        let Some((block, after)) = rest.split_at_checked(length) else {
            return Err(broken("a block ends early"));
        };
        unsnappy_block(block, &mut output, limit)?;
        blocks = after;
    }
    if blocks.is_empty() { Ok(output) } else { Err(broken("a block's length ends early")) }
}

fn unsnappy_block(block: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(broken)?;
    if claimed / SNAPPY_RATIO_MAX > block.len() {
        return Err(broken("it claims more than its bytes can hold"));
    }
    if output.len().saturating_add(claimed) > limit {
        return Err(BatchError::OverLimit { limit });
    }
    let from = output.len();
    output.resize(from + claimed, 0);
    snap::raw::Decoder::new().decompress(block, &mut output[from..]).map_err(broken)?;
    Ok(())
}

fn broken<E: ToString>(error: E) -> BatchError {
    BatchError::Compressed(error.to_string())
}
