//! Who waits for a position of the log, and how they are woken: each exactly when its offset is
//! reached, so that a sync that serves one of many wakes one.
//!
//! Not here: what the positions mean (`crate::commit`, `crate::wait`).

use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;

use crate::position::Offset;
use crate::sync::Thread;

/// How to wake one who waits.
#[derive(Debug)]
pub(crate) enum Wake {
    /// It is parked, and looks again when it is not.
    Thread(Thread),
    /// A future.
    Task(Waker),
}

impl Wake {
    fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// Tells one registration from all others of the same [`Waiters`]; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

impl WaiterId {
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// Those who wait until some position is at least their offset.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_offset: BTreeMap<(Offset, WaiterId), Wake>,
    ever: u64,
}

impl Waiters {
    /// Adds one; it is taken out by who wakes it, or by [`Waiters::remove`].
    pub(crate) fn add(&mut self, offset: Offset, wake: Wake) -> WaiterId {
        self.ever += 1;
        let id = WaiterId(self.ever);
        self.by_offset.insert((offset, id), wake);
        id
    }

    /// Changes how one is woken; adds it again if it was taken out. What it was woken by before is to be
    /// dropped with no lock held: it may be the last to hold a future of this log.
    #[must_use = "a waker is not dropped under a lock"]
    pub(crate) fn renew(&mut self, offset: Offset, id: WaiterId, wake: Wake) -> Option<Wake> {
        self.by_offset.insert((offset, id), wake)
    }

    /// Takes one out. The result is to be dropped with no lock held, as that of [`Waiters::renew`].
    #[must_use = "a waker is not dropped under a lock"]
    pub(crate) fn remove(&mut self, offset: Offset, id: WaiterId) -> Option<Wake> {
        self.by_offset.remove(&(offset, id))
    }

    pub(crate) fn holds(&self, offset: Offset, id: WaiterId) -> bool {
        self.by_offset.contains_key(&(offset, id))
    }

    /// The one with the lowest offset, taken out.
    pub(crate) fn take_first(&mut self) -> Option<(WaiterId, Wake)> {
        self.by_offset.pop_first().map(|((_, id), wake)| (id, wake))
    }

    /// Takes out all whose offset is reached.
    pub(crate) fn take_reached(&mut self, position: Offset, woken: &mut Woken) {
        match self.by_offset.first_key_value() {
            Some(((lowest, _), _)) if *lowest <= position => {}
            _ => return,
        }
        let later = self.by_offset.split_off(&(position + 1, WaiterId(0)));
        woken.0.extend(mem::replace(&mut self.by_offset, later).into_values());
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self, woken: &mut Woken) {
        woken.0.extend(mem::take(&mut self.by_offset).into_values());
    }
}

/// Those who were taken out. They are woken when this is dropped, which must be with no lock held.
#[derive(Debug, Default)]
#[must_use = "dropping it wakes them"]
pub(crate) struct Woken(Vec<Wake>);

impl Woken {
    pub(crate) fn add(&mut self, wake: Wake) {
        self.0.push(wake);
    }

    /// Wakes the threads among them, which go on by themselves.
    pub(crate) fn wake_threads(&mut self) {
        let is_thread = |wake: &mut Wake| matches!(wake, Wake::Thread(_));
        self.0.extract_if(.., is_thread).for_each(Wake::wake);
    }

    /// Takes over those of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.0.is_empty() {
            mem::swap(self, &mut other);
        }
        self.0.append(&mut other.0);
    }
}

impl Drop for Woken {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.0.drain(..).for_each(Wake::wake);
        }
    }
}
