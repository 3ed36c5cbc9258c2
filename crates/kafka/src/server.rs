//! The listening half of the door: connections in, broker calls out.
//!
//! One task per connection reads frames and answers them in order (`connection`); what a request means
//! is translated in one file per group of APIs; what a broker's error means to a client is
//! decided in `codes`, without catch-all arms. The door keeps no state of topics or clients.
//!
//! Limits: see [`Limits`]. Whoever is over one waits or is disconnected, and is counted in [`Metrics`].
//!
//! Not here: bytes and versions (`crate::wire`), what a topic is (`broker`).

mod codes;
mod connection;
mod describe;
mod fetch;
mod frames;
mod offsets;
mod produce;
mod settings;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::Broker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::metrics::{Metrics, add};

/// The one broker's number. It is the controller too, or administrators would look for one forever.
pub const NODE_ID: i32 = 1;

/// Longest frame of a produce request.
pub const FRAME_BYTES_MAX: u32 = 100 * 1024 * 1024;
/// Longest frame of any other request.
pub const CONTROL_FRAME_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most connections at a time.
pub const CONNECTIONS_MAX: usize = 1024;
/// Most produce requests of one connection that are stored and not acknowledged yet.
pub const PIPELINE_REQUESTS_MAX: usize = 64;
/// Most bytes of record batches in one fetch response (one batch may exceed it).
pub const FETCH_BYTES_MAX: u32 = 50 * 1024 * 1024;

const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the door says about itself, and its limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients are told to connect. An IPv4 literal avoids clients that resolve `localhost` to `::1`.
    pub advertised_host: String,
    /// The port that clients are told to connect to.
    pub advertised_port: u16,
    /// Names this server's data; the same after every restart.
    pub cluster_id: String,
    /// What the broker was opened with, for defaults and for clients that ask.
    pub broker: broker::Options,
    /// What a connection may use.
    pub limits: Limits,
}

/// What connections may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest frame of a produce request.
    pub frame_bytes_max: u32,
    /// Longest frame of any other request.
    pub control_frame_bytes_max: u32,
    /// Most connections at a time; more are closed at once.
    pub connections_max: usize,
    /// Most produce requests of one connection that wait for their acknowledgement.
    pub pipeline_requests_max: usize,
    /// Most bytes of record batches in one fetch response (one batch may exceed it).
    pub fetch_bytes_max: u32,
    /// Longest wait of a fetch, whatever the client asks for.
    pub fetch_wait_max: Duration,
    /// Longest time without any request.
    pub idle_max: Duration,
    /// Longest time from the first byte of a frame to its last; large frames get one second per
    /// 64 KiB more.
    pub frame_wait_max: Duration,
    /// Longest time in which a peer takes no byte of a response.
    pub write_wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            control_frame_bytes_max: CONTROL_FRAME_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            pipeline_requests_max: PIPELINE_REQUESTS_MAX,
            fetch_bytes_max: FETCH_BYTES_MAX,
            fetch_wait_max: Duration::from_secs(300),
            idle_max: Duration::from_secs(600),
            frame_wait_max: Duration::from_secs(30),
            write_wait_max: Duration::from_secs(30),
        }
    }
}

/// What every connection shares.
#[derive(Debug)]
struct Door {
    broker: Broker,
    config: Config,
    metrics: Arc<Metrics>,
}

/// Accepts connections and serves them until `shutdown` turns true or its sender is gone.
///
/// Returns when every connection is closed: those in the middle of a request get five seconds.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    config: Config,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let door = Arc::new(Door { broker, config, metrics });
    let mut connections = JoinSet::new();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut shutdown) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a Kafka connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let limit = door.config.limits.connections_max;
        if connections.len() >= limit {
            add(&door.metrics.connections_refused, 1);
            if !full {
                tracing::warn!(%peer, limit, "Kafka connections are refused: the limit is reached");
            }
            full = true;
            continue;
        }
        full = false;
        connections.spawn(attend(Arc::clone(&door), stream, peer, shutdown.clone()));
    }
    drop(listener);
    let closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, closed).await.is_err() {
        connections.shutdown().await;
    }
}

/// Resolves when the server is to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// One connection from first to last byte, with its counters and its one line in the log.
async fn attend(
    door: Arc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: watch::Receiver<bool>,
) {
    add(&door.metrics.connections_accepted, 1);
    let _open = Open::new(&door.metrics);
    let closed = connection::run(&door, stream, shutdown).await;
    closed.report(peer, &door.metrics);
}

/// Counts a connection as open for as long as it lives, also when its task is aborted.
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
