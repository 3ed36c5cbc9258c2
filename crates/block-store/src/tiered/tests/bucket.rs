//! A bucket in memory that can be away, lose replies, keep requests waiting, and counts.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// The bucket; clones are handles on the same one.
#[derive(Clone, Debug)]
pub(super) struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: InMemory,
    away: AtomicBool,
    puts_away: AtomicBool,
    loses_replies: AtomicBool,
    panics: AtomicBool,
    /// Requests wait while this is shut.
    gate: watch::Sender<bool>,
    gets: AtomicU64,
    heads: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    /// Names that were put, in order.
    log: Mutex<Vec<String>>,
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            memory: InMemory::new(),
            away: AtomicBool::new(false),
            puts_away: AtomicBool::new(false),
            loses_replies: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            gate: watch::channel(true).0,
            gets: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
            log: Mutex::default(),
        }))
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    pub(super) fn be_away(&self, away: bool) {
        self.0.away.store(away, SeqCst);
    }

    pub(super) fn refuse_puts(&self, away: bool) {
        self.0.puts_away.store(away, SeqCst);
    }

    pub(super) fn lose_replies(&self, loses: bool) {
        self.0.loses_replies.store(loses, SeqCst);
    }

    pub(super) fn panic(&self, panics: bool) {
        self.0.panics.store(panics, SeqCst);
    }

    pub(super) fn open_gate(&self, open: bool) {
        self.0.gate.send_replace(open);
    }

    /// Requests so far that get, look at, put, and delete.
    pub(super) fn requests(&self) -> [u64; 4] {
        let Inner { gets, heads, puts, deletes, .. } = &*self.0;
        [gets, heads, puts, deletes].map(|count| count.load(SeqCst))
    }

    /// Names that were put, in order.
    pub(super) fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let listed = self.0.memory.list(None).map(|meta| meta.unwrap().location.to_string());
        listed.collect().now_or_never().unwrap()
    }

    /// Puts bytes behind everybody's back.
    pub(super) fn plant(&self, name: &str, bytes: impl Into<PutPayload>) {
        self.0.memory.put(&Path::from(name), bytes.into()).now_or_never().unwrap().unwrap();
    }

    async fn arrive(&self, count: &AtomicU64, is_put: bool) -> Result<()> {
        count.fetch_add(1, SeqCst);
        self.0.gate.subscribe().wait_for(|open| *open).await.unwrap();
        assert!(!self.0.panics.load(SeqCst), "the bucket was told to");
        if self.0.away.load(SeqCst) || (is_put && self.0.puts_away.load(SeqCst)) {
            return Err(away());
        }
        Ok(())
    }
}

fn away() -> Error {
    Error::Generic { store: "bucket", source: "503 it is away".into() }
}

fn nobody(does: &str) -> Error {
    Error::NotImplemented { operation: does.to_owned(), implementer: "bucket".to_owned() }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.arrive(&self.0.puts, true).await?;
        let put = self.0.memory.put_opts(location, payload, opts).await?;
        self.0.log.lock().unwrap().push(location.to_string());
        if self.0.loses_replies.load(SeqCst) { Err(away()) } else { Ok(put) }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(nobody("puts in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let count = if options.head { &self.0.heads } else { &self.0.gets };
        self.arrive(count, false).await?;
        self.0.memory.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let deleted = async move {
            match bucket.arrive(&bucket.0.deletes, false).await {
                Ok(()) => bucket.0.memory.delete_stream(locations),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        deleted.flatten_stream().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.0.away.load(SeqCst) {
            return stream::iter([Err(away())]).boxed();
        }
        self.0.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(nobody("lists by folders"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(nobody("copies"))
    }
}
