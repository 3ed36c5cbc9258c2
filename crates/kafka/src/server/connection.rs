//! One connection: requests in order, answers in order.
//!
//! A produce request is stored as soon as it is read, also while earlier produce requests still wait for
//! their acknowledgement, so that a client that pipelines shares syncs with itself. Every other request
//! starts only when all answers before it are sent. Its answers and its effects are therefore those of one
//! request at a time.
//!
//! Memory of a connection: one frame, what was read ahead (64 KiB), one response, and a few words for each
//! waiting acknowledgement (their frames are released when they are stored).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use crate::metrics::{Metrics, add};
use crate::server::frames::{FrameReader, ReadEnd, WriteEnd, write};
use crate::server::produce::Refusal;
use crate::server::{Door, describe, fetch, offsets, produce, stopped, topics};
use crate::wire::messages::produce::ProduceRequest;
use crate::wire::{
    ApiKey, Chunks, DecodeError, EncodeError, Request, RequestHead, decode_request, encode_response,
};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// Nothing more to read.
    #[error(transparent)]
    Read(#[from] ReadEnd),
    /// An answer could not be delivered.
    #[error(transparent)]
    Write(#[from] WriteEnd),
    /// Not a request of an API and version that is served.
    #[error("API {key} version {version} is not served")]
    NotServed {
        /// The API's number.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// The frame is not the request that it says it is.
    #[error("malformed {api} request: {error}")]
    Malformed {
        /// Which API.
        api: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
    /// An answer that has no encoding.
    #[error("an answer could not be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A failed produce request for which the client wants no answer: closing is the only sign.
    #[error("a produce request without acknowledgements failed")]
    Unanswerable,
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

impl Closed {
    /// Counts the end and logs it once. Strangers can cause all of these, so none is a warning.
    pub(super) fn report(&self, peer: SocketAddr, metrics: &Metrics) {
        match self {
            Self::NotServed { .. }
            | Self::Malformed { .. }
            | Self::Read(ReadEnd::TooShort(_) | ReadEnd::TooLong { .. } | ReadEnd::Cut) => {
                add(&metrics.frames_refused, 1);
                tracing::info!(%peer, reason = %self, "Kafka connection closed: frame refused");
            }
            Self::Read(ReadEnd::Slow(_)) | Self::Write(WriteEnd::Slow(_)) => {
                add(&metrics.timeouts, 1);
                tracing::info!(%peer, reason = %self, "Kafka connection closed: peer too slow");
            }
            Self::Read(ReadEnd::Closed | ReadEnd::Failed(_) | ReadEnd::Idle(_))
            | Self::Write(WriteEnd::Failed(_))
            | Self::Unanswerable
            | Self::Stopped => tracing::debug!(%peer, reason = %self, "Kafka connection closed"),
            Self::Encode(_) => tracing::error!(%peer, reason = %self, "Kafka connection closed"),
        }
    }
}

/// An answer that comes when its batches are as safe as their topics promise.
type Reply<'a> = Pin<Box<dyn Future<Output = Result<Chunks, EncodeError>> + Send + 'a>>;

/// Batches that nobody waits for. Waiting for them here makes them durable, and visible, without delay.
type Settling = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

struct Connection<'a> {
    door: &'a Door,
    input: ReadHalf<'a>,
    output: WriteHalf<'a>,
    frames: FrameReader,
    /// Answers to produce requests that are stored, oldest first.
    waiting: VecDeque<Reply<'a>>,
    /// The latest produce request that gets no answer; it is the last to become durable.
    unanswered: Option<Settling>,
    shutdown: watch::Receiver<bool>,
}

/// Serves one connection and says why it ended.
pub(super) async fn run(
    door: &Door,
    mut stream: TcpStream,
    shutdown: watch::Receiver<bool>,
) -> Closed {
    if let Err(error) = stream.set_nodelay(true) {
        return ReadEnd::Failed(error).into();
    }
    let (input, output) = stream.split();
    let frames = FrameReader::new();
    let waiting = VecDeque::new();
    let mut connection =
        Connection { door, input, output, frames, waiting, unanswered: None, shutdown };
    loop {
        if let Err(closed) = connection.turn().await {
            return match connection.drain().await {
                Ok(()) => closed,
                Err(worse) => worse,
            };
        }
    }
}

/// Resolves with the first of the waiting answers; pending forever if there is none.
async fn oldest(waiting: &mut VecDeque<Reply<'_>>) -> Result<Chunks, EncodeError> {
    poll_fn(|context| match waiting.front_mut() {
        Some(reply) => reply.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}

/// Resolves when the unanswered batches are safe, or failed; pending forever if there are none.
async fn settled(unanswered: &mut Option<Settling>) -> Result<(), Refusal> {
    poll_fn(|context| match unanswered {
        Some(settling) => settling.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}

impl<'a> Connection<'a> {
    /// One event: an answer is ready, a frame is there, or the server stops.
    async fn turn(&mut self) -> Result<(), Closed> {
        let limits = &self.door.config.limits;
        let room = self.waiting.len() < limits.pipeline_requests_max;
        tokio::select! {
            biased;
            answer = oldest(&mut self.waiting) => {
                self.waiting.pop_front();
                self.send(answer?).await
            }
            settled = settled(&mut self.unanswered) => {
                self.unanswered = None;
                settled.map_err(|_| Closed::Unanswerable)
            }
            frame = self.frames.next(&mut self.input, limits), if room => {
                self.request(frame?).await
            }
            () = stopped(&mut self.shutdown) => Err(Closed::Stopped),
        }
    }

    async fn send(&mut self, answer: Chunks) -> Result<(), Closed> {
        Ok(write(&mut self.output, answer, self.door.config.limits.write_wait_max).await?)
    }

    /// Sends all answers that are still owed.
    async fn drain(&mut self) -> Result<(), Closed> {
        while let Some(reply) = self.waiting.pop_front() {
            let answer = reply.await?;
            self.send(answer).await?;
        }
        Ok(())
    }

    async fn request(&mut self, frame: Bytes) -> Result<(), Closed> {
        let Some(head) = frame.first_chunk() else {
            return Err(ReadEnd::Cut.into());
        };
        let head = RequestHead::parse(*head);
        let (key, version) = (head.api_key, head.api_version);
        let api = ApiKey::from_number(key).ok_or(Closed::NotServed { key, version })?;
        if api != ApiKey::ApiVersions && !api.decoded().contains(version) {
            return Err(Closed::NotServed { key, version });
        }
        self.door.metrics.count_request(api);
        if api == ApiKey::Produce {
            return self.produce(head, frame).await;
        }
        self.drain().await?;
        if !may_be_dropped(api) {
            let answer = answer(self.door, api, head, &frame).await?;
            return self.send(answer).await;
        }
        let answer = tokio::select! {
            biased;
            answer = answer(self.door, api, head, &frame) => answer?,
            end = self.frames.watch_close(&mut self.input) => return Err(end.into()),
            () = stopped(&mut self.shutdown) => return Err(Closed::Stopped),
        };
        self.send(answer).await
    }

    /// Stores the batches and queues the answer, if one is wanted.
    async fn produce(&mut self, head: RequestHead, frame: Bytes) -> Result<(), Closed> {
        let request: ProduceRequest = decode(ApiKey::Produce, &frame)?;
        // The batches are now the only owners of the frame.
        drop(frame);
        let acks = request.acks;
        let door = self.door;
        let mut storing = std::pin::pin!(produce::store(door, request));
        // Storing may wait for room; answers that are ready meanwhile need not.
        let stored = loop {
            tokio::select! {
                biased;
                stored = &mut storing => break stored,
                answer = oldest(&mut self.waiting) => {
                    self.waiting.pop_front();
                    self.send(answer?).await?;
                }
            }
        };
        if acks != produce::ACKS_NONE {
            self.waiting.push_back(Box::pin(async move {
                let response = stored.acknowledged(door).await;
                encode_response(head.api_version, head.correlation_id, &response)
            }));
            return Ok(());
        }
        if stored.any_refused() {
            return Err(Closed::Unanswerable);
        }
        self.unanswered = Some(Box::pin(stored.settled()));
        Ok(())
    }
}

/// Whether a request changes nothing and may take long, so that it is given up when its client hangs up or
/// the server stops.
fn may_be_dropped(api: ApiKey) -> bool {
    match api {
        ApiKey::Fetch | ApiKey::ListOffsets | ApiKey::OffsetForLeaderEpoch => true,
        ApiKey::Produce
        | ApiKey::Metadata
        | ApiKey::FindCoordinator
        | ApiKey::ApiVersions
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeCluster => false,
    }
}

fn decode<R: Request>(api: ApiKey, frame: &Bytes) -> Result<R, Closed> {
    let malformed = |error| Closed::Malformed { api: api.name(), error };
    decode_request(frame).map(|(_client_id, request)| request).map_err(malformed)
}

/// Decodes, runs and encodes one request that is not a produce request.
async fn answer(
    door: &Door,
    api: ApiKey,
    head: RequestHead,
    frame: &Bytes,
) -> Result<Chunks, Closed> {
    let (version, id) = (head.api_version, head.correlation_id);
    let encoded = match api {
        ApiKey::ApiVersions if !api.decoded().contains(version) => {
            encode_response(0, id, &describe::unsupported_version())
        }
        ApiKey::ApiVersions => {
            let _request: crate::wire::messages::api_versions::ApiVersionsRequest =
                decode(api, frame)?;
            encode_response(version, id, &describe::api_versions())
        }
        ApiKey::Fetch => {
            encode_response(version, id, &fetch::fetch(door, decode(api, frame)?).await)
        }
        ApiKey::ListOffsets => {
            let request = decode(api, frame)?;
            encode_response(version, id, &offsets::list(door, request, version).await)
        }
        ApiKey::OffsetForLeaderEpoch => {
            encode_response(version, id, &offsets::epoch_ends(door, decode(api, frame)?).await)
        }
        ApiKey::Metadata => {
            let request = decode(api, frame)?;
            encode_response(version, id, &topics::metadata(door, request, version).await)
        }
        ApiKey::CreateTopics => {
            encode_response(version, id, &topics::create(door, decode(api, frame)?).await)
        }
        ApiKey::DeleteTopics => {
            encode_response(version, id, &topics::delete(door, decode(api, frame)?, version).await)
        }
        ApiKey::DescribeConfigs => {
            encode_response(version, id, &describe::configs(door, decode(api, frame)?))
        }
        ApiKey::DescribeCluster => {
            encode_response(version, id, &describe::cluster(door, &decode(api, frame)?))
        }
        ApiKey::FindCoordinator => {
            encode_response(version, id, &describe::coordinator(door, decode(api, frame)?))
        }
        ApiKey::Produce => {
            // Produce has its own way through `Connection::produce`.
            return Err(Closed::NotServed { key: head.api_key, version });
        }
    };
    Ok(encoded?)
}
