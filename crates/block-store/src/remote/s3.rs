//! A bucket by its address: which options there are, and what they become.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::bucket::is_prefix;
use crate::OpenRemoteError;

/// Where a bucket is and how it is spoken to.
///
/// Credentials are looked for as always with S3: `AWS_ACCESS_KEY_ID` and its kin in the environment, a web
/// identity, a container's, an instance's.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// What all names in the bucket begin with; may be empty.
    pub prefix: String,
    /// Address of the service, `http://...` or `https://...`; Amazon's own if there is none.
    pub endpoint: Option<String>,
    /// Whether the bucket's name stands in the path of an address, and not in its host's name.
    pub path_style: bool,
    /// The region; `AWS_REGION`, or `us-east-1`, if there is none.
    pub region: Option<String>,
    /// Whether an endpoint without TLS may lie outside of this machine.
    pub allow_http: bool,
    /// Access key and secret, in place of those of the environment.
    pub access_key: Option<(String, String)>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
}

impl S3Options {
    /// Options for `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    ///
    /// [`OpenRemoteError::BadAddress`].
    pub fn parse(address: &str) -> Result<Self, OpenRemoteError> {
        let bad = |why| OpenRemoteError::BadAddress { address: address.to_owned(), why };
        let rest =
            address.strip_prefix("s3://").ok_or_else(|| bad("it does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() {
            return Err(bad("it names no bucket"));
        }
        if !is_prefix(prefix) {
            return Err(bad(
                "the part behind the bucket has empty parts or characters that no name has",
            ));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            path_style: false,
            region: None,
            allow_http: false,
            access_key: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        })
    }

    /// The address without secrets, for people.
    pub(super) fn place(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let at = self.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}"));
        format!("s3://{}{slash}{}{}", self.bucket, self.prefix, at.unwrap_or_default())
    }

    /// Requests are not repeated here: who asks has limits of its own.
    pub(super) fn build(&self) -> Result<Arc<dyn ObjectStore>, OpenRemoteError> {
        let http = self.may_use_http()?;
        // Whoever was there first chose what encrypts; any will do.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_connect_timeout(self.connect_timeout)
            .with_timeout(self.request_timeout)
            .with_allow_http(http);
        let never = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: self.request_timeout,
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(!self.path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(client)
            .with_retry(never);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(self.endpoint_of_bucket(endpoint));
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &self.access_key {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|error| OpenRemoteError::Refused {
            place: self.place(),
            why: error.to_string(),
        })?;
        Ok(Arc::new(store))
    }

    /// With the bucket in the host's name, the endpoint has to have it there.
    fn endpoint_of_bucket(&self, endpoint: &str) -> String {
        match endpoint.split_once("://") {
            Some((scheme, host)) if !self.path_style => {
                format!("{scheme}://{}.{host}", self.bucket)
            }
            _ => endpoint.to_owned(),
        }
    }

    fn may_use_http(&self) -> Result<bool, OpenRemoteError> {
        let Some(endpoint) = &self.endpoint else { return Ok(false) };
        let bad = |why| OpenRemoteError::BadAddress { address: endpoint.clone(), why };
        match endpoint.split_once("://") {
            Some(("https", _)) => Ok(false),
            Some(("http", rest)) if self.allow_http || is_loopback(rest) => Ok(true),
            Some(("http", _)) => Err(bad("an endpoint outside of this machine needs https")),
            _ => Err(bad("an endpoint begins with http:// or https://")),
        }
    }
}

/// Whether `HOST[:PORT][/...]` is this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    //! Goal: addresses mean what they say, and secrets do not travel in the clear by mistake.

    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_perhaps_a_prefix() {
        let parsed = |address: &str| {
            S3Options::parse(address).map(|options| (options.bucket, options.prefix)).ok()
        };
        assert_eq!(parsed("s3://b"), Some(("b".into(), String::new())));
        assert_eq!(parsed("s3://b/"), Some(("b".into(), String::new())));
        assert_eq!(parsed("s3://b/c/d/"), Some(("b".into(), "c/d".into())));
        for bad in ["", "b", "s3://", "s3:///c", "s3://b//c", "s3://b/../c", "http://b"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls_unless_told() {
        let mut options = S3Options::parse("s3://b").unwrap();
        let mut may = |endpoint: &str, allow_http| {
            options.endpoint = Some(endpoint.to_owned());
            options.allow_http = allow_http;
            options.may_use_http().ok()
        };
        for here in
            ["http://localhost:9000", "http://127.0.0.1:1", "http://[::1]:1/", "http://127.9.9.9"]
        {
            assert_eq!(may(here, false), Some(true), "{here}");
        }
        for away in
            ["http://example.org", "http://127.0.0.1.example.org", "http://127.0.0.1@example.org"]
        {
            assert_eq!(may(away, false), None, "{away}");
            assert_eq!(may(away, true), Some(true), "{away}");
        }
        assert_eq!(may("https://example.org", false), Some(false));
        assert_eq!(may("example.org", true), None);
    }
}
