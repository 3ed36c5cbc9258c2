//! A server that can be cut off, restarted and made to lose what was not committed, and a connector to it.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use file_tree::model::Model;
use file_tree::{
    Access, Attr, Caller, DirItem, FileTree, Ino, Name, NewNode, RenameMode, Reply, SetAttr, Stat,
    TreeError, WriteEpoch, Written,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::AbortHandle;

use crate::{
    Client, Connector, Limits, Metrics, OpenVolumeError, Options, Peer, Pipe, Volumes, serve_pipe,
};

/// The one volume of a lab.
pub(super) const VOLUME: &str = "vol";

/// A model that keeps, beside what it shows, what would survive a power cut.
#[derive(Debug)]
pub(super) struct Lossy {
    live: Mutex<Arc<Model>>,
    durable: Mutex<Model>,
    epoch: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) full: AtomicBool,
}

impl Lossy {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            live: Mutex::new(Arc::new(Model::new())),
            durable: Mutex::new(Model::new()),
            epoch: AtomicU64::new(1),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            full: AtomicBool::new(false),
        })
    }

    fn live(&self) -> Arc<Model> {
        self.live.lock().unwrap().clone()
    }

    /// Loses what was not committed, as a failed sync may, and says so by a new epoch.
    pub(super) fn fail_sync(&self) {
        *self.live.lock().unwrap() = Arc::new(self.durable.lock().unwrap().snapshot());
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Loses what was not committed, and what was open.
    pub(super) fn power_cut(&self) {
        self.fail_sync();
        self.live().restart();
    }

    fn epoch(&self) -> WriteEpoch {
        WriteEpoch(self.epoch.load(Ordering::SeqCst))
    }
}

impl FileTree for Lossy {
    fn root(&self) -> Ino {
        self.live().root()
    }
    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().lookup(caller, dir, name).await })
    }
    fn attr(&self, ino: Ino) -> Reply<'_, Attr> {
        Box::pin(async move { self.live().attr(ino).await })
    }
    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().set_attr(caller, ino, change).await })
    }
    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes> {
        Box::pin(async move { self.live().read_link(ino).await })
    }
    fn make<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        node: NewNode,
    ) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().make(caller, dir, name, node).await })
    }
    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().create(caller, dir, name, mode).await })
    }
    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().link(caller, ino, dir, name).await })
    }
    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move { self.live().unlink(caller, dir, name).await })
    }
    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move { self.live().remove_dir(caller, dir, name).await })
    }
    fn rename<'a>(
        &'a self,
        caller: &'a Caller,
        from: (Ino, &'a Name),
        to: (Ino, &'a Name),
        mode: RenameMode,
    ) -> Reply<'a, ()> {
        Box::pin(async move { self.live().rename(caller, from, to, mode).await })
    }
    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr> {
        Box::pin(async move { self.live().open(caller, ino, access).await })
    }
    fn release(&self, ino: Ino) -> Reply<'_, ()> {
        Box::pin(async move { self.live().release(ino).await })
    }
    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes> {
        Box::pin(async move { self.live().read(ino, offset, len).await })
    }
    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written> {
        Box::pin(async move {
            self.writes.fetch_add(1, Ordering::SeqCst);
            if self.full.load(Ordering::SeqCst) {
                return Err(TreeError::NoSpace);
            }
            let written = self.live().write(ino, offset, bytes).await?;
            Ok(Written { epoch: self.epoch(), ..written })
        })
    }
    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch> {
        Box::pin(async move {
            self.commits.fetch_add(1, Ordering::SeqCst);
            self.live().commit(ino).await?;
            *self.durable.lock().unwrap() = self.live().snapshot();
            Ok(self.epoch())
        })
    }
    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>> {
        Box::pin(async move { self.live().list(caller, dir, after, max).await })
    }
    fn stat(&self) -> Reply<'_, Stat> {
        Box::pin(async move { self.live().stat().await })
    }
}

/// Offers one tree under [`VOLUME`].
#[derive(Debug)]
pub(super) struct OneVolume(pub(super) Arc<dyn FileTree>);

impl Volumes for OneVolume {
    fn open(&self, name: &str) -> Result<Arc<dyn FileTree>, OpenVolumeError> {
        if name == VOLUME { Ok(self.0.clone()) } else { Err(OpenVolumeError::NotFound) }
    }
}

/// A server in memory; connections run through wires that can be cut or made one-way.
#[derive(Debug)]
pub(super) struct Lab {
    volumes: Arc<OneVolume>,
    pub(super) limits: Limits,
    pub(super) peer: Peer,
    pub(super) metrics: Arc<Metrics>,
    reachable: AtomicBool,
    mute: Arc<AtomicBool>,
    wires: Mutex<Vec<AbortHandle>>,
}

impl Lab {
    pub(super) fn new(tree: Arc<dyn FileTree>) -> Arc<Self> {
        Arc::new(Self::build(tree, Limits::default(), Peer::Trusted))
    }

    pub(super) fn build(tree: Arc<dyn FileTree>, limits: Limits, peer: Peer) -> Self {
        Self {
            volumes: Arc::new(OneVolume(tree)),
            limits,
            peer,
            metrics: Arc::default(),
            reachable: AtomicBool::new(true),
            mute: Arc::default(),
            wires: Mutex::default(),
        }
    }

    /// A client with options that suit tests: quick to reconnect.
    pub(super) async fn client(self: &Arc<Self>) -> Client {
        self.client_with(quick()).await
    }

    pub(super) async fn client_with(self: &Arc<Self>, options: Options) -> Client {
        Client::connect_with(Arc::new(LabConnector(self.clone())), VOLUME, options)
            .await
            .expect("a server")
    }

    /// One end of a new connection, straight to the server.
    pub(super) fn raw(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (volumes, metrics) = (self.volumes.clone(), self.metrics.clone());
        tokio::spawn(serve_pipe(
            far.into(),
            self.peer.clone(),
            volumes,
            self.limits,
            metrics,
            pending(),
        ));
        near
    }

    /// Cuts all connections where they are.
    pub(super) fn cut(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            wire.abort();
        }
        self.mute.store(false, Ordering::SeqCst);
    }

    /// New connections succeed, or not.
    pub(super) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::SeqCst);
    }

    /// Answers stay under way until the next cut.
    pub(super) fn mute(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    fn connect(&self) -> io::Result<Pipe> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let server = self.raw();
        let (client, wire) = tokio::io::duplex(64 * 1024);
        let joined = tokio::spawn(carry(wire, server, self.mute.clone()));
        self.wires.lock().unwrap().push(joined.abort_handle());
        Ok(client.into())
    }
}

/// Carries bytes both ways; those of the server only while not muted.
async fn carry(client: DuplexStream, server: DuplexStream, mute: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            if mute.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            if to_client.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

#[derive(Debug)]
struct LabConnector(Arc<Lab>);

impl Connector for LabConnector {
    fn connect(&self) -> Pin<Box<dyn Future<Output = io::Result<Pipe>> + Send + '_>> {
        Box::pin(async { self.0.connect() })
    }
}

/// Options with which a lost connection is back at once.
pub(super) fn quick() -> Options {
    let pause = Duration::from_millis(1);
    Options { pause_min: pause, pause_max: pause, ..Options::default() }
}

pub(super) fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

/// Lets other tasks run until `done`; the test's runner is what ends a wait in vain.
pub(super) async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::task::yield_now().await;
    }
}
