//! The client half: a tree whose calls go to a server, and which outlives the server's restart.
//!
//! **Calls.** All go over one connection, many at a time; answers come in any order. When the connection
//! is lost, a new one is made in the background, with growing pauses between the attempts. Calls made
//! meanwhile wait at most [`Options::wait_max`], then fail with [`TreeError::Unreachable`].
//!
//! **Calls whose fate is unknown**, because the connection was lost before the answer came: those that may
//! be done twice without harm (reads, lookups, opens, writes of the same bytes to the same place,
//! attributes set to given values, commits) are sent again. The others (make, create, link, unlink,
//! remove, rename) fail with `Unreachable`: they may or may not have happened. An operation id that
//! the server remembers would allow repeating these too, but to be worth anything it has to be stored with
//! the change itself, which is the volume's business, not the wire's.
//!
//! **Open files** are opened again on the new connection before any call goes there. One whose last name
//! was gone is gone with the old server: [`TreeError::Stale`].
//!
//! **Unsynced writes.** Until a commit answers, the client keeps a copy of each write and each change of
//! attributes, at most [`Options::unsynced_bytes_max`]; when half of that is used it commits the oldest
//! files by itself, and beyond all of it writes wait for that. A commit that returns another epoch than
//! one of the file's writes carried means that the server may have lost it: the file's changes are sent
//! again, from that one on and in order, and then committed, before the commit is answered. The same
//! happens for every file with unsynced writes when a connection is made anew, before other calls go
//! there. So [`Client::commit`](file_tree::FileTree::commit) returns only when the bytes are safe, and the epoch that
//! this tree shows never changes. When sending again is impossible (no space, the file is gone), the
//! copies are given up and the error is returned once, by the file's next commit or flush. While the
//! server cannot be reached, or says that its storage failed, the copies are kept and each commit fails.
//!
//! What this does not do: two clients that write the same bytes of one file without closing or
//! committing in between may see the older write win after a restart, as with any protocol without
//! leases; and names that a power cut of the server took back are not made again.

mod connection;
mod link;
mod opens;
mod restore;
mod tree;
mod unsynced;

use std::fmt::{self, Debug};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use file_tree::{Ino, TreeError, WriteEpoch};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::pipe::Pipe;
use crate::unix;
use crate::wire::{Answer, RefusalCode, Request, VOLUME_NAME_BYTES_MAX, WireError};
use connection::Established;
use link::Link;
use opens::Opens;
use unsynced::Unsynced;

/// Connections that one call may lose before it fails.
const OUTAGES_MAX: u32 = 3;

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a call waits for a lost connection to come back.
    pub wait_max: Duration,
    /// Bytes of unsynced changes kept for sending again.
    pub unsynced_bytes_max: usize,
    /// Pause before the second attempt to reconnect; it doubles from there.
    pub pause_min: Duration,
    /// Longest pause between attempts to reconnect.
    pub pause_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(10),
            unsynced_bytes_max: 64 * 1024 * 1024,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
        }
    }
}

/// Where connections come from.
pub trait Connector: Debug + Send + Sync + 'static {
    /// Makes a new connection to the server.
    ///
    /// # Errors
    ///
    /// Whatever the transport says; the client tries again later.
    fn connect(&self) -> Pin<Box<dyn Future<Output = io::Result<Pipe>> + Send + '_>>;
}

/// Connects to a Unix socket.
#[derive(Clone, Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Connector for UnixConnector {
    fn connect(&self) -> Pin<Box<dyn Future<Output = io::Result<Pipe>> + Send + '_>> {
        Box::pin(async {
            let stream = unix::connect(&self.path).await?;
            unix::enlarge_send_buffer(&stream);
            Ok(stream.into())
        })
    }
}

