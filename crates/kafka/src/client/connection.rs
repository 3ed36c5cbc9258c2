//! The client's socket: one task writes what is to be sent, one hands answers to those who wait.
//!
//! Invariant: a request is in the queue of expected answers before its first byte is sent, so answers,
//! which come in order, always find who waits for them. When either task ends, everybody who waits hears it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::client::{ANSWER_BYTES_MAX, ClientError};
use crate::wire::Chunks;

const ID_BYTES: u32 = 4;

/// The body of an answer, when it comes.
pub(super) type Answer = oneshot::Receiver<Bytes>;

/// A frame to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    frame: Chunks,
    wait_max: Duration,
    answer: Option<oneshot::Sender<Bytes>>,
}

impl Outgoing {
    /// A request that is answered within `wait_max`.
    pub(super) fn with_answer(frame: Chunks, wait_max: Duration) -> (Self, Answer) {
        let (answer, receiver) = oneshot::channel();
        (Self { frame, wait_max, answer: Some(answer) }, receiver)
    }

    /// A request that is never answered.
    pub(super) fn without_answer(frame: Chunks, wait_max: Duration) -> Self {
        Self { frame, wait_max, answer: None }
    }
}

struct Expected {
    answer: oneshot::Sender<Bytes>,
    wait_max: Duration,
}

/// The near end of the connection; the tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    why_lost: Arc<OnceLock<String>>,
}

impl Connection {
    pub(super) fn start(stream: TcpStream, in_flight_max: usize) -> Self {
        let (input, output) = stream.into_split();
        let (outgoing, to_send) = mpsc::channel(1);
        let (expecting, expected) = mpsc::channel(in_flight_max.max(1));
        let why_lost = Arc::new(OnceLock::new());
        tokio::spawn(write_all(output, to_send, expecting, Arc::clone(&why_lost)));
        tokio::spawn(read_all(input, expected, Arc::clone(&why_lost)));
        Self { outgoing, why_lost }
    }

    /// Returns when the frame has its place in the order of sending.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        self.outgoing.send(outgoing).await.map_err(|_| self.lost())
    }

    /// The error for those whose answer does not come any more.
    pub(super) fn lost(&self) -> ClientError {
        let why = self.why_lost.get().map_or("it was closed", String::as_str);
        ClientError::Disconnected(why.to_owned())
    }
}

async fn write_all(
    mut output: OwnedWriteHalf,
    mut to_send: mpsc::Receiver<Outgoing>,
    expecting: mpsc::Sender<Expected>,
    why_lost: Arc<OnceLock<String>>,
) {
    while let Some(Outgoing { frame, wait_max, answer }) = to_send.recv().await {
        if let Some(answer) = answer
            && expecting.send(Expected { answer, wait_max }).await.is_err()
        {
            return;
        }
        let sending = async {
            for mut part in frame.into_parts() {
                while part.has_remaining() {
                    output.write_buf(&mut part).await?;
                }
            }
            std::io::Result::Ok(())
        };
        let failed = match timeout(wait_max, sending).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("a request was not taken within {} s", wait_max.as_secs()),
        };
        let _ = why_lost.set(failed);
        return;
    }
}

async fn read_all(
    mut input: OwnedReadHalf,
    mut expected: mpsc::Receiver<Expected>,
    why_lost: Arc<OnceLock<String>>,
) {
    while let Some(Expected { answer, wait_max }) = expected.recv().await {
        let failed = match timeout(wait_max, read_frame(&mut input)).await {
            Ok(Ok(body)) => {
                // An error means that nobody waits for this answer any more.
                let _ = answer.send(body);
                continue;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", wait_max.as_secs()),
        };
        let _ = why_lost.set(failed);
        return;
    }
}

async fn read_frame(input: &mut OwnedReadHalf) -> Result<Bytes, String> {
    let size = input.read_u32().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
        _ => error.to_string(),
    })?;
    if !(ID_BYTES..=ANSWER_BYTES_MAX).contains(&size) {
        return Err(format!("an answer of {size} bytes makes no sense"));
    }
    let size = size as usize;
    let mut body = BytesMut::with_capacity(size);
    while body.len() < size {
        let left = size - body.len();
        let read = input.read_buf(&mut bytes::BufMut::limit(&mut body, left)).await;
        match read {
            Ok(0) => return Err("the server closed it inside of an answer".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(body.freeze())
}
