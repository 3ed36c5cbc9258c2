//! A small client: one connection, requests pipelined, typed errors. For the command line and for tests.
//!
//! Requests are sent in the order in which they are made and answered in that order; many may be on their
//! way. The client talks to the address it was given and follows no redirection: a Strandline server
//! is the leader of all its partitions. It does not reconnect; after [`ClientError::Disconnected`] make a
//! new one.
//!
//! Not here: the inside of record batches (`broker::batch`).

mod connection;

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use broker::At;
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::connection::{Answer, Connection, Outgoing};
use crate::wire::messages::api_versions::{ApiVersion, ApiVersionsRequest};
use crate::wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use crate::wire::messages::list_offsets::{
    EARLIEST, LATEST, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MAX_TIMESTAMP,
};
use crate::wire::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataTopic,
};
use crate::wire::messages::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use crate::wire::messages::topics::{
    CreatableConfig, CreatableTopic, CreateTopicsRequest, CreatedTopic, DeleteTopic,
    DeleteTopicsRequest,
};
use crate::wire::{
    ApiKey, DecodeError, EncodeError, ErrorCode, Message, Request, decode_response, encode_request,
};

/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// Who the client says it is, and how long it waits.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shown in the server's log.
    pub client_id: String,
    /// Longest time to connect and agree on versions.
    pub connect_wait_max: Duration,
    /// Longest time from a request to its answer; a fetch may wait its own time longer.
    pub request_wait_max: Duration,
    /// Most requests that wait for their answers; more wait to be sent.
    pub in_flight_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "strandline".to_owned(),
            connect_wait_max: Duration::from_secs(10),
            request_wait_max: Duration::from_secs(30),
            in_flight_max: 64,
        }
    }
}

/// Why a request got no (good) answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or does not answer.
    #[error("cannot connect to {address}: {why}; check that the server runs and listens there")]
    Connect {
        /// Where.
        address: String,
        /// What the system or the server said.
        why: String,
    },
    /// The connection is gone; what was on its way may or may not have happened.
    #[error("the connection to the server was lost: {0}")]
    Disconnected(String),
    /// The server has no version of this API that is known here.
    #[error("the server does not serve {0} in a version that is known here")]
    Unsupported(&'static str),
    /// The request has no encoding.
    #[error("the request cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// The answer is not what the protocol says.
    #[error("the server's answer to {api} makes no sense: {why}")]
    Malformed {
        /// The API that was asked.
        api: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The server said no.
    #[error("{what}: {}", message.clone().unwrap_or_else(|| code.to_string()))]
    Refused {
        /// What was asked for.
        what: String,
        /// The server's reason.
        code: ErrorCode,
        /// The server's own words, if it gave any.
        message: Option<String>,
    },
}

impl ClientError {
    /// The server's error code, if the server said no.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Connect { .. }
            | Self::Disconnected(_)
            | Self::Unsupported(_)
            | Self::Encode(_)
            | Self::Malformed { .. } => None,
        }
    }

    fn malformed<R: Message>(why: impl ToString) -> Self {
        Self::Malformed { api: R::API.name(), why: why.to_string() }
    }
}

/// When a produced batch counts as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When it is on its way; the server answers nothing, not even errors.
    None,
    /// When the leader has it, as safe as its topic promises.
    Leader,
    /// When all replicas have it, as safe as its topic promises.
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// From where and how much to fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchFrom {
    /// The first offset wanted.
    pub offset: i64,
    /// How long the server waits for `min_bytes`.
    pub wait_max: Duration,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// How many bytes are enough; one batch may exceed it.
    pub max_bytes: i32,
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// One past the last record that may be seen.
    pub high_watermark: i64,
    /// First record that is still there.
    pub log_start: i64,
    /// Record batches, end to end; the first may begin before the offset asked for, the last may be cut.
    pub batches: Bytes,
}

/// A connection to a server. Calls may overlap; they are sent in the order in which they are made.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    served: Vec<ApiVersion>,
    client_id: Option<String>,
    request_wait_max: Duration,
    next_id: AtomicI32,
}

/// An answer that is on its way.
#[derive(Debug)]
struct OnItsWay {
    answer: Answer,
    version: i16,
    correlation_id: i32,
}

impl OnItsWay {
    async fn arrived<R: Request>(self, client: &Client) -> Result<R::Response, ClientError> {
        let body = self.answer.await.map_err(|_| client.connection.lost())?;
        let (correlation_id, response) = decode_response(&body, self.version)
            .map_err(|error: DecodeError| ClientError::malformed::<R>(error))?;
        if correlation_id != self.correlation_id {
            return Err(ClientError::malformed::<R>("it belongs to another request"));
        }
        Ok(response)
    }
}

