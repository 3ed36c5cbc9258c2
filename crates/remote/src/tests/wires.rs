//! Goal: what is encoded is decoded as the same; everything else is an error and never a panic.

use bytes::Bytes;
use file_tree::{
    Access, Attr, Caller, DirItem, FileKind, Ino, Name, NewNode, RenameMode, SetAttr, SetTime,
    Stability, Stat, Timestamp, TreeError, WriteEpoch, Written,
};
use proptest::prelude::*;

use crate::wire::{
    Answer, FRAME_BYTES_MAX, FRAME_BYTES_MIN, Frame, Hello, HelloAnswer, LENGTH_BYTES,
    LINK_BYTES_MAX, LIST_ITEMS_MAX, PAYLOAD_BYTES_MAX, RefusalCode, Request, RequestId, Welcome,
    WireError, frame_length,
};

/// The frame as a receiver sees it, after its length field was checked.
fn received(frame: &Frame) -> Bytes {
    let all = [&frame.head[..], &frame.payload[..]].concat();
    let length = frame_length(*all.first_chunk().unwrap()).unwrap();
    assert_eq!(length, all.len() - LENGTH_BYTES);
    Bytes::from(all).slice(LENGTH_BYTES..)
}

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(any::<u8>(), 1..=255)
        .prop_filter_map("a name", |bytes| Name::new(&bytes).ok())
}

fn ino() -> impl Strategy<Value = Ino> {
    any::<u64>().prop_map(Ino)
}

fn caller() -> impl Strategy<Value = Caller> {
    (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u32>(), 0..40), any::<bool>())
        .prop_map(|(uid, gid, groups, checks_done)| Caller { uid, gid, groups, checks_done })
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn set_time() -> impl Strategy<Value = Option<SetTime>> {
    prop_oneof![Just(None), Just(Some(SetTime::Now)), time().prop_map(|at| Some(SetTime::At(at)))]
}

fn kind() -> impl Strategy<Value = FileKind> {
    prop::sample::select(vec![
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ])
}

fn attr() -> impl Strategy<Value = Attr> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let sizes = (any::<u64>(), any::<u64>(), any::<u64>());
    (ino(), kind(), numbers, sizes, (time(), time(), time())).prop_map(
        |(ino, kind, (mode, nlink, uid, gid), (size, allocated, rdev), (atime, mtime, ctime))| {
            Attr { ino, kind, mode, nlink, uid, gid, size, allocated, rdev, atime, mtime, ctime }
        },
    )
}

fn change() -> impl Strategy<Value = SetAttr> {
    (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<u64>>(),
        set_time(),
        set_time(),
    )
        .prop_map(|(mode, uid, gid, size, atime, mtime)| SetAttr {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        })
}

