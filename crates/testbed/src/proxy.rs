//! A bad network: an HTTP proxy in front of a server, scripted per request.
//!
//! A request meets every [`Rule`] in the order in which these were added; the first that applies says what happens to
//! it. A thread per connection; messages are read whole before they are passed on. What was seen is a [`Log`].
//!
//! Not here: HTTP (`crate::http`), what is done to one request (`serve`).

mod log;
mod rule;
mod serve;

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType, sockopt};

pub use log::{Log, Seen};
use rule::Lots;
pub use rule::{Fault, Kind, Rule};

use crate::http::Head;

/// So that a test whose wish never comes true fails instead of hanging.
const WAIT_SECONDS_MAX: u64 = 60;

/// A proxy in front of one server. Ends when dropped: its connections are cut, held requests go nowhere.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// Bound and never listening: keeps the port ours while nobody listens.
    _port: OwnedFd,
    addr: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    turns: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    lots: Option<Lots>,
    log: Log,
    connections: BTreeMap<u64, Weak<TcpStream>>,
    connections_ever: u64,
    away: bool,
    listener: Option<Arc<TcpListener>>,
}

impl Proxy {
    /// Starts on a port that the system picks.
    ///
    /// Requests with a condition (`If-None-Match`, `If-Match`) are passed on one at a time, so that of two writers
    /// with one condition one fails, as S3 promises and moto does not.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub fn start(server: SocketAddr) -> Self {
        let (port, addr) = reserve();
        let shared = Arc::new(Shared {
            server,
            state: Mutex::default(),
            changed: Condvar::new(),
            turns: Mutex::default(),
        });
        let proxy = Self { shared, _port: port, addr };
        proxy.listen();
        proxy
    }

    /// Where clients find it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// As an S3 endpoint: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Adds a rule behind those that there are.
    pub fn add(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// From now on each request that meets no rule has one of `faults` with this likelihood, by lot: the n-th
    /// request after `seed` always has the same. [`Fault::CorruptReply`] is drawn for [`Kind::Get`] alone, since
    /// nothing but its own syntax protects what S3 says in XML.
    pub fn by_lot(&self, seed: u64, per_mille: u64, faults: &[Fault]) {
        self.shared.state().lots = Some(Lots { seed, per_mille, faults: faults.to_vec() });
    }

    /// Drops all rules, lots too, and lets go what is held.
    pub fn calm(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.lots = None;
        state.release_all();
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Lets go one held request.
    pub fn release(&self, number: u64) {
        if let Some(seen) = self.shared.state().log.entry(number) {
            seen.held = false;
        }
        self.shared.changed.notify_all();
    }

    /// Lets go what is held, and holds no more.
    pub fn release_all(&self) {
        let mut state = self.shared.state();
        state.rules.retain(|rule| !rule.holds());
        state.release_all();
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Goes away: connections are cut, new ones refused, replies lost; what is held goes nowhere.
    pub fn go_away(&self) {
        let mut state = self.shared.state();
        state.away = true;
        if let Some(listener) = state.listener.take() {
            let _woken = net::shutdown(&*listener, net::Shutdown::Both);
        }
        for stream in state.connections.values().filter_map(Weak::upgrade) {
            serve::reset(&stream);
            let _cut = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Is there again, at the same address.
    pub fn come_back(&self) {
        self.listen();
    }

    /// What was seen so far.
    pub fn log(&self) -> Log {
        self.shared.state().log.clone()
    }

    /// Forgets what was seen; what is in flight stays counted. Nothing may be held.
    pub fn forget(&self) {
        self.shared.state().log.forget();
    }

    /// Waits until `wish` is true of what was seen.
    ///
    /// # Panics
    ///
    /// If that takes longer than a minute, with `what` and all that was seen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wish: impl Fn(&Log) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
        let mut state = self.shared.state();
        while !wish(&state.log) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never came: {what}; seen: {:#?}", state.log);
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Listens, and serves each connection on a thread of its own.
    fn listen(&self) {
        let mut state = self.shared.state();
        state.away = false;
        if state.listener.is_some() {
            return;
        }
        let socket = socket_at(self.addr);
        net::listen(&socket, 128).expect("a port of ours can be listened on");
        let listener = Arc::new(TcpListener::from(socket));
        state.listener = Some(Arc::clone(&listener));
        drop(state);
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(Arc::new(stream)));
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// A port of ours that refuses connections as long as nobody listens on it.
fn reserve() -> (OwnedFd, SocketAddr) {
    let port = socket_at(SocketAddr::from(([127, 0, 0, 1], 0)));
    let addr = net::getsockname(&port).expect("a bound socket has a name");
    (port, SocketAddr::try_from(addr).expect("it is one of IP"))
}

/// A socket bound to `addr`, which others of ours may be bound to as well.
fn socket_at(addr: SocketAddr) -> OwnedFd {
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, net::SocketFlags::CLOEXEC, None);
    let socket = socket.expect("there are sockets");
    sockopt::set_socket_reuseaddr(&socket, true).expect("the option exists");
    sockopt::set_socket_reuseport(&socket, true).expect("the option exists");
    net::bind(&socket, &addr).expect("the address is ours");
    socket
}

impl Shared {
    /// Each change of the state is whole, so one that a failed test left behind is, too.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self) -> bool {
        self.state().away
    }

    fn serve(&self, stream: Arc<TcpStream>) {
        let _prompt = stream.set_nodelay(true);
        let mut state = self.state();
        if state.away {
            return serve::reset(&stream);
        }
        let number = state.connections_ever;
        state.connections_ever += 1;
        state.connections.insert(number, Arc::downgrade(&stream));
        drop(state);
        serve::connection(self, &stream);
        self.state().connections.remove(&number);
    }

    /// Enters a request into the log and says what happens to it.
    fn arrive(&self, head: &Head) -> Visit<'_> {
        let mut state = self.state();
        let mut seen = Seen::of(state.log.next_number(), head);
        let mut fault = None;
        for rule in &mut state.rules {
            let met = rule.meet(seen.kind, &seen.target);
            fault = fault.or(met);
        }
        let lot = state.lots.as_ref().and_then(|lots| lots.draw(seen.number, seen.kind));
        seen.fault = fault.or(lot);
        let visit = Visit {
            shared: self,
            number: seen.number,
            kind: seen.kind,
            bytes: seen.bytes,
            fault: seen.fault.clone(),
            left: false,
        };
        state.log.arrive(seen);
        drop(state);
        self.changed.notify_all();
        visit
    }
}

impl State {
    fn release_all(&mut self) {
        for number in self.log.held() {
            if let Some(seen) = self.log.entry(number) {
                seen.held = false;
            }
        }
    }
}

/// A request on its way through.
#[derive(Debug)]
struct Visit<'a> {
    shared: &'a Shared,
    number: u64,
    kind: Kind,
    bytes: u64,
    fault: Option<Fault>,
    left: bool,
}

impl Visit<'_> {
    /// No longer in flight.
    fn leave(&mut self) {
        if !self.left {
            self.left = true;
            self.shared.state().log.leave(self.kind, self.bytes);
            self.shared.changed.notify_all();
        }
    }

    fn note_body(&self, body: &[u8]) {
        self.note(|seen| seen.note_body(body));
    }

    fn note_status(&self, status: u16) {
        self.note(|seen| seen.status = Some(status));
    }

    fn too_many_keys(&self, most: usize) -> bool {
        self.shared.state().log.entry(self.number).is_some_and(|seen| seen.keys > most)
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.shared.state().log.entry(self.number) {
            note(seen);
        }
        self.shared.changed.notify_all();
    }

    /// Waits until somebody lets it go, and says whether it goes on: not if the proxy went away meanwhile.
    fn is_released(&self) -> bool {
        let mut state = self.shared.state();
        if let Some(seen) = state.log.entry(self.number) {
            seen.held = true;
        }
        self.shared.changed.notify_all();
        while !state.away && state.log.entry(self.number).is_some_and(|seen| seen.held) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(seen) = state.log.entry(self.number) {
            seen.held = false;
        }
        !state.away
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
