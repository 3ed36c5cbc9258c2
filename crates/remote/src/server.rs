//! The server half: volumes offered to whoever connects.
//!
//! One task per connection reads requests; each is tried at once and, if it has to wait, goes on in a
//! task of its own, so that requests of one connection overlap and answers come in any order. A request
//! counts against its connection's limits, with the bytes it brought and the bytes its answer may take,
//! until the answer has left; at a limit nothing more is read. A peer that does not read its answers
//! therefore stops being served and holds a bounded amount of memory.
//!
//! Not here: which calls a peer may make and what it has open (`session`), what the calls do.

mod session;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use file_tree::FileTree;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::frames::{FrameError, Frames};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::pipe::Pipe;
use crate::unix;
use crate::wire::{
    Answer, FRAME_BYTES_MAX, Hello, HelloAnswer, RefusalCode, Request, RequestId, VERSION, Welcome,
};
use session::Session;

/// What a server offers, by name.
pub trait Volumes: Debug + Send + Sync + 'static {
    /// The tree of the volume called `name`.
    ///
    /// # Errors
    ///
    /// See [`OpenVolumeError`]; the client is told the reason.
    fn open(&self, name: &str) -> Result<Arc<dyn FileTree>, OpenVolumeError>;
}

/// Why a volume cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenVolumeError {
    /// There is none of this name.
    #[error("there is no volume of this name")]
    NotFound,
    /// It is there but cannot be opened now.
    #[error("the volume cannot be opened: {0}")]
    Failed(String),
}

/// What one server, and one connection, may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Requests of one connection at a time.
    pub requests_max: u32,
    /// Bytes of requests and answers of one connection at a time; at least a frame and its answer.
    pub bytes_max: u32,
    /// Time that a frame may take from its first to its last byte.
    pub frame_time_max: Duration,
    /// Time that a peer has to say which volume it wants.
    pub hello_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            requests_max: 256,
            bytes_max: 16 * 1024 * 1024,
            frame_time_max: Duration::from_secs(30),
            hello_time_max: Duration::from_secs(10),
        }
    }
}

/// Largest request that is tried at once on the reading task, in bytes of it and its answer. Larger ones
/// copy enough to be worth another core.
const INLINE_BYTES_MAX: u32 = 16 * 1024;

/// How long accepting pauses after it failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `volumes` on `listener` until `stop` completes, then lets each connection finish the requests
/// it has begun, and returns when all are closed.
pub async fn serve(
    listener: UnixListener,
    volumes: Arc<dyn Volumes>,
    limits: Limits,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the file door cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.len() >= limits.connections_max {
            connections.spawn(refuse(stream.into(), RefusalCode::TooManyConnections, limits));
            continue;
        }
        let (volumes, metrics, stopped) = (volumes.clone(), metrics.clone(), stopped.clone());
        connections.spawn(serve_stream(stream, volumes, limits, metrics, stopped));
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn serve_stream(
    stream: UnixStream,
    volumes: Arc<dyn Volumes>,
    limits: Limits,
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<bool>,
) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "a peer's identity cannot be learned");
            return;
        }
    };
    unix::enlarge_send_buffer(&stream);
    let stop = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    serve_pipe(stream.into(), peer, volumes, limits, metrics, stop).await;
}

/// Tells a peer why it is not served.
async fn refuse(pipe: Pipe, code: RefusalCode, limits: Limits) {
    let reason = match code {
        RefusalCode::TooManyConnections => "the server has as many connections as it takes",
        RefusalCode::Version => "the server speaks another version of the file protocol",
        RefusalCode::NoSuchVolume => "there is no volume of this name",
        RefusalCode::VolumeFailed => "the volume cannot be opened",
    };
    say_no(&Outbox::new(pipe.writer), code, reason.to_owned(), limits).await;
}

/// Sends a refusal and gives it a moment to leave.
async fn say_no(
    outbox: &Outbox<Option<OwnedSemaphorePermit>>,
    code: RefusalCode,
    reason: String,
    limits: Limits,
) {
    let left = Arc::new(Semaphore::new(1));
    let hold = left.clone().try_acquire_owned().ok();
    let answer = HelloAnswer::Refused { version: VERSION, code, reason };
    if outbox.send(answer.frame(), hold).is_ok() {
        let gone = async {
            tokio::select! {
                _ = outbox.run() => {}
                _ = left.acquire() => {}
            }
        };
        // A peer that does not read its refusal in time does not get it.
        let _ = tokio::time::timeout(limits.hello_time_max, gone).await;
    }
}

