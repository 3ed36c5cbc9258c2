//! `/api/gc`: starts a round of collection, and says how far it is and what it did.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use strands::{CollectError, CollectOptions, CollectPhase, CollectProgress, Collected, Effort};

use crate::admin::routes::parsed;
use crate::admin::{Admin, refusal};
use crate::api;

/// Starts a round and answers with its number.
pub(super) async fn start(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let new: api::NewGc = match parsed(&body) {
        Ok(new) => new,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let own = &admin.collect;
    let grace = new.grace_ms.map_or(own.grace, Duration::from_millis);
    // Whoever asks for a round wants all that it can do.
    let options = CollectOptions {
        dry_run: new.dry_run,
        grace,
        effort: Effort::Full,
        rewrite_bytes_max: u64::MAX,
        ..own.clone()
    };
    match admin.stack.strands.start_collecting(options) {
        Ok(round) => {
            let number = round.number();
            // Whoever asks how it went reads it from the collection's state.
            drop(tokio::task::spawn_blocking(move || drop(round.run())));
            (StatusCode::ACCEPTED, axum::Json(api::GcStarted { round: number })).into_response()
        }
        Err(error) => refusal(status_of(&error), error.to_string()),
    }
}

/// How far collection is.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    let collection = admin.stack.strands.collection();
    let (last, error) = match collection.last {
        None => (None, None),
        Some(Ok(collected)) => (Some(round_body(collected)), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    axum::Json(api::Gc {
        running: collection.running.map(progress_body),
        ended: collection.ended,
        last,
        error,
        deleted_blocks: collection.deleted_blocks,
        deleted_bytes: collection.deleted_bytes,
    })
    .into_response()
}

fn status_of(error: &CollectError) -> StatusCode {
    match error {
        CollectError::Busy | CollectError::NotOurs { .. } | CollectError::Owner(_) => {
            StatusCode::CONFLICT
        }
        CollectError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        CollectError::Mark(_) | CollectError::Store(_) | CollectError::Commit(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn progress_body(progress: CollectProgress) -> api::GcProgress {
    let phase = match progress.phase {
        CollectPhase::Mark => api::GcPhase::Mark,
        CollectPhase::List => api::GcPhase::List,
        CollectPhase::Sweep => api::GcPhase::Sweep,
        CollectPhase::Rewrite => api::GcPhase::Rewrite,
    };
    api::GcProgress { phase, done: progress.done, total: progress.total }
}

fn round_body(collected: Collected) -> api::GcRound {
    api::GcRound {
        dry_run: collected.dry_run,
        live_blocks: collected.live_blocks,
        live_extents: collected.marked_extents,
        live_bytes: collected.live_bytes,
        stored_blocks: collected.stored_blocks,
        stored_bytes: collected.stored_bytes,
        dead_blocks: collected.dead_blocks,
        dead_bytes: collected.dead_bytes,
        deleted_blocks: collected.deleted_blocks,
        deleted_bytes: collected.deleted_bytes,
        young_blocks: collected.young_blocks,
        young_bytes: collected.young_bytes,
        missing_blocks: collected.missing_blocks,
        sparse_blocks: collected.sparse_blocks,
        scattered_stretches: collected.scattered_stretches,
        rewritten_bytes: collected.rewritten_bytes,
        rewritten_into_blocks: collected.written_blocks,
        allowance_bytes: collected.allowance_bytes,
        errors: collected.errors,
        first_error: collected.first_error,
        took_ms: u64::try_from(collected.took.as_millis()).unwrap_or(u64::MAX),
    }
}
