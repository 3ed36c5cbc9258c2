//! Metadata, CreateTopics and DeleteTopics.

use std::collections::HashSet;

use broker::{Topic, TopicId, TopicName};

use crate::server::{Door, NODE_ID, codes, settings};
use crate::wire::messages::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataTopic,
};
use crate::wire::messages::topics::{
    CreatableAssignment, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, CreatedTopic,
    DeleteTopic, DeleteTopicsRequest, DeleteTopicsResponse, DeletedTopic,
};
use crate::wire::{ErrorCode, Uuid};

const REPLICATION_FACTOR: i16 = 1;
const DEFAULT: i32 = -1;
/// Before this version an empty list of topics asks for all, and null does not exist.
const METADATA_NULL_IS_ALL_SINCE: i16 = 1;
/// Before this version a topic in a Metadata answer must have a name.
const METADATA_NO_NAME_SINCE: i16 = 12;
/// Before this version a topic in a DeleteTopics answer must have a name.
const DELETE_NO_NAME_SINCE: i16 = 6;

/// The broker and the topics asked for; missing ones are created if the client and the broker allow it.
pub(super) async fn metadata(
    door: &Door,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let asked = match request.topics {
        Some(none) if none.is_empty() && version < METADATA_NULL_IS_ALL_SINCE => None,
        asked => asked,
    };
    let mut topics = Vec::new();
    match asked {
        None => topics.extend(door.broker.topics().iter().map(|topic| describe(door, topic))),
        Some(asked) => {
            let mut named = HashSet::new();
            for one in asked {
                // Kafka too answers once for a topic, however often it is named.
                if !named.insert((one.name.clone(), one.topic_id)) {
                    continue;
                }
                let (name, id) = (one.name.clone(), one.topic_id);
                let found = find_or_create(door, one, request.allow_auto_topic_creation).await;
                topics.push(match found {
                    Ok(topic) => describe(door, &topic),
                    Err(error_code) => {
                        door.metrics.count_error(error_code);
                        let unnamed = (version < METADATA_NO_NAME_SINCE).then(String::new);
                        let name = name.or(unnamed);
                        MetadataTopic { error_code, name, topic_id: id, ..Default::default() }
                    }
                });
            }
        }
    }
    MetadataResponse {
        brokers: vec![MetadataBroker {
            node_id: NODE_ID,
            host: door.config.advertised_host.clone(),
            port: i32::from(door.config.advertised_port),
            rack: None,
        }],
        cluster_id: Some(door.config.cluster_id.clone()),
        controller_id: NODE_ID,
        topics,
        ..Default::default()
    }
}

async fn find_or_create(
    door: &Door,
    asked: MetadataRequestTopic,
    create: bool,
) -> Result<Topic, ErrorCode> {
    let Some(name) = asked.name else {
        return door
            .broker
            .topic_by_id(TopicId::from_bytes(asked.topic_id.0))
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID);
    };
    let name = TopicName::new(&name).map_err(|_| ErrorCode::INVALID_TOPIC_EXCEPTION)?;
    match door.broker.topic(&name) {
        Some(topic) => Ok(topic),
        None if create => {
            door.broker.ensure_topic(&name).await.map_err(|error| codes::create(&error))
        }
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn describe(door: &Door, topic: &Topic) -> MetadataTopic {
    let leader_epoch = door.broker.leader_epoch();
    let partition = |partition_index| MetadataPartition {
        partition_index,
        leader_id: NODE_ID,
        leader_epoch,
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..Default::default()
    };
    MetadataTopic {
        name: Some(topic.name().to_string()),
        topic_id: Uuid(topic.id().to_bytes()),
        partitions: (0_i32..).take(topic.partitions() as usize).map(partition).collect(),
        ..Default::default()
    }
}

/// Creates topics one after the other.
pub(super) async fn create(door: &Door, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let created = create_one(door, asked, request.validate_only).await;
        topics.push(created.unwrap_or_else(|(error_code, message)| {
            door.metrics.count_error(error_code);
            CreatedTopic {
                name: asked.name.clone(),
                error_code,
                error_message: Some(message),
                ..Default::default()
            }
        }));
    }
    CreateTopicsResponse { topics, ..Default::default() }
}

