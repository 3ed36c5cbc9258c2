//! The admin API from a command's side: one request, one answer, every failure a sentence.
//!
//! Two doors lead to it: the control socket in a data directory, for everything, and an HTTP address, for reading.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::api::ErrorBody;
use crate::cli::Target;
use crate::data_dir::CONTROL_NAME;
use crate::failure::{Failure, Outcome};
use crate::settings::HostPort;

const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// A server that a command talks to.
#[derive(Debug)]
pub(crate) enum Client {
    /// By the control socket in its data directory.
    Control(PathBuf),
    /// By its HTTP door.
    Http(HostPort),
}

impl Client {
    /// The server that the command line names.
    pub(crate) fn new(target: &Target) -> Self {
        match &target.server {
            Some(address) => Self::Http(address.clone()),
            None => Self::Control(target.data()),
        }
    }

    /// The server that the command line names, if changes can be asked of it.
    pub(crate) fn for_changes(target: &Target) -> Outcome<Self> {
        match Self::new(target) {
            Self::Http(_) => Err(Failure::Usage(
                "the HTTP door is read only; run this where the server runs, with --data instead of --server".to_owned(),
            )),
            control @ Self::Control(_) => Ok(control),
        }
    }

    /// Reads what is at `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.read(&self.ask(Method::GET, path, Bytes::new()).await?)
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Outcome<T> {
        serde_json::from_slice(answer).map_err(|error| {
            Failure::because(format!("{self} gave an answer that cannot be read"), error)
        })
    }

    /// Makes what `body` describes.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Outcome {
        self.ask(Method::POST, path, json(body)?).await.map(drop)
    }

    /// Asks for what `body` describes, and returns the answer.
    pub(crate) async fn post_for<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Outcome<T> {
        self.read(&self.ask(Method::POST, path, json(body)?).await?)
    }

    /// Deletes what is at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Outcome {
        self.ask(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Outcome<Bytes> {
        let asked = async {
            match self {
                Self::Control(data) => {
                    let stream = remote::unix::connect(&data.join(CONTROL_NAME))
                        .await
                        .map_err(|error| self.unreachable(&error))?;
                    self.exchange(stream, "localhost", method, path, body).await
                }
                Self::Http(address) => {
                    let stream = TcpStream::connect((address.host.as_str(), address.port))
                        .await
                        .map_err(|error| self.unreachable(&error))?;
                    self.exchange(stream, &address.to_string(), method, path, body).await
                }
            }
        };
        tokio::time::timeout(ANSWER_WAIT, asked).await.unwrap_or_else(|_| {
            Err(Failure::new(format!(
                "{self} gave no answer within {} s; see its log",
                ANSWER_WAIT.as_secs()
            )))
        })
    }

    async fn exchange<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Outcome<Bytes>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::because(format!("the connection to {self} broke"), error)
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        // Ends with the connection; its error also reaches the request that it breaks.
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::because(format!("cannot ask for {path}"), error))?;
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| broken(&error))?;
        driver.abort();
        if status.is_success() {
            Ok(body.to_bytes())
        } else {
            Err(refusal(status, &body.to_bytes()))
        }
    }

    /// A failure to connect, told by what to do about it.
    pub(crate) fn unreachable(&self, error: &io::Error) -> Failure {
        match (self, error.kind()) {
            (
                Self::Control(data),
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotADirectory,
            ) => {
                let whole = std::path::absolute(data).unwrap_or_else(|_| data.clone());
                let (data, whole) = (data.display(), whole.display());
                Failure::new(format!(
                    "no server is running on {whole}; start one with `strandline serve --data {data}`, or name \
                     the data directory of the one that runs with --data"
                ))
            }
            (Self::Control(data), io::ErrorKind::PermissionDenied) => Failure::new(format!(
                "{} belongs to another user; run this as the user of the server, or as root",
                data.display()
            )),
            (Self::Http(_), io::ErrorKind::ConnectionRefused) => Failure::new(format!(
                "nobody listens where {self} should be; check the address of its HTTP door"
            )),
            _ => Failure::because(format!("cannot reach {self}"), error),
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Control(data) => write!(f, "the server on {}", data.display()),
            Self::Http(address) => write!(f, "the server at {address}"),
        }
    }
}

fn json(body: &impl Serialize) -> Outcome<Bytes> {
    let body = serde_json::to_vec(body);
    body.map(Bytes::from).map_err(|error| Failure::because("cannot write the request", error))
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(refusal) => Failure::new(refusal.error),
        Err(_) => Failure::new(format!(
            "the server answered {status}; is this address a strandline HTTP door?"
        )),
    }
}
