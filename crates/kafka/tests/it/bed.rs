//! A server on a port of its own, over a real broker in a directory of its own; and a raw connection for
//! what a decent client would not do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block_store::Directory;
use broker::batch::{Builder, Compression, NewRecord};
use broker::{Broker, Options};
use bytes::Bytes;
use host::Host;
use host::sim::Machine;
use kafka::Metrics;
use kafka::client::{Acks, Client, Create, FetchFrom, FetchedBatches};
use kafka::server::{Config, Limits, serve};
use kafka::wire::{Message, Request, decode_response, encode_request};
use meta_store::MetaStore;
use strands::Strands;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const CLUSTER_ID: &str = "the-cluster";
pub(crate) const BATCH_BYTES_MAX: u32 = 1 << 20;

/// Where a server keeps its data.
struct Place {
    host: Host,
    path: PathBuf,
    meta: Arc<dyn MetaStore>,
    directory: Option<TempDir>,
}

impl Place {
    fn real(directory: TempDir) -> Self {
        let path = directory.path().to_owned();
        let meta = Arc::new(meta_store::Fjall::open(path.join("meta")).unwrap());
        Self { host: Host::real(), path, meta, directory: Some(directory) }
    }

    fn simulated(machine: &Machine) -> Self {
        let meta = Arc::new(meta_store::Memory::new());
        Self { host: machine.host(), path: PathBuf::from("/data"), meta, directory: None }
    }
}

/// A running server. Dropping it leaves the directory as a crash would.
pub(crate) struct Bed {
    pub(crate) address: String,
    pub(crate) metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    strands: Strands,
    directory: Option<TempDir>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::open(Place::real(tempfile::tempdir().unwrap()), limits).await
    }

    /// On a machine that can be made to fail.
    pub(crate) async fn on(machine: &Machine) -> Self {
        Self::open(Place::simulated(machine), Limits::default()).await
    }

    async fn open(place: Place, limits: Limits) -> Self {
        let Place { host, path, meta, directory } = place;
        let blocks = Arc::new(Directory::open(&host, &path.join("blocks")).unwrap());
        let options = strands::Options { reserve_bytes: Some(0), ..strands::Options::default() };
        let strands = Strands::open(host, &path.join("journal"), meta, blocks, options).unwrap();
        let options = Options { batch_bytes_max: BATCH_BYTES_MAX, ..Options::default() };
        let broker = Broker::open(strands.clone(), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            advertised_host: address.ip().to_string(),
            advertised_port: address.port(),
            cluster_id: CLUSTER_ID.to_owned(),
            broker: options,
            limits,
        };
        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, broker, config, Arc::clone(&metrics), stopped));
        Self { address: address.to_string(), metrics, stop, serving, strands, directory }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address, kafka::client::Options::default()).await.unwrap()
    }

    /// A client, and a fresh topic named `t`.
    pub(crate) async fn client_with_topic(&self) -> Client {
        let client = self.client().await;
        client.create_topic("t", None, &[]).await.unwrap();
        client
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw(TcpStream::connect(&self.address).await.unwrap())
    }

    /// Stops the server as a signal would, and opens the same directory again.
    pub(crate) async fn restart(self) -> Self {
        self.stop.send(true).unwrap();
        self.serving.await.unwrap();
        let strands = self.strands;
        tokio::task::spawn_blocking(move || strands.close().unwrap()).await.unwrap();
        Self::open(Place::real(self.directory.unwrap()), Limits::default()).await
    }

    /// Stops the server and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.serving.await.unwrap();
    }
}

/// Waits for something that another task will do.
pub(crate) async fn eventually(mut happened: impl FnMut() -> bool) {
    while !happened() {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Bytes on a socket, and nothing that looks after them.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn request<R: Request>(&mut self, version: i16, id: i32, request: &R) {
        let frame = encode_request(version, id, &None, request).unwrap();
        self.send(&frame.to_bytes()).await;
    }

    /// The body of the next frame.
    pub(crate) async fn frame(&mut self) -> Bytes {
        let size = self.0.read_u32().await.unwrap();
        let mut body = vec![0; size as usize];
        self.0.read_exact(&mut body).await.unwrap();
        body.into()
    }

    pub(crate) async fn response<M: Message>(&mut self, version: i16) -> (i32, M) {
        decode_response(&self.frame().await, version).unwrap()
    }

    /// Waits until the server hangs up; it must not send anything before.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is as good as an end: the server did not read all that was sent.
        let _ = self.0.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{} bytes instead of a closed connection", rest.len());
    }
}

/// A batch with one record per value; the first has the timestamp 1000, the next 1001.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_with(Compression::None, values)
}

pub(crate) fn batch_with(compression: Compression, values: &[&str]) -> Bytes {
    let mut builder = Builder::new(compression);
    for (timestamp, value) in (1000..).zip(values) {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        builder.push(&NewRecord { timestamp, value, ..Default::default() }).unwrap();
    }
    builder.build().unwrap()
}

pub(crate) fn from(offset: i64) -> FetchFrom {
    FetchFrom { offset, wait_max: std::time::Duration::ZERO, min_bytes: 1, max_bytes: 1 << 20 }
}

/// Offset and value of every record in fetched batches.
pub(crate) fn records(fetched: &FetchedBatches) -> Vec<(i64, String)> {
    let mut records = Vec::new();
    for batch in broker::batch::batches(fetched.batches.clone()) {
        for record in batch.unwrap().records(1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            records.push((record.offset, value));
        }
    }
    records
}

/// Everything in partition 0 of `t`.
pub(crate) async fn all_records(client: &Client) -> Vec<(i64, String)> {
    records(&client.fetch("t", 0, from(0)).await.unwrap())
}

pub(crate) async fn produce(client: &Client, values: &[&str]) -> i64 {
    client.produce("t", 0, batch(values), Acks::All).await.unwrap().unwrap()
}

pub(crate) async fn partitions(client: &Client, topic: &str) -> usize {
    client.topic(topic, Create::Never).await.unwrap().partitions.len()
}