async fn create_one(
    door: &Door,
    asked: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatedTopic, (ErrorCode, String)> {
    let name = TopicName::new(&asked.name)
        .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
    let partitions = partitions(door, asked)?;
    let config = settings::parse_topic(&asked.configs, &door.config.broker)
        .map_err(|message| (ErrorCode::INVALID_CONFIG, message))?;
    let topic_id = if validate_only {
        check_absent(door, &name)?;
        Uuid::ZERO
    } else {
        let created = door.broker.create_topic(name, partitions, config).await;
        let topic = created.map_err(|error| (codes::create(&error), error.to_string()))?;
        Uuid(topic.id().to_bytes())
    };
    let in_force = settings::of_topic(config, &door.config.broker);
    Ok(CreatedTopic {
        name: asked.name.clone(),
        topic_id,
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: REPLICATION_FACTOR,
        configs: Some(in_force.into_iter().map(|setting| setting.created()).collect()),
        ..Default::default()
    })
}

fn check_absent(door: &Door, name: &TopicName) -> Result<(), (ErrorCode, String)> {
    match door.broker.topic(name) {
        None => Ok(()),
        Some(_) => {
            let error = broker::CreateTopicError::Exists(name.clone());
            Err((codes::create(&error), error.to_string()))
        }
    }
}

/// How many partitions a new topic gets.
fn partitions(door: &Door, asked: &CreatableTopic) -> Result<u32, (ErrorCode, String)> {
    if !asked.assignments.is_empty() {
        return assigned(&asked.assignments);
    }
    if ![-1, REPLICATION_FACTOR].contains(&asked.replication_factor) {
        let message = format!(
            "there is one broker, so the replication factor is 1, not {}",
            asked.replication_factor
        );
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    let count = match asked.num_partitions {
        DEFAULT => door.config.broker.partitions_default,
        count => u32::try_from(count).unwrap_or(0),
    };
    if (1..=broker::Broker::PARTITIONS_MAX).contains(&count) {
        return Ok(count);
    }
    let error = broker::CreateTopicError::Partitions {
        asked: count,
        limit: broker::Broker::PARTITIONS_MAX,
    };
    Err((codes::create(&error), error.to_string()))
}

/// The count of partitions that were placed by hand: numbered from 0, each on the one broker.
fn assigned(assignments: &[CreatableAssignment]) -> Result<u32, (ErrorCode, String)> {
    let mut indexes: Vec<i32> = assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let dense = (0..).zip(&indexes).all(|(expected, index)| expected == *index);
    let placed = assignments.iter().all(|a| a.broker_ids == [NODE_ID]);
    match u32::try_from(assignments.len()) {
        Ok(count) if dense && placed && count <= broker::Broker::PARTITIONS_MAX => Ok(count),
        Ok(_) | Err(_) => Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            format!("partitions are numbered from 0 and each is on broker {NODE_ID} alone"),
        )),
    }
}

/// Deletes topics one after the other.
pub(super) async fn delete(
    door: &Door,
    request: DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    let named = |name| DeleteTopic { name: Some(name), ..Default::default() };
    let asked = request.topic_names.into_iter().map(named).chain(request.topics);
    let mut responses = Vec::new();
    for one in asked {
        let unnamed = (version < DELETE_NO_NAME_SINCE).then(String::new);
        let mut answer = DeletedTopic {
            name: one.name.clone().or(unnamed),
            topic_id: one.topic_id,
            ..Default::default()
        };
        match delete_one(door, one).await {
            Ok(topic) => {
                answer.name = Some(topic.name().to_string());
                answer.topic_id = Uuid(topic.id().to_bytes());
            }
            Err((error_code, message)) => {
                door.metrics.count_error(error_code);
                answer.error_code = error_code;
                answer.error_message = Some(message);
            }
        }
        responses.push(answer);
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

async fn delete_one(door: &Door, asked: DeleteTopic) -> Result<Topic, (ErrorCode, String)> {
    let topic = match asked.name {
        Some(name) => {
            let name = TopicName::new(&name)
                .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
            let unknown = broker::DeleteTopicError::UnknownTopic(name.clone());
            let unknown = (codes::delete(&unknown), unknown.to_string());
            door.broker.topic(&name).ok_or(unknown)?
        }
        None => {
            let unknown = (ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id".to_owned());
            door.broker.topic_by_id(TopicId::from_bytes(asked.topic_id.0)).ok_or(unknown)?
        }
    };
    let deleted = door.broker.delete_topic(topic.name()).await;
    deleted.map_err(|error| (codes::delete(&error), error.to_string()))?;
    Ok(topic)
}
