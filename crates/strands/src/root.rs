//! Roots: from which place on a node is restored, and how that lies in the store.
//!
//! ```text
//! root   = magic "sl.root." | version u32 | crc32c u32 | body
//! body   = store [u8; 16] | epoch u64 | seq u64 | position u64 | time i64 | complete u8
//!        | checkpoint position u64 | checkpoint stream | ledger stream
//! stream = start u64 | ranges u32 | per range: block [u8; 20], at u32, len u32
//! ```
//!
//! Integers are little-endian but for the block's name; the checksum covers the body. `docs/formats/ledger.md`
//! says what the fields mean.
//!
//! A root is written twice: as a row ([`ROOT_KEY`]) in the commit that names the blocks of a round's ledger, so
//! that a lost meta store can be rebuilt from the journal and the blocks; and, when it is of a whole round, as an object
//! of the store, after all blocks that it needs.

use block_store::{BLOCK_BYTES_MAX, BlockName};

use crate::frames::Fields;
use crate::types::{Position, StoreId};

/// A run of bytes within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRange {
    pub(crate) block: BlockName,
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// A part of a strand, and where it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Where in its strand it begins.
    pub(crate) start: u64,
    pub(crate) ranges: Vec<BlockRange>,
}

/// What a node is restored from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Whose store it is.
    pub(crate) store: StoreId,
    /// The opening that made it.
    pub(crate) epoch: u64,
    /// Counts roots.
    pub(crate) seq: u64,
    /// The ledger tells of all commits before this one.
    pub(crate) position: Position,
    /// When the last of them was made: milliseconds since 1970.
    pub(crate) time_ms: i64,
    /// Whether the ledger ends with a whole round, so that all bytes of strands are in blocks.
    pub(crate) complete: bool,
    /// Of which position the checkpoint is.
    pub(crate) checkpoint_at: Position,
    pub(crate) checkpoint: Stream,
    /// Since the checkpoint, which some of it may lie before.
    pub(crate) ledger: Stream,
}

/// Why bytes are not a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Made by a version that this one does not know.
    #[error("it has unknown version {0}")]
    UnknownVersion(u32),
    /// Not what was written.
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
}

impl Stream {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.len)).sum()
    }

    /// One past its last byte in the strand.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        // A root of so many ranges is far beyond what a store takes as an object.
        let count = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for range in &self.ranges {
            out.extend_from_slice(&range.block.to_bytes());
            out.extend_from_slice(&range.at.to_le_bytes());
            out.extend_from_slice(&range.len.to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let start = fields.u64()?;
        let count = fields.u32()?;
        // As many as there is room for: a wrong count reserves nothing.
        let mut ranges = Vec::with_capacity((count as usize).min(fields.rest.len() / RANGE_BYTES));
        let mut end = start;
        for _ in 0..count {
            let range =
                BlockRange { block: fields.block()?, at: fields.u32()?, len: fields.u32()? };
            let fits = range.at.checked_add(range.len).is_some_and(|end| end <= BLOCK_BYTES_MAX);
            if !fits || range.len == 0 {
                return None;
            }
            end = end.checked_add(range.len.into())?;
            ranges.push(range);
        }
        Some(Self { start, ranges })
    }
}

