//! Produce: record batches in, offsets out. `records` is a slice of the frame.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use bytes::Bytes;

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

structures! {
    /// Stores one record batch per partition.
    pub struct ProduceRequest {
        transactional_id: Option<String> => 3..;
        acks: i16 => 0..;
        timeout_ms: i32 => 0..;
        topics: Vec<ProduceTopic> => 0..;
    }

    /// The batches of one topic.
    pub struct ProduceTopic {
        name: String => 0..;
        partitions: Vec<ProducePartition> => 0..;
    }

    /// The batch of one partition.
    pub struct ProducePartition {
        index: i32 => 0..;
        records: Option<Bytes> => 0..;
    }

    /// Where the batches went.
    pub struct ProduceResponse {
        topics: Vec<ProduceTopicResponse> => 0..;
        throttle_time_ms: i32 => 1..;
    }

    /// Where the batches of one topic went.
    pub struct ProduceTopicResponse {
        name: String => 0..;
        partitions: Vec<ProducePartitionResponse> => 0..;
    }

    /// Where the batch of one partition went.
    pub struct ProducePartitionResponse {
        index: i32 => 0..;
        error_code: ErrorCode => 0..;
        base_offset: i64 = -1 => 0..;
        log_append_time_ms: i64 = -1 => 2..;
        log_start_offset: i64 = -1 => 5..;
        record_errors: Vec<RecordError> => 8..;
        error_message: Option<String> => 8..;
    }

    /// Why one record of a batch was refused.
    pub struct RecordError {
        batch_index: i32 => 8..;
        batch_index_error_message: Option<String> => 8..;
    }
}

message!(ProduceRequest => ProduceResponse: Produce, versions 3..=11, flexible from 9);
