//! The broker: the handle that doors hold.

use std::sync::Arc;

use bytes::Bytes;
use strands::{Strands, Ticket};

use crate::accept;
use crate::error::{
    CreateTopicError, DeleteTopicError, EpochError, FetchError, OffsetError, OpenError,
    ProduceError,
};
use crate::fetch;
use crate::lookup;
use crate::partition::{Context, offset};
use crate::topics::{Topic, Topics};
use crate::types::{
    At, BrokerStatus, Durability, Fetched, Options, RecordOffset, TopicConfig, TopicId, TopicName,
    TopicStatus,
};

/// All topics of one data directory; one handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    topics: Topics,
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
    ticket: Ticket,
    durability: Durability,
}

impl Pending {
    /// Waits until the batch is as safe as its topic promises: durable, or written.
    ///
    /// # Errors
    ///
    /// [`ProduceError::NoSpace`] and [`ProduceError::Failed`]: whether the batch survives is unknown.
    pub async fn acked(self) -> Result<(), ProduceError> {
        match self.durability {
            Durability::Synced => Ok(self.ticket.durable().await?),
            Durability::Written => Ok(()),
        }
    }
}

impl Broker {
    /// Most partitions of one topic.
    pub const PARTITIONS_MAX: u32 = Topics::PARTITIONS_MAX;
    /// Room in a commit that a batch leaves for its rows.
    const COMMIT_OVERHEAD_BYTES: u64 = 4 << 10;

    /// Loads the topics, and finishes deletions that a crash interrupted. Partitions load at first use.
    ///
    /// # Errors
    ///
    /// A row that cannot be read is named, and nothing is changed.
    pub fn open(strands: Strands, options: Options) -> Result<Self, OpenError> {
        let epoch = i32::try_from(strands.opening().unclean_starts).unwrap_or(i32::MAX);
        let topics = Topics::open(strands.clone())?;
        let context = Context { strands, options, epoch };
        Ok(Self(Arc::new(Inner { context, topics })))
    }

    /// All topics, in order of their names.
    pub fn topics(&self) -> Vec<Topic> {
        self.0.topics.all()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &TopicName) -> Option<Topic> {
        self.0.topics.by_name(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Topic> {
        self.0.topics.by_id(id)
    }

    /// Creates a topic; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// After [`CreateTopicError::NoSpace`] and [`CreateTopicError::Failed`] the topic may exist all the same.
    pub async fn create_topic(
        &self,
        name: TopicName,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Topic, CreateTopicError> {
        self.0.topics.create(name, partitions, config).await
    }

    /// The topic of that name, created with the default partitions and config if it is missing and
    /// [`Options::auto_create`] allows; it is durable when this returns. Concurrent calls create one topic.
    pub async fn ensure_topic(&self, name: &TopicName) -> Result<Topic, CreateTopicError> {
        let options = &self.0.context.options;
        let partitions = options.auto_create.then_some(options.partitions_default);
        self.0.topics.ensure(name, partitions).await
    }

    /// Deletes a topic and its records; that is durable when this returns. Call it within a tokio runtime.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), DeleteTopicError> {
        self.0.topics.delete(name).await
    }

    /// Waits until storage takes `bytes` more. Call it before each [`Self::append`], holding no lock.
    pub async fn admit(&self, bytes: usize) -> Result<(), ProduceError> {
        Ok(self.0.context.strands.admit(bytes).await?)
    }

    /// Checks `batch`, gives it the next offsets and stores it. `batch` is exactly one record batch.
    ///
    /// It is in the partition when this returns, and visible when its topic's durability is reached
    /// ([`Pending::acked`]). The work is in memory and one write to the journal, but for the first use of a
    /// partition, which reads its end. Bytes that nobody else holds are stored without a copy.
    ///
    /// # Errors
    ///
    /// [`ProduceError::Refused`] stores nothing. After [`ProduceError::NoSpace`] and
    /// [`ProduceError::Failed`] the batch is not acknowledged, but may be seen and may survive.
    pub fn append(
        &self,
        topic: &Topic,
        partition: u32,
        batch: Bytes,
    ) -> Result<Pending, ProduceError> {
        let context = &self.0.context;
        let commit_max = Strands::COMMIT_BYTES_MAX - Self::COMMIT_OVERHEAD_BYTES;
        let header = accept::check(&batch, commit_max.min(context.options.batch_bytes_max.into()))?;
        let partition = topic.partition(partition)?;
        let stored = partition.append(context, &header, batch)?;
        Ok(Pending {
            base_offset: stored.base,
            log_append_time: None,
            log_start: stored.log_start,
            ticket: stored.ticket,
            durability: partition.durability(),
        })
    }

    /// Whole batches from the one that holds `offset`, up to `bytes_max`; the first is given even if it is
    /// larger. Nothing at or above the high watermark is given.
    pub async fn fetch(
        &self,
        topic: &Topic,
        partition: u32,
        offset: RecordOffset,
        bytes_max: u32,
    ) -> Result<Fetched, FetchError> {
        fetch::fetch(&self.0.context, topic.partition(partition)?, offset, bytes_max).await
    }

    /// Waits until the high watermark is above `offset`. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// The topic was deleted, or storage failed: there is nothing to wait for any more.
    pub async fn wait_data(
        &self,
        topic: &Topic,
        partition: u32,
        offset: RecordOffset,
    ) -> Result<(), FetchError> {
        fetch::wait_data(&self.0.context, topic.partition(partition)?, offset).await
    }

    /// The offset and timestamp of the record that `at` describes; `None` if there is none below the
    /// high watermark.
    pub async fn offset_at(
        &self,
        topic: &Topic,
        partition: u32,
        at: At,
    ) -> Result<Option<(RecordOffset, i64)>, OffsetError> {
        lookup::offset_at(&self.0.context, topic.partition(partition)?, at).await
    }

    /// The epoch that batches are stamped with now: it rises with every unclean start.
    pub fn leader_epoch(&self) -> i32 {
        self.0.context.epoch
    }

    /// The largest epoch of this partition that is not above `epoch`, and where it ends; `None` if `epoch`
    /// is negative or above the current one.
    pub async fn epoch_end(
        &self,
        topic: &Topic,
        partition: u32,
        epoch: i32,
    ) -> Result<Option<(i32, RecordOffset)>, EpochError> {
        let context = &self.0.context;
        let partition = topic.partition(partition)?;
        let end =
            partition.with(&context.strands, |state| state.epoch_end(epoch, context.epoch))?;
        Ok(end.map(|(epoch, end)| (epoch, offset(end))))
    }

    /// Everything about all topics. Loads partitions that were not used yet, off the runtime's own threads.
    pub async fn status(&self) -> BrokerStatus {
        let broker = self.clone();
        let look = move || broker.topics().iter().map(|topic| broker.topic_status(topic)).collect();
        BrokerStatus { topics: tokio::task::spawn_blocking(look).await.unwrap_or_default() }
    }

    fn topic_status(&self, topic: &Topic) -> TopicStatus {
        let strands = &self.0.context.strands;
        let status = |partition: &crate::partition::Partition| {
            partition.status(strands).map_err(|fault| FetchError::from(fault).to_string())
        };
        TopicStatus {
            name: topic.name().clone(),
            id: topic.id(),
            config: topic.config(),
            partitions: topic.all_partitions().iter().map(status).collect(),
        }
    }
}
