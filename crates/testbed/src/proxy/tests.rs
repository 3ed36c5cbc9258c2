//! Goal: each fault does what its description says, to the client and to the server, and what is seen is counted.
//! Method: raw requests through the proxy, one connection each; the bucket is looked into past the proxy.

use std::io;
use std::sync::Arc;

use super::*;
use crate::http::{self, Reply};
use crate::{Bucket, Moto};

struct Lab {
    bucket: Bucket,
    proxy: Arc<Proxy>,
}

fn lab(name: &str) -> Option<Lab> {
    let moto = Moto::shared()?;
    Some(Lab { bucket: moto.bucket(name), proxy: Arc::new(Proxy::start(moto.addr())) })
}

impl Lab {
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<Reply> {
        self.send("PUT", &format!("/{key}"), &[], bytes)
    }

    fn get(&self, key: &str) -> io::Result<Reply> {
        self.send("GET", &format!("/{key}"), &[], &[])
    }

    fn send(
        &self,
        method: &str,
        rest: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let target = format!("/{}{rest}", self.bucket.name());
        http::exchange(self.proxy.addr(), &crate::moto::head(method, &target, headers), body)
    }
}

#[track_caller]
fn status(reply: io::Result<Reply>) -> u16 {
    reply.expect("a whole reply").status
}

#[test]
fn without_rules_requests_and_replies_pass_and_are_seen() {
    let Some(lab) = lab("proxy-plain") else { return };
    assert_eq!(status(lab.put("a", b"bytes")), 200);
    assert_eq!(lab.get("a").expect("a reply").body, b"bytes");
    let part = lab.send("GET", "/a", &[("Range", "bytes=1-2")], &[]).expect("a reply");
    assert_eq!((part.status, part.body), (206, b"yt".to_vec()));
    assert_eq!(status(lab.send("GET", "?list-type=2", &[], &[])), 200);
    assert_eq!(status(lab.send("HEAD", "/a", &[], &[])), 200);
    assert_eq!(status(lab.send("DELETE", "/a", &[], &[])), 204);
    let log = lab.proxy.log();
    let kinds: Vec<Kind> = log.requests().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [Kind::Put, Kind::Get, Kind::Get, Kind::List, Kind::Head, Kind::Delete]);
    let ranged = &log.requests()[2];
    assert_eq!((ranged.range, ranged.bytes, ranged.status), (Some((1, 2)), 2, Some(206)));
    assert_eq!(log.most_in_flight(Kind::Put), 1);
    assert_eq!(log.most_bytes_in_flight(Kind::Put), 5);
}

#[test]
fn a_refusal_never_reaches_the_server() {
    let Some(lab) = lab("proxy-refuse") else { return };
    lab.proxy.add(Rule::new(Fault::TOO_MANY).on(Kind::Put).after(1).times(2));
    let statuses: Vec<u16> = (0..4).map(|n| status(lab.put(&format!("k{n}"), b"x"))).collect();
    assert_eq!(statuses, [200, 429, 429, 200]);
    assert_eq!(lab.bucket.keys(), ["k0", "k3"]);
    lab.proxy.add(Rule::new(Fault::TOO_MANY));
    let reply = lab.put("k", b"x").expect("a reply");
    assert_eq!(reply.header("Retry-After"), Some("1"));
}

#[test]
fn a_reset_in_the_request_leaves_nothing_and_one_in_the_reply_leaves_it_done() {
    let Some(lab) = lab("proxy-reset") else { return };
    for (key, fault, done) in [
        ("request", Fault::ResetRequest, false),
        ("lost", Fault::LoseReply, true),
        ("closed", Fault::CloseUnanswered, true),
        ("middle", Fault::ResetReply, true),
        ("short", Fault::TruncateReply, true),
    ] {
        lab.proxy.add(Rule::new(fault).path(key));
        let _error = lab.put(key, &[7; 100_000]).expect_err("no whole reply");
        assert_eq!(lab.bucket.get(key).is_some(), done, "{key}");
    }
}

#[test]
fn an_answer_may_be_made_up() {
    let Some(lab) = lab("proxy-answer") else { return };
    lab.bucket.put("key", b"real");
    lab.proxy.add(Rule::new(Fault::Answer { status: 200, body: "not so".to_owned() }));
    assert_eq!(lab.get("key").expect("a reply").body, b"not so");
    assert_eq!(lab.proxy.log().requests()[0].status, None, "the server saw nothing");
}

