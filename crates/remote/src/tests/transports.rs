//! Goal: over each transport the client is a file tree like any other; several clients share one.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use file_tree::model::Model;
use file_tree::{Access, Caller, FileTree, TreeError, conformance};
use tokio::runtime::Runtime;

use super::lab::{Lab, OneVolume, VOLUME, name, until};
use crate::wire::RefusalCode;
use crate::{Client, ConnectError, Limits, Metrics, Options, Peer, serve, unix};

#[test]
fn a_tree_behind_an_in_memory_connection_conforms() {
    let runtime = Runtime::new().unwrap();
    conformance::check_all(&|| {
        let client = runtime.block_on(async { Lab::new(Arc::new(Model::new())).client().await });
        Arc::new(client)
    });
}

#[test]
fn a_tree_behind_a_unix_socket_with_a_long_path_conforms() {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    rustix::fs::mkdir(&deep, rustix::fs::Mode::RWXU).unwrap();
    let path = deep.join("files.sock");
    let mut server: Option<tokio::task::JoinHandle<()>> = None;
    let server = std::sync::Mutex::new(&mut server);
    conformance::check_all(&|| {
        let client = runtime.block_on(async {
            // The socket of the last tree is left behind, as after a crash.
            let listener = unix::bind(&path).unwrap();
            let volumes = Arc::new(OneVolume(Arc::new(Model::new())));
            let serving = serve(listener, volumes, Limits::default(), Arc::default(), pending());
            if let Some(last) = server.lock().unwrap().replace(tokio::spawn(serving)) {
                last.abort();
            }
            Client::connect(&path, VOLUME, Options::default()).await.unwrap()
        });
        Arc::new(client)
    });
}

#[tokio::test]
async fn what_one_client_does_another_sees_at_once() {
    let lab = Lab::new(Arc::new(Model::new()));
    let (one, two) = (lab.client().await, lab.client().await);
    let root = Caller::root();
    let file = one.create(&root, one.root(), &name("shared"), 0o644).await.unwrap();
    one.write(file.ino, 0, Bytes::from_static(b"from one")).await.unwrap();
    let seen = two.lookup(&root, two.root(), &name("shared")).await.unwrap();
    assert_eq!(seen.size, 8);
    assert_eq!(two.read(seen.ino, 5, 100).await.unwrap(), "one");
}

#[tokio::test]
async fn reads_and_writes_over_one_payload_are_split() {
    let lab = Lab::new(Arc::new(Model::new()));
    let client = lab.client().await;
    let file = client.create(&Caller::root(), client.root(), &name("big"), 0o644).await.unwrap();
    let bytes: Bytes = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(2_500_000).collect();
    let written = client.write(file.ino, 7, bytes.clone()).await.unwrap();
    assert_eq!(written.attr.size, 2_500_007);
    assert_eq!(client.read(file.ino, 7, 3_000_000).await.unwrap(), bytes);
}

#[tokio::test]
async fn the_end_of_a_connection_releases_what_it_had_open() {
    let tree = Arc::new(Model::new());
    let lab = Lab::new(tree.clone());
    let client = lab.client().await;
    let (root, unnamed) = (Caller::root(), name("unnamed"));
    let file = client.create(&root, client.root(), &unnamed, 0o644).await.unwrap();
    client.open(&root, file.ino, Access::Read).await.unwrap();
    client.unlink(&root, client.root(), &unnamed).await.unwrap();
    assert_eq!(client.attr(file.ino).await.unwrap().nlink, 0);
    drop(client);
    until(async || tree.attr(file.ino).await == Err(TreeError::Stale)).await;
    until(async || lab.metrics.connections_open.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_connection_cannot_release_what_another_has_open() {
    let lab = Lab::new(Arc::new(Model::new()));
    let (one, two) = (lab.client().await, lab.client().await);
    let file = one.create(&Caller::root(), one.root(), &name("mine"), 0o644).await.unwrap();
    assert!(matches!(two.release(file.ino).await, Err(TreeError::Invalid(_))));
    assert_eq!(one.release(file.ino).await, Ok(()));
}

#[tokio::test]
async fn an_ordinary_peer_acts_as_itself_whatever_it_claims() {
    let tree = Arc::new(Model::new());
    let root = Caller::root();
    let secret = tree.create(&root, tree.root(), &name("secret"), 0o600).await.unwrap();
    tree.write(secret.ino, 0, Bytes::from_static(b"secret")).await.unwrap();
    let open = file_tree::SetAttr { mode: Some(0o777), ..Default::default() };
    tree.set_attr(&root, tree.root(), open).await.unwrap();
    let user = Caller { uid: 1000, gid: 1000, groups: vec![], checks_done: false };
    let lab = Arc::new(Lab::build(tree, Limits::default(), Peer::User(user)));
    let client = lab.client().await;

    let almighty = Caller { checks_done: true, ..root };
    let made = client.create(&almighty, client.root(), &name("mine"), 0o600).await.unwrap();
    assert_eq!((made.uid, made.gid), (1000, 1000));
    assert_eq!(
        client.open(&almighty, secret.ino, Access::Read).await,
        Err(TreeError::AccessDenied)
    );
    // Reads carry no caller: without an open they are refused.
    assert_eq!(client.read(secret.ino, 0, 10).await, Err(TreeError::AccessDenied));
    assert_eq!(
        client.write(secret.ino, 0, Bytes::from_static(b"x")).await,
        Err(TreeError::AccessDenied)
    );
    client.write(made.ino, 0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(client.read(made.ino, 0, 10).await.unwrap(), "x");
}

#[tokio::test]
async fn the_kernel_says_who_a_unix_peer_is() {
    let (one, _two) = tokio::net::UnixStream::pair().unwrap();
    // Both ends are this process, which the server trusts.
    assert_eq!(Peer::of(&one).unwrap(), Peer::Trusted);
}

#[tokio::test]
async fn a_volume_that_is_not_there_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("files.sock");
    let nobody = Client::connect(&path, VOLUME, Options::default()).await;
    assert!(matches!(nobody, Err(ConnectError::NoServer(_))));

    let listener = unix::bind(&path).unwrap();
    let volumes = Arc::new(OneVolume(Arc::new(Model::new())));
    tokio::spawn(serve(listener, volumes, Limits::default(), Arc::default(), pending()));
    let other = Client::connect(&path, "other", Options::default()).await;
    let Err(ConnectError::Refused { code: RefusalCode::NoSuchVolume, reason }) = other else {
        panic!("{other:?}");
    };
    assert_eq!(reason, "volume other does not exist");
    let long = Client::connect(&path, &"x".repeat(256), Options::default()).await;
    assert!(matches!(long, Err(ConnectError::BadName)));
}

#[tokio::test]
async fn a_server_with_enough_connections_says_so_and_a_stop_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("files.sock");
    let listener = unix::bind(&path).unwrap();
    let volumes = Arc::new(OneVolume(Arc::new(Model::new())));
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let metrics = Arc::<Metrics>::default();
    let stopped = async { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, volumes, limits, metrics, stopped));
    let first = Client::connect(&path, VOLUME, Options::default()).await.unwrap();
    let second = Client::connect(&path, VOLUME, Options::default()).await;
    assert!(
        matches!(second, Err(ConnectError::Refused { code: RefusalCode::TooManyConnections, .. })),
        "{second:?}"
    );
    first.stat().await.unwrap();
    stop.send(()).unwrap();
    server.await.unwrap();
}
