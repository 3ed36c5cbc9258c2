//! Goal: each request of a remote store tells what happened, or that it does not know; never something else.
//! Method: every fault against every operation, once; the bucket says what is true.

use std::ops::ControlFlow;
use std::time::Duration;

use block_store::conformance::sample;
use block_store::{
    BlockStore, DeleteError, ListError, ObjectGetError, ObjectPutError, PutError, PutIf, ReadError,
    Remote, Version,
};
use bytes::Bytes;
use host::Host;
use testbed::{Fault, Kind, Rule};

use crate::lab::{Lab, PREFIX, done_but_not_answered, key, lab, not_done};

#[test]
fn it_is_a_block_store() {
    if lab().is_some() {
        block_store::conformance::check_all(&|| Box::new(lab().unwrap().into_remote()));
    }
}

impl Lab {
    /// A remote store whose proxy lives as long as the process.
    fn into_remote(self) -> Remote {
        let remote = self.remote();
        std::mem::forget(self.proxy);
        remote
    }

    fn object(&self, name: &str) -> String {
        format!("{PREFIX}/objects/{name}")
    }
}

#[test]
fn a_put_that_was_done_and_not_answered_is_found_done_when_tried_again() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    for (counter, fault) in (0..).zip(done_but_not_answered()) {
        let block = sample(counter, &[100_000]);
        lab.next(Kind::Put, fault.clone());
        let unknown = store.put(&block);
        assert!(matches!(unknown, Err(PutError::Io { .. })), "{fault:?}: {unknown:?}");
        let again = store.put(&block);
        assert!(matches!(again, Err(PutError::AlreadyExists { .. })), "{fault:?}: {again:?}");
        assert!(lab.has(&block), "{fault:?}");
        assert_eq!(store.read(block.name(), 0..100_000).unwrap(), block.payload());
    }
}

#[test]
fn a_put_that_was_not_done_leaves_nothing_and_may_be_tried_again() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    for (counter, fault) in (0..).zip(not_done()) {
        let block = sample(counter, &[100_000]);
        lab.next(Kind::Put, fault.clone());
        let failed = store.put(&block);
        assert!(matches!(failed, Err(PutError::Io { .. })), "{fault:?}: {failed:?}");
        assert_eq!(lab.stored(block.name()), None, "{fault:?}");
        store.put(&block).unwrap();
        assert!(lab.has(&block), "{fault:?}");
    }
}

#[test]
fn a_conflict_with_a_request_that_failed_is_not_taken_for_a_block() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let block = sample(1, &[10]);
    lab.next(Kind::Put, Fault::Refuse { status: 409, retry_after_seconds: None });
    let unknown = store.put(&block);
    assert!(matches!(unknown, Err(PutError::Io { .. })), "{unknown:?}");
    store.put(&block).unwrap();
}