impl Root {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.store.0);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.position.get().to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.push(self.complete.into());
        out.extend_from_slice(&self.checkpoint_at.get().to_le_bytes());
        self.checkpoint.encode(&mut out);
        self.ledger.encode(&mut out);
        let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
        out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        let damaged = |at, why| RootError::Damaged { at, why };
        let mut fields = Fields { rest: bytes };
        if fields.array() != Some(*MAGIC) {
            return Err(damaged(0, "the magic is missing"));
        }
        match fields.u32() {
            Some(VERSION) => {}
            Some(other) => return Err(RootError::UnknownVersion(other)),
            None => return Err(damaged(8, "it ends before its version")),
        }
        let crc = fields.u32().ok_or_else(|| damaged(12, "it ends before its checksum"))?;
        if crc32c::crc32c(fields.rest) != crc {
            return Err(damaged(12, "it does not match its checksum"));
        }
        Self::decode_body(&mut fields)
            .filter(|_| fields.rest.is_empty())
            .ok_or_else(|| damaged(HEAD_BYTES, "its lengths do not add up"))
    }

    fn decode_body(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            store: StoreId(fields.array()?),
            epoch: fields.u64()?,
            seq: fields.u64()?,
            position: fields.position()?,
            time_ms: fields.i64()?,
            complete: match fields.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            checkpoint_at: fields.position()?,
            checkpoint: Stream::decode(fields)?,
            ledger: Stream::decode(fields)?,
        })
    }

    /// The blocks that it names.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockName> {
        self.checkpoint.ranges.iter().chain(&self.ledger.ranges).map(|range| range.block)
    }

    /// What the store calls it. Sorts as roots follow each other.
    pub(crate) fn object_name(&self) -> String {
        format!("{ROOTS_PREFIX}{:016x}-{:016x}", self.epoch, self.seq)
    }
}

/// Roots one after the other, each with its length before it.
pub(crate) fn encode_roots(roots: &[Root]) -> Vec<u8> {
    let mut out = Vec::new();
    for root in roots.iter().map(Root::encode) {
        // Far longer than a row may be otherwise.
        out.extend_from_slice(&u32::try_from(root.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&root);
    }
    out
}

/// What [`encode_roots`] made.
pub(crate) fn decode_roots(bytes: &[u8]) -> Result<Vec<Root>, RootError> {
    let mut fields = Fields { rest: bytes };
    let mut roots = Vec::new();
    while !fields.rest.is_empty() {
        let root = fields.u32().and_then(|len| fields.take(len as usize));
        let why = "it ends early";
        roots.push(Root::decode(root.ok_or(RootError::Damaged { at: bytes.len(), why })?)?);
    }
    Ok(roots)
}

/// The row of the newest root.
pub(crate) const ROOT_KEY: &[u8] = b"root";
/// Names of root objects begin with this.
pub(crate) const ROOTS_PREFIX: &str = "roots/";

const MAGIC: &[u8; 8] = b"sl.root.";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
const RANGE_BYTES: usize = BlockName::BYTES + 8;

#[cfg(test)]
mod tests {
    //! Goal: a root comes back from its bytes, a changed bit is noticed, and no bytes make the decoder panic.

    use proptest::prelude::*;

    use super::*;

    fn any_stream() -> impl Strategy<Value = Stream> {
        let block = any::<(u32, u64, u64)>();
        let range =
            (block, 0..1000u32, 1..1000u32).prop_map(|((domain, epoch, counter), at, len)| {
                BlockRange { block: BlockName { domain, epoch, counter }, at, len }
            });
        (0..u64::MAX / 2, prop::collection::vec(range, 0..20))
            .prop_map(|(start, ranges)| Stream { start, ranges })
    }

    fn any_root() -> impl Strategy<Value = Root> {
        let numbers = (any::<[u8; 16]>(), any::<[u64; 4]>(), any::<i64>(), any::<bool>());
        (numbers, any_stream(), any_stream()).prop_map(
            |((store, numbers, time_ms, complete), checkpoint, ledger)| {
                let [epoch, seq, position, checkpoint_at] = numbers;
                Root {
                    store: StoreId(store),
                    epoch,
                    seq,
                    position: Position::new(position),
                    time_ms,
                    complete,
                    checkpoint_at: Position::new(checkpoint_at),
                    checkpoint,
                    ledger,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_root_comes_back_and_a_changed_bit_is_noticed(root in any_root(), bit in any::<usize>()) {
            let mut bytes = root.encode();
            prop_assert_eq!(Root::decode(&bytes), Ok(root));
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Root::decode(&bytes).is_err());
            bytes.truncate(bit / 8);
            prop_assert!(Root::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let crc = crc32c::crc32c(&body);
            let bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &crc.to_le_bytes(), &body].concat();
            let _ = Root::decode(&bytes);
        }
    }
}
