//! Goal: a full cache makes its writers wait in line, up to their deadline, and then says that it is full.
//! Time stands still unless a test moves it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use block_cache::{BlockCache, CacheFull, WriteError};
use host::Monotonic;
use host::sim::Machine;

use crate::support::{MIB, PIECE, cache, generation, piece, read, save_all, write};

const BUDGET: u64 = 10 * MIB;

/// A cache whose pieces 0 and 1 of strand 1 are dirty, and which has no room for a third.
fn full() -> BlockCache {
    let cache = cache(BUDGET);
    write(&cache, 1, 0, &vec![1; 2 * PIECE as usize], 1);
    cache
}

fn seconds(seconds: u64) -> Monotonic {
    Monotonic::from_start(Duration::from_secs(seconds))
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

#[test]
fn a_full_cache_says_so_and_changes_nothing() {
    let cache = full();
    let before = cache.stats();
    let refused = cache.write(1, 2 * PIECE - 5, &vec![2; PIECE as usize], generation(2));
    let Err(WriteError::CacheFull(CacheFull { needed_bytes, budget_bytes })) = refused else {
        panic!("{refused:?}");
    };
    assert!((1..2 * PIECE).contains(&needed_bytes));
    assert_eq!((budget_bytes, cache.stats()), (BUDGET, before));
    assert_eq!(read(&cache, 1, 2 * PIECE - 5, 5), (vec![1; 5], vec![]));
    cache.write(1, 0, &[2; 100], generation(3)).expect("what has a buffer needs no room");
}

#[test]
fn a_write_waits_until_something_is_saved() {
    let cache = full();
    let wakes = Arc::default();
    let bytes = vec![2; PIECE as usize];
    let mut write = pin!(cache.write_when_room(2, 0, &bytes, generation(2), seconds(60)));
    assert!(poll(write.as_mut(), &wakes).is_pending());
    assert_eq!(cache.stats().waiting, 1);
    cache.mark_saved(piece(1, 0), generation(1));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(write.as_mut(), &wakes), Poll::Ready(Ok(())));
    assert_eq!(read(&cache, 2, 0, PIECE as usize), (bytes.clone(), vec![]));
    assert!(!cache.is_covered(1, 0..1) && cache.is_covered(1, PIECE..2 * PIECE));
    assert!(cache.stats().allocated_bytes <= BUDGET);
}

#[test]
fn removing_truncating_and_punching_make_room_too() {
    for change in 0..3 {
        let cache = full();
        let wakes = Arc::default();
        let bytes = vec![2; PIECE as usize];
        let mut write = pin!(cache.write_when_room(2, 0, &bytes, generation(2), seconds(60)));
        assert!(poll(write.as_mut(), &wakes).is_pending());
        match change {
            0 => cache.remove(1),
            1 => cache.truncate(1, 100),
            _ => cache.punch_hole(1, 0..2 * PIECE),
        }
        assert_eq!(poll(write.as_mut(), &wakes), Poll::Ready(Ok(())), "change {change}");
    }
}

#[test]
fn a_deadline_ends_the_waiting_and_not_before() {
    let cache = full();
    let (machine, wakes) = (Machine::new(1), Arc::default());
    let clock = machine.host().clock;
    let deadline = clock.monotonic() + Duration::from_secs(3);
    let mut write = pin!(cache.write_when_room(2, 0, &[2; 1 << 20], generation(2), deadline));
    // Not even the rest of the budget is left.
    let mut filler = 0;
    while cache.write(3, filler * 4096, &[1; 4096], generation(1)).is_ok() {
        filler += 1;
    }
    assert!(poll(write.as_mut(), &wakes).is_pending());
    machine.advance(Duration::from_millis(2999));
    assert_eq!(cache.expire(clock.monotonic()), Some(deadline));
    assert!(poll(write.as_mut(), &wakes).is_pending());
    machine.advance(Duration::from_millis(1));
    assert_eq!(cache.expire(clock.monotonic()), None);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Err(WriteError::CacheFull(full))) = poll(write.as_mut(), &wakes) else {
        panic!("it is too late");
    };
    assert!(full.needed_bytes >= MIB);
    assert_eq!((cache.stats().waiting, cache.is_covered(2, 0..1)), (0, false));
}

