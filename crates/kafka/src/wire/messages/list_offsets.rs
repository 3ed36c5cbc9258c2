//! ListOffsets: offsets by time, and the ends of a partition.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

/// In place of a time: the offset after the last record.
pub const LATEST: i64 = -1;
/// In place of a time: the offset of the first record.
pub const EARLIEST: i64 = -2;
/// In place of a time: the record with the highest timestamp (version 7 and later).
pub const MAX_TIMESTAMP: i64 = -3;

structures! {
    /// Asks for an offset per partition.
    pub struct ListOffsetsRequest {
        replica_id: i32 = -1 => 0..;
        isolation_level: i8 => 2..;
        topics: Vec<ListOffsetsTopic> => 0..;
    }

    /// The partitions of one topic.
    pub struct ListOffsetsTopic {
        name: String => 0..;
        partitions: Vec<ListOffsetsPartition> => 0..;
    }

    /// The time that is looked for.
    pub struct ListOffsetsPartition {
        partition_index: i32 => 0..;
        current_leader_epoch: i32 = -1 => 4..;
        timestamp: i64 => 0..;
    }

    /// The offsets found.
    pub struct ListOffsetsResponse {
        throttle_time_ms: i32 => 2..;
        topics: Vec<ListOffsetsTopicResponse> => 0..;
    }

    /// The offsets found in one topic.
    pub struct ListOffsetsTopicResponse {
        name: String => 0..;
        partitions: Vec<ListOffsetsPartitionResponse> => 0..;
    }

    /// The offset found in one partition; -1 if no record is that young.
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32 => 0..;
        error_code: ErrorCode => 0..;
        timestamp: i64 = -1 => 1..;
        offset: i64 = -1 => 1..;
        leader_epoch: i32 = -1 => 4..;
    }
}

message!(ListOffsetsRequest => ListOffsetsResponse: ListOffsets, versions 1..=7, flexible from 6);
