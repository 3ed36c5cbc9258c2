//! What each path of the admin API answers, as described in docs/http.md.
//!
//! Not here: who may ask (`crate::admin`).

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use broker::{CreateTopicError, DeleteTopicError, TopicConfig, TopicName, TopicStatus};
use host::Monotonic;
use serde::de::DeserializeOwned;
use strands::CollectOptions;
use volume::{CreateError, DeleteError, NewVolume, StoreError, VolumeInfo, VolumeName};

use crate::admin::{Metrics, gc, refusal};
use crate::api;
use crate::wiring::Stack;

/// Everything the admin doors answer from.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The data path and its services.
    pub(crate) stack: Stack,
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where the server is reached.
    pub(crate) doors: api::Doors,
    /// What a round of collection may do, unless it is asked for otherwise.
    pub(crate) collect: CollectOptions,
    /// Counters of the doors.
    pub(crate) metrics: Metrics,
    /// When the process started.
    pub(crate) started: Monotonic,
    /// From the start of the process until all doors were open.
    pub(crate) ready_ms: u64,
}

type Shared = State<Arc<Admin>>;

/// What may be read.
pub(super) fn reading(admin: Arc<Admin>) -> Router {
    let read_only = || async {
        refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "this door is read only; changes go through the control socket in the data directory",
        )
    };
    paths_to_read().fallback(nothing_here).method_not_allowed_fallback(read_only).with_state(admin)
}

/// What may be read and changed.
pub(super) fn everything(admin: Arc<Admin>) -> Router {
    let not_so = || async {
        refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not know that method; see docs/http.md",
        )
    };
    paths_to_read()
        .merge(paths_to_change())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .with_state(admin)
}

fn paths_to_read() -> Router<Arc<Admin>> {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/volumes", get(volumes))
        .route("/api/topics", get(topics))
        .route("/api/topics/{name}", get(topic))
        .route("/api/gc", get(gc::show))
}

fn paths_to_change() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/volumes", post(create_volume))
        .route("/api/volumes/{name}", delete(delete_volume))
        .route("/api/topics", post(create_topic))
        .route("/api/topics/{name}", delete(delete_topic))
        .route("/api/gc", post(gc::start))
}

async fn nothing_here() -> Response {
    refusal(StatusCode::NOT_FOUND, "there is nothing at this path; see docs/http.md")
}

async fn health(State(admin): Shared) -> Response {
    if admin.stack.is_failed().await {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "storage failed; see the log, check the disk and restart the server",
        );
    }
    "ok\n".into_response()
}

async fn status(State(admin): Shared) -> Response {
    axum::Json(admin.status().await).into_response()
}

async fn metrics(State(admin): Shared) -> Response {
    match admin.metrics.render(admin.status().await) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}"))
        }
    }
}

async fn topics(State(admin): Shared) -> Response {
    let status = admin.stack.broker.status().await;
    axum::Json(status.topics.iter().map(topic_body).collect::<Vec<_>>()).into_response()
}

async fn topic(State(admin): Shared, Path(name): Path<String>) -> Response {
    let status = admin.stack.broker.status().await;
    match status.topics.iter().find(|topic| topic.name.as_str() == name) {
        Some(topic) => axum::Json(topic_body(topic)).into_response(),
        None => refusal(StatusCode::NOT_FOUND, api::missing("topic", &name)),
    }
}

fn topic_body(topic: &TopicStatus) -> api::Topic {
    let partitions = topic.partitions.iter().zip(0..).map(|(status, partition)| match status {
        Ok(status) => api::Partition {
            partition,
            start: Some(status.log_start.get()),
            end: Some(status.high_watermark.get()),
            bytes: Some(status.bytes),
            error: None,
        },
        Err(why) => api::Partition {
            partition,
            start: None,
            end: None,
            bytes: None,
            error: Some(why.clone()),
        },
    });
    let durability = match topic.config.durability {
        broker::Durability::Synced => api::Durability::Synced,
        broker::Durability::Written => api::Durability::Written,
    };
    api::Topic {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        durability,
        partitions: partitions.collect(),
    }
}