/// Serves one connection, from hello to its end; `stop` ends it after the requests it has begun.
pub async fn serve_pipe(
    pipe: Pipe,
    peer: Peer,
    volumes: Arc<dyn Volumes>,
    limits: Limits,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let _open = metrics.connection();
    let mut frames = Frames::new(pipe.reader, limits.frame_time_max);
    let volume = match tokio::time::timeout(limits.hello_time_max, frames.next()).await {
        Ok(Ok(Some(frame))) => Hello::decode(frame),
        Ok(Ok(None)) | Ok(Err(FrameError::Io(_))) => return,
        Ok(Err(FrameError::Wire(error))) => Err(error),
        Ok(Err(FrameError::Slow(_))) | Err(_) => return Metrics::count(&metrics.frames_refused),
    };
    let tree = match volume {
        Ok(Hello::Volume(name)) => volumes.open(&name).map_err(|error| match error {
            OpenVolumeError::NotFound => (
                RefusalCode::NoSuchVolume,
                format!("volume {} does not exist", name.escape_debug()),
            ),
            OpenVolumeError::Failed(_) => (RefusalCode::VolumeFailed, error.to_string()),
        }),
        Ok(Hello::OtherVersion(theirs)) => {
            let reason =
                format!("the server speaks version {VERSION} of the file protocol, not {theirs}");
            Err((RefusalCode::Version, reason))
        }
        Err(error) => {
            tracing::debug!(%error, "a peer does not speak the file protocol");
            return Metrics::count(&metrics.frames_refused);
        }
    };
    match tree {
        Ok(tree) => {
            Connection::new(Session::new(tree, peer), pipe.writer, limits, metrics.clone())
                .run(frames, stop)
                .await
        }
        Err((code, reason)) => say_no(&Outbox::new(pipe.writer), code, reason, limits).await,
    }
}

/// One connection after its hello.
struct Connection {
    session: Session,
    outbox: Outbox<Hold>,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// What a request takes up until its answer has left.
struct Hold {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        session: Session,
        writer: crate::pipe::Writer,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let requests = usize::try_from(limits.requests_max).unwrap_or(Semaphore::MAX_PERMITS);
        let bytes = usize::try_from(limits.bytes_max).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            session,
            outbox: Outbox::new(writer),
            requests: Arc::new(Semaphore::new(requests)),
            bytes: Arc::new(Semaphore::new(bytes)),
            limits,
            metrics,
        })
    }

    async fn run(self: Arc<Self>, mut frames: Frames, stop: impl Future<Output = ()>) {
        let welcome = Welcome { root: self.session.root(), requests_max: self.limits.requests_max };
        if let Some(hold) = self.admit(0).await {
            // A connection that is closed already ends below.
            let _ = self.outbox.send(HelloAnswer::Welcome(welcome).frame(), hold);
        }
        let outcome = tokio::select! {
            outcome = self.read_requests(&mut frames) => outcome,
            written = self.outbox.run() => written.map_err(FrameError::Io),
            () = stop => {
                self.finish_requests().await;
                Ok(())
            }
        };
        match outcome {
            Ok(()) | Err(FrameError::Io(_)) => {}
            Err(error @ (FrameError::Wire(_) | FrameError::Slow(_))) => {
                tracing::debug!(%error, "a connection of the file door is closed");
                Metrics::count(&self.metrics.frames_refused);
            }
        }
        self.outbox.close();
        self.all_requests_done().await;
        self.session.release_all().await;
    }

    async fn read_requests(self: &Arc<Self>, frames: &mut Frames) -> Result<(), FrameError> {
        while let Some(frame) = frames.next().await? {
            let frame_bytes = frame.len();
            let (id, request) = Request::decode(frame)?;
            let cost = self.cost(frame_bytes, &request);
            let Some(hold) = self.admit(cost).await else { return Ok(()) };
            let mut work: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(self.clone().perform(id, request, hold));
            // With nothing else to do, most calls are answered here and now, without a change of task.
            let idle = cost <= INLINE_BYTES_MAX && !frames.more_at_hand();
            if idle
                && work.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
            {
                continue;
            }
            tokio::spawn(work);
        }
        Ok(())
    }

    async fn perform(self: Arc<Self>, id: RequestId, request: Request, hold: Hold) {
        Metrics::count(&self.metrics.requests);
        let answer = self.session.answer(request).await;
        if matches!(answer, Answer::Failed(_)) {
            self.metrics.requests_failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(closed) = self.outbox.send(answer.frame(id), hold) {
            tracing::trace!(?closed, "an answer has nowhere to go");
        }
    }

    /// Bytes that a request and its answer may hold, within the connection's limit.
    fn cost(&self, frame_bytes: usize, request: &Request) -> u32 {
        let frame = u32::try_from(frame_bytes).unwrap_or(u32::MAX);
        frame.saturating_add(session::answer_bytes_max(request)).min(self.limits.bytes_max)
    }

    /// Waits for room; `None` never happens while the connection lives.
    async fn admit(&self, cost: u32) -> Option<Hold> {
        let request = self.requests.clone().acquire_owned().await.ok()?;
        let bytes = self.bytes.clone().acquire_many_owned(cost).await.ok()?;
        Some(Hold { _request: request, _bytes: bytes })
    }

    /// Lets begun requests finish and their answers leave.
    async fn finish_requests(&self) {
        tokio::select! {
            _ = self.outbox.run() => {}
            () = self.all_requests_done() => {}
        }
    }

    /// Waits until no request holds anything.
    async fn all_requests_done(&self) {
        let all = self.requests.acquire_many(self.limits.requests_max).await;
        drop(all);
    }
}

// A connection's byte limit must let one request and its answer through.
const _: () = assert!(2 * FRAME_BYTES_MAX < 16 * 1024 * 1024);
