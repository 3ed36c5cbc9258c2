//! FindCoordinator: who keeps a group. Served because librdkafka uses lz4 only with brokers that list
//! this API.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

structures! {
    /// Asks who coordinates a group, or from version 4 several.
    pub struct FindCoordinatorRequest {
        key: String => 0..=3;
        key_type: i8 => 1..;
        coordinator_keys: Vec<String> => 4..;
    }

    /// Who coordinates.
    pub struct FindCoordinatorResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode => 0..=3;
        error_message: Option<String> => 1..=3;
        node_id: i32 => 0..=3;
        host: String => 0..=3;
        port: i32 => 0..=3;
        coordinators: Vec<Coordinator> => 4..;
    }

    /// Who coordinates one group.
    pub struct Coordinator {
        key: String => 4..;
        node_id: i32 => 4..;
        host: String => 4..;
        port: i32 => 4..;
        error_code: ErrorCode => 4..;
        error_message: Option<String> => 4..;
    }
}

message!(
    FindCoordinatorRequest => FindCoordinatorResponse: FindCoordinator,
    versions 0..=4, flexible from 3
);
