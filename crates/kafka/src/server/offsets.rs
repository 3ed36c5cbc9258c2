//! ListOffsets and OffsetForLeaderEpoch: places in a partition by time and by leader epoch.

use broker::{At, Topic, TopicName};

use crate::server::{Door, codes};
use crate::wire::ErrorCode;
use crate::wire::messages::epochs::{
    EpochPartition, EpochPartitionResponse, EpochTopicResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use crate::wire::messages::list_offsets::{
    EARLIEST, LATEST, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

const MAX_TIMESTAMP_SINCE: i16 = 7;

fn find(door: &Door, name: &str) -> Option<Topic> {
    TopicName::new(name).ok().and_then(|name| door.broker.topic(&name))
}

/// Finds an offset per partition. May be dropped at any time. There are no transactions, so the isolation level changes nothing.
pub(super) async fn list(
    door: &Door,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = codes::Named::default();
    for topic in &request.topics {
        let handle = find(door, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = match named.once(&topic.name, asked.partition_index) {
                Ok(()) => list_one(door, handle.as_ref(), asked, version).await,
                Err(code) => Err(code),
            };
            // A search may decompress a batch; other connections get their turn in between.
            tokio::task::yield_now().await;
            partitions.push(found.unwrap_or_else(|error_code| {
                door.metrics.count_error(error_code);
                ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    error_code,
                    ..Default::default()
                }
            }));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn list_one(
    door: &Door,
    topic: Option<&Topic>,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let (topic, partition) = codes::partition(topic, asked.partition_index)?;
    let leader_epoch = door.broker.leader_epoch();
    codes::check_leader_epoch(asked.current_leader_epoch, leader_epoch)?;
    let at = match asked.timestamp {
        LATEST => At::Latest,
        EARLIEST => At::Earliest,
        MAX_TIMESTAMP if version >= MAX_TIMESTAMP_SINCE => At::MaxTimestamp,
        time if time >= 0 => At::Timestamp(time),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let found = door.broker.offset_at(topic, partition, at).await;
    let found = found.map_err(|error| codes::offset(&error))?;
    let partition_index = asked.partition_index;
    let answer = ListOffsetsPartitionResponse { partition_index, ..Default::default() };
    Ok(match found {
        None => answer,
        Some((offset, timestamp)) => {
            ListOffsetsPartitionResponse { offset: offset.get(), timestamp, leader_epoch, ..answer }
        }
    })
}

/// Says where each epoch ended, or -1 for an epoch that has not begun. May be dropped at any time.
pub(super) async fn epoch_ends(
    door: &Door,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = codes::Named::default();
    for topic in &request.topics {
        let handle = find(door, &topic.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = match named.once(&topic.topic, asked.partition) {
                Ok(()) => epoch_end(door, handle.as_ref(), asked).await,
                Err(code) => Err(code),
            };
            tokio::task::yield_now().await;
            partitions.push(found.unwrap_or_else(|error_code| {
                door.metrics.count_error(error_code);
                EpochPartitionResponse {
                    partition: asked.partition,
                    error_code,
                    ..Default::default()
                }
            }));
        }
        topics.push(EpochTopicResponse { topic: topic.topic.clone(), partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn epoch_end(
    door: &Door,
    topic: Option<&Topic>,
    asked: &EpochPartition,
) -> Result<EpochPartitionResponse, ErrorCode> {
    let (topic, partition) = codes::partition(topic, asked.partition)?;
    codes::check_leader_epoch(asked.current_leader_epoch, door.broker.leader_epoch())?;
    let found = door.broker.epoch_end(topic, partition, asked.leader_epoch).await;
    let found = found.map_err(|error| codes::epoch(&error))?;
    let answer = EpochPartitionResponse { partition: asked.partition, ..Default::default() };
    Ok(match found {
        None => answer,
        Some((leader_epoch, end)) => {
            EpochPartitionResponse { leader_epoch, end_offset: end.get(), ..answer }
        }
    })
}
