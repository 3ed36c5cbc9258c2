//! Metadata and DescribeCluster: who serves, and which topics there are.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::define::{message, structures};
use crate::wire::{ErrorCode, Uuid};

/// In place of a set of permitted operations: not asked for.
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

structures! {
    /// Asks for the broker and for topics: null means all (before version 1: an empty list).
    pub struct MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> => 0..;
        allow_auto_topic_creation: bool = true => 4..;
        include_cluster_authorized_operations: bool => 8..=10;
        include_topic_authorized_operations: bool => 8..;
    }

    /// A topic by name, or by id where the name is null.
    pub struct MetadataRequestTopic {
        topic_id: Uuid => 10..;
        name: Option<String> => 0..;
    }

    /// The brokers and the topics.
    pub struct MetadataResponse {
        throttle_time_ms: i32 => 3..;
        brokers: Vec<MetadataBroker> => 0..;
        cluster_id: Option<String> => 2..;
        controller_id: i32 = -1 => 1..;
        topics: Vec<MetadataTopic> => 0..;
        cluster_authorized_operations: i32 = OPERATIONS_UNKNOWN => 8..=10;
    }

    /// Where a broker listens.
    pub struct MetadataBroker {
        node_id: i32 => 0..;
        host: String => 0..;
        port: i32 => 0..;
        rack: Option<String> => 1..;
    }

    /// One topic.
    pub struct MetadataTopic {
        error_code: ErrorCode => 0..;
        name: Option<String> => 0..;
        topic_id: Uuid => 10..;
        is_internal: bool => 1..;
        partitions: Vec<MetadataPartition> => 0..;
        topic_authorized_operations: i32 = OPERATIONS_UNKNOWN => 8..;
    }

    /// One partition.
    pub struct MetadataPartition {
        error_code: ErrorCode => 0..;
        partition_index: i32 => 0..;
        leader_id: i32 => 0..;
        leader_epoch: i32 = -1 => 7..;
        replica_nodes: Vec<i32> => 0..;
        isr_nodes: Vec<i32> => 0..;
        offline_replicas: Vec<i32> => 5..;
    }

    /// Asks for the brokers.
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool => 0..;
        endpoint_type: i8 = 1 => 1..;
    }

    /// The brokers.
    pub struct DescribeClusterResponse {
        throttle_time_ms: i32 => 0..;
        error_code: ErrorCode => 0..;
        error_message: Option<String> => 0..;
        endpoint_type: i8 = 1 => 1..;
        cluster_id: String => 0..;
        controller_id: i32 = -1 => 0..;
        brokers: Vec<DescribeClusterBroker> => 0..;
        cluster_authorized_operations: i32 = OPERATIONS_UNKNOWN => 0..;
    }

    /// Where a broker listens.
    pub struct DescribeClusterBroker {
        broker_id: i32 => 0..;
        host: String => 0..;
        port: i32 => 0..;
        rack: Option<String> => 0..;
    }
}

message!(MetadataRequest => MetadataResponse: Metadata, versions 0..=12, flexible from 9);
message!(
    DescribeClusterRequest => DescribeClusterResponse: DescribeCluster,
    versions 0..=1, flexible from 0
);
