//! Numbers, names and answers that cross the crate's border.

use std::fmt;
use std::ops::Sub;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::TopicNameError;

/// Place of a record in one partition: the first record ever has offset 0.
///
/// Offsets are dense and never reused. They count records, not bytes, and are never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordOffset(i64);

impl RecordOffset {
    /// The place of the first record ever.
    pub const ZERO: Self = Self(0);

    /// An offset from the wire; `None` if it is negative.
    pub const fn new(offset: i64) -> Option<Self> {
        if offset < 0 { None } else { Some(Self(offset)) }
    }

    /// The number, never negative.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl Sub for RecordOffset {
    type Output = u64;

    /// Records from `earlier` to here; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> u64 {
        u64::try_from(self.0 - earlier.0).unwrap_or(0)
    }
}

impl fmt::Display for RecordOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a topic: random, never zero, never given to another topic, also not to one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// The id that these bytes stand for, as they are on the wire and in rows.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id, as they are on the wire and in rows.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Base64 with the alphabet for URLs and without padding, as Kafka's own tools print ids.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for place in 0..22_u32 {
            // 22 digits of 6 bits are 132: the last digit holds 2 bits and four zeros.
            let digit = if place < 21 { bits >> (122 - 6 * place) } else { bits << 4 } & 63;
            let digit = usize::try_from(digit).unwrap_or(0);
            write!(f, "{}", char::from(ALPHABET[digit]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// Name of a topic: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 249;

    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match name {
            "" => Err(TopicNameError::Empty),
            "." | ".." => Err(TopicNameError::Reserved),
            _ if name.len() > Self::BYTES_MAX => Err(TopicNameError::TooLong),
            _ if !name.bytes().all(legal) => Err(TopicNameError::BadCharacter),
            _ => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// What must have happened to a batch before it is acknowledged and visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It is on stable storage: it survives a power cut.
    #[default]
    Synced,
    /// The operating system has it: it survives the process, and is synced soon after.
    Written,
}

/// What can be chosen per topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicConfig {
    /// When a batch is acknowledged.
    pub durability: Durability,
}

/// What can be chosen per broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether [`crate::Broker::ensure_topic`] creates what is missing.
    pub auto_create: bool,
    /// Partitions of a topic that is created without a number.
    pub partitions_default: u32,
    /// Largest batch that is accepted, header included.
    pub batch_bytes_max: u32,
    /// A partition begins a new strand rather than let one grow beyond this.
    pub segment_bytes: u64,
    /// A batch gets an index row when this many bytes lie between it and the last one that has one. A
    /// lookup, and the load of a partition, walk over at most about this much.
    pub index_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auto_create: true,
            partitions_default: 1,
            batch_bytes_max: (1 << 20) + 12,
            segment_bytes: 1 << 30,
            index_bytes: 256 << 10,
        }
    }
}

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// One past the last record that may be seen.
    pub high_watermark: RecordOffset,
    /// First record that is still there.
    pub log_start: RecordOffset,
    /// Whole batches; the first may begin before the offset that was asked for. Empty at the high watermark.
    pub bytes: Bytes,
}

/// What [`crate::Broker::offset_at`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The first record that is still there; the answer has no timestamp (-1).
    Earliest,
    /// The high watermark; the answer has no timestamp (-1).
    Latest,
    /// The first of the records with the largest timestamp.
    MaxTimestamp,
    /// The first record with at least this timestamp, in milliseconds since 1970.
    Timestamp(i64),
}

/// Everything about all topics, for `strandline status` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// All topics by name.
    pub topics: Vec<TopicStatus>,
}

/// Everything about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// What was chosen for it.
    pub config: TopicConfig,
    /// Its partitions by number; the error says why a partition cannot be used.
    pub partitions: Vec<Result<PartitionStatus, String>>,
}

/// Everything about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// First record that is still there.
    pub log_start: RecordOffset,
    /// One past the last record that may be seen.
    pub high_watermark: RecordOffset,
    /// One past the last record that was accepted.
    pub end: RecordOffset,
    /// Bytes of all its batches.
    pub bytes: u64,
}