fn node() -> impl Strategy<Value = NewNode> {
    let special = (kind(), any::<u32>(), any::<u64>());
    let special = special.prop_map(|(kind, mode, rdev)| NewNode::Special { kind, mode, rdev });
    prop_oneof![
        any::<u32>().prop_map(|mode| NewNode::File { mode }),
        any::<u32>().prop_map(|mode| NewNode::Directory { mode }),
        prop::collection::vec(any::<u8>(), 0..=LINK_BYTES_MAX)
            .prop_map(|target| NewNode::Symlink { target }),
        special,
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let place = || (caller(), ino(), name());
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::ReadWrite]);
    let modes = prop::sample::select(vec![
        RenameMode::Replace,
        RenameMode::NoReplace,
        RenameMode::Exchange,
    ]);
    let read = (ino(), any::<u64>(), 0..=1_048_576_u32);
    let write = (ino(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..5000));
    prop_oneof![
        place().prop_map(|(caller, dir, name)| Request::Lookup { caller, dir, name }),
        place().prop_map(|(caller, dir, name)| Request::Unlink { caller, dir, name }),
        place().prop_map(|(caller, dir, name)| Request::RemoveDir { caller, dir, name }),
        (place(), any::<u32>()).prop_map(|((caller, dir, name), mode)| Request::Create {
            caller,
            dir,
            name,
            mode
        }),
        (place(), node()).prop_map(|((caller, dir, name), node)| Request::Make {
            caller,
            dir,
            name,
            node
        }),
        (place(), ino()).prop_map(|((caller, dir, name), ino)| Request::Link {
            caller,
            ino,
            dir,
            name
        }),
        (place(), ino(), name(), modes).prop_map(|((caller, dir, from), to_dir, to, mode)| {
            Request::Rename { caller, from: (dir, from), to: (to_dir, to), mode }
        }),
        ino().prop_map(|ino| Request::Attr { ino }),
        ino().prop_map(|ino| Request::ReadLink { ino }),
        ino().prop_map(|ino| Request::Release { ino }),
        ino().prop_map(|ino| Request::Commit { ino }),
        (caller(), ino(), change()).prop_map(|(caller, ino, change)| Request::SetAttr {
            caller,
            ino,
            change
        }),
        (caller(), ino(), access).prop_map(|(caller, ino, access)| Request::Open {
            caller,
            ino,
            access
        }),
        read.prop_map(|(ino, offset, len)| Request::Read { ino, offset, len }),
        write.prop_map(|(ino, offset, bytes)| Request::Write { ino, offset, bytes: bytes.into() }),
        (caller(), ino(), any::<u64>(), any::<u32>())
            .prop_map(|(caller, dir, after, max)| Request::List { caller, dir, after, max }),
        Just(Request::Stat),
    ]
}