#[test]
fn damaged_replies_are_never_returned() {
    let Some(lab) = lab() else { return };
    let block = sample(1, &[3, 70_000, 200_000]);
    lab.remote().put(&block).unwrap();
    let (mut right, mut noticed) = (0, 0);
    lab.proxy.add(Rule::new(Fault::CorruptReply).on(Kind::Get).always());
    // A new store each time, so that the footer comes over the wire too.
    for round in 0..60u32 {
        let store = lab.remote();
        let range = round * 1000..round * 4000 + 10;
        match store.read(block.name(), range.clone()) {
            // The bit that was flipped stands where nobody looked.
            Ok(bytes) => {
                assert_eq!(bytes, block.payload().slice(range.start as usize..range.end as usize));
                right += 1;
            }
            Err(ReadError::Damaged { .. } | ReadError::UnknownVersion { .. }) => noticed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(noticed > 40, "{noticed} of {}", noticed + right);
    lab.proxy.calm();
    assert_eq!(lab.remote().read(block.name(), 0..10).unwrap(), block.payload().slice(..10));
}

#[test]
fn a_reply_that_breaks_off_is_an_error_and_the_next_one_is_right() {
    let Some(lab) = lab() else { return };
    let block = sample(1, &[300_000]);
    let store = lab.remote();
    store.put(&block).unwrap();
    for fault in [Fault::ResetReply, Fault::TruncateReply, Fault::LoseReply, Fault::BUSY] {
        for skipped in [0, 1] {
            // The footer's request or, with the footer at hand, the payload's.
            let store = lab.remote();
            lab.proxy.add(Rule::new(fault.clone()).on(Kind::Get).after(skipped));
            let cut = store.read(block.name(), 0..300_000);
            assert!(matches!(cut, Err(ReadError::Away { .. })), "{fault:?}: {cut:?}");
            lab.proxy.calm();
            assert_eq!(store.read(block.name(), 0..300_000).unwrap(), block.payload());
        }
    }
}

#[test]
fn what_is_no_block_is_damaged_and_not_away() {
    let Some(lab) = lab() else { return };
    let block = sample(1, &[1000]);
    let other = sample(2, &[1000]);
    let whole = block.bytes();
    let mut flipped = whole.to_vec();
    flipped[500] ^= 4;
    let endless = vec![7; 6 << 20];
    let cases: [(&str, &[u8]); 7] = [
        ("longer than any block", &endless),
        ("empty", b""),
        ("a byte", b"x"),
        ("without its end", &whole[..whole.len() - 1]),
        ("without its beginning", &whole[1..]),
        ("another block", other.bytes()),
        ("with a flipped bit", &flipped),
    ];
    for (what, bytes) in cases {
        lab.bucket.put(&key(block.name()), bytes);
        let read = lab.remote().read(block.name(), 0..1000);
        assert!(matches!(read, Err(ReadError::Damaged { .. })), "{what}: {read:?}");
        let footer = lab.remote().footer(block.name());
        // The footer of one with a damaged payload is sound.
        let is_sound = footer.as_ref().is_ok_and(|footer| footer == block.footer());
        let is_refused = matches!(footer, Err(ReadError::Damaged { .. }));
        assert!(is_refused || (is_sound && what == "with a flipped bit"), "{what}: {footer:?}");
    }
}

#[test]
fn a_bucket_that_is_not_there_holds_no_answer() {
    let Some(lab) = lab() else { return };
    let mut options = lab.options();
    options.bucket = "no-such-bucket".to_owned();
    let store = Remote::s3(&Host::real(), &options).unwrap();
    let name = sample(1, &[1]).name();
    let read = store.read(name, 0..1);
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
    let owner = store.objects().get("owner");
    assert!(matches!(owner, Err(ObjectGetError::Io { .. })), "{owner:?}");
    let listed = store.list(&mut |_| ControlFlow::Continue(()));
    assert!(matches!(listed, Err(ListError::Io { .. })), "{listed:?}");
    let put = store.objects().put("owner", Bytes::from_static(b"x"), PutIf::Absent);
    assert!(matches!(put, Err(ObjectPutError::Io { .. })), "{put:?}");
}

/// Puts an object under `fault` and checks that what the put says is true.
fn put_object_under(lab: &Lab, store: &Remote, fault: &Fault, name: &str, condition: PutIf) {
    let content = Bytes::from(format!("{fault:?} {condition:?}"));
    let before = store.objects().get(name).unwrap();
    lab.next(Kind::Put, fault.clone());
    let put = store.objects().put(name, content.clone(), condition.clone());
    let after = store.objects().get(name).unwrap();
    match put {
        Ok(version) => assert_eq!(after, Some((content, version)), "{fault:?}"),
        Err(ObjectPutError::Away { .. }) => {
            let is_new = after.as_ref().is_some_and(|(bytes, _)| *bytes == content);
            assert!(is_new || after == before, "{fault:?}: {after:?}");
        }
        Err(error) => panic!("{fault:?} {condition:?}: {error}"),
    }
}

#[test]
fn a_conditional_put_of_an_object_never_lies_about_whose_the_object_is() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let conflict = Fault::Refuse { status: 409, retry_after_seconds: None };
    let faults = [done_but_not_answered(), not_done(), vec![conflict]].concat();
    for (n, fault) in faults.iter().enumerate() {
        let name = format!("object-{n}");
        put_object_under(&lab, &store, fault, &name, PutIf::Absent);
        lab.proxy.calm();
        let current = || store.objects().get(&name).unwrap().map(|(_, version)| version);
        if let Some(version) = current() {
            put_object_under(&lab, &store, fault, &name, PutIf::Is(version));
            lab.proxy.calm();
        }
        put_object_under(&lab, &store, fault, &name, PutIf::Always);
        lab.proxy.calm();
    }
}

#[test]
fn somebody_elses_object_is_a_conflict_also_when_the_network_is_bad() {
    let Some(lab) = lab() else { return };
    let (ours, theirs) = (lab.remote(), lab.remote());
    let first =
        theirs.objects().put("owner", Bytes::from_static(b"theirs"), PutIf::Absent).unwrap();
    let gone = Version::clone(&first);
    theirs.objects().put("owner", Bytes::from_static(b"theirs still"), PutIf::Always).unwrap();
    for fault in [done_but_not_answered(), not_done()].concat() {
        for condition in [PutIf::Absent, PutIf::Is(gone.clone())] {
            lab.next(Kind::Put, fault.clone());
            let put = ours.objects().put("owner", Bytes::from_static(b"ours"), condition);
            let fair = [
                matches!(put, Err(ObjectPutError::Conflict { .. })),
                matches!(put, Err(ObjectPutError::Away { .. })),
            ];
            assert!(fair.contains(&true), "{fault:?}: {put:?}");
            lab.proxy.calm();
            let (content, _) = ours.objects().get("owner").unwrap().unwrap();
            assert_eq!(content, &b"theirs still"[..]);
        }
    }
}

#[test]
fn a_put_that_the_network_delivers_late_changes_nothing_any_more() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let put = |bytes: &'static [u8]| {
        store.objects().put("root", Bytes::from_static(bytes), PutIf::Always)
    };
    put(b"first").unwrap();
    lab.next(Kind::Put, Fault::Late);
    let unknown = put(b"late");
    assert!(matches!(unknown, Err(ObjectPutError::Away { .. })), "{unknown:?}");
    put(b"later").unwrap();
    lab.proxy.wait_until("the late one waits", |log| log.held().len() == 1);
    lab.proxy.release_all();
    lab.proxy.wait_until("the late one is served", |log| {
        log.of(Kind::Put).all(|seen| seen.status.is_some())
    });
    assert_eq!(store.objects().get("root").unwrap().unwrap().0, &b"later"[..]);
}

