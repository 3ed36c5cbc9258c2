//! What a client is told when the broker could not do something: one function per error of the broker.
//!
//! No catch-all arms: a new way to fail does not compile until it has a code here.

use std::collections::HashSet;

use broker::{
    AppendFault, CreateTopicError, DeleteTopicError, EpochError, FetchError, OffsetError,
    ProduceError, RecordOffset, Topic,
};

use crate::wire::ErrorCode;

/// A refused or failed append. Clients retry storage errors by themselves.
pub(super) fn produce(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::UnknownTopic | ProduceError::UnknownPartition(_) => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        ProduceError::Refused(fault) => refused(fault),
        ProduceError::NoSpace
        | ProduceError::Busy(_)
        | ProduceError::Damaged(_)
        | ProduceError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn refused(fault: &AppendFault) -> ErrorCode {
    match fault {
        AppendFault::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
        AppendFault::UnsupportedFormat(_) => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        AppendFault::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        AppendFault::Invalid(_) => ErrorCode::INVALID_RECORD,
    }
}

/// A failed read, with the bounds that a client outside of them is told.
pub(super) fn fetch(error: &FetchError) -> (ErrorCode, Option<(RecordOffset, RecordOffset)>) {
    match error {
        FetchError::UnknownTopic | FetchError::UnknownPartition(_) => {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)
        }
        FetchError::OutOfRange { log_start, high_watermark } => {
            (ErrorCode::OFFSET_OUT_OF_RANGE, Some((*log_start, *high_watermark)))
        }
        FetchError::Damaged(_) | FetchError::Failed(_) => (ErrorCode::KAFKA_STORAGE_ERROR, None),
    }
}

/// A failed search by time.
pub(super) fn offset(error: &OffsetError) -> ErrorCode {
    match error {
        OffsetError::UnknownTopic | OffsetError::UnknownPartition(_) => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        OffsetError::Damaged(_) | OffsetError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// A failed search for the end of an epoch.
pub(super) fn epoch(error: &EpochError) -> ErrorCode {
    match error {
        EpochError::UnknownTopic | EpochError::UnknownPartition(_) => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        EpochError::Damaged(_) | EpochError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// A topic that was not created.
pub(super) fn create(error: &CreateTopicError) -> ErrorCode {
    match error {
        CreateTopicError::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        CreateTopicError::AutoCreateOff(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CreateTopicError::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CreateTopicError::TooMany { .. } => ErrorCode::POLICY_VIOLATION,
        CreateTopicError::NoSpace | CreateTopicError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// A topic that was not deleted.
pub(super) fn delete(error: &DeleteTopicError) -> ErrorCode {
    match error {
        DeleteTopicError::UnknownTopic(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        DeleteTopicError::NoSpace | DeleteTopicError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Compares the leader epoch that a client knows (-1: none) with the broker's.
pub(super) fn check_leader_epoch(known: i32, current: i32) -> Result<(), ErrorCode> {
    match known {
        -1 => Ok(()),
        _ if known < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ if known > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// A partition's number from the wire, if the topic has it.
pub(super) fn partition(topic: Option<&Topic>, index: i32) -> Result<(&Topic, u32), ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    match u32::try_from(index) {
        Ok(partition) if partition < topic.partitions() => Ok((topic, partition)),
        Ok(_) | Err(_) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

/// What a request has named already. A request may name everything once: an answer for each of a
/// million namings of one thing would cost more than the request justifies.
#[derive(Debug, Default)]
pub(super) struct Named<'a>(HashSet<(&'a str, i32)>);

impl<'a> Named<'a> {
    /// Takes note of a partition of a topic, and refuses it if it was named before.
    pub(super) fn once(&mut self, topic: &'a str, partition: i32) -> Result<(), ErrorCode> {
        if self.0.insert((topic, partition)) { Ok(()) } else { Err(ErrorCode::INVALID_REQUEST) }
    }
}