#[test]
fn who_came_first_is_served_first() {
    let cache = full();
    let (one, two) = (Arc::default(), Arc::default());
    let mut large = pin!(cache.room(PIECE, seconds(60)));
    let mut small = pin!(cache.room(100, seconds(60)));
    assert!(poll(large.as_mut(), &one).is_pending() && poll(small.as_mut(), &two).is_pending());
    let refused = cache.write(3, 0, b"x", generation(1));
    assert!(matches!(refused, Err(WriteError::CacheFull(_))), "no one overtakes who waits");
    cache.mark_saved(piece(1, 0), generation(1));
    let Poll::Ready(Ok(grant)) = poll(large.as_mut(), &one) else { panic!("there is room") };
    assert_eq!(grant.bytes(), PIECE);
    assert!(matches!(poll(small.as_mut(), &two), Poll::Ready(Ok(_))));
}

#[test]
fn the_first_that_expires_lets_the_second_through() {
    let cache = full();
    let wakes = Arc::default();
    let mut large = pin!(cache.room(2 * PIECE, seconds(1)));
    let mut small = pin!(cache.room(100, seconds(60)));
    assert!(poll(small.as_mut(), &wakes).is_pending());
    assert_eq!(cache.expire(seconds(1)), Some(seconds(60)));
    assert!(matches!(poll(large.as_mut(), &wakes), Poll::Ready(Err(_))));
    assert!(matches!(poll(small.as_mut(), &wakes), Poll::Ready(Ok(_))));
}

#[test]
fn a_dropped_wait_takes_nothing_along() {
    let cache = full();
    let wakes = Arc::default();
    let before = cache.stats().allocated_bytes;
    {
        let mut pending = pin!(cache.room(PIECE, seconds(60)));
        assert!(poll(pending.as_mut(), &wakes).is_pending());
    }
    assert_eq!((cache.stats().waiting, cache.stats().allocated_bytes), (0, before));
    let granted = cache.room(PIECE, seconds(60));
    cache.remove(1);
    assert_eq!(cache.stats().waiting, 0);
    drop(granted);
    let grant = cache.room(PIECE, seconds(60)).wait(&*Machine::new(1).host().clock).unwrap();
    let with_grant = cache.stats().allocated_bytes;
    drop(grant);
    assert_eq!(cache.stats().allocated_bytes, with_grant - PIECE);
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let cache = cache(BUDGET);
    let machine = Machine::new(1);
    let clock = machine.host().clock;
    let bytes = vec![1; 11 * MIB as usize];
    let refused = cache.write_waiting(&*clock, 1, 0, &bytes, generation(1), seconds(60));
    assert!(matches!(refused, Err(WriteError::CacheFull(full)) if full.needed_bytes > BUDGET));
    assert_eq!(cache.stats().pieces, 0);
}

#[test]
fn a_thread_waits_until_something_is_saved() {
    let cache = Arc::new(full());
    let writer = host::spawn("writer", {
        let cache = Arc::clone(&cache);
        move || {
            let clock = Machine::new(1).host().clock;
            let bytes = vec![2; PIECE as usize];
            cache.write_waiting(&*clock, 2, 0, &bytes, generation(2), seconds(3600))
        }
    });
    while cache.stats().waiting == 0 {
        std::thread::yield_now();
    }
    save_all(&cache);
    writer.unwrap().join().unwrap().unwrap();
    assert!(cache.is_covered(2, 0..PIECE));
}

#[test]
fn a_thread_gives_up_when_its_clock_says_so() {
    let cache = full();
    let machine = Machine::new(1);
    machine.advance(Duration::from_secs(61));
    let clock = machine.host().clock;
    let bytes = vec![2; PIECE as usize];
    let refused = cache.write_waiting(&*clock, 2, 0, &bytes, generation(2), seconds(60));
    assert!(matches!(refused, Err(WriteError::CacheFull(_))));
}

#[test]
fn a_waiting_thread_is_ended_by_whoever_has_the_time() {
    let cache = Arc::new(full());
    let writer = host::spawn("writer", {
        let cache = Arc::clone(&cache);
        move || {
            let clock = Machine::new(1).host().clock;
            cache.room(PIECE, seconds(3600)).wait(&*clock).map(|grant| grant.bytes())
        }
    });
    while cache.stats().waiting == 0 {
        std::thread::yield_now();
    }
    cache.expire(seconds(3600));
    writer.unwrap().join().unwrap().unwrap_err();
}
