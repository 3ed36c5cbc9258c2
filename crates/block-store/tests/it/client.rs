//! Goal: it is known what the `object_store` client does by itself when the network is bad, since what is built on it
//! depends on that. Method: its own retries, three at most, against each fault; what reached the server is counted.
//!
//! What follows for a store that never lies about a conditional put:
//!
//! - **Its retries may not be used for conditional puts** (`RetryConfig { max_retries: 0, .. }`, and retries of our
//!   own): it repeats such a put after any 5xx and after a connection that was closed in good order without a reply
//!   (hyper's "incomplete message", which it takes for a request that was not sent). If the first one was done, the
//!   second meets 412, and `put_opts` says `AlreadyExists` or `Precondition` to the one who wrote the object.
//!   A connection that is *reset* before the reply is not retried: `Generic`, outcome unknown.
//! - With or without retries, `AlreadyExists` and `Precondition` after any earlier attempt mean "look who wrote it".
//! - 409 is `AlreadyExists` for [`PutMode::Create`], though S3 means by it that another request is under way, and
//!   that one may fail: look whether the object is there.
//! - 404 is `Precondition` for [`PutMode::Update`].
//! - `Retry-After` is ignored.
//! - A reply's body that breaks off is continued from there by a ranged GET, if the tag is still the same; without
//!   retries it is an error. A damaged body is handed out as it came.
//! - A delete is not retried after a reset, although it could be.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig, UpdateVersion,
};
use testbed::{Bucket, Fault, Kind, Moto, Proxy, Rule};

struct Lab {
    proxy: Proxy,
    bucket: Bucket,
    client: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

fn lab(retries: usize) -> Option<Lab> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let moto = Moto::shared()?;
    let proxy = Proxy::start(moto.addr());
    let bucket = moto.bucket(&format!("client-{}", LABS.fetch_add(1, Ordering::Relaxed)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let tiny = Duration::from_millis(1);
    let client = AmazonS3Builder::new()
        .with_endpoint(proxy.endpoint())
        .with_bucket_name(bucket.name())
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(RetryConfig {
            backoff: BackoffConfig { init_backoff: tiny, max_backoff: tiny, base: 2.0 },
            max_retries: retries,
            retry_timeout: Duration::from_secs(30),
        })
        .build()
        .unwrap();
    Some(Lab { proxy, bucket, client, runtime })
}

impl Lab {
    fn put(&self, mode: PutMode, bytes: &'static [u8]) -> Result<(), Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let key = key();
        let put = self.client.put_opts(&key, Bytes::from_static(bytes).into(), options);
        self.runtime.block_on(put).map(|_| ())
    }

    fn get(&self) -> Result<Bytes, Error> {
        self.runtime.block_on(async { self.client.get(&key()).await?.bytes().await })
    }

    fn requests(&self, kind: Kind) -> usize {
        self.proxy.log().count(kind)
    }
}

fn key() -> Path {
    Path::from("key")
}

fn exists(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::AlreadyExists { .. }))
}

#[test]
fn its_retries_report_a_conditional_put_that_was_done_as_one_that_lost() {
    for fault in [Fault::CloseUnanswered, Fault::ServeButSay(500), Fault::ServeButSay(503)] {
        let Some(lab) = lab(3) else { return };
        lab.proxy.add(Rule::new(fault.clone()).on(Kind::Put));
        let result = lab.put(PutMode::Create, b"mine");
        assert!(exists(&result), "{fault:?}: {result:?}");
        assert_eq!(lab.requests(Kind::Put), 2);
        assert_eq!(lab.bucket.get("key").as_deref(), Some(&b"mine"[..]), "it was this very put");
    }
}

#[test]
fn a_reset_before_the_reply_leaves_a_conditional_put_unknown() {
    let Some(lab) = lab(3) else { return };
    lab.proxy.add(Rule::new(Fault::LoseReply).on(Kind::Put));
    let result = lab.put(PutMode::Create, b"mine");
    assert!(matches!(result, Err(Error::Generic { .. })), "{result:?}");
    assert_eq!(lab.requests(Kind::Put), 1);
    assert!(lab.bucket.get("key").is_some());
}

#[test]
fn without_retries_each_conditional_put_is_one_request() {
    let faults = [
        Fault::CloseUnanswered,
        Fault::LoseReply,
        Fault::ServeButSay(500),
        Fault::BUSY,
        Fault::TOO_MANY,
        Fault::ResetRequest,
    ];
    for fault in faults {
        let Some(lab) = lab(0) else { return };
        lab.proxy.add(Rule::new(fault.clone()).on(Kind::Put));
        let result = lab.put(PutMode::Create, b"mine");
        assert!(matches!(result, Err(Error::Generic { .. })), "{fault:?}: {result:?}");
        assert_eq!(lab.requests(Kind::Put), 1, "{fault:?}");
    }
}

#[test]
fn a_conflict_is_called_existence_although_nothing_exists() {
    let Some(lab) = lab(3) else { return };
    let conflict = Fault::Refuse { status: 409, retry_after_seconds: None };
    lab.proxy.add(Rule::new(conflict).on(Kind::Put));
    let result = lab.put(PutMode::Create, b"mine");
    assert!(exists(&result), "{result:?}");
    assert_eq!(lab.bucket.get("key"), None);
}

#[test]
fn an_update_of_what_is_gone_is_a_failed_condition() {
    let Some(lab) = lab(0) else { return };
    let version = UpdateVersion { e_tag: Some("\"0\"".to_owned()), version: None };
    let result = lab.put(PutMode::Update(version), b"mine");
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
}

#[test]
fn a_body_that_breaks_off_is_continued_by_retries_and_an_error_without() {
    for fault in [Fault::ResetReply, Fault::TruncateReply] {
        let Some(patient) = lab(3) else { return };
        let Some(once) = lab(0) else { return };
        let bytes = vec![7; 1 << 20];
        for (lab, continues) in [(patient, true), (once, false)] {
            lab.bucket.put("key", &bytes);
            lab.proxy.add(Rule::new(fault.clone()).on(Kind::Get));
            let got = lab.get();
            assert_eq!(got.is_ok_and(|got| got == bytes), continues, "{fault:?}");
            let ranges: Vec<_> =
                lab.proxy.log().of(Kind::Get).map(|seen| seen.range.is_some()).collect();
            assert_eq!(ranges, [&[false][..], &[true][..usize::from(continues)]].concat());
        }
    }
}

#[test]
fn a_damaged_body_is_handed_out_as_it_came() {
    let Some(lab) = lab(3) else { return };
    lab.bucket.put("key", &[0; 1000]);
    lab.proxy.add(Rule::new(Fault::CorruptReply).on(Kind::Get));
    let got = lab.get().unwrap();
    assert_eq!(got.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_delete_that_was_done_and_not_answered_is_an_error() {
    let Some(lab) = lab(3) else { return };
    lab.bucket.put("key", b"x");
    lab.proxy.add(Rule::new(Fault::LoseReply));
    let result = lab.runtime.block_on(lab.client.delete(&key()));
    assert!(result.is_err());
    assert_eq!(lab.bucket.get("key"), None);
}
