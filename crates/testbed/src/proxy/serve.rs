//! One client's connection: reads requests, does to them what their fault says, sends what is to be sent.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::log::Seen;
use super::rule::{Fault, Kind, mix};
use super::{Shared, Visit};
use crate::http::{self, Head, Reply};

/// Keys that S3 takes in one delete request.
const DELETE_KEYS_MAX: usize = 1000;

/// What becomes of the connection.
enum Next {
    Request,
    Close,
    Reset,
}

/// Serves requests until the client or a fault ends the connection.
pub(super) fn connection(shared: &Shared, stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let next = match Head::read(&mut reader) {
            Ok(Some(head)) => request(shared, stream, &mut reader, &head),
            Ok(None) => Ok(Next::Close),
            Err(error) => Err(error),
        };
        match next {
            Ok(Next::Request) => {}
            Ok(Next::Close) => {
                let _closed = stream.shutdown(Shutdown::Write);
                return;
            }
            Ok(Next::Reset) | Err(_) => return reset(stream),
        }
    }
}

/// Makes the end of the connection a reset, when its last holder lets go of it.
pub(super) fn reset(stream: &TcpStream) {
    let _set = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn request(
    shared: &Shared,
    stream: &TcpStream,
    reader: &mut BufReader<&TcpStream>,
    head: &Head,
) -> io::Result<Next> {
    let mut visit = shared.arrive(head);
    let fault = visit.fault.clone();
    if fault == Some(Fault::ResetRequest) {
        let _half = http::read_exactly(reader, head.length().unwrap_or(0) / 2)?;
        visit.leave();
        return Ok(Next::Reset);
    }
    let mut body = http::read_request_body(reader, head)?;
    visit.note_body(&body);
    match &fault {
        Some(Fault::Slow(time)) => thread::sleep(*time),
        Some(Fault::Hold) if !visit.is_released() => return Ok(Next::Reset),
        Some(Fault::Refuse { status, retry_after_seconds }) => {
            let reply = refusal(*status, *retry_after_seconds);
            return send(stream, visit, head, &reply, None);
        }
        Some(Fault::Answer { status, body }) => {
            let reply = answer(*status, "Made up", body);
            return send(stream, visit, head, &reply, None);
        }
        Some(Fault::CorruptRequest) => flip(&mut body, visit.number),
        Some(Fault::Late) => {
            reset(stream);
            let _gone = stream.shutdown(Shutdown::Both);
            if visit.is_released() {
                let _nobody = pass_on(shared, &visit, head, &body);
            }
            return Ok(Next::Reset);
        }
        _ => {}
    }
    let reply = pass_on(shared, &visit, head, &body)?;
    if shared.is_away() {
        visit.leave();
        return Ok(Next::Reset);
    }
    let reply = match fault {
        Some(Fault::ServeButSay(status)) => refusal(status, None),
        _ => reply,
    };
    send(stream, visit, head, &reply, fault.as_ref())
}

/// Has the server serve the request. Conditional ones go one at a time: moto knows no lock between check and write.
fn pass_on(shared: &Shared, visit: &Visit<'_>, head: &Head, body: &[u8]) -> io::Result<Reply> {
    let conditional = head.get("if-none-match").is_some() || head.get("if-match").is_some();
    let turn = conditional.then(|| shared.take_turn());
    let reply = if visit.too_many_keys(DELETE_KEYS_MAX) {
        refusal(400, None)
    } else {
        http::exchange(shared.server, head, body)?
    };
    drop(turn);
    visit.note_status(reply.status);
    Ok(reply)
}

/// What a server says that does nothing.
fn refusal(status: u16, retry_after_seconds: Option<u32>) -> Reply {
    let code = match status {
        400 => "MalformedXML",
        429 | 503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by the test bed</Message></Error>"
    );
    let mut reply = answer(status, code, &body);
    if let Some(seconds) = retry_after_seconds {
        reply.head.set("retry-after", &seconds.to_string());
    }
    reply
}

fn answer(status: u16, reason: &str, body: &str) -> Reply {
    let mut head = Head { first: format!("HTTP/1.1 {status} {reason}"), headers: Vec::new() };
    head.set("content-type", "application/xml");
    Reply { head, status, body: body.as_bytes().to_vec() }
}

/// Sends the reply, whole or as the fault has it. The request is over before its last byte leaves.
fn send(
    stream: &TcpStream,
    mut visit: Visit<'_>,
    head: &Head,
    reply: &Reply,
    fault: Option<&Fault>,
) -> io::Result<Next> {
    let mut reply_head = reply.head.clone();
    reply_head.remove("connection");
    reply_head.remove("transfer-encoding");
    let to_head = head.first.starts_with("HEAD ");
    if !to_head && reply.status != 204 {
        reply_head.set("content-length", &reply.body.len().to_string());
    }
    let mut bytes = reply_head.to_bytes();
    let body_at = bytes.len();
    if !to_head {
        bytes.extend(&reply.body);
    }
    // Where there is no body, the head is what breaks in the middle.
    let body_len = bytes.len() - body_at;
    let middle = if body_len == 0 { body_at / 2 } else { body_at + body_len / 2 };
    if fault == Some(&Fault::CorruptReply) {
        flip(&mut bytes[body_at..], visit.number);
    }
    visit.leave();
    let (until, next) = match fault {
        Some(Fault::LoseReply) => (0, Next::Reset),
        Some(Fault::CloseUnanswered) => (0, Next::Close),
        Some(Fault::ResetReply) => (middle, Next::Reset),
        Some(Fault::TruncateReply) => (middle, Next::Close),
        _ => (bytes.len(), Next::Request),
    };
    let mut out = stream;
    out.write_all(&bytes[..until])?;
    Ok(next)
}

/// Flips one bit, if there is one; which one follows from the number.
fn flip(bytes: &mut [u8], number: u64) {
    let drawn = mix(0x5eed, number);
    if !bytes.is_empty() {
        let at = (drawn >> 8) as usize % bytes.len();
        bytes[at] ^= 1 << (drawn % 8);
    }
}

impl Seen {
    /// Counts the keys of a delete request.
    pub(super) fn note_body(&mut self, body: &[u8]) {
        if self.kind == Kind::DeleteMany {
            self.keys = String::from_utf8_lossy(body).matches("<Key>").count();
        }
    }
}
