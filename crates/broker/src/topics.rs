//! Which topics there are: the registry in memory and the commits that change it.
//!
//! Creating is one commit of one row. Deleting is one commit that takes the row away and marks the id; the
//! partitions' rows and strands follow in bounded commits, which the next open finishes if a crash comes
//! between. A topic that is created again has a new id, so that the two never meet.
//!
//! Invariant: the registry changes only under `changes`, together with the commit.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use strands::{Commit, CommitError, Position, Strands, Ticket};

use crate::error::{CreateTopicError, DeleteTopicError, Fault};
use crate::partition::Partition;
use crate::rows::{self, PartitionKey, RowError, TopicRow};
use crate::types::{TopicConfig, TopicId, TopicName};

/// One topic; a handle, cheap to clone. Calls with the handle of a deleted topic say so.
#[derive(Clone)]
pub struct Topic(Arc<TopicState>);

struct TopicState {
    name: TopicName,
    id: TopicId,
    config: TopicConfig,
    partitions: Box<[Partition]>,
    /// The topic survives a power cut when the journal has come here.
    created: Position,
}

impl Topic {
    fn new(name: TopicName, row: &TopicRow, created: Position) -> Self {
        let partition = |number| {
            let key = PartitionKey { topic: row.id, number };
            Partition::new(key, row.config.durability)
        };
        let partitions = (0..row.partitions).map(partition).collect();
        Self(Arc::new(TopicState { name, id: row.id, config: row.config, partitions, created }))
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.0.name
    }

    /// Its identity.
    pub fn id(&self) -> TopicId {
        self.0.id
    }

    /// How many partitions it has; they are numbered from 0.
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.0.partitions.len()).unwrap_or(u32::MAX)
    }

    /// What was chosen for it.
    pub fn config(&self) -> TopicConfig {
        self.0.config
    }

    pub(crate) fn partition(&self, number: u32) -> Result<&Partition, Fault> {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        self.0.partitions.get(index).ok_or(Fault::UnknownPartition(number))
    }

    pub(crate) fn all_partitions(&self) -> &[Partition] {
        &self.0.partitions
    }

    /// Waits until the topic itself survives a power cut.
    async fn settled(&self, strands: &Strands) -> Result<(), CreateTopicError> {
        if strands.positions().durable >= self.0.created {
            return Ok(());
        }
        let before = Position::new(self.0.created.get().saturating_sub(1));
        match strands.wait_durable_beyond(before).await {
            Some(_) => Ok(()),
            None => Err(CreateTopicError::Failed("the journal is closed".to_owned())),
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", self.name())
            .field("id", &self.id())
            .field("partitions", &self.partitions())
            .field("config", &self.config())
            .finish()
    }
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    strands: Strands,
    registry: RwLock<Registry>,
    /// Held from the look at the registry to its change.
    changes: Mutex<()>,
}

#[derive(Debug, Default)]
struct Registry {
    by_name: BTreeMap<TopicName, Topic>,
    by_id: HashMap<TopicId, Topic>,
    partitions: usize,
}

impl Registry {
    fn insert(&mut self, topic: Topic) {
        self.partitions += topic.all_partitions().len();
        self.by_id.insert(topic.id(), topic.clone());
        self.by_name.insert(topic.name().clone(), topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.partitions -= topic.all_partitions().len();
        self.by_id.remove(&topic.id());
        self.by_name.remove(topic.name());
    }
}

impl Topics {
    /// Most partitions of one topic.
    pub(crate) const PARTITIONS_MAX: u32 = 10_000;
    /// Most topics, so that names invented by clients do not fill the memory.
    const TOPICS_MAX: usize = 100_000;
    /// Most partitions of all topics.
    const PARTITIONS_TOTAL_MAX: usize = 200_000;
    /// Room that is asked for before a topic's row is put.
    const ROW_BYTES: usize = 512;

    /// Loads all topics, and finishes deletions that a crash interrupted.
    pub(crate) fn open(strands: Strands) -> Result<Self, Fault> {
        for id in rows::deleted(&strands)? {
            while let Some(commit) = rows::removal(&strands, id)? {
                let done = strands.admit_blocking(0).and_then(|()| strands.commit(commit));
                done.map(drop).map_err(|error| Fault::Failed(error.to_string()))?;
            }
        }
        let mut registry = Registry::default();
        for (name, value) in rows::all(&strands, rows::TOPICS, &[], &[0xff])? {
            let row =
                TopicRow::decode(&value).map_err(|why| rows::damaged(rows::TOPICS, &name, &why))?;
            let text = std::str::from_utf8(&name).ok().and_then(|name| TopicName::new(name).ok());
            let text = text.filter(|_| (1..=Self::PARTITIONS_MAX).contains(&row.partitions));
            let text = text.ok_or_else(|| rows::damaged(rows::TOPICS, &name, &RowError::Topic))?;
            registry.insert(Topic::new(text, &row, Position::START));
        }
        Ok(Self { strands, registry: RwLock::new(registry), changes: Mutex::new(()) })
    }

    pub(crate) fn all(&self) -> Vec<Topic> {
        self.read().by_name.values().cloned().collect()
    }

    pub(crate) fn by_name(&self, name: &TopicName) -> Option<Topic> {
        self.read().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: TopicId) -> Option<Topic> {
        self.read().by_id.get(&id).cloned()
    }