fn error() -> impl Strategy<Value = TreeError> {
    let plain = prop::sample::select(vec![
        TreeError::NotFound,
        TreeError::Stale,
        TreeError::Exists,
        TreeError::NotADirectory,
        TreeError::IsADirectory,
        TreeError::NotEmpty,
        TreeError::AccessDenied,
        TreeError::NotPermitted,
        TreeError::Invalid("the server refuses an argument"),
        TreeError::NameTooLong,
        TreeError::TooLarge,
        TreeError::TooManyLinks,
        TreeError::NoSpace,
        TreeError::NotSupported,
    ]);
    prop_oneof![
        plain,
        ".{0,200}".prop_map(TreeError::Damaged),
        ".{0,200}".prop_map(TreeError::Failed),
        ".{0,200}".prop_map(TreeError::Unreachable),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let stability = prop::sample::select(vec![Stability::Written, Stability::Durable]);
    let item = (any::<u64>(), name(), attr()).prop_map(|(cookie, name, attr)| DirItem {
        cookie,
        name,
        attr,
    });
    prop_oneof![
        attr().prop_map(Answer::Attr),
        Just(Answer::Done),
        prop::collection::vec(any::<u8>(), 0..=LINK_BYTES_MAX)
            .prop_map(|target| Answer::Link(target.into())),
        prop::collection::vec(any::<u8>(), 0..5000).prop_map(|bytes| Answer::Data(bytes.into())),
        (stability, any::<u64>(), attr()).prop_map(|(stability, epoch, attr)| Answer::Written(
            Written { stability, epoch: WriteEpoch(epoch), attr }
        )),
        any::<u64>().prop_map(|epoch| Answer::Committed(WriteEpoch(epoch))),
        prop::collection::vec(item, 0..20).prop_map(Answer::Items),
        any::<[u64; 3]>().prop_map(|[total_bytes, available_bytes, files]| Answer::Stat(Stat {
            total_bytes,
            available_bytes,
            files
        })),
        error().prop_map(Answer::Failed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn requests_come_back(id: u64, request in request()) {
        let frame = received(&request.frame(RequestId(id)));
        prop_assert_eq!(Request::decode(frame), Ok((RequestId(id), request)));
    }

    #[test]
    fn answers_come_back(id: u64, answer in answer()) {
        let frame = received(&answer.clone().frame(RequestId(id)));
        prop_assert_eq!(Answer::decode(frame), Ok((RequestId(id), answer)));
    }

    #[test]
    fn a_request_cut_short_is_refused(request in request(), at: prop::sample::Index) {
        // What follows the fixed part of a write is payload, of any length.
        prop_assume!(!matches!(request, Request::Write { .. }));
        let frame = received(&request.frame(RequestId(1)));
        prop_assert!(Request::decode(frame.slice(..at.index(frame.len()))).is_err());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), kind: u8) {
        if let Some(place) = bytes.get_mut(8) {
            *place = kind;
        }
        let bytes = Bytes::from(bytes);
        let _ = Request::decode(bytes.clone());
        let _ = Answer::decode(bytes.clone());
        let _ = Hello::decode(bytes.clone());
        let _ = HelloAnswer::decode(bytes);
    }

    #[test]
    fn a_flipped_byte_is_decoded_or_refused(request in request(), at: prop::sample::Index, flip in 1..=255_u8) {
        let mut frame = received(&request.frame(RequestId(1))).to_vec();
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let _ = Request::decode(frame.into());
    }

    #[test]
    fn hellos_come_back(volume in ".{0,60}", root: u64, requests_max: u32, reason in ".{0,200}") {
        prop_assert_eq!(Hello::decode(received(&Hello::frame(&volume))), Ok(Hello::Volume(volume)));
        let welcome = HelloAnswer::Welcome(Welcome { root: Ino(root), requests_max });
        prop_assert_eq!(HelloAnswer::decode(received(&welcome.frame())), Ok(welcome));
        for code in [
            RefusalCode::Version,
            RefusalCode::NoSuchVolume,
            RefusalCode::VolumeFailed,
            RefusalCode::TooManyConnections,
        ] {
            let refused = HelloAnswer::Refused { version: 9, code, reason: reason.clone() };
            prop_assert_eq!(HelloAnswer::decode(received(&refused.frame())), Ok(refused));
        }
    }
}

#[test]
fn lengths_outside_the_limits_are_refused() {
    let length = |bytes: usize| frame_length(u32::try_from(bytes).unwrap().to_le_bytes());
    assert_eq!(length(FRAME_BYTES_MAX), Ok(FRAME_BYTES_MAX));
    assert!(matches!(length(FRAME_BYTES_MAX + 1), Err(WireError::TooLong(_))));
    assert_eq!(length(FRAME_BYTES_MIN), Ok(FRAME_BYTES_MIN));
    assert_eq!(length(FRAME_BYTES_MIN - 1), Err(WireError::TooShort));
}

#[test]
fn an_answer_over_the_limits_becomes_a_failure() {
    let data = Answer::Data(vec![0; PAYLOAD_BYTES_MAX + 1].into());
    let Ok((_, Answer::Failed(TreeError::Failed(_)))) =
        Answer::decode(received(&data.frame(RequestId(1))))
    else {
        panic!("not a failure");
    };
}

#[test]
fn the_longest_list_fits_in_a_frame() {
    let time = Timestamp { seconds: i64::MIN, nanos: 999_999_999 };
    let attr = Attr {
        ino: Ino(u64::MAX),
        kind: FileKind::Regular,
        mode: 0o7777,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
    };
    let item = DirItem { cookie: 1, name: Name::new(&[b'x'; 255]).unwrap(), attr };
    let list = Answer::Items(vec![item; usize::try_from(LIST_ITEMS_MAX).unwrap()]);
    let frame = received(&list.clone().frame(RequestId(1)));
    assert_eq!(Answer::decode(frame), Ok((RequestId(1), list)));
}

#[test]
fn a_request_has_the_bytes_that_the_format_says() {
    let request = Request::Unlink {
        caller: Caller { uid: 1, gid: 2, groups: vec![3], checks_done: true },
        dir: Ino(4),
        name: Name::new(b"ab").unwrap(),
    };
    let frame = request.frame(RequestId(5));
    let body = [
        &35_u32.to_le_bytes()[..],
        &5_u64.to_le_bytes(),
        &[0x08],
        &1_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &[1],
        &1_u16.to_le_bytes(),
        &3_u32.to_le_bytes(),
        &4_u64.to_le_bytes(),
        &[2, b'a', b'b'],
    ];
    assert_eq!(frame.head, body.concat());
}
