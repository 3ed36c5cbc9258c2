//! The broker: topics by name and id, and the doors' way to their partitions.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{
    CreateTopicError, DeleteTopicError, EpochError, FetchError, OffsetError, OpenError,
    ProduceError,
};
use crate::types::{
    At, BrokerStatus, Fetched, Options, RecordOffset, TopicConfig, TopicId, TopicName,
};

/// All topics of one data directory; one handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Options>);

/// One topic; a handle, cheap to clone. Calls with the handle of a deleted topic say so.
#[derive(Clone, Debug)]
pub struct Topic(Arc<(TopicName, TopicId, u32, TopicConfig)>);

impl Topic {
    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.0.0
    }

    /// Its identity.
    pub fn id(&self) -> TopicId {
        self.0.1
    }

    /// How many partitions it has; they are numbered from 0.
    pub fn partitions(&self) -> u32 {
        self.0.2
    }

    /// What was chosen for it.
    pub fn config(&self) -> TopicConfig {
        self.0.3
    }
}

/// A batch that has its place and is not acknowledged yet. Dropping it gives up only the acknowledgement.
#[derive(Debug)]
#[must_use = "a batch is acknowledged only when `acked` says so"]
pub struct Pending {
    /// Offset of the batch's first record.
    pub base_offset: RecordOffset,
    /// The time that the broker stamped, in milliseconds since 1970; `None`: the producer's times stand.
    pub log_append_time: Option<i64>,
    /// First record that is still in the partition.
    pub log_start: RecordOffset,
}

impl Pending {
    /// Waits until the batch is as safe as its topic promises: durable, or written.
    ///
    /// # Errors
    ///
    /// [`ProduceError::Failed`]: whether the batch survives is unknown.
    pub async fn acked(self) -> Result<(), ProduceError> {
        unimplemented!()
    }
}

impl Broker {
    /// Most partitions of one topic.
    pub const PARTITIONS_MAX: u32 = 10_000;

    /// Loads the topics, and finishes deletions that a crash interrupted. Partitions load at first use.
    pub fn open(strands: (), options: Options) -> Result<Self, OpenError> {
        let () = strands;
        Ok(Self(Arc::new(options)))
    }

    /// All topics, in order of their names.
    pub fn topics(&self) -> Vec<Topic> {
        unimplemented!()
    }

    /// The topic of that name.
    pub fn topic(&self, _name: &TopicName) -> Option<Topic> {
        unimplemented!()
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, _id: TopicId) -> Option<Topic> {
        unimplemented!()
    }

    /// Creates a topic; it is durable when this returns.
    pub async fn create_topic(
        &self,
        _name: TopicName,
        _partitions: u32,
        _config: TopicConfig,
    ) -> Result<Topic, CreateTopicError> {
        unimplemented!()
    }

    /// The topic of that name, created with the default partitions and config if it is missing and
    /// [`Options::auto_create`] allows; it is durable when this returns. Concurrent calls create one topic.
    pub async fn ensure_topic(&self, _name: &TopicName) -> Result<Topic, CreateTopicError> {
        unimplemented!()
    }

    /// Deletes a topic and its records; that is durable when this returns.
    pub async fn delete_topic(&self, _name: &TopicName) -> Result<(), DeleteTopicError> {
        unimplemented!()
    }

    /// Waits until storage takes `bytes` more. Call it before each [`Self::append`], holding no lock.
    pub async fn admit(&self, _bytes: usize) -> Result<(), ProduceError> {
        unimplemented!()
    }

    /// Checks `batch`, gives it the next offsets and stores it. `batch` is exactly one record batch.
    ///
    /// It is in the partition when this returns, and visible when its topic's durability is reached
    /// ([`Pending::acked`]). The only work is in memory and one write of the journal.
    pub fn append(
        &self,
        _topic: &Topic,
        _partition: u32,
        _batch: Bytes,
    ) -> Result<Pending, ProduceError> {
        unimplemented!()
    }

    /// Whole batches from the one that holds `offset`, up to `bytes_max`; the first is given even if it is
    /// larger. Nothing at or above the high watermark is given.
    pub async fn fetch(
        &self,
        _topic: &Topic,
        _partition: u32,
        _offset: RecordOffset,
        _bytes_max: u32,
    ) -> Result<Fetched, FetchError> {
        unimplemented!()
    }

    /// Waits until the high watermark is above `offset`. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// The topic was deleted, or storage failed: there is nothing to wait for any more.
    pub async fn wait_data(
        &self,
        _topic: &Topic,
        _partition: u32,
        _offset: RecordOffset,
    ) -> Result<(), FetchError> {
        unimplemented!()
    }

    /// The offset and timestamp of the record that `at` describes; `None` if there is none below the
    /// high watermark.
    pub async fn offset_at(
        &self,
        _topic: &Topic,
        _partition: u32,
        _at: At,
    ) -> Result<Option<(RecordOffset, i64)>, OffsetError> {
        unimplemented!()
    }

    /// The epoch that batches are stamped with now: it rises with every unclean start.
    pub fn leader_epoch(&self) -> i32 {
        unimplemented!()
    }

    /// The largest epoch of this partition that is not above `epoch`, and where it ends; `None` if `epoch`
    /// is above the current one.
    pub async fn epoch_end(
        &self,
        _topic: &Topic,
        _partition: u32,
        _epoch: i32,
    ) -> Result<Option<(i32, RecordOffset)>, EpochError> {
        unimplemented!()
    }

    /// Everything about all topics. Loads partitions that were not used yet.
    pub async fn status(&self) -> BrokerStatus {
        unimplemented!()
    }
}