    /// Creates a topic; durable on return.
    pub(crate) async fn create(
        &self,
        name: TopicName,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Topic, CreateTopicError> {
        self.strands.admit(Self::ROW_BYTES).await?;
        let (topic, ticket) = {
            let _changes = self.lock();
            if self.by_name(&name).is_some() {
                return Err(CreateTopicError::Exists(name));
            }
            self.put(name, partitions, config)?
        };
        ticket.durable().await?;
        Ok(topic)
    }

    /// The topic of that name, created if it is missing; durable on return.
    pub(crate) async fn ensure(
        &self,
        name: &TopicName,
        partitions: Option<u32>,
    ) -> Result<Topic, CreateTopicError> {
        if let Some(topic) = self.by_name(name) {
            topic.settled(&self.strands).await?;
            return Ok(topic);
        }
        let partitions = partitions.ok_or_else(|| CreateTopicError::AutoCreateOff(name.clone()))?;
        match self.create(name.clone(), partitions, TopicConfig::default()).await {
            // Somebody else was faster.
            Err(CreateTopicError::Exists(_)) => match self.by_name(name) {
                Some(topic) => {
                    topic.settled(&self.strands).await?;
                    Ok(topic)
                }
                None => Err(CreateTopicError::Exists(name.clone())),
            },
            created => created,
        }
    }

    /// Deletes a topic; durable on return, also when what it held is still being removed.
    pub(crate) async fn delete(&self, name: &TopicName) -> Result<(), DeleteTopicError> {
        self.strands.admit(0).await?;
        let (topic, ticket) = {
            let _changes = self.lock();
            let Some(topic) = self.by_name(name) else {
                return Err(DeleteTopicError::UnknownTopic(name.clone()));
            };
            let ticket = self.take(&topic)?;
            (topic, ticket)
        };
        // On its own task, so that a caller who goes away does not stop it half way.
        let removed = tokio::spawn(remove_contents(self.strands.clone(), topic));
        ticket.durable().await?;
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a deleted topic's records are not all removed; the next start does it");
        }
        Ok(())
    }

    /// Puts a new topic's row and enters it. Called under `changes`, the name being free.
    fn put(
        &self,
        name: TopicName,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<(Topic, Ticket), CreateTopicError> {
        self.check_limits(partitions)?;
        let created_ms = self.strands.host().clock.wall().millis();
        let row = TopicRow { id: self.new_id(), partitions, config, created_ms };
        let key = Bytes::copy_from_slice(name.as_str().as_bytes());
        let mut commit = Commit::new();
        commit.put(rows::TOPICS, key.clone(), row.encode());
        match self.strands.commit(commit) {
            Ok(ticket) => {
                let topic = Topic::new(name, &row, ticket.position());
                self.write(|registry| registry.insert(topic.clone()));
                Ok((topic, ticket))
            }
            Err(error) => {
                // The row may be there all the same, and may survive: then so does the topic.
                if self.is_row(&key, &row) {
                    let topic = Topic::new(name, &row, self.strands.positions().appended);
                    self.write(|registry| registry.insert(topic));
                }
                Err(error.into())
            }
        }
    }

    fn check_limits(&self, partitions: u32) -> Result<(), CreateTopicError> {
        if !(1..=Self::PARTITIONS_MAX).contains(&partitions) {
            return Err(CreateTopicError::Partitions {
                asked: partitions,
                limit: Self::PARTITIONS_MAX,
            });
        }
        let registry = self.read();
        if registry.by_name.len() >= Self::TOPICS_MAX {
            return Err(CreateTopicError::TooMany { what: "topics", limit: Self::TOPICS_MAX });
        }
        let more = usize::try_from(partitions).unwrap_or(usize::MAX);
        if registry.partitions.saturating_add(more) > Self::PARTITIONS_TOTAL_MAX {
            let limit = Self::PARTITIONS_TOTAL_MAX;
            return Err(CreateTopicError::TooMany { what: "partitions", limit });
        }
        Ok(())
    }

    /// Takes a topic's row away, marks what it held and forgets it. Called under `changes`.
    fn take(&self, topic: &Topic) -> Result<Ticket, CommitError> {
        let key = Bytes::copy_from_slice(topic.name().as_str().as_bytes());
        let mut commit = Commit::new();
        commit.delete(rows::TOPICS, key.clone());
        rows::put_deleted(&mut commit, topic.id());
        let ticket = self.strands.commit(commit);
        let is_gone = ticket.is_ok() || matches!(self.strands.row(rows::TOPICS, &key), Ok(None));
        if is_gone {
            self.write(|registry| registry.remove(topic));
            topic.all_partitions().iter().for_each(Partition::retire);
        }
        ticket
    }

    fn is_row(&self, key: &[u8], row: &TopicRow) -> bool {
        matches!(self.strands.row(rows::TOPICS, key), Ok(Some(value)) if value == row.encode())
    }

    /// An id that is neither zero nor one of the small ones that Kafka keeps for itself.
    fn new_id(&self) -> TopicId {
        loop {
            let random = &self.strands.host().random;
            let (high, low) = (random.next_u64(), random.next_u64());
            let bits = (u128::from(high) << 64) | u128::from(low);
            let id = TopicId::from_bytes(bits.to_be_bytes());
            if bits > RESERVED_IDS && self.by_id(id).is_none() {
                return id;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids up to here mean something of their own to Kafka.
const RESERVED_IDS: u128 = 100;

/// Removes the rows and strands of a deleted topic, a bounded commit at a time.
async fn remove_contents(strands: Strands, topic: Topic) -> Result<(), CommitError> {
    let failed = |fault: Fault| CommitError::Failed(format!("{fault:?}"));
    while let Some(commit) = rows::removal(&strands, topic.id()).map_err(failed)? {
        strands.admit(0).await?;
        drop(strands.commit(commit)?);
    }
    Ok(())
}
