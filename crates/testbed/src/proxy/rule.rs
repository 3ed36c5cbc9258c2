//! What goes wrong, and for which requests.

use std::time::Duration;

/// What a client asks of an S3 server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An object is written.
    Put,
    /// An object, or a range of one, is read.
    Get,
    /// An object's length and tag are asked for.
    Head,
    /// A page of names is asked for.
    List,
    /// One object is deleted.
    Delete,
    /// Many objects are deleted by one request.
    DeleteMany,
    /// Anything else.
    Other,
}

impl Kind {
    /// What a request with this method and target (path and query) is.
    pub(crate) fn of(method: &str, target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let asks = |name: &str| {
            query.split('&').any(|part| part.split('=').next().is_some_and(|key| key == name))
        };
        match method {
            "GET" if asks("list-type") => Self::List,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "POST" if asks("delete") => Self::DeleteMany,
            _ => Self::Other,
        }
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on after this time.
    Slow(Duration),
    /// It is kept until [`crate::Proxy::release`] lets it go, then served as if nothing had been.
    Hold,
    /// It is answered with this status, and `Retry-After` in seconds if given; the server never sees it.
    Refuse {
        /// Such as 503.
        status: u16,
        /// How long the client is asked to wait.
        retry_after_seconds: Option<u32>,
    },
    /// It is answered with this status and this body; the server never sees it.
    Answer {
        /// Such as 200.
        status: u16,
        /// The body.
        body: String,
    },
    /// The connection is reset when half of the request's body was read; the server never sees it.
    ResetRequest,
    /// A bit of the request's body is flipped on its way to the server.
    CorruptRequest,
    /// It is served, but the connection is reset without a byte of the reply.
    LoseReply,
    /// It is served, but the connection ends in good order without a byte of the reply.
    CloseUnanswered,
    /// It is served, but its client is told this status.
    ServeButSay(u16),
    /// The connection is reset at once, and the request is served when [`crate::Proxy::release`] lets it: after
    /// whatever its client, who knows nothing, did in the meantime.
    Late,
    /// It is served, but the connection is reset in the middle of the reply.
    ResetReply,
    /// It is served, but the reply ends in its middle as if it were whole.
    TruncateReply,
    /// It is served, but a bit of the reply's body is flipped.
    CorruptReply,
}

impl Fault {
    /// A busy server: 503 without advice.
    pub const BUSY: Self = Self::Refuse { status: 503, retry_after_seconds: None };
    /// Too many requests: 429 that asks for a second.
    pub const TOO_MANY: Self = Self::Refuse { status: 429, retry_after_seconds: Some(1) };
    /// A server that failed.
    pub const INTERNAL: Self = Self::Refuse { status: 500, retry_after_seconds: None };
}

/// A fault, and the requests that it happens to: the first one of any kind, unless told otherwise.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    kind: Option<Kind>,
    path: String,
    after: u64,
    times: u64,
    matched: u64,
}

impl Rule {
    /// `fault`, for the next request.
    pub fn new(fault: Fault) -> Self {
        Self { fault, kind: None, path: String::new(), after: 0, times: 1, matched: 0 }
    }

    /// Only for requests of this kind.
    #[must_use]
    pub fn on(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Only for requests whose target contains this text.
    #[must_use]
    pub fn path(self, part: &str) -> Self {
        Self { path: part.to_owned(), ..self }
    }

    /// Not for the first `count` of these.
    #[must_use]
    pub fn after(self, count: u64) -> Self {
        Self { after: count, ..self }
    }

    /// For so many of them, one after the other.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { times: count, ..self }
    }

    /// For all of them.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Counts a request, and says what happens to it by this rule.
    pub(crate) fn meet(&mut self, kind: Kind, target: &str) -> Option<Fault> {
        if self.kind.is_some_and(|wanted| wanted != kind) || !target.contains(&self.path) {
            return None;
        }
        self.matched += 1;
        let turn = self.matched.checked_sub(self.after + 1)?;
        (turn < self.times).then(|| self.fault.clone())
    }

    pub(crate) fn holds(&self) -> bool {
        matches!(self.fault, Fault::Hold | Fault::Late)
    }
}

/// Faults by lot: the same seed gives the n-th request the same fault.
#[derive(Clone, Debug)]
pub(crate) struct Lots {
    pub(crate) seed: u64,
    pub(crate) per_mille: u64,
    pub(crate) faults: Vec<Fault>,
}

impl Lots {
    pub(crate) fn draw(&self, number: u64, kind: Kind) -> Option<Fault> {
        let drawn = mix(self.seed, number);
        if self.faults.is_empty() || drawn % 1000 >= self.per_mille {
            return None;
        }
        let which = (drawn >> 32) as usize % self.faults.len();
        let fault = self.faults.get(which)?;
        (kind == Kind::Get || *fault != Fault::CorruptReply).then(|| fault.clone())
    }
}

/// A number that looks random and follows from both (splitmix64).
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
