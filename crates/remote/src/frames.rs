//! Reads whole frames from a connection.
//!
//! Small frames are read many at a time into one buffer and handed out as slices of it; a large one gets
//! a buffer of exactly its size, so that its payload pins nothing else. Invariant: never more than one
//! frame and one chunk are held, and a frame that has begun must be whole within the time given.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::pipe::Reader;
use crate::wire::{LENGTH_BYTES, WireError, frame_length};

/// Bytes read at a time where no large frame is under way; also the size over which a frame is large.
const CHUNK_BYTES: usize = 16 * 1024;

/// The receiving end of a connection.
pub(crate) struct Frames {
    reader: Reader,
    buffer: BytesMut,
    frame_time_max: Duration,
}

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The connection failed, or ended within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent what is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame began and did not become whole in time.
    #[error("a frame did not arrive whole within {0:?}")]
    Slow(Duration),
}

impl Frames {
    pub(crate) fn new(reader: Reader, frame_time_max: Duration) -> Self {
        Self { reader, buffer: BytesMut::new(), frame_time_max }
    }

    /// Whether bytes of a further frame have already been read.
    pub(crate) fn more_at_hand(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame without its length field; `None` when the peer closed between frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.buffer.is_empty() {
            self.buffer.reserve(CHUNK_BYTES);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        if let Some(frame) = self.take_whole()? {
            return Ok(Some(frame));
        }
        let limit = self.frame_time_max;
        match tokio::time::timeout(limit, self.rest_of_frame()).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Err(FrameError::Slow(limit)),
        }
    }

    /// Takes the first frame from the buffer if it is whole.
    fn take_whole(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let frame = self.buffer.split_to(LENGTH_BYTES + length).freeze();
        Ok(Some(frame.slice(LENGTH_BYTES..)))
    }

    /// Length of the first frame, once its length field is there.
    fn length(&self) -> Result<Option<usize>, WireError> {
        self.buffer.first_chunk().map(|field| frame_length(*field)).transpose()
    }

    async fn rest_of_frame(&mut self) -> Result<Bytes, FrameError> {
        loop {
            match self.length()? {
                Some(length) if LENGTH_BYTES + length > CHUNK_BYTES => {
                    return self.large(length).await;
                }
                Some(_) | None => {}
            }
            self.buffer.reserve(CHUNK_BYTES);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(frame) = self.take_whole()? {
                return Ok(frame);
            }
        }
    }

    /// Reads a large frame, whose beginning is all that the buffer holds, into a buffer of its own.
    async fn large(&mut self, length: usize) -> Result<Bytes, FrameError> {
        let mut frame = BytesMut::with_capacity(length);
        frame.put_slice(&self.buffer[LENGTH_BYTES..]);
        self.buffer.clear();
        while frame.len() < length {
            let missing = length - frame.len();
            if self.reader.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(frame.freeze())
    }
}