#[test]
fn a_damaged_object_is_an_error_and_never_absent() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    store.objects().put("root", Bytes::from_static(b"content"), PutIf::Absent).unwrap();
    for _ in 0..20 {
        lab.next(Kind::Get, Fault::CorruptReply);
        let got = store.objects().get("root");
        assert!(
            matches!(
                got,
                Err(ObjectGetError::Damaged { .. } | ObjectGetError::UnknownVersion { .. })
            ),
            "{got:?}"
        );
    }
    for bytes in [&b""[..], b"x", &[0; 100]] {
        lab.bucket.put(&lab.object("root"), bytes);
        let got = store.objects().get("root");
        assert!(matches!(got, Err(ObjectGetError::Damaged { .. })), "{got:?}");
    }
}

#[test]
fn deletes_go_a_thousand_at_a_time() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let kept = sample(9999, &[1]);
    let gone = sample(7, &[1]);
    store.put(&kept).unwrap();
    store.put(&gone).unwrap();
    let names: Vec<_> =
        (0..2500).map(|counter| block_store::BlockName { counter, ..gone.name() }).collect();
    lab.proxy.forget();
    store.delete_many(&names).unwrap();
    let requests: Vec<_> =
        lab.proxy.log().requests().iter().map(|seen| (seen.kind, seen.keys)).collect();
    assert_eq!(
        requests,
        [(Kind::DeleteMany, 1000), (Kind::DeleteMany, 1000), (Kind::DeleteMany, 500)]
    );
    assert_eq!(lab.bucket.keys(), [key(kept.name())]);
}

#[test]
fn a_delete_that_failed_says_so_and_may_be_tried_again() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let refused = Fault::Answer {
        status: 200,
        body: format!(
            "<?xml version=\"1.0\"?><DeleteResult><Error><Key>{}</Key><Code>InternalError</Code>\
             <Message>try again</Message></Error></DeleteResult>",
            key(sample(1, &[10]).name())
        ),
    };
    for fault in [done_but_not_answered(), not_done(), vec![refused]].concat() {
        let block = sample(1, &[10]);
        if !lab.has(&block) {
            store.put(&block).unwrap();
        }
        for kind in [Kind::Delete, Kind::DeleteMany] {
            lab.next(kind, fault.clone());
        }
        let deleted = store.delete_many(&[block.name()]);
        assert!(
            matches!(deleted, Err(DeleteError::Away { .. } | DeleteError::Io { .. })),
            "{fault:?}: {deleted:?}"
        );
        lab.proxy.calm();
        store.delete_many(&[block.name()]).unwrap();
        assert_eq!(lab.stored(block.name()), None);
    }
}

