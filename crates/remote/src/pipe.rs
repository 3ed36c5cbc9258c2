//! One connection's two directions, whatever carries them.

use std::fmt;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::UnixStream;

/// A stream of bytes in each direction.
///
/// The halves are kept apart from the start, so that reading never waits for a lock that a large write
/// holds.
pub struct Pipe {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// The receiving half.
pub(crate) type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// The sending half.
pub(crate) type Writer = Pin<Box<dyn AsyncWrite + Send>>;

impl Pipe {
    /// A pipe from two halves.
    pub fn new(
        reader: impl AsyncRead + Send + 'static,
        writer: impl AsyncWrite + Send + 'static,
    ) -> Self {
        Self { reader: Box::pin(reader), writer: Box::pin(writer) }
    }
}

impl From<UnixStream> for Pipe {
    fn from(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self::new(reader, writer)
    }
}

impl From<DuplexStream> for Pipe {
    fn from(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::new(reader, writer)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}
