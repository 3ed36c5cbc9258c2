//! DescribeConfigs: the settings that are in force.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

/// A resource that is a topic.
pub const RESOURCE_TOPIC: i8 = 2;
/// A resource that is a broker.
pub const RESOURCE_BROKER: i8 = 4;

structures! {
    /// Asks for settings.
    pub struct DescribeConfigsRequest {
        resources: Vec<ConfigResource> => 0..;
        include_synonyms: bool => 1..;
        include_documentation: bool => 3..;
    }

    /// A topic or a broker, and the settings wanted of it (null: all).
    pub struct ConfigResource {
        resource_type: i8 => 0..;
        resource_name: String => 0..;
        configuration_keys: Option<Vec<String>> => 0..;
    }

    /// The settings.
    pub struct DescribeConfigsResponse {
        throttle_time_ms: i32 => 0..;
        results: Vec<ConfigResult> => 0..;
    }

    /// The settings of one resource.
    pub struct ConfigResult {
        error_code: ErrorCode => 0..;
        error_message: Option<String> => 0..;
        resource_type: i8 => 0..;
        resource_name: String => 0..;
        configs: Vec<ConfigEntry> => 0..;
    }

    /// One setting.
    pub struct ConfigEntry {
        name: String => 0..;
        value: Option<String> => 0..;
        read_only: bool => 0..;
        config_source: i8 = -1 => 1..;
        is_sensitive: bool => 0..;
        synonyms: Vec<ConfigSynonym> => 1..;
        config_type: i8 => 3..;
        documentation: Option<String> => 3..;
    }

    /// Another name from which the value came.
    pub struct ConfigSynonym {
        name: String => 1..;
        value: Option<String> => 1..;
        source: i8 => 1..;
    }
}

message!(
    DescribeConfigsRequest => DescribeConfigsResponse: DescribeConfigs,
    versions 1..=4, flexible from 4
);