/// A batch that was sent. Dropping it gives up only the knowledge of what became of it.
#[derive(Debug)]
#[must_use = "only `acknowledged` tells whether the batch was stored"]
pub struct Sent<'a> {
    client: &'a Client,
    answer: Option<OnItsWay>,
    what: String,
}

impl Sent<'_> {
    /// Waits for the answer: the offset of the batch's first record, or `None` with [`Acks::None`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the batch was not stored; [`ClientError::Disconnected`] when that
    /// is unknown.
    pub async fn acknowledged(self) -> Result<Option<i64>, ClientError> {
        let Some(answer) = self.answer else {
            return Ok(None);
        };
        let response = answer.arrived::<ProduceRequest>(self.client).await?;
        let placed = only_placed(response)?;
        check(&self.what, placed.error_code, placed.error_message)?;
        Ok(Some(placed.base_offset))
    }
}

fn only_placed(response: ProduceResponse) -> Result<ProducePartitionResponse, ClientError> {
    let mut placed = response.topics.into_iter().flat_map(|topic| topic.partitions);
    only::<ProduceRequest, _>(&mut placed)
}

/// The one answer to the one thing that was asked.
fn only<R: Message, T>(answers: &mut impl Iterator<Item = T>) -> Result<T, ClientError> {
    match (answers.next(), answers.next()) {
        (Some(answer), None) => Ok(answer),
        (None, _) | (_, Some(_)) => {
            Err(ClientError::malformed::<R>("it does not have one answer for one question"))
        }
    }
}

fn check(what: &str, code: ErrorCode, message: Option<String>) -> Result<(), ClientError> {
    if code.is_none() {
        return Ok(());
    }
    Err(ClientError::Refused { what: what.to_owned(), code, message })
}

