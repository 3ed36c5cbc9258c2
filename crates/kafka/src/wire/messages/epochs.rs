//! OffsetForLeaderEpoch: how a client finds out that what it read was replaced.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

structures! {
    /// Asks where epochs ended.
    pub struct OffsetForLeaderEpochRequest {
        replica_id: i32 = -2 => 3..;
        topics: Vec<EpochTopic> => 0..;
    }

    /// The partitions of one topic.
    pub struct EpochTopic {
        topic: String => 0..;
        partitions: Vec<EpochPartition> => 0..;
    }

    /// The epoch that is asked about.
    pub struct EpochPartition {
        partition: i32 => 0..;
        current_leader_epoch: i32 = -1 => 2..;
        leader_epoch: i32 => 0..;
    }

    /// Where the epochs ended.
    pub struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 => 2..;
        topics: Vec<EpochTopicResponse> => 0..;
    }

    /// Where the epochs of one topic ended.
    pub struct EpochTopicResponse {
        topic: String => 0..;
        partitions: Vec<EpochPartitionResponse> => 0..;
    }

    /// Where the epoch of one partition ended: the offset after its last record.
    pub struct EpochPartitionResponse {
        error_code: ErrorCode => 0..;
        partition: i32 => 0..;
        leader_epoch: i32 = -1 => 1..;
        end_offset: i64 = -1 => 0..;
    }
}

message!(
    OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse: OffsetForLeaderEpoch,
    versions 2..=4, flexible from 4
);
