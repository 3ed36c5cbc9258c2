//! Goal: what other tests take for granted about the S3 server is so; where moto is not S3, that is known.
//! Method: raw requests, without a client library.

use std::sync::Barrier;
use std::thread;

use super::*;

fn bucket(name: &str) -> Option<Bucket> {
    Some(Moto::shared()?.bucket(name))
}

#[test]
fn an_object_is_written_only_if_there_is_none() {
    let Some(bucket) = bucket("if-none-match") else { return };
    let put = |bytes| bucket.request("PUT", "/key", &[("If-None-Match", "*")], bytes).status;
    assert_eq!((put(b"first"), put(b"other")), (200, 412));
    assert_eq!(bucket.get("key").as_deref(), Some(&b"first"[..]));
}

#[test]
fn an_object_is_replaced_only_if_it_is_the_one_that_was_seen() {
    let Some(bucket) = bucket("if-match") else { return };
    bucket.put("key", b"first");
    let tag = bucket.request("HEAD", "/key", &[], &[]).header("etag").expect("a tag").to_owned();
    let put = |key, bytes| bucket.request("PUT", key, &[("If-Match", &tag)], bytes).status;
    assert_eq!(put("/key", b"second"), 200);
    assert_eq!(put("/key", b"third"), 412, "the tag is that of the first");
    assert_eq!(put("/none", b"third"), 404);
    assert_eq!(bucket.get("key").as_deref(), Some(&b"second"[..]));
}

#[test]
fn ranges_are_read_and_those_beyond_the_end_are_refused() {
    let Some(bucket) = bucket("ranges") else { return };
    bucket.put("key", b"0123456789");
    let get = |range| {
        let reply = bucket.request("GET", "/key", &[("Range", range)], &[]);
        (reply.status, reply.body)
    };
    assert_eq!(get("bytes=2-4"), (206, b"234".to_vec()));
    assert_eq!(get("bytes=8-100"), (206, b"89".to_vec()), "cut at the end");
    assert_eq!(get("bytes=-3"), (206, b"789".to_vec()));
    assert_eq!(get("bytes=-100"), (206, b"0123456789".to_vec()));
    assert_eq!(get("bytes=10-12").0, 416);
}

#[test]
fn a_listing_has_pages_of_a_thousand_in_order() {
    let Some(bucket) = bucket("pages") else { return };
    thread::scope(|scope| {
        for part in 0..4 {
            let bucket = &bucket;
            scope.spawn(move || {
                (part * 251..(part + 1) * 251).for_each(|n| bucket.put(&format!("k/{n:04}"), b"x"));
            });
        }
    });
    let page = bucket.request("GET", "?list-type=2&prefix=k/", &[], &[]);
    let page = String::from_utf8(page.body).expect("text");
    assert_eq!(page.matches("<Key>").count(), 1000);
    assert!(page.contains("<IsTruncated>true") && page.contains("<NextContinuationToken>"));
    let want: Vec<String> = (0..1004).map(|n| format!("k/{n:04}")).collect();
    assert_eq!(bucket.keys(), want);
}

#[test]
fn a_request_deletes_many_objects_also_absent_ones() {
    let Some(bucket) = bucket("delete-many") else { return };
    bucket.put("a", b"x");
    bucket.put("keep", b"x");
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object></Delete>";
    let reply = bucket.request("POST", "?delete", &[], body.as_bytes());
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(bucket.keys(), ["keep"]);
}

#[test]
fn what_is_not_there_is_404_and_deleting_it_is_no_error() {
    let Some(bucket) = bucket("absent") else { return };
    let status = |method| bucket.request(method, "/none", &[], &[]).status;
    assert_eq!((status("GET"), status("HEAD"), status("DELETE")), (404, 404, 204));
    let elsewhere = Bucket { name: "no-such-bucket".to_owned(), ..bucket };
    assert_eq!(elsewhere.request("PUT", "/key", &[], b"x").status, 404);
}

#[test]
fn checksums_of_bodies_are_not_checked_as_s3_would() {
    let Some(bucket) = bucket("checksums") else { return };
    let wrong = [("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="), ("x-amz-content-sha256", "00")];
    for header in wrong {
        assert_eq!(bucket.request("PUT", "/key", &[header], b"x").status, 200);
    }
}

#[test]
fn of_many_who_write_with_one_condition_through_a_proxy_one_does() {
    let Some(bucket) = bucket("race") else { return };
    let proxy = crate::Proxy::start(bucket.addr);
    let through = Bucket { addr: proxy.addr(), ..bucket };
    for round in 0..10 {
        let (key, together) = (format!("/{round}"), Barrier::new(8));
        let statuses: Vec<u16> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8u8)
                .map(|racer| {
                    let (key, through, together) = (&key, &through, &together);
                    scope.spawn(move || {
                        together.wait();
                        through.request("PUT", key, &[("If-None-Match", "*")], &[racer]).status
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    }
}
