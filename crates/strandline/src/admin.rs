//! The admin doors: HTTP on TCP for reading, HTTP on the control socket for everything.
//!
//! What each lets in: the TCP door on loopback answers only requests whose `Host` is local, so that a web page whose
//! name was pointed at 127.0.0.1 cannot read it (DNS rebinding). The control socket answers only the server's own user
//! and root. Headers, bodies, connections and waiting are bounded.
//!
//! Not here: what the paths answer (`routes`, `metrics`).

mod gc;
mod metrics;
mod routes;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use remote::Peer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use metrics::Metrics;
pub(crate) use routes::Admin;

use crate::api::ErrorBody;
use crate::stop::Stop;

const CONNECTIONS_MAX: usize = 128;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 64 * 1024;
const HEADER_WAIT: Duration = Duration::from_secs(10);
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Answers on the TCP door until told to stop.
pub(crate) async fn serve_http(
    listener: TcpListener,
    address: SocketAddr,
    admin: Arc<Admin>,
    stop: Stop,
) {
    let mut router = bounded(routes::reading(admin));
    if address.ip().is_loopback() {
        router = router.layer(middleware::from_fn(local_host_only));
    }
    accept(listener, stop, |_| router.clone()).await;
}

/// Answers on the control socket until told to stop.
pub(crate) async fn serve_control(listener: UnixListener, admin: Arc<Admin>, stop: Stop) {
    let router = bounded(routes::everything(admin));
    let stranger = Router::new().fallback(|| async {
        refusal(StatusCode::FORBIDDEN, "only the server's own user and root may use the control socket; run this as one of them")
    });
    accept(
        listener,
        stop,
        |stream: &UnixStream| if is_trusted(stream) { router.clone() } else { stranger.clone() },
    )
    .await;
}

/// A sentence as an answer.
pub(crate) fn refusal(status: StatusCode, sentence: impl Into<String>) -> Response {
    (status, axum::Json(ErrorBody { error: sentence.into() })).into_response()
}

fn is_trusted(stream: &UnixStream) -> bool {
    matches!(Peer::of(stream), Ok(Peer::Trusted))
}

async fn accept<L: Listener>(
    mut listener: L,
    mut stop: Stop,
    router_for: impl Fn(&L::Io) -> Router,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let ((stream, _), permit) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.asked() => break,
        };
        let router = router_for(&stream);
        let stop = stop.clone();
        connections.spawn(async move {
            serve_connection(stream, router, stop).await;
            drop(permit);
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut stop: Stop,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.asked() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

fn bounded(router: Router) -> Router {
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn(in_time))
}

async fn in_time(request: Request<Body>, next: Next) -> Response {
    tokio::time::timeout(ANSWER_WAIT, next.run(request)).await.unwrap_or_else(|_| {
        refusal(StatusCode::SERVICE_UNAVAILABLE, "the server took too long; see its log")
    })
}

async fn local_host_only(request: Request<Body>, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(is_local) {
        next.run(request).await
    } else {
        refusal(
            StatusCode::FORBIDDEN,
            "this door is for this machine: ask for localhost, 127.0.0.1 or [::1]",
        )
    }
}

/// Whether a `Host` header means this machine, whatever the port.
fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    bare.eq_ignore_ascii_case("localhost") || bare == "127.0.0.1" || host == "[::1]"
}

#[cfg(test)]
mod tests {
    //! Goal: a page from elsewhere cannot pass for this machine.

    use super::is_local;

    #[test]
    fn names_of_this_machine_are_local() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "127.1.2.3:80",
        ] {
            assert!(is_local(host), "{host}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:8080",
            "10.0.0.1:80",
            "::1",
            "127.0.0.1.evil:1",
            "[::2]:80",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
