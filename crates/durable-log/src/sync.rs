//! Locks, atomics and threads: the standard library's, or those of `shuttle`.
//!
//! With the feature `shuttle`, which only the tests of the commit protocol turn on, every lock, atomic
//! and wake-up here is a point where the test's scheduler may let another thread go on; see
//! `crate::schedules`. Outside of such a test that feature makes the log unusable.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread::{JoinHandle, Thread, current, park, park_timeout},
};

#[cfg(not(feature = "shuttle"))]
pub(crate) use host::spawn;

#[cfg(feature = "shuttle")]
pub(crate) use self::parking::{Thread, current, park, park_timeout};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread::JoinHandle,
};

/// A point where another thread may go on: beside what is shared without these locks and atomics.
#[cfg(not(feature = "shuttle"))]
#[inline]
pub(crate) const fn point() {}

/// A point where another thread may go on: beside what is shared without these locks and atomics.
#[cfg(feature = "shuttle")]
pub(crate) fn point() {
    // Not a yield, which would let the others go first each time.
    atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
}

/// Starts a named thread.
#[cfg(feature = "shuttle")]
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    shuttle::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Parking that wakes for no reason only now and then. With `shuttle`'s own, a parked thread may be
/// chosen at any time, so that a lost wake-up is seldom noticed.
#[cfg(feature = "shuttle")]
mod parking {
    use std::sync::Arc;
    use std::time::Duration;

    use shuttle::rand::{Rng, thread_rng};

    use super::{Condvar, Mutex};

    /// In one of so many cases parking does nothing.
    const SPURIOUS: u32 = 8;

    #[derive(Debug, Default)]
    struct Token {
        given: Mutex<bool>,
        changed: Condvar,
    }

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Thread(Arc<Token>);

    shuttle::thread_local! {
        static THIS: Thread = Thread::default();
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            *crate::core::lock(&self.0.given) = true;
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn current() -> Thread {
        THIS.with(Clone::clone)
    }

    pub(crate) fn park() {
        if thread_rng().gen_ratio(1, SPURIOUS) {
            return;
        }
        let Thread(token) = current();
        let mut given = crate::core::lock(&token.given);
        while !*given {
            given = crate::core::wait(&token.changed, given);
        }
        *given = false;
    }

    /// No time passes in these tests.
    pub(crate) fn park_timeout(_: Duration) {
        park();
    }
}
