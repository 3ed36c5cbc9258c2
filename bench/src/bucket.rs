//! The S3 that is measured, in three modes:
//!
//! | environment | what is measured |
//! |---|---|
//! | nothing | the Python package `moto`, started here and ended with us |
//! | `STRANDLINE_BENCH_S3_ENDPOINT=http://127.0.0.1:9000` | a server that runs already, spoken to in path style |
//! | `STRANDLINE_BENCH_S3_BUCKET=BUCKET[/PREFIX]` alone | a real bucket, in Amazon's cloud |
//!
//! With an endpoint the bucket may be named too; otherwise it is `strandline-bench`, which must be there.
//! Credentials and region come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION` and their kin), as the
//! product takes them. Everything is put under a prefix of its own, which is emptied at the end of each row.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use block_store::{Remote, S3Options};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use host::Host;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload};
use testbed::Moto;
use tokio::runtime::Runtime;

const ENDPOINT: &str = "STRANDLINE_BENCH_S3_ENDPOINT";
const BUCKET: &str = "STRANDLINE_BENCH_S3_BUCKET";
const BUCKET_NAME: &str = "strandline-bench";

/// A part of a bucket that is ours, emptied when dropped, and a plain client of it.
#[derive(Debug)]
pub(crate) struct Bucket {
    options: S3Options,
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
}

impl Bucket {
    /// The bucket that the environment names, or a new one of a server of ours.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let mut options = mode()?;
        let slash = if options.prefix.is_empty() { "" } else { "/" };
        options.prefix = format!("{}{slash}{}", options.prefix, unique()?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the threads of the plain client")?;
        // First, since it chooses what encrypts.
        let _remote = Remote::s3(&Host::real(), &options)?;
        let store = Arc::new(plain(&options)?);
        Ok(Self { options, store, runtime })
    }

    /// The product's client of it.
    pub(crate) fn remote(&self) -> anyhow::Result<Remote> {
        Ok(Remote::s3(&Host::real(), &self.options)?)
    }

    /// Puts objects with the plain client, so many at a time.
    pub(crate) fn put_all(
        &self,
        names: &[String],
        bytes: &Bytes,
        at_once: usize,
    ) -> anyhow::Result<()> {
        let puts = names.iter().map(|name| {
            let (path, payload) = (self.path(name), PutPayload::from(bytes.clone()));
            async move { self.store.put(&path, payload).await.map(drop) }
        });
        let puts = stream::iter(puts).buffer_unordered(at_once);
        Ok(self.runtime.block_on(puts.try_collect::<Vec<()>>()).map(drop)?)
    }

    /// Gets objects with the plain client, one after the other.
    pub(crate) fn get_all(&self, names: &[String]) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            for name in names {
                std::hint::black_box(self.store.get(&self.path(name)).await?.bytes().await?);
            }
            Ok(())
        })
    }

    /// How many objects there are below a name: asked for a page at a time.
    pub(crate) fn list(&self, below: &str) -> anyhow::Result<Vec<Path>> {
        let below = self.path(below);
        let listed = self.store.list(Some(&below)).map_ok(|object| object.location);
        Ok(self.runtime.block_on(listed.try_collect())?)
    }

    /// Deletes objects, as many by one request as the service takes.
    pub(crate) fn delete(&self, paths: Vec<Path>) -> anyhow::Result<()> {
        let deleted = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        Ok(self.runtime.block_on(deleted.try_collect::<Vec<_>>()).map(drop)?)
    }

    /// Deletes all that lies below a name.
    pub(crate) fn clear(&self, below: &str) -> anyhow::Result<()> {
        let all = self.list(below)?;
        self.delete(all)
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.options.prefix))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Err(error) = self.clear("") {
            eprintln!("note: what was put into {} is left there: {error:#}", self.options.prefix);
        }
    }
}

/// Where the environment says that the bucket is.
fn mode() -> anyhow::Result<S3Options> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let bucket = set(BUCKET);
    let named = |bucket: Option<&str>| {
        let bucket = bucket.unwrap_or(BUCKET_NAME);
        Ok::<_, anyhow::Error>(S3Options::parse(&format!("s3://{bucket}"))?)
    };
    if let Some(endpoint) = set(ENDPOINT) {
        let options = named(bucket.as_deref())?;
        return Ok(S3Options { endpoint: Some(endpoint), path_style: true, ..options });
    }
    if bucket.is_some() {
        return named(bucket.as_deref());
    }
    let endpoint = Some(format!("http://{}", ours()?.addr()));
    let access_key = Some(("test".to_owned(), "test".to_owned()));
    let region = Some("us-east-1".to_owned());
    Ok(S3Options { endpoint, path_style: true, access_key, region, ..named(None)? })
}

/// The server of ours, started at its first use.
fn ours() -> anyhow::Result<&'static Moto> {
    static OURS: OnceLock<Result<Moto, testbed::NoMoto>> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        Moto::start(0).inspect(|moto| {
            moto.bucket(BUCKET_NAME);
        })
    });
    ours.as_ref().map_err(|missing| anyhow::Error::new(*missing))
}

/// A client with the same limits as the product's.
fn plain(options: &S3Options) -> anyhow::Result<impl ObjectStore + use<>> {
    let client = ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_timeout(options.request_timeout)
        .with_allow_http(true);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&options.bucket)
        .with_virtual_hosted_style_request(!options.path_style)
        .with_client_options(client);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some((id, secret)) = &options.access_key {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    Ok(builder.build()?)
}

/// A prefix that nobody else has.
fn unique() -> anyhow::Result<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now: Duration = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(format!("bench-{}-{}-{number}", now.as_millis(), std::process::id()))
}
