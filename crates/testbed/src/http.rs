//! As much of HTTP/1.1 as stands between an S3 client and its server: whole messages, read into memory.
//!
//! Limits: 64 KiB of headers, 64 MiB of body. Not here: what a proxy does to messages (`crate::proxy`).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const HEAD_BYTES_MAX: u64 = 64 * 1024;
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// So that a server which hangs makes a test fail and not hang.
const REPLY_SECONDS_MAX: u64 = 60;

/// The first line of a message, and its headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to and with the empty line; nothing if the stream ended before the first byte.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut stream = stream.take(HEAD_BYTES_MAX);
        let Some(first) = line(&mut stream)? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = line(&mut stream)?.ok_or_else(|| bad("a head that ends early"))?;
            if line.is_empty() {
                return Ok(Some(Self { first, headers }));
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| bad("a header without colon"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Bytes of the body if the head says so.
    pub(crate) fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|how| how.eq_ignore_ascii_case("chunked"))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) head: Head,
    /// The status, such as 200.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value; names are the same in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }
}

/// Reads a request's body: no length means none.
pub(crate) fn read_request_body(stream: &mut impl BufRead, head: &Head) -> io::Result<Vec<u8>> {
    if head.is_chunked() {
        return read_chunks(stream);
    }
    read_exactly(stream, head.length().unwrap_or(0))
}

/// Sends one request on a connection of its own and waits for the whole reply.
pub(crate) fn exchange(to: SocketAddr, head: &Head, body: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(REPLY_SECONDS_MAX)))?;
    stream.set_nodelay(true)?;
    let mut head = head.clone();
    head.remove("transfer-encoding");
    head.set("connection", "close");
    head.set("content-length", &body.len().to_string());
    stream.write_all(&head.to_bytes())?;
    stream.write_all(body)?;
    read_reply(&mut BufReader::new(stream), head.first.starts_with("HEAD "))
}

fn read_reply(stream: &mut impl BufRead, to_head: bool) -> io::Result<Reply> {
    let head = Head::read(stream)?.ok_or_else(|| bad("no reply"))?;
    let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or_else(|| bad("a reply without status"))?;
    let body = match head.length() {
        _ if to_head || status == 204 || status == 304 => Vec::new(),
        Some(length) => read_exactly(stream, length)?,
        None if head.is_chunked() => read_chunks(stream)?,
        None => {
            let mut body = Vec::new();
            stream.take(BODY_BYTES_MAX).read_to_end(&mut body)?;
            body
        }
    };
    Ok(Reply { head, status, body })
}

/// Reads `length` bytes, or what there is of them.
pub(crate) fn read_exactly(stream: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(bad("a body beyond the limit"));
    }
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length { Ok(body) } else { Err(bad("a body that ends early")) }
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(stream)?.ok_or_else(|| bad("chunks that end early"))?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk without size"))?;
        body.extend(read_exactly(stream, size)?);
        let end = line(stream)?.ok_or_else(|| bad("chunks that end early"))?;
        if !end.is_empty() || body.len() as u64 > BODY_BYTES_MAX {
            return Err(bad("chunks beyond the limit"));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A line without its end; nothing at the end of the stream.
fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(line).map_err(|_| bad("a line that is not text"))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

pub(crate) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not as HTTP is spoken here: {what}"))
}
