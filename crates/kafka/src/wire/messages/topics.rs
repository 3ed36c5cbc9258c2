//! CreateTopics and DeleteTopics.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::define::{message, structures};
use crate::wire::{ErrorCode, Uuid};

structures! {
    /// Creates topics, or only says whether it could.
    pub struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> => 0..;
        timeout_ms: i32 = 60_000 => 0..;
        validate_only: bool => 1..;
    }

    /// A topic to create; -1 partitions or replicas mean the server's default.
    pub struct CreatableTopic {
        name: String => 0..;
        num_partitions: i32 => 0..;
        replication_factor: i16 => 0..;
        assignments: Vec<CreatableAssignment> => 0..;
        configs: Vec<CreatableConfig> => 0..;
    }

    /// Which brokers hold a partition.
    pub struct CreatableAssignment {
        partition_index: i32 => 0..;
        broker_ids: Vec<i32> => 0..;
    }

    /// A setting of the new topic.
    pub struct CreatableConfig {
        name: String => 0..;
        value: Option<String> => 0..;
    }

    /// What became of each topic.
    pub struct CreateTopicsResponse {
        throttle_time_ms: i32 => 2..;
        topics: Vec<CreatedTopic> => 0..;
    }

    /// What became of one topic.
    pub struct CreatedTopic {
        name: String => 0..;
        topic_id: Uuid => 7..;
        error_code: ErrorCode => 0..;
        error_message: Option<String> => 1..;
        num_partitions: i32 = -1 => 5..;
        replication_factor: i16 = -1 => 5..;
        configs: Option<Vec<CreatedConfig>> => 5..;
    }

    /// A setting of the topic.
    pub struct CreatedConfig {
        name: String => 5..;
        value: Option<String> => 5..;
        read_only: bool => 5..;
        config_source: i8 = -1 => 5..;
        is_sensitive: bool => 5..;
    }

    /// Deletes topics by name, or from version 6 by id.
    pub struct DeleteTopicsRequest {
        topics: Vec<DeleteTopic> => 6..;
        topic_names: Vec<String> => 0..=5;
        timeout_ms: i32 = 60_000 => 0..;
    }

    /// A topic by name, or by id where the name is null.
    pub struct DeleteTopic {
        name: Option<String> => 6..;
        topic_id: Uuid => 6..;
    }

    /// What became of each topic.
    pub struct DeleteTopicsResponse {
        throttle_time_ms: i32 => 1..;
        responses: Vec<DeletedTopic> => 0..;
    }

    /// What became of one topic.
    pub struct DeletedTopic {
        name: Option<String> => 0..;
        topic_id: Uuid => 6..;
        error_code: ErrorCode => 0..;
        error_message: Option<String> => 5..;
    }
}

message!(CreateTopicsRequest => CreateTopicsResponse: CreateTopics, versions 2..=7, flexible from 5);
message!(DeleteTopicsRequest => DeleteTopicsResponse: DeleteTopics, versions 1..=6, flexible from 4);
