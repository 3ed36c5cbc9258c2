//! A bucket by its address: which options there are, and what they become.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use host::Host;
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::advice::Listening;
use super::bucket::is_prefix;
use super::profile::{self, Keys, Variables};
use crate::OpenRemoteError;

/// Where a bucket is and how it is spoken to.
///
/// Credentials are looked for as always with S3, in this order: `AWS_ACCESS_KEY_ID` and its kin in the environment, a
/// profile in the files of `~/.aws`, a web identity, a container's role, and, with Amazon's own service only, the
/// machine's.
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
    pub(super) fn build(&self, host: &Host) -> Result<Built, OpenRemoteError> {
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
            .with_http_connector(Listening::default())
            .with_retry(never);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(self.endpoint_of_bucket(endpoint));
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        let refused = |why: String| OpenRemoteError::Refused { place: self.place(), why };
        let who = who_asks(host, &variable, self.access_key.as_ref()).map_err(refused)?;
        match &who.keys {
            Asks::Keys(Keys { id, secret, token }) => {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                if let Some(token) = token {
                    builder = builder.with_token(token);
                }
            }
            Asks::Nobody if self.endpoint.is_some() => {
                return Err(OpenRemoteError::NoCredentials { place: self.place() });
            }
            Asks::Environment | Asks::Nobody => {}
        }
        if let Some(region) = who.region.filter(|_| self.region.is_none()) {
            builder = builder.with_region(region);
        }
        let store = builder.build().map_err(|error| refused(error.to_string()))?;
        let is_nobody = matches!(who.keys, Asks::Nobody);
        let role_of_machine = is_nobody.then(|| Arc::clone(store.credentials()));
        Ok(Built { store: Arc::new(store), role_of_machine })
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

/// A client.
pub(super) struct Built {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Whom to ask for this machine's role, if nothing else says who asks.
    pub(super) role_of_machine: Option<AwsCredentialProvider>,
}

/// Who asks, as far as this machine knows.
struct Who {
    keys: Asks,
    /// The region of the profile, if the environment names none.
    region: Option<String>,
}

enum Asks {
    /// Whoever has these keys.
    Keys(Keys),
    /// The environment says it, and the client reads that.
    Environment,
    /// Nobody that is known here; perhaps the machine has a role.
    Nobody,
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Looks for credentials, in the usual order. The error is a sentence.
fn who_asks(
    host: &Host,
    variables: Variables<'_>,
    given: Option<&(String, String)>,
) -> Result<Who, String> {
    let is_set = |names: &[&str]| names.iter().any(|name| variables(name).is_some());
    if let Some((id, secret)) = given.cloned() {
        return Ok(Who { keys: Asks::Keys(Keys { id, secret, token: None }), region: None });
    }
    if is_set(&["AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"]) {
        return Ok(Who { keys: Asks::Environment, region: None });
    }
    let profile = profile::read(host, variables)?;
    let region = profile.region.filter(|_| !is_set(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    let keys = match profile.keys {
        Some(keys) => Asks::Keys(keys),
        None if is_set(ROLES) => Asks::Environment,
        None => Asks::Nobody,
    };
    Ok(Who { keys, region })
}

/// Variables of which one is there where a role is given by a service.
const ROLES: &[&str] = &[
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

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

    use std::path::Path;

    use host::OpenMode;

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
    fn who_asks_is_looked_for_in_the_usual_order() {
        let host = host::sim::Machine::new(1).host();
        let file = host.disk.open(Path::new("/keys"), OpenMode::CreateNew).unwrap();
        let text = "[default]\nregion = r\naws_access_key_id = P\naws_secret_access_key = S\n";
        file.write_all_at(text.as_bytes(), 0).unwrap();
        let who = |set: &[&str], given: Option<(String, String)>| {
            let value = |name: &str| match name {
                "AWS_SHARED_CREDENTIALS_FILE" => "/keys",
                "AWS_PROFILE" => "default",
                _ => "set",
            };
            let variables = |name: &str| set.contains(&name).then(|| value(name).to_owned());
            let who = who_asks(&host, &variables, given.as_ref()).map_err(|_| "an error")?;
            Ok((
                match who.keys {
                    Asks::Keys(keys) => keys.id,
                    Asks::Environment => "environment".to_owned(),
                    Asks::Nobody => "nobody".to_owned(),
                },
                who.region.unwrap_or_default(),
            ))
        };
        let is = |id: &str, region: &str| Ok((id.to_owned(), region.to_owned()));
        let file = "AWS_SHARED_CREDENTIALS_FILE";
        let web = "AWS_WEB_IDENTITY_TOKEN_FILE";
        let given = Some(("G".to_owned(), "S".to_owned()));
        assert_eq!(who(&["AWS_ACCESS_KEY_ID", file], given), is("G", ""));
        assert_eq!(who(&["AWS_ACCESS_KEY_ID", file, web], None), is("environment", ""));
        assert_eq!(who(&["AWS_SKIP_SIGNATURE"], None), is("environment", ""));
        assert_eq!(who(&[file, web], None), is("P", "r"));
        assert_eq!(who(&[file, "AWS_REGION"], None), is("P", ""));
        assert_eq!(who(&[web], None), is("environment", ""));
        assert_eq!(who(&[], None), is("nobody", ""));
        assert_eq!(who(&["AWS_PROFILE"], None), Err("an error"));
    }

    #[test]
    fn another_service_than_amazons_needs_credentials() {
        let given = ["AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_PROFILE"];
        let mut given = given.iter().chain(ROLES);
        if let Some(name) = given.find(|name| variable(name).is_some()) {
            println!("skipped: {name} is set");
            return;
        }
        let host = host::sim::Machine::new(1).host();
        let mut options = S3Options::parse("s3://b").unwrap();
        options.endpoint = Some("http://127.0.0.1:1".to_owned());
        assert!(matches!(options.build(&host), Err(OpenRemoteError::NoCredentials { .. })));
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