impl Client {
    /// Connects to `address` (`HOST:PORT`) and learns what is served there.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] when nobody answers in time.
    pub async fn connect(address: &str, options: Options) -> Result<Self, ClientError> {
        let failed = |why: String| ClientError::Connect { address: address.to_owned(), why };
        let wait = options.connect_wait_max;
        match timeout(wait, Self::open(address, options)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(format!("no answer within {} s", wait.as_secs()))),
        }
    }

    async fn open(address: &str, options: Options) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut client = Self {
            connection: Connection::start(stream, options.in_flight_max),
            served: vec![ApiVersion {
                api_key: ApiKey::ApiVersions.number(),
                min_version: 0,
                max_version: 3,
            }],
            client_id: Some(options.client_id),
            request_wait_max: options.request_wait_max,
            next_id: AtomicI32::new(0),
        };
        let request = ApiVersionsRequest {
            client_software_name: "strandline".to_owned(),
            client_software_version: "0".to_owned(),
        };
        let response = client.call(&request).await.map_err(|error| error.to_string())?;
        check("ApiVersions", response.error_code, None).map_err(|error| error.to_string())?;
        client.served = response.api_keys;
        Ok(client)
    }

    /// What the server says it serves.
    pub fn api_versions(&self) -> &[ApiVersion] {
        &self.served
    }

    /// The newest version of an API that both sides know.
    fn version<R: Message>(&self) -> Result<i16, ClientError> {
        let unsupported = ClientError::Unsupported(R::API.name());
        let number = R::API.number();
        let Some(served) = self.served.iter().find(|api| api.api_key == number) else {
            return Err(unsupported);
        };
        let version = served.max_version.min(*R::VERSIONS.end());
        let known = version >= served.min_version && R::VERSIONS.contains(&version);
        if known { Ok(version) } else { Err(unsupported) }
    }

    async fn send<R: Request>(
        &self,
        request: &R,
        extra_wait: Duration,
    ) -> Result<OnItsWay, ClientError> {
        let version = self.version::<R>()?;
        let correlation_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode_request(version, correlation_id, &self.client_id, request)?;
        let wait_max = self.request_wait_max + extra_wait;
        let (outgoing, answer) = Outgoing::with_answer(frame, wait_max);
        self.connection.send(outgoing).await?;
        Ok(OnItsWay { answer, version, correlation_id })
    }

    /// Sends any request in the newest version that both sides know, and waits for its answer.
    ///
    /// # Errors
    ///
    /// All but [`ClientError::Refused`]: error codes inside of the answer are the caller's to judge.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.send(request, Duration::ZERO).await?.arrived::<R>(self).await
    }

    /// The broker and the topics: all of them, or those named, which are created if `create` and the
    /// server allow it.
    ///
    /// # Errors
    ///
    /// As [`Self::call`]; a topic's own error is in its row.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        create: Create,
    ) -> Result<MetadataResponse, ClientError> {
        let named = |name: &&str| MetadataRequestTopic {
            name: Some((*name).to_owned()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(named).collect()),
            allow_auto_topic_creation: create == Create::IfMissing,
            ..Default::default()
        };
        self.call(&request).await
    }

    /// One topic.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when there is no such topic; else as [`Self::call`].
    pub async fn topic(&self, name: &str, create: Create) -> Result<MetadataTopic, ClientError> {
        let response = self.metadata(Some(&[name]), create).await?;
        let topic = only::<MetadataRequest, _>(&mut response.topics.into_iter())?;
        check(&format!("topic {name}"), topic.error_code, None)?;
        Ok(topic)
    }

    /// Creates a topic with `partitions` partitions (or the server's default) and the given settings.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the server does not want to; else as [`Self::call`].
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        settings: &[(&str, &str)],
    ) -> Result<CreatedTopic, ClientError> {
        let config = |(name, value): &(&str, &str)| CreatableConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: partitions.unwrap_or(-1),
                replication_factor: -1,
                configs: settings.iter().map(config).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(&request).await?;
        let topic = only::<CreateTopicsRequest, _>(&mut response.topics.into_iter())?;
        check(&format!("topic {name}"), topic.error_code, topic.error_message.clone())?;
        Ok(topic)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when there is no such topic; else as [`Self::call`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopic { name: Some(name.to_owned()), ..Default::default() }],
            topic_names: vec![name.to_owned()],
            ..Default::default()
        };
        let response = self.call(&request).await?;
        let answer = only::<DeleteTopicsRequest, _>(&mut response.responses.into_iter())?;
        check(&format!("topic {name}"), answer.error_code, answer.error_message)
    }

    /// Sends one record batch and returns when it is on its way, so that more can follow before it is
    /// acknowledged. Batches of one partition keep the order of these calls.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub async fn send_batch(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<Sent<'_>, ClientError> {
        let request = ProduceRequest {
            acks: acks.number(),
            timeout_ms: i32::try_from(self.request_wait_max.as_millis()).unwrap_or(i32::MAX),
            topics: vec![ProduceTopic {
                name: topic.to_owned(),
                partitions: vec![ProducePartition { index: partition, records: Some(batch) }],
            }],
            ..Default::default()
        };
        let what = format!("produce to {topic}/{partition}");
        if acks == Acks::None {
            let version = self.version::<ProduceRequest>()?;
            let correlation_id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let frame = encode_request(version, correlation_id, &self.client_id, &request)?;
            self.connection.send(Outgoing::without_answer(frame, self.request_wait_max)).await?;
            return Ok(Sent { client: self, answer: None, what });
        }
        let answer = Some(self.send(&request, Duration::ZERO).await?);
        Ok(Sent { client: self, answer, what })
    }

    /// Sends one record batch and waits until it is acknowledged. Gives the offset of its first record,
    /// or `None` with [`Acks::None`].
    ///
    /// # Errors
    ///
    /// See [`Sent::acknowledged`].
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<Option<i64>, ClientError> {
        self.send_batch(topic, partition, batch, acks).await?.acknowledged().await
    }

    /// Fetches record batches of one partition.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when there is no such topic, partition or offset; else as [`Self::call`].
    pub async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        from: FetchFrom,
    ) -> Result<FetchedBatches, ClientError> {
        let request = FetchRequest {
            max_wait_ms: i32::try_from(from.wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: from.min_bytes,
            max_bytes: from.max_bytes,
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: from.offset,
                    partition_max_bytes: from.max_bytes,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let response = self.send(&request, from.wait_max).await?;
        let response = response.arrived::<FetchRequest>(self).await?;
        let what = format!("fetch from {topic}/{partition}");
        check(&what, response.error_code, None)?;
        let mut fetched = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let fetched = only::<FetchRequest, _>(&mut fetched)?;
        check(&what, fetched.error_code, None)?;
        Ok(FetchedBatches {
            high_watermark: fetched.high_watermark,
            log_start: fetched.log_start_offset,
            batches: fetched.records.unwrap_or_default(),
        })
    }

    /// The offset and timestamp of the record that `at` describes; `None` if there is none. The ends of a
    /// partition have no timestamp (-1).
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when there is no such topic or partition; else as [`Self::call`].
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        at: At,
    ) -> Result<Option<(i64, i64)>, ClientError> {
        let timestamp = match at {
            At::Earliest => EARLIEST,
            At::Latest => LATEST,
            At::MaxTimestamp => MAX_TIMESTAMP,
            At::Timestamp(time) => time,
        };
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let response = self.call(&request).await?;
        let mut found = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let found = only::<ListOffsetsRequest, _>(&mut found)?;
        check(&format!("offset in {topic}/{partition}"), found.error_code, None)?;
        Ok((found.offset >= 0).then_some((found.offset, found.timestamp)))
    }
}

/// Whether asking for a topic may create it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// A missing topic is an error.
    Never,
    /// A missing topic is created if the server allows that.
    IfMissing,
}