#[test]
fn a_listing_goes_by_pages_and_a_page_that_fails_is_an_error() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let name = |counter| block_store::BlockName { counter, ..sample(0, &[1]).name() };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (bucket, name) = (&lab.bucket, &name);
            scope.spawn(move || {
                (part * 252..(part + 1) * 252).for_each(|n| bucket.put(&key(name(n)), b"x"));
            });
        }
    });
    // Nothing of ours.
    lab.bucket.put(&format!("{PREFIX}/blocks/readme.txt"), b"x");
    let list = || {
        let mut seen = Vec::new();
        store
            .list(&mut |listed| {
                seen.push(listed.name);
                ControlFlow::Continue(())
            })
            .map(|()| seen)
    };
    lab.proxy.forget();
    let all: Vec<_> = (0..1008).map(name).collect();
    assert_eq!(list().unwrap(), all);
    assert_eq!(lab.proxy.log().count(Kind::List), 2);
    assert_eq!(store.usage().blocks, 1008);
    for fault in [Fault::TruncateReply, Fault::ResetReply, Fault::LoseReply, Fault::INTERNAL] {
        for page in [0, 1] {
            lab.proxy.add(Rule::new(fault.clone()).on(Kind::List).after(page));
            let listed = list();
            assert!(matches!(listed, Err(ListError::Away { .. })), "{fault:?}: {listed:?}");
            lab.proxy.calm();
        }
    }
}

#[test]
fn a_listing_without_end_or_order_is_an_error() {
    let Some(lab) = lab() else { return };
    let mut options = lab.options();
    options.request_timeout = Duration::from_millis(300);
    options.connect_timeout = Duration::from_millis(300);
    let store = Remote::s3(&Host::real(), &options).unwrap();
    let name = |counter| block_store::BlockName { counter, ..sample(0, &[1]).name() };
    let object = |counter| {
        format!(
            "<Contents><Key>{}</Key><Size>1</Size><ETag>x</ETag>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>",
            key(name(counter))
        )
    };
    let pages = [
        // The same empty page again and again.
        String::new(),
        // The same name again and again.
        object(1),
        // Backwards.
        object(2) + &object(1),
    ];
    for page in pages {
        let body = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x\
             </NextContinuationToken>{page}</ListBucketResult>"
        );
        lab.proxy.add(Rule::new(Fault::Answer { status: 200, body }).always());
        let listed = store.list(&mut |_| ControlFlow::Continue(()));
        assert!(
            matches!(listed, Err(ListError::Away { .. } | ListError::Io { .. })),
            "{page:?}: {listed:?}"
        );
        lab.proxy.calm();
    }
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let block = sample(1, &[1000]);
    store.put(&block).unwrap();
    let bodies = ["", "garbage", "<ListBucketResult></ListBucketResult>", "<Error></Error>"];
    for body in bodies {
        for status in [200, 206, 204, 302, 304, 400, 404, 412, 416, 418] {
            let made_up = Fault::Answer { status, body: body.to_owned() };
            lab.proxy.add(Rule::new(made_up).always());
            let read = lab.remote().read(block.name(), 0..1000);
            assert!(read.is_err(), "{status} {body:?}: {read:?}");
            let object = store.objects().get("owner");
            assert!(
                object.is_err() || (status == 404 && matches!(object, Ok(None))),
                "{status} {body:?}: {object:?}"
            );
            lab.proxy.calm();
        }
    }
}

#[test]
fn while_the_store_is_away_requests_fail_and_when_it_is_back_they_work() {
    let Some(lab) = lab() else { return };
    let store = lab.remote();
    let block = sample(1, &[1000]);
    store.put(&block).unwrap();
    lab.proxy.go_away();
    let read = store.read(block.name(), 0..1000);
    assert!(matches!(read, Err(ReadError::Away { .. })), "{read:?}");
    let put = store.objects().put("owner", Bytes::new(), PutIf::Absent);
    assert!(matches!(put, Err(ObjectPutError::Away { .. })), "{put:?}");
    lab.proxy.come_back();
    assert_eq!(store.read(block.name(), 0..1000).unwrap(), block.payload());
}

#[test]
fn a_store_that_never_answers_is_waited_for_no_longer_than_was_said() {
    let Some(lab) = lab() else { return };
    let mut options = lab.options();
    options.request_timeout = Duration::from_millis(50);
    options.connect_timeout = Duration::from_millis(50);
    let store = Remote::s3(&Host::real(), &options).unwrap();
    lab.proxy.add(Rule::new(Fault::Hold).always());
    let block = sample(1, &[10]);
    let read = store.read(block.name(), 0..1);
    assert!(matches!(read, Err(ReadError::Away { .. })), "{read:?}");
    let put = store.put(&block);
    assert!(matches!(put, Err(PutError::Io { .. })), "{put:?}");
    assert!(lab.bucket.keys().is_empty());
}
