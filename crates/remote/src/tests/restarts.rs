//! Goal: a client outlives its connection and its server: nothing that a commit answered is lost, nothing
//! is answered that is not so, and what is open stays open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use file_tree::{Access, Caller, FileTree, Ino, NewNode, SetAttr, TreeError};
use proptest::prelude::*;

use super::lab::{Lab, Lossy, name, quick, until};
use crate::{Client, Options};

static ROOT: Caller = Caller::root();

/// A lab, a client in it, and a committed file.
async fn with_file(options: Options) -> (Arc<Lossy>, Arc<Lab>, Client, Ino) {
    let tree = Lossy::new();
    let lab = Lab::new(tree.clone());
    let client = lab.client_with(options).await;
    let file = client.create(&ROOT, client.root(), &name("file"), 0o644).await.unwrap();
    client.commit(file.ino).await.unwrap();
    (tree, lab, client, file.ino)
}

async fn write(client: &Client, ino: Ino, offset: u64, bytes: &'static str) {
    client.write(ino, offset, Bytes::from_static(bytes.as_bytes())).await.unwrap();
}

async fn truncate(client: &Client, ino: Ino, size: u64) {
    let change = SetAttr { size: Some(size), ..Default::default() };
    client.set_attr(&ROOT, ino, change).await.unwrap();
}

#[tokio::test]
async fn a_commit_after_a_power_cut_of_the_server_sends_again_what_was_lost() {
    let (tree, lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "hello ").await;
    write(&client, file, 6, "world").await;
    lab.cut();
    tree.power_cut();
    assert_eq!(tree.attr(file).await.unwrap().size, 0, "the server has lost the writes");
    client.commit(file).await.unwrap();
    tree.power_cut();
    assert_eq!(tree.read(file, 0, 100).await.unwrap(), "hello world");
}

#[tokio::test]
async fn reads_after_a_power_cut_of_the_server_see_the_unsynced_writes() {
    let (tree, lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "kept").await;
    lab.cut();
    tree.power_cut();
    assert_eq!(client.read(file, 0, 100).await.unwrap(), "kept");
}

#[tokio::test]
async fn a_failed_sync_of_a_server_that_lives_on_is_made_good_by_the_next_commit() {
    let (tree, _lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "0123456789").await;
    truncate(&client, file, 4).await;
    write(&client, file, 6, "ab").await;
    tree.fail_sync();
    client.commit(file).await.unwrap();
    assert_eq!(tree.read(file, 0, 100).await.unwrap(), "0123\0\0ab");
}

#[tokio::test]
async fn a_truncation_alone_is_made_good_too() {
    let (tree, _lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "0123456789").await;
    client.commit(file).await.unwrap();
    truncate(&client, file, 3).await;
    tree.fail_sync();
    assert_eq!(tree.attr(file).await.unwrap().size, 10);
    client.commit(file).await.unwrap();
    assert_eq!(tree.read(file, 0, 100).await.unwrap(), "012");
}