/// Why there is no connection to a volume.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no server listens there: {0}")]
    NoServer(#[source] io::Error),
    /// The server speaks another version of the protocol; use the same release on both sides.
    #[error("the server speaks version {0} of the file protocol, this client version {ours}", ours = crate::wire::VERSION)]
    Version(u16),
    /// The server has no such volume, cannot open it, or is full.
    #[error("{reason}")]
    Refused {
        /// What kind of refusal.
        code: RefusalCode,
        /// The server's words.
        reason: String,
    },
    /// No volume has such a name.
    #[error("a volume's name has 1 to {VOLUME_NAME_BYTES_MAX} bytes")]
    BadName,
    /// What answers there is not a file server.
    #[error("what answers there does not speak the file protocol: {0}")]
    Protocol(#[from] WireError),
    /// The connection ended before the server answered.
    #[error("the connection ended before the server answered")]
    Lost,
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    Slow,
    /// The volume was deleted and another has its name; mount again.
    #[error("another volume has taken the name")]
    Replaced,
}

/// A volume on a server. Dropping it closes the connection; unsynced writes are then as safe as the
/// server's answer to them said.
pub struct Client {
    inner: Arc<Inner>,
    supervisor: AbortHandle,
}

/// What calls and background tasks share.
struct Inner {
    connector: Arc<dyn Connector>,
    volume: String,
    options: Options,
    runtime: Handle,
    root: Ino,
    link: Link,
    opens: Opens,
    unsynced: Unsynced,
    relief: tokio::sync::Mutex<()>,
}

/// The epoch that this tree shows: writes are sent again below it, so it never changes.
const EPOCH: WriteEpoch = WriteEpoch(1);

impl Client {
    /// Connects to the volume called `volume` of the server that listens on the Unix socket at `path`
    /// (of any length). Must be called within a tokio runtime, on which the client's tasks then run.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]. There is one attempt; only later losses are repaired in the background.
    pub async fn connect(
        path: &Path,
        volume: &str,
        options: Options,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(Arc::new(UnixConnector { path: path.to_owned() }), volume, options).await
    }

    /// As [`Client::connect`], over any transport.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect_with(
        connector: Arc<dyn Connector>,
        volume: &str,
        options: Options,
    ) -> Result<Self, ConnectError> {
        if !(1..=VOLUME_NAME_BYTES_MAX).contains(&volume.len()) {
            return Err(ConnectError::BadName);
        }
        let first = connection::establish(1, connector.as_ref(), volume, options.wait_max).await?;
        let Established { connection, running, root } = first;
        let inner = Arc::new(Inner {
            connector,
            volume: volume.to_owned(),
            options,
            runtime: Handle::current(),
            root,
            link: Link::new(connection.clone(), options.wait_max),
            opens: Opens::new(connection),
            unsynced: Unsynced::new(options.unsynced_bytes_max),
            relief: tokio::sync::Mutex::new(()),
        });
        let supervisor = tokio::spawn(restore::supervise(inner.clone(), running)).abort_handle();
        Ok(Self { inner, supervisor })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.inner.link.close();
    }
}

impl Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("volume", &self.inner.volume).finish_non_exhaustive()
    }
}

impl Inner {
    /// Makes one call, again after a lost connection where that is harmless.
    async fn call(&self, request: Request) -> Result<Answer, TreeError> {
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            match connection.call(&request).await {
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
                Err(lost) if lost.sent && !may_repeat(&request) => return Err(fate_unknown()),
                Err(_) => after = connection.number(),
            }
        }
        Err(lost_too_often())
    }
}

/// Whether doing it twice ends as doing it once.
fn may_repeat(request: &Request) -> bool {
    match request {
        Request::Lookup { .. }
        | Request::Attr { .. }
        | Request::SetAttr { .. }
        | Request::ReadLink { .. }
        | Request::Open { .. }
        | Request::Read { .. }
        | Request::Write { .. }
        | Request::Commit { .. }
        | Request::List { .. }
        | Request::Stat => true,
        // A release is sent to the connection that holds the open and ends with it.
        Request::Make { .. }
        | Request::Create { .. }
        | Request::Link { .. }
        | Request::Unlink { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::Release { .. } => false,
    }
}

fn fate_unknown() -> TreeError {
    TreeError::Unreachable(
        "the connection was lost before the answer; the change may have happened".into(),
    )
}

fn lost_too_often() -> TreeError {
    TreeError::Unreachable("the connection was lost again and again".into())
}

/// The failure for an answer of another shape than the request asks for.
fn wrong_answer() -> TreeError {
    TreeError::Failed("the server answered something else than was asked".into())
}
