//! Fetch: record batches out. `records` is spliced into the response, not copied.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use bytes::Bytes;

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

structures! {
    /// Asks for batches, waiting for at least `min_bytes` of them.
    pub struct FetchRequest {
        replica_id: i32 = -1 => 0..;
        max_wait_ms: i32 => 0..;
        min_bytes: i32 => 0..;
        max_bytes: i32 = i32::MAX => 3..;
        isolation_level: i8 => 4..;
        session_id: i32 => 7..;
        session_epoch: i32 = -1 => 7..;
        topics: Vec<FetchTopic> => 0..;
        forgotten_topics_data: Vec<ForgottenTopic> => 7..;
        rack_id: String => 11..;
    }

    /// The partitions of one topic to read.
    pub struct FetchTopic {
        topic: String => 0..;
        partitions: Vec<FetchPartition> => 0..;
    }

    /// From where to read one partition.
    pub struct FetchPartition {
        partition: i32 => 0..;
        current_leader_epoch: i32 = -1 => 9..;
        fetch_offset: i64 => 0..;
        last_fetched_epoch: i32 = -1 => 12..;
        log_start_offset: i64 = -1 => 5..;
        partition_max_bytes: i32 => 0..;
    }

    /// Partitions to drop from a fetch session.
    pub struct ForgottenTopic {
        topic: String => 7..;
        partitions: Vec<i32> => 7..;
    }

    /// What was read.
    pub struct FetchResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode => 7..;
        session_id: i32 => 7..;
        responses: Vec<FetchTopicResponse> => 0..;
    }

    /// What was read of one topic.
    pub struct FetchTopicResponse {
        topic: String => 0..;
        partitions: Vec<FetchPartitionResponse> => 0..;
    }

    /// What was read of one partition.
    pub struct FetchPartitionResponse {
        partition_index: i32 => 0..;
        error_code: ErrorCode => 0..;
        high_watermark: i64 = -1 => 0..;
        last_stable_offset: i64 = -1 => 4..;
        log_start_offset: i64 = -1 => 5..;
        aborted_transactions: Option<Vec<AbortedTransaction>> => 4..;
        preferred_read_replica: i32 = -1 => 11..;
        records: Option<Bytes> => 0..;
    }

    /// A transaction whose records are to be skipped.
    pub struct AbortedTransaction {
        producer_id: i64 => 4..;
        first_offset: i64 => 4..;
    }
}

message!(FetchRequest => FetchResponse: Fetch, versions 4..=12, flexible from 12);