#[tokio::test]
async fn without_a_loss_a_commit_sends_nothing_again() {
    let (tree, lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "once").await;
    lab.cut();
    client.commit(file).await.unwrap();
    assert_eq!(tree.writes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_an_error_once() {
    let (tree, _lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "lost").await;
    tree.fail_sync();
    tree.full.store(true, Ordering::SeqCst);
    assert_eq!(client.commit(file).await, Err(TreeError::NoSpace));
    client.commit(file).await.unwrap();
}

#[tokio::test]
async fn an_error_found_in_the_background_waits_for_the_next_flush() {
    let (tree, lab, client, file) = with_file(quick()).await;
    write(&client, file, 0, "lost").await;
    client.flush(file).await.unwrap();
    tree.full.store(true, Ordering::SeqCst);
    lab.cut();
    tree.power_cut();
    client.attr(file).await.unwrap();
    assert_eq!(client.flush(file).await, Err(TreeError::NoSpace));
    client.flush(file).await.unwrap();
    client.commit(file).await.unwrap();
}

#[tokio::test]
async fn too_many_unsynced_bytes_are_committed_unasked() {
    let options = Options { unsynced_bytes_max: 64 * 1024, ..quick() };
    let (tree, lab, client, file) = with_file(options).await;
    let before = tree.commits.load(Ordering::SeqCst);
    let block = Bytes::from(vec![7; 4096]);
    for n in 0..64 {
        client.write(file, n * 4096, block.clone()).await.unwrap();
    }
    assert!(tree.commits.load(Ordering::SeqCst) > before);
    lab.cut();
    tree.power_cut();
    client.commit(file).await.unwrap();
    assert_eq!(tree.read(file, 0, 1 << 20).await.unwrap(), vec![7; 64 * 4096]);
}

#[tokio::test]
async fn a_change_larger_than_all_the_room_still_goes_through() {
    let options = Options { unsynced_bytes_max: 1000, ..quick() };
    let (_tree, _lab, client, file) = with_file(options).await;
    for _ in 0..3 {
        client.write(file, 0, Bytes::from(vec![1; 5000])).await.unwrap();
    }
    assert_eq!(client.attr(file).await.unwrap().size, 5000);
}

#[tokio::test]
async fn open_files_stay_open_over_a_lost_connection() {
    let (tree, lab, client, file) = with_file(quick()).await;
    client.open(&ROOT, file, Access::Write).await.unwrap();
    write(&client, file, 0, "unnamed").await;
    lab.cut();
    client.attr(file).await.unwrap();
    client.unlink(&ROOT, client.root(), &name("file")).await.unwrap();
    client.release(file).await.unwrap();
    assert_eq!(client.read(file, 0, 100).await.unwrap(), "unnamed");
    client.release(file).await.unwrap();
    assert_eq!(tree.attr(file).await, Err(TreeError::Stale));
    assert_eq!(client.release(file).await, Err(TreeError::Stale));
}

#[tokio::test]
async fn a_file_released_while_the_server_is_away_is_not_opened_again() {
    let (tree, lab, client, file) = with_file(quick()).await;
    lab.set_reachable(false);
    lab.cut();
    until(async || lab.metrics.connections_open.load(Ordering::SeqCst) == 0).await;
    client.release(file).await.unwrap();
    lab.set_reachable(true);
    client.unlink(&ROOT, client.root(), &name("file")).await.unwrap();
    assert_eq!(tree.attr(file).await, Err(TreeError::Stale));
}

#[tokio::test]
async fn calls_wait_a_bounded_time_for_a_server_that_is_away() {
    let options = Options { wait_max: Duration::from_millis(20), ..quick() };
    let (_tree, lab, client, file) = with_file(options).await;
    write(&client, file, 0, "unsynced").await;
    lab.set_reachable(false);
    lab.cut();
    for _ in 0..2 {
        assert!(matches!(client.attr(file).await, Err(TreeError::Unreachable(_))));
        assert!(matches!(client.commit(file).await, Err(TreeError::Unreachable(_))));
    }
    // The copies were kept: once the server is back, a commit is true again.
    lab.set_reachable(true);
    until(async || client.commit(file).await.is_ok()).await;
    assert_eq!(client.read(file, 0, 100).await.unwrap(), "unsynced");
}

#[tokio::test]
async fn calls_that_may_be_repeated_outlive_a_cut_in_their_middle() {
    let (_tree, lab, client, file) = with_file(quick()).await;
    let requests = lab.metrics.requests.load(Ordering::SeqCst);
    lab.mute();
    let cut = async {
        until(async || lab.metrics.requests.load(Ordering::SeqCst) > requests).await;
        lab.cut();
    };
    let bytes = Bytes::from_static(b"again");
    let (written, ()) = tokio::join!(client.write(file, 0, bytes), cut);
    assert_eq!(written.unwrap().attr.size, 5);
}

#[tokio::test]
async fn a_call_of_unknown_fate_says_so() {
    let (tree, lab, client, _) = with_file(quick()).await;
    let requests = lab.metrics.requests.load(Ordering::SeqCst);
    lab.mute();
    let cut = async {
        until(async || lab.metrics.requests.load(Ordering::SeqCst) > requests).await;
        lab.cut();
    };
    let dir = name("dir");
    let made = client.make(&ROOT, client.root(), &dir, NewNode::Directory { mode: 0o755 });
    let (made, ()) = tokio::join!(made, cut);
    assert!(matches!(made, Err(TreeError::Unreachable(_))), "{made:?}");
    tree.lookup(&ROOT, tree.root(), &dir).await.expect("it did happen this time");
}

#[tokio::test]
async fn an_open_that_nobody_waits_for_any_more_is_released() {
    let (tree, lab, client, file) = with_file(quick()).await;
    client.release(file).await.unwrap();
    let requests = lab.metrics.requests.load(Ordering::SeqCst);
    {
        let mut open = client.open(&ROOT, file, Access::Read);
        // Sent, then dropped before its answer.
        std::future::poll_fn(|cx| std::task::Poll::Ready(open.as_mut().poll(cx).is_pending()))
            .await;
    }
    until(async || lab.metrics.requests.load(Ordering::SeqCst) > requests).await;
    client.unlink(&ROOT, client.root(), &name("file")).await.unwrap();
    until(async || tree.attr(file).await == Err(TreeError::Stale)).await;
}

/// What happens to a file and its server.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: u16, len: u16, byte: u8 },
    Truncate { size: u16 },
    Commit,
    Cut,
    PowerCut,
    FailedSync,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..5000_u16, 1..3000_u16, 1..=255_u8);
    prop_oneof![
        4 => write.prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        2 => (0..5000_u16).prop_map(|size| Step::Truncate { size }),
        2 => Just(Step::Commit),
        1 => Just(Step::Cut),
        1 => Just(Step::PowerCut),
        1 => Just(Step::FailedSync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_commit_leaves_exactly_what_was_written(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let options = Options { unsynced_bytes_max: 20_000, ..quick() };
    let (tree, lab, client, file) = with_file(options).await;
    let mut model: Vec<u8> = Vec::new();
    for step in steps.into_iter().chain([Step::Commit]) {
        match step {
            Step::Write { offset, len, byte } => {
                let (offset, len) = (usize::from(offset), usize::from(len));
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].fill(byte);
                client.write(file, offset as u64, Bytes::from(vec![byte; len])).await.unwrap();
            }
            Step::Truncate { size } => {
                model.resize(usize::from(size), 0);
                truncate(&client, file, u64::from(size)).await;
            }
            Step::Commit => {
                client.commit(file).await.unwrap();
                tree.fail_sync();
                assert_eq!(tree.read(file, 0, 1 << 20).await.unwrap(), model);
            }
            Step::Cut => lab.cut(),
            Step::PowerCut => {
                lab.cut();
                tree.power_cut();
            }
            Step::FailedSync => tree.fail_sync(),
        }
    }
}
