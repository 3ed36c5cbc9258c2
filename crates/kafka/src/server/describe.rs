//! What the server says about itself: versions, cluster, settings, and that there are no groups yet.

use broker::TopicName;

use crate::server::settings::{self, Setting};
use crate::server::{Door, NODE_ID};
use crate::wire::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::wire::messages::configs::{
    ConfigResource, ConfigResult, DescribeConfigsRequest, DescribeConfigsResponse, RESOURCE_BROKER,
    RESOURCE_TOPIC,
};
use crate::wire::messages::coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use crate::wire::messages::metadata::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::wire::{ApiKey, ErrorCode};

const ENDPOINT_BROKERS: i8 = 1;

fn api_version(api: ApiKey) -> ApiVersion {
    let range = api.advertised();
    ApiVersion { api_key: api.number(), min_version: range.min, max_version: range.max }
}

/// Everything that is served.
pub(super) fn api_versions() -> ApiVersionsResponse {
    let api_keys = ApiKey::ALL.into_iter().map(api_version).collect();
    ApiVersionsResponse { api_keys, ..Default::default() }
}

/// The answer, in version 0, to a version of ApiVersions that is not served: the client tries again.
pub(super) fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![api_version(ApiKey::ApiVersions)],
        ..Default::default()
    }
}

/// The one broker.
pub(super) fn cluster(door: &Door, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_BROKERS {
        let error_code = ErrorCode::MISMATCHED_ENDPOINT_TYPE;
        door.metrics.count_error(error_code);
        return DescribeClusterResponse {
            error_code,
            error_message: Some("this is a broker; controllers have no address here".to_owned()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    DescribeClusterResponse {
        cluster_id: door.config.cluster_id.clone(),
        controller_id: NODE_ID,
        brokers: vec![DescribeClusterBroker {
            broker_id: NODE_ID,
            host: door.config.advertised_host.clone(),
            port: i32::from(door.config.advertised_port),
            rack: None,
        }],
        ..Default::default()
    }
}

/// The settings of topics and of the broker.
pub(super) fn configs(door: &Door, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let document = request.include_documentation;
    let results = request.resources.into_iter().map(|resource| {
        let found = settings_of(door, &resource);
        let ConfigResource { resource_type, resource_name, configuration_keys } = resource;
        let result = ConfigResult { resource_type, resource_name, ..Default::default() };
        match found {
            Err((error_code, message)) => {
                door.metrics.count_error(error_code);
                ConfigResult { error_code, error_message: Some(message), ..result }
            }
            Ok(settings) => {
                let wanted = |setting: &Setting| match &configuration_keys {
                    None => true,
                    // An empty list means all, to Kafka too.
                    Some(keys) if keys.is_empty() => true,
                    Some(keys) => keys.iter().any(|key| key == setting.name()),
                };
                let entries = settings.into_iter().filter(wanted);
                ConfigResult { configs: entries.map(|s| s.entry(document)).collect(), ..result }
            }
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

fn settings_of(
    door: &Door,
    resource: &ConfigResource,
) -> Result<Vec<Setting>, (ErrorCode, String)> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = TopicName::new(name)
                .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
            let topic = door.broker.topic(&topic).ok_or_else(|| {
                let message = format!("topic {name} does not exist");
                (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
            })?;
            Ok(settings::of_topic(topic.config(), &door.config.broker))
        }
        // The empty name stands for settings shared by all brokers: there are none.
        RESOURCE_BROKER if name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER if name == NODE_ID.to_string() => {
            Ok(settings::of_broker(&door.config.broker, NODE_ID))
        }
        RESOURCE_BROKER => {
            Err((ErrorCode::INVALID_REQUEST, format!("the only broker is {NODE_ID}, not {name}")))
        }
        other => Err((
            ErrorCode::INVALID_REQUEST,
            format!("resource type {other} has no settings here; topics (2) and brokers (4) have"),
        )),
    }
}

/// There are no consumer groups and no transactions: an error that clients do not retry.
pub(super) fn coordinator(door: &Door, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error_code = ErrorCode::UNSUPPORTED_VERSION;
    door.metrics.count_error(error_code);
    let message = "this server has no consumer groups and no transactions yet";
    let coordinator = |key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(message.to_owned()),
        ..Default::default()
    };
    FindCoordinatorResponse {
        error_code,
        error_message: Some(message.to_owned()),
        node_id: -1,
        port: -1,
        coordinators: request.coordinator_keys.into_iter().map(coordinator).collect(),
        ..Default::default()
    }
}
