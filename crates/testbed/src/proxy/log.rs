//! What a proxy saw.
//!
//! A request is in flight from when its head was read to just before the last of its reply is sent: a client that
//! waits for a reply before its next request is never counted twice. One that is late is in flight until it arrives.

use std::collections::BTreeMap;

use super::rule::{Fault, Kind};
use crate::http::Head;

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its place in the order of arrival, from 0.
    pub number: u64,
    /// What it asks for.
    pub kind: Kind,
    /// Path and query, as they came.
    pub target: String,
    /// `If-None-Match` or `If-Match`, with its value.
    pub condition: Option<String>,
    /// First and last byte asked for; absent for a whole object and for a suffix.
    pub range: Option<(u64, u64)>,
    /// Bytes of its body, or bytes that its range asks for.
    pub bytes: u64,
    /// Keys in the body of a [`Kind::DeleteMany`].
    pub keys: usize,
    /// What was done to it.
    pub fault: Option<Fault>,
    /// Whether it waits for a release.
    pub held: bool,
    /// The server's answer, whether or not the client got it; none if the server did not see it (yet).
    pub status: Option<u16>,
}

impl Seen {
    pub(crate) fn of(number: u64, head: &Head) -> Self {
        let mut words = head.first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let range = head.get("range").and_then(parse_range);
        let body = head.length().unwrap_or(0);
        let condition = ["if-none-match", "if-match"]
            .iter()
            .find_map(|name| Some(format!("{name}: {}", head.get(name)?)));
        Self {
            number,
            kind: Kind::of(method, target),
            target: target.to_owned(),
            condition,
            range,
            bytes: range.map_or(body, |(first, last)| (last + 1).saturating_sub(first)),
            keys: 0,
            fault: None,
            held: false,
            status: None,
        }
    }
}

/// `bytes=FIRST-LAST`.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// What is, and at most was, in flight of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    requests: usize,
    requests_max: usize,
    bytes: u64,
    bytes_max: u64,
}

/// All requests so far, and how many there were at once.
#[derive(Clone, Debug, Default)]
pub struct Log {
    requests: Vec<Seen>,
    first: u64,
    flights: BTreeMap<Kind, Flight>,
}

impl Log {
    /// Every request since the start, or since [`crate::Proxy::forget`], in order of arrival.
    pub fn requests(&self) -> &[Seen] {
        &self.requests
    }

    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Seen> {
        self.requests.iter().filter(move |seen| seen.kind == kind)
    }

    /// How many of one kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.of(kind).count()
    }

    /// Numbers of those that wait for a release, oldest first.
    pub fn held(&self) -> Vec<u64> {
        self.requests.iter().filter(|seen| seen.held).map(|seen| seen.number).collect()
    }

    /// How many of one kind are in flight.
    pub fn in_flight(&self, kind: Kind) -> usize {
        self.flight(kind).requests
    }

    /// The most of one kind that were in flight at once.
    pub fn most_in_flight(&self, kind: Kind) -> usize {
        self.flight(kind).requests_max
    }

    /// The most bytes of requests of one kind that were in flight at once: of bodies, or of ranges asked for.
    pub fn most_bytes_in_flight(&self, kind: Kind) -> u64 {
        self.flight(kind).bytes_max
    }

    fn flight(&self, kind: Kind) -> Flight {
        self.flights.get(&kind).copied().unwrap_or_default()
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.requests.len() as u64
    }

    pub(crate) fn arrive(&mut self, seen: Seen) {
        let flight = self.flights.entry(seen.kind).or_default();
        flight.requests += 1;
        flight.bytes += seen.bytes;
        flight.requests_max = flight.requests_max.max(flight.requests);
        flight.bytes_max = flight.bytes_max.max(flight.bytes);
        self.requests.push(seen);
    }

    pub(crate) fn leave(&mut self, kind: Kind, bytes: u64) {
        let flight = self.flights.entry(kind).or_default();
        flight.requests -= 1;
        flight.bytes -= bytes;
    }

    /// The entry of a request, unless it was forgotten.
    pub(crate) fn entry(&mut self, number: u64) -> Option<&mut Seen> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.requests.get_mut(at)
    }

    /// Leaves out what has been; what is in flight stays counted.
    pub(crate) fn forget(&mut self) {
        self.first = self.next_number();
        self.requests.clear();
        for flight in self.flights.values_mut() {
            flight.requests_max = flight.requests;
            flight.bytes_max = flight.bytes;
        }
    }
}