#[test]
fn a_request_may_be_served_and_its_client_told_otherwise() {
    let Some(lab) = lab("proxy-say") else { return };
    lab.proxy.add(Rule::new(Fault::ServeButSay(500)));
    assert_eq!(status(lab.put("key", b"x")), 500);
    assert_eq!(lab.proxy.log().requests()[0].status, Some(200));
    assert_eq!(lab.bucket.get("key").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_reply_body_is_cut_in_its_middle_or_damaged_by_one_bit() {
    let Some(lab) = lab("proxy-body") else { return };
    let bytes = vec![9; 50_000];
    lab.bucket.put("key", &bytes);
    for fault in [Fault::ResetReply, Fault::TruncateReply] {
        lab.proxy.add(Rule::new(fault));
        let _error = lab.get("key").expect_err("no whole reply");
        lab.proxy.calm();
    }
    lab.proxy.add(Rule::new(Fault::CorruptReply));
    let got = lab.get("key").expect("a reply").body;
    let flipped: u32 = got.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((got.len(), flipped), (bytes.len(), 1));
}

#[test]
fn a_damaged_request_is_stored_as_it_arrives() {
    let Some(lab) = lab("proxy-damage") else { return };
    lab.proxy.add(Rule::new(Fault::CorruptRequest));
    assert_eq!(status(lab.put("key", &[0; 1000])), 200);
    let stored = lab.bucket.get("key").expect("it is there");
    assert_eq!(stored.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_late_request_is_served_after_its_client_went_on() {
    let Some(lab) = lab("proxy-late") else { return };
    lab.proxy.add(Rule::new(Fault::Late));
    let _error = lab.put("key", b"late").expect_err("reset");
    assert_eq!(status(lab.put("key", b"retry")), 200);
    lab.proxy.wait_until("it is held", |log| log.held() == [0]);
    lab.proxy.release_all();
    lab.proxy.wait_until("it is served", |log| log.requests()[0].status.is_some());
    assert_eq!(lab.bucket.get("key").as_deref(), Some(&b"late"[..]));
}

#[test]
fn held_requests_are_in_flight_until_they_are_let_go() {
    let Some(lab) = lab("proxy-hold") else { return };
    lab.proxy.add(Rule::new(Fault::Hold).on(Kind::Put).always());
    thread::scope(|scope| {
        for key in ["a", "b", "c"] {
            let lab = &lab;
            scope.spawn(move || assert_eq!(status(lab.put(key, &[1; 10])), 200));
        }
        lab.proxy.wait_until("three held", |log| log.held().len() == 3);
        assert_eq!(lab.proxy.log().in_flight(Kind::Put), 3);
        assert!(lab.bucket.keys().is_empty());
        lab.proxy.release(1);
        lab.proxy.wait_until("one done", |log| log.in_flight(Kind::Put) == 2);
        assert_eq!(lab.bucket.keys().len(), 1);
        lab.proxy.release_all();
    });
    let log = lab.proxy.log();
    assert_eq!((log.most_in_flight(Kind::Put), log.most_bytes_in_flight(Kind::Put)), (3, 30));
    assert_eq!(lab.bucket.keys(), ["a", "b", "c"]);
}

#[test]
fn away_means_refused_and_back_means_the_same_address() {
    let Some(lab) = lab("proxy-away") else { return };
    for round in 0..3 {
        lab.proxy.go_away();
        let refused = lab.put("key", b"x").expect_err("away");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{refused}");
        lab.proxy.come_back();
        assert_eq!(status(lab.put(&format!("{round}"), b"x")), 200);
    }
    assert_eq!(lab.bucket.keys(), ["0", "1", "2"]);
}

#[test]
fn going_away_cuts_what_is_held_and_it_goes_nowhere() {
    let Some(lab) = lab("proxy-cut") else { return };
    lab.proxy.add(Rule::new(Fault::Hold));
    thread::scope(|scope| {
        let cut = scope.spawn(|| lab.put("key", b"x").expect_err("cut"));
        lab.proxy.wait_until("one held", |log| log.held().len() == 1);
        lab.proxy.go_away();
        let _error = cut.join().expect("the client ends");
    });
    lab.proxy.wait_until("nothing in flight", |log| log.in_flight(Kind::Put) == 0);
    assert!(lab.bucket.keys().is_empty());
}

#[test]
fn more_than_a_thousand_deletes_in_one_request_are_refused_as_s3_does() {
    let Some(lab) = lab("proxy-deletes") else { return };
    for (keys, want) in [(1000, 200), (1001, 400)] {
        let objects = "<Object><Key>none</Key></Object>".repeat(keys);
        let body = format!("<Delete>{objects}</Delete>");
        assert_eq!(status(lab.send("POST", "?delete", &[], body.as_bytes())), want);
    }
    let keys: Vec<usize> = lab.proxy.log().of(Kind::DeleteMany).map(|seen| seen.keys).collect();
    assert_eq!(keys, [1000, 1001]);
}

#[test]
fn lots_are_the_same_for_the_same_seed() {
    let faults = [Fault::LoseReply, Fault::BUSY];
    let draw = |seed| {
        let lots = Lots { seed, per_mille: 300, faults: faults.to_vec() };
        (0..1000).map(|number| lots.draw(number, Kind::Get)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let hit = draw(1).iter().flatten().count();
    assert!((200..400).contains(&hit), "{hit} of 1000");
}
