//! Goal: what a peer sends costs at most its own connection, and is counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use file_tree::model::Model;
use file_tree::{Caller, FileTree, Ino};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::lab::{Lab, VOLUME, name};
use crate::frames::Frames;
use crate::pipe::Pipe;
use crate::wire::{
    Answer, FRAME_BYTES_MAX, Frame, Hello, HelloAnswer, MAGIC, PAYLOAD_BYTES_MAX, RefusalCode,
    Request, RequestId, VERSION,
};
use crate::{Limits, Peer};

fn flat(frame: &Frame) -> Vec<u8> {
    [&frame.head[..], &frame.payload[..]].concat()
}

fn hello() -> Vec<u8> {
    flat(&Hello::frame(VOLUME))
}

/// Sends `bytes` and waits until the server closes; the server must have counted `refused` frames and
/// serve others as before.
async fn check_with(lab: Arc<Lab>, bytes: &[u8], refused: u64) {
    let mut wire = lab.raw();
    // The server may close before it has taken everything.
    let _ = wire.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = wire.read_to_end(&mut answer).await;
    assert_eq!(lab.metrics.frames_refused.load(Ordering::SeqCst), refused);
    lab.client().await.stat().await.unwrap();
}

async fn check(bytes: &[u8], refused: u64) {
    check_with(Lab::new(Arc::new(Model::new())), bytes, refused).await;
}

#[tokio::test]
async fn a_length_over_the_limit_closes_the_connection() {
    check(&u32::MAX.to_le_bytes(), 1).await;
    let over = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    check(&[hello(), over.to_le_bytes().to_vec()].concat(), 1).await;
}

#[tokio::test]
async fn a_length_below_the_smallest_frame_closes_the_connection() {
    check(&[hello(), 8_u32.to_le_bytes().to_vec()].concat(), 1).await;
}

#[tokio::test]
async fn another_protocol_is_hung_up_on() {
    check(b"GET / HTTP/1.1\r\n\r\n", 1).await;
    check(&flat(&Request::Stat.frame(RequestId(1))), 1).await;
}

#[tokio::test]
async fn a_kind_that_is_no_request_closes_the_connection() {
    check(&[hello(), flat(&Answer::Done.frame(RequestId(1)))].concat(), 1).await;
    check(&[hello(), hello()].concat(), 1).await;
}

#[tokio::test]
async fn counts_beyond_the_end_of_the_frame_close_the_connection() {
    let list = Request::List { caller: Caller::root(), dir: Ino(1), after: 0, max: 1 };
    let mut bytes = flat(&list.frame(RequestId(1)));
    // The number of groups: after length, id, kind, uid, gid and the flag.
    bytes[4 + 8 + 1 + 9..][..2].copy_from_slice(&8000_u16.to_le_bytes());
    check(&[hello(), bytes].concat(), 1).await;
}

#[tokio::test]
async fn a_frame_that_stops_half_way_is_given_up() {
    let limits = Limits { frame_time_max: Duration::from_millis(10), ..Limits::default() };
    let lab = Lab::build(Arc::new(Model::new()), limits, Peer::Trusted);
    let half = [hello(), 1_000_000_u32.to_le_bytes().to_vec(), vec![1; 70_000]].concat();
    check_with(Arc::new(lab), &half, 1).await;
}

#[tokio::test]
async fn a_peer_that_never_says_hello_is_given_up() {
    let limits = Limits { hello_time_max: Duration::from_millis(10), ..Limits::default() };
    let lab = Arc::new(Lab::build(Arc::new(Model::new()), limits, Peer::Trusted));
    let mut wire = lab.raw();
    assert_eq!(wire.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn another_version_is_refused_with_a_reason() {
    let lab = Lab::new(Arc::new(Model::new()));
    let mut wire = lab.raw();
    let mut bytes = hello();
    bytes[4 + 8 + 1 + MAGIC.len()..][..2].copy_from_slice(&77_u16.to_le_bytes());
    wire.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    wire.read_to_end(&mut answer).await.unwrap();
    let answer = HelloAnswer::decode(Bytes::from(answer.split_off(4))).unwrap();
    let HelloAnswer::Refused { version: VERSION, code: RefusalCode::Version, reason } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(reason, "the server speaks version 1 of the file protocol, not 77");
}

/// A greeted connection and its frames.
async fn greeted(lab: &Lab) -> (Frames, crate::pipe::Writer) {
    let mut wire: DuplexStream = lab.raw();
    wire.write_all(&hello()).await.unwrap();
    let Pipe { reader, writer } = wire.into();
    let mut frames = Frames::new(reader, Duration::from_secs(30));
    HelloAnswer::decode(frames.next().await.unwrap().unwrap()).unwrap();
    (frames, writer)
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_stops_being_served_and_gets_them_later() {
    let tree = Arc::new(Model::new());
    let file = tree.create(&Caller::root(), tree.root(), &name("big"), 0o644).await.unwrap();
    tree.write(file.ino, 0, Bytes::from(vec![9; PAYLOAD_BYTES_MAX])).await.unwrap();
    let limits = Limits { bytes_max: 4 * 1024 * 1024, ..Limits::default() };
    let lab = Arc::new(Lab::build(tree, limits, Peer::Trusted));
    let (mut frames, mut writer) = greeted(&lab).await;
    for id in 0..64 {
        let read = Request::Read { ino: file.ino, offset: 0, len: 1024 * 1024 };
        writer.write_all(&flat(&read.frame(RequestId(id)))).await.unwrap();
    }
    let others = lab.client().await;
    others.stat().await.unwrap();
    // At most four answers of 1 MiB, and the other client's request, can have been taken up.
    assert!(lab.metrics.requests.load(Ordering::SeqCst) <= 5);
    for _ in 0..64 {
        let frame = frames.next().await.unwrap().unwrap();
        let Ok((_, Answer::Data(data))) = Answer::decode(frame) else { panic!("no data") };
        assert_eq!(data.len(), PAYLOAD_BYTES_MAX);
    }
}

#[tokio::test]
async fn requests_that_arrive_byte_by_byte_are_whole() {
    let lab = Lab::new(Arc::new(Model::new()));
    let (mut frames, mut writer) = greeted(&lab).await;
    for byte in flat(&Request::Attr { ino: Ino(1) }.frame(RequestId(5))) {
        writer.write_all(&[byte]).await.unwrap();
        writer.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let (id, answer) = Answer::decode(frames.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(id, RequestId(5));
    assert!(matches!(answer, Answer::Attr(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_bring_the_server_down(after_hello: bool, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lab = Lab::new(Arc::new(Model::new()));
            let mut wire = lab.raw();
            if after_hello {
                wire.write_all(&hello()).await.unwrap();
            }
            let _ = wire.write_all(&bytes).await;
            wire.shutdown().await.unwrap();
            let _ = wire.read_to_end(&mut Vec::new()).await;
            lab.client().await.stat().await.unwrap();
        });
    }
}
