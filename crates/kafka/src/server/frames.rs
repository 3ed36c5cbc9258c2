//! Frames on a socket: reading them one by one under limits, writing them piece by piece.
//!
//! Invariant: all that was read and not taken lies in `FrameReader::buffer`, so that both reading calls
//! may be dropped at any await without losing a byte.

use std::io;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::server::Limits;
use crate::wire::{ApiKey, Chunks, REQUEST_HEAD_BYTES, RequestHead};

const SIZE_BYTES: usize = 4;
/// Size, head and the length of the client's name: no request is shorter.
const REQUEST_BYTES_MIN: usize = REQUEST_HEAD_BYTES + 2;
/// What is read at a time while no frame is begun, and the most that is read ahead of a running request.
const READ_BYTES: usize = 64 * 1024;
/// A frame's time to arrive grows by a second with each of these.
const BYTES_PER_SECOND_MIN: u32 = 64 * 1024;
const SLICES_MAX: usize = 64;

/// Why no more frames come from a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadEnd {
    /// The peer closed between two frames.
    #[error("closed by the peer")]
    Closed,
    /// The peer closed inside a frame.
    #[error("closed by the peer inside a frame")]
    Cut,
    /// The socket failed.
    #[error("{0}")]
    Failed(io::Error),
    /// No request for a long time.
    #[error("idle for {} s", .0.as_secs())]
    Idle(Duration),
    /// A frame that did not arrive in time.
    #[error("a frame was not complete after {} s", .0.as_secs())]
    Slow(Duration),
    /// A size that no request has.
    #[error("a frame of {0} bytes is shorter than a request's header")]
    TooShort(i32),
    /// A size above the limit.
    #[error("a frame of {size} bytes is over the limit of {limit}")]
    TooLong {
        /// What the frame claims.
        size: i32,
        /// The limit for its API.
        limit: u32,
    },
}

/// Cuts what a peer sends into frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new() }
    }

    /// The body of the next frame. May be dropped and called again.
    pub(super) async fn next(
        &mut self,
        socket: &mut ReadHalf<'_>,
        limits: &Limits,
    ) -> Result<Bytes, ReadEnd> {
        if let Some(frame) = self.take(limits)? {
            return Ok(frame);
        }
        if self.buffer.is_empty() {
            let idle = limits.idle_max;
            timeout(idle, self.read(socket)).await.map_err(|_| ReadEnd::Idle(idle))??;
        }
        if let Some(frame) = self.take(limits)? {
            return Ok(frame);
        }
        let wait = limits.frame_wait_max + self.extra_wait(limits);
        let whole = async {
            loop {
                self.read(socket).await?;
                if let Some(frame) = self.take(limits)? {
                    return Ok(frame);
                }
            }
        };
        timeout(wait, whole).await.map_err(|_| ReadEnd::Slow(wait))?
    }

    /// Reads ahead while a request is running, and returns when the peer is gone. What a client may
    /// send ahead is bounded; beyond that this waits forever.
    pub(super) async fn watch_close(&mut self, socket: &mut ReadHalf<'_>) -> ReadEnd {
        loop {
            if self.buffer.len() >= READ_BYTES {
                std::future::pending::<()>().await;
            }
            match self.read(socket).await {
                Ok(()) => {}
                Err(ReadEnd::Cut) => return ReadEnd::Closed,
                Err(end) => return end,
            }
        }
    }

    async fn read(&mut self, socket: &mut ReadHalf<'_>) -> Result<(), ReadEnd> {
        let wanted = self.wanted();
        self.buffer.reserve(wanted);
        // Not past the frame, if it is a large one: its bytes then have one owner, who may stamp them in place.
        match socket.read_buf(&mut (&mut self.buffer).limit(wanted)).await {
            Ok(0) if self.buffer.is_empty() => Err(ReadEnd::Closed),
            Ok(0) => Err(ReadEnd::Cut),
            Ok(_) => Ok(()),
            Err(error) => Err(ReadEnd::Failed(error)),
        }
    }

    /// Room to make before reading: the rest of a frame whose size was checked, or a general amount.
    fn wanted(&self) -> usize {
        let missing = match self.size() {
            Some(Ok(size)) => (SIZE_BYTES + size).saturating_sub(self.buffer.len()),
            Some(Err(_)) | None => 0,
        };
        missing.max(READ_BYTES)
    }

    fn size(&self) -> Option<Result<usize, i32>> {
        let claimed = i32::from_be_bytes(*self.buffer.first_chunk()?);
        let size = usize::try_from(claimed).ok().filter(|size| *size >= REQUEST_BYTES_MIN);
        Some(size.ok_or(claimed))
    }

    fn extra_wait(&self, limits: &Limits) -> Duration {
        let size = self.size().and_then(Result::ok).and_then(|size| u32::try_from(size).ok());
        let size = size.unwrap_or(0).min(limits.frame_bytes_max);
        Duration::from_secs(u64::from(size / BYTES_PER_SECOND_MIN))
    }

    fn check(size: usize, limit: u32) -> Result<(), ReadEnd> {
        if size <= limit as usize {
            return Ok(());
        }
        Err(ReadEnd::TooLong { size: i32::try_from(size).unwrap_or(i32::MAX), limit })
    }

    /// Takes a complete frame off the buffer; refuses one whose size is not allowed as soon as
    /// its first bytes are there.
    fn take(&mut self, limits: &Limits) -> Result<Option<Bytes>, ReadEnd> {
        let size = match self.size() {
            None => return Ok(None),
            Some(Err(claimed)) => return Err(ReadEnd::TooShort(claimed)),
            Some(Ok(size)) => size,
        };
        let Some(head) = self.buffer[SIZE_BYTES..].first_chunk::<REQUEST_HEAD_BYTES>() else {
            // Which limit holds is not known yet, but no API may have more than this.
            return Self::check(size, limits.frame_bytes_max).map(|()| None);
        };
        let limit = match ApiKey::from_number(RequestHead::parse(*head).api_key) {
            Some(ApiKey::Produce) => limits.frame_bytes_max,
            Some(_) | None => limits.control_frame_bytes_max,
        };
        Self::check(size, limit)?;
        if self.buffer.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        self.buffer.advance(SIZE_BYTES);
        if self.buffer.len() == size {
            return Ok(Some(std::mem::take(&mut self.buffer).freeze()));
        }
        Ok(Some(self.buffer.split_to(size).freeze()))
    }
}

/// Why a response was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteEnd {
    /// The socket failed.
    #[error("{0}")]
    Failed(io::Error),
    /// The peer takes nothing.
    #[error("the peer took no byte of a response for {} s", .0.as_secs())]
    Slow(Duration),
}

/// Sends a frame from where its pieces lie.
pub(super) async fn write(
    socket: &mut WriteHalf<'_>,
    chunks: Chunks,
    wait_max: Duration,
) -> Result<(), WriteEnd> {
    let mut parts = chunks.into_parts();
    let mut first = 0;
    while first < parts.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(&parts[first..]) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        let sending = socket.write_vectored(&slices[..filled]);
        let mut sent = match timeout(wait_max, sending).await {
            Err(_) => return Err(WriteEnd::Slow(wait_max)),
            Ok(Err(error)) => return Err(WriteEnd::Failed(error)),
            Ok(Ok(0)) => return Err(WriteEnd::Failed(io::ErrorKind::WriteZero.into())),
            Ok(Ok(sent)) => sent,
        };
        while first < parts.len() && sent >= parts[first].len() {
            sent -= parts[first].len();
            parts[first].clear();
            first += 1;
        }
        if sent > 0 {
            parts[first].advance(sent);
        }
    }
    Ok(())
}