async fn volumes(State(admin): Shared) -> Response {
    let body = |info: VolumeInfo| api::Volume {
        name: info.name.to_string(),
        durability: match info.durability {
            volume::Durability::Synced => api::Durability::Synced,
            volume::Durability::Written => api::Durability::Written,
        },
        files: info.files.saturating_sub(1),
        created_ms: info.created.seconds.saturating_mul(1000)
            + i64::from(info.created.nanos / 1_000_000),
    };
    match admin.stack.volumes.list() {
        Ok(all) => axum::Json(all.into_iter().map(body).collect::<Vec<_>>()).into_response(),
        Err(error) => refusal(store_status(&error), error.to_string()),
    }
}

async fn create_volume(State(admin): Shared, body: Bytes) -> Response {
    let new: api::NewVolume = match parsed(&body) {
        Ok(new) => new,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let name = match VolumeName::new(&new.name) {
        Ok(name) => name,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let durability = match new.durability {
        api::Durability::Synced => volume::Durability::Synced,
        api::Durability::Written => volume::Durability::Written,
    };
    // The server's own user can use it at once; root can give it away.
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let root = NewVolume { uid, gid, durability, ..NewVolume::default() };
    match admin.stack.volumes.create(&name, root).await {
        Ok(_) => StatusCode::CREATED.into_response(),
        Err(error) => refusal(create_volume_status(&error), error.to_string()),
    }
}

fn create_volume_status(error: &CreateError) -> StatusCode {
    match error {
        CreateError::Exists(_) => StatusCode::CONFLICT,
        CreateError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        CreateError::Store(error) => store_status(error),
    }
}

async fn delete_volume(State(admin): Shared, Path(name): Path<String>) -> Response {
    let name = match VolumeName::new(&name) {
        Ok(name) => name,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match admin.stack.volumes.delete(&name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(DeleteError::NotFound(name)) => {
            refusal(StatusCode::NOT_FOUND, api::missing("volume", name.as_str()))
        }
        Err(DeleteError::Store(error)) => refusal(store_status(&error), error.to_string()),
    }
}

fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        StoreError::Damaged(_) | StoreError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn create_topic(State(admin): Shared, body: Bytes) -> Response {
    let new: api::NewTopic = match parsed(&body) {
        Ok(new) => new,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let name = match TopicName::new(&new.name) {
        Ok(name) => name,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let durability = match new.durability {
        api::Durability::Synced => broker::Durability::Synced,
        api::Durability::Written => broker::Durability::Written,
    };
    match admin.stack.broker.create_topic(name, new.partitions, TopicConfig { durability }).await {
        Ok(_) => StatusCode::CREATED.into_response(),
        Err(error) => refusal(create_topic_status(&error), error.to_string()),
    }
}

fn create_topic_status(error: &CreateTopicError) -> StatusCode {
    match error {
        CreateTopicError::Exists(_) => StatusCode::CONFLICT,
        CreateTopicError::AutoCreateOff(_) => StatusCode::NOT_FOUND,
        CreateTopicError::Partitions { .. } => StatusCode::BAD_REQUEST,
        CreateTopicError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        CreateTopicError::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        CreateTopicError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn delete_topic(State(admin): Shared, Path(name): Path<String>) -> Response {
    let name = match TopicName::new(&name) {
        Ok(name) => name,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match admin.stack.broker.delete_topic(&name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(DeleteTopicError::UnknownTopic(name)) => {
            refusal(StatusCode::NOT_FOUND, api::missing("topic", name.as_str()))
        }
        Err(error @ DeleteTopicError::NoSpace) => {
            refusal(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
        }
        Err(error @ DeleteTopicError::Failed(_)) => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}

pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("the body is not the JSON that this path expects: {error}"))
}
