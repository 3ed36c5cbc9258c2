//! Topics and partitions over strands: produce, fetch, offsets, and the record batches they carry.
//!
//! A partition is an ordered list of segment strands that hold record batches byte for byte as the
//! producer sent them; only the base offset and the leader epoch are stamped, which lie outside the
//! batch's checksum. What a partition needs beside its bytes is kept in few rows (`rows.rs`).
//!
//! Invariants: a partition's offsets are dense, its next offset follows the last stored batch also
//! after a restart, and the high watermark of a [`Durability::Synced`] topic never passes what is durable.
//!
//! Not here: the Kafka protocol, its versions and error codes (`kafka`); how bytes become durable and
//! where they settle (`strands`).

mod accept;
pub mod batch;
mod broker;
mod error;
mod fetch;
mod lookup;
mod partition;
mod rows;
mod state;
mod topics;
mod types;
mod walk;

#[cfg(test)]
mod tests;

pub use broker::{Broker, Pending};
pub use error::{
    AppendFault, CreateTopicError, DeleteTopicError, EpochError, FetchError, OffsetError,
    OpenError, ProduceError, TopicNameError,
};
pub use topics::Topic;
pub use types::{
    At, BrokerStatus, Durability, Fetched, Options, PartitionStatus, RecordOffset, TopicConfig,
    TopicId, TopicName, TopicStatus,
};
