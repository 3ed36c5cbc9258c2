//! Produce: every batch is offered to the broker at once; the answer waits until all are safe.
//!
//! Batches are stored as they come, with their producer's id and sequence, which nobody checks: the
//! door does not hand out producer ids. Transactional and control batches are refused by the broker.

use broker::batch::Header;
use broker::{Pending, ProduceError, Topic, TopicName};
use bytes::Bytes;

use crate::metrics::add;
use crate::server::{Door, codes};
use crate::wire::ErrorCode;
use crate::wire::messages::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse,
};

/// The client wants no answer at all.
pub(super) const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// A request whose batches have their places, or were refused.
#[derive(Debug)]
pub(super) struct Stored {
    topics: Vec<(String, Vec<(i32, Place)>)>,
}

type Place = Result<Pending, Refusal>;

/// Why one batch was not stored.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl From<ProduceError> for Refusal {
    fn from(error: ProduceError) -> Self {
        Self { code: codes::produce(&error), message: error.to_string() }
    }
}

/// Offers all batches of a request to the broker, in their order.
pub(super) async fn store(door: &Door, request: ProduceRequest) -> Stored {
    let acks = request.acks;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let handle = TopicName::new(&topic.name).ok().and_then(|name| door.broker.topic(&name));
        let mut places = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            let place = match acks {
                ACKS_NONE | ACKS_LEADER | ACKS_ALL => {
                    append(door, handle.as_ref(), partition).await
                }
                _ => Err(Refusal {
                    code: ErrorCode::INVALID_REQUIRED_ACKS,
                    message: format!("acks is {acks}; it can be 0, 1 or -1 (all)"),
                }),
            };
            places.push((index, place));
        }
        topics.push((topic.name, places));
    }
    Stored { topics }
}

async fn append(door: &Door, topic: Option<&Topic>, partition: ProducePartition) -> Place {
    let (topic, index) = codes::partition(topic, partition.index).map_err(|code| Refusal {
        code,
        message: format!("there is no partition {} of this topic", partition.index),
    })?;
    let batch = partition.records.unwrap_or_default();
    let bytes = batch.len();
    let records = record_count(&batch);
    door.broker.admit(bytes).await?;
    let pending = door.broker.append(topic, index, batch)?;
    add(&door.metrics.produced_bytes, bytes as u64);
    add(&door.metrics.produced_records, records);
    Ok(pending)
}

fn record_count(batch: &Bytes) -> u64 {
    Header::parse(batch).map_or(0, |header| u64::try_from(header.record_count).unwrap_or(0))
}

impl Stored {
    /// Whether any batch was refused, for clients that get no answer.
    pub(super) fn any_refused(&self) -> bool {
        self.topics.iter().flat_map(|(_, places)| places).any(|(_, place)| place.is_err())
    }

    /// Waits for all batches without making an answer.
    pub(super) async fn settled(self) -> Result<(), Refusal> {
        for (_, place) in self.topics.into_iter().flat_map(|(_, places)| places) {
            acked(place).await?;
        }
        Ok(())
    }

    /// Waits for all batches and makes the answer.
    pub(super) async fn acknowledged(self, door: &Door) -> ProduceResponse {
        let mut topics = Vec::with_capacity(self.topics.len());
        for (name, places) in self.topics {
            let mut partitions = Vec::with_capacity(places.len());
            for (index, place) in places {
                let partition = acknowledge(index, place).await;
                door.metrics.count_error(partition.error_code);
                partitions.push(partition);
            }
            topics.push(ProduceTopicResponse { name, partitions });
        }
        ProduceResponse { topics, ..Default::default() }
    }
}

async fn acknowledge(index: i32, place: Place) -> ProducePartitionResponse {
    match acked(place).await {
        Ok((base_offset, log_append_time_ms, log_start_offset)) => ProducePartitionResponse {
            index,
            base_offset,
            log_append_time_ms,
            log_start_offset,
            ..Default::default()
        },
        Err(refusal) => ProducePartitionResponse {
            index,
            error_code: refusal.code,
            error_message: Some(refusal.message),
            ..Default::default()
        },
    }
}

async fn acked(place: Place) -> Result<(i64, i64, i64), Refusal> {
    let pending = place?;
    let base = pending.base_offset.get();
    let time = pending.log_append_time.unwrap_or(-1);
    let start = pending.log_start.get();
    pending.acked().await?;
    Ok((base, time, start))
}
