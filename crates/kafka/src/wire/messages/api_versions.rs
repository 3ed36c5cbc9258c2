//! ApiVersions: what a client asks first. The answer never has tags in its header.

#![expect(missing_docs, reason = "fields carry the names of the published schema")]

use crate::wire::ErrorCode;
use crate::wire::define::{message, structures};

structures! {
    /// Asks what is served.
    pub struct ApiVersionsRequest {
        client_software_name: String => 3..;
        client_software_version: String => 3..;
    }

    /// What is served.
    pub struct ApiVersionsResponse {
        error_code: ErrorCode => 0..;
        api_keys: Vec<ApiVersion> => 0..;
        throttle_time_ms: i32 => 1..;
    }

    /// The versions of one API.
    pub struct ApiVersion {
        api_key: i16 => 0..;
        min_version: i16 => 0..;
        max_version: i16 => 0..;
    }
}

message!(ApiVersionsRequest => ApiVersionsResponse: ApiVersions, versions 0..=4, flexible from 3);
