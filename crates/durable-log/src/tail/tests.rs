//! Goal: whatever is appended and made durable in whatever order, the tail holds exactly the bytes
//! that are not durable, the writer gets exactly those, and bytes that somebody borrowed never
//! change. Method: a model, which is one long vector of all bytes ever appended; and threads that
//! keep what they borrow while the appender goes on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::chunk::OVERHANG_BYTES;
use crate::ring::ChunkRef;

const SEGMENT_BYTES: u64 = 3 * CHUNK_BYTES as u64 / 2;
/// Neither a multiple of a chunk nor zero.
const BASE: Place = Place { offset: Offset::new(5), at: Location::new(100_000) };

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    /// What is durable moves this far through what is appended.
    Durable(Index),
    Borrow(Index, usize),
    Keep(Index, usize),
    LetGo(Index),
    EndStretch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        6 => 0..2000_usize,
        3 => OVERHANG_BYTES - 100..OVERHANG_BYTES + 100,
        2 => 0..3 * CHUNK_BYTES,
    ];
    vec(
        prop_oneof![
            8 => bytes.prop_map(Step::Append),
            4 => any::<Index>().prop_map(Step::Durable),
            4 => (any::<Index>(), 1..CHUNK_BYTES).prop_map(|(at, len)| Step::Borrow(at, len)),
            2 => (any::<Index>(), 1..2 * CHUNK_BYTES).prop_map(|(at, len)| Step::Keep(at, len)),
            2 => any::<Index>().prop_map(Step::LetGo),
            1 => Just(Step::EndStretch),
        ],
        1..60,
    )
}

/// A tail and everything that was ever put into it.
struct Model {
    tail: Tail,
    bytes: Vec<u8>,
    /// Ends of frames.
    ends: Vec<Place>,
    durable: Place,
    borrowed: Vec<(Location, ChunkRef)>,
    kept: Vec<(Location, Vec<Bytes>)>,
}

impl Model {
    fn new() -> Self {
        Self {
            tail: Tail::new(BASE, 1, i64::MIN, SEGMENT_BYTES, 3),
            bytes: Vec::new(),
            ends: vec![BASE],
            durable: BASE,
            borrowed: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn expected(&self, at: Location, len: usize) -> &[u8] {
        let from = usize::try_from(at.get() - BASE.at.get()).unwrap();
        &self.bytes[from..from + len]
    }

    /// A byte that is not durable.
    fn somewhere(&self, index: Index) -> Option<Location> {
        let bytes = usize::try_from(self.tail.unsynced_bytes()).unwrap();
        (bytes > 0).then(|| self.durable.at.plus(index.index(bytes) as u64))
    }

    fn append(&mut self, bytes: usize) {
        let fill = self.ends.len().to_le_bytes()[0];
        let record = vec![fill; bytes];
        let records = [&record[..]];
        let payload = Payload::Records(&records);
        let measured = payload.measure(u32::try_from(payload.bytes()).unwrap(), 9);
        let Range { start: place, end: next } =
            self.tail.append(measured, self.durable.offset, &|| 2).unwrap();
        assert_eq!(place, *self.ends.last().unwrap());
        assert_eq!(next, self.tail.next());
        let frame = frame_at(self.tail.ring(), place.at, next.at.get() - place.at.get());
        let header = frame[..HEADER_BYTES].try_into().unwrap();
        let header = Header::decode(header, self.tail.stretch().salt, place.at).unwrap();
        let payload = &frame[HEADER_BYTES..][..header.payload_bytes as usize];
        assert_eq!(frame::split_record(payload).unwrap().0, record);
        assert_eq!(crc32c::crc32c(payload), header.payload_crc);
        let padding = &frame[HEADER_BYTES + payload.len()..];
        assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0));
        self.bytes.extend_from_slice(&frame);
        self.ends.push(next);
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append(bytes) => self.append(*bytes),
            Step::Durable(index) => {
                let ahead: Vec<_> =
                    self.ends.iter().filter(|end| end.at >= self.durable.at).copied().collect();
                self.durable = ahead[index.index(ahead.len())];
                self.tail.set_durable(self.durable.at);
            }
            Step::Borrow(index, len) => {
                let Some(at) = self.somewhere(*index) else { return };
                let bytes = self.tail.ring().get(at).unwrap().cut(*len);
                assert!(!bytes.is_empty());
                self.borrowed.push((at, bytes));
            }
            Step::Keep(index, len) => {
                let Some(at) = self.somewhere(*index) else { return };
                let left = self.tail.next().at.get() - at.get();
                let len = u32::try_from(left.min(*len as u64)).unwrap();
                self.kept.push((at, self.tail.ring().share(at, len).unwrap()));
            }
            Step::LetGo(index) if !self.borrowed.is_empty() => {
                self.borrowed.swap_remove(index.index(self.borrowed.len()));
                self.kept.pop();
            }
            Step::EndStretch if !self.tail.stretch_is_empty() => self.tail.begin_stretch(3, 0),
            Step::LetGo(_) | Step::EndStretch => {}
        }
    }

    /// What was borrowed is as it was, and the writer would write what is not durable.
    fn check(&self) {
        for (at, bytes) in &self.borrowed {
            assert!(**bytes == *self.expected(*at, bytes.len()), "borrowed at {at}");
        }
        for (at, parts) in &self.kept {
            let bytes = parts.concat();
            assert!(bytes == self.expected(*at, bytes.len()), "kept at {at}");
        }
        let mut from = self.durable.at;
        let mut pieces = Vec::new();
        loop {
            let batch = self.tail.collect(from, &mut pieces);
            for piece in &pieces {
                assert_eq!(piece.at(), from);
                assert!(*piece.bytes() == *self.expected(from, piece.bytes().len()));
                from = from.plus(piece.bytes().len() as u64);
            }
            assert_eq!(from, batch.end.at);
            let in_stretch = from.get() - batch.stretch.base.at.get();
            assert!(in_stretch <= batch.stretch.bytes_max);
            if !batch.more {
                break;
            }
        }
        assert_eq!(from, self.tail.next().at);
    }
}

/// A frame as readers find it: in one piece if it is not large.
fn frame_at(ring: &Ring, at: Location, bytes: u64) -> Vec<u8> {
    let parts = ring.share(at, u32::try_from(bytes).unwrap()).unwrap();
    assert!(parts.len() == 1 || bytes > OVERHANG_BYTES as u64);
    parts.concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_tail_is_what_was_appended_and_is_not_durable(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.run(&step);
            model.check();
        }
    }
}

/// The byte that belongs at a location; all but the first 44 bytes of a frame are such.
fn byte_at(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0]
}

const FRAME_BYTES: u64 = 1000;
const HEAD_BYTES: u64 = 44;

fn assert_true_bytes(at: Location, bytes: &[u8]) {
    for (at, byte) in (at.get()..).zip(bytes) {
        if (at - BASE.at.get()) % FRAME_BYTES >= HEAD_BYTES {
            assert_eq!(*byte, byte_at(at), "at {at}");
        }
    }
}

/// Positions as the readers see them.
struct Shown {
    appended: AtomicU64,
    durable: AtomicU64,
    done: AtomicBool,
}

/// Borrows what is not durable, keeps it for a while, and sees that it stays what it was.
fn borrow_and_check(ring: &Ring, shown: &Shown, seed: u64) -> u64 {
    let mut random = seed;
    let mut borrowed: VecDeque<(Location, ChunkRef)> = VecDeque::new();
    let mut kept: VecDeque<(Location, Bytes)> = VecDeque::new();
    let mut found = 0;
    while !shown.done.load(Ordering::Acquire) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let durable = shown.durable.load(Ordering::Acquire);
        let appended = shown.appended.load(Ordering::Acquire);
        if appended == durable {
            thread::yield_now();
            continue;
        }
        let at = Location::new(durable + (random >> 20) % (appended - durable));
        // It may have become durable meanwhile; if not, it must be there.
        let bytes = ring.get(at);
        assert!(bytes.is_some() || shown.durable.load(Ordering::Acquire) > at.get());
        let Some(bytes) = bytes else { continue };
        assert!(!bytes.is_empty());
        let bytes = bytes.cut(300);
        assert_true_bytes(at, &bytes);
        found += 1;
        if random >> 62 == 0 {
            kept.push_back((at, bytes.into_bytes()));
        } else {
            borrowed.push_back((at, bytes));
        }
        // More than a thread borrows without counting.
        if borrowed.len() > 12 {
            borrowed.pop_front().inspect(|(at, bytes)| assert_true_bytes(*at, bytes));
        }
        if kept.len() > 4 {
            kept.pop_front().inspect(|(at, bytes)| assert_true_bytes(*at, bytes));
        }
    }
    found
}

#[test]
fn borrowed_bytes_never_change_while_the_appender_goes_on_and_uses_chunks_again() {
    let mut tail = Tail::new(BASE, 1, i64::MIN, 1 << 30, 4);
    let shown = Shown {
        appended: AtomicU64::new(BASE.at.get()),
        durable: AtomicU64::new(BASE.at.get()),
        done: AtomicBool::new(false),
    };
    let ring = Arc::clone(tail.ring());
    let found = thread::scope(|scope| {
        let (ring, shown) = (&*ring, &shown);
        let read = |seed| scope.spawn(move || borrow_and_check(ring, shown, seed));
        let readers: Vec<_> = (1..4).map(read).collect();
        for n in 0..40_000_u64 {
            let at = tail.next().at.get();
            let record: Vec<_> = (at + HEAD_BYTES..at + FRAME_BYTES).map(byte_at).collect();
            let records = [&record[..]];
            let payload = Payload::Records(&records);
            let measured = payload.measure(u32::try_from(payload.bytes()).unwrap(), 0);
            tail.append(measured, BASE.offset, &|| 0).unwrap();
            shown.appended.store(tail.next().at.get(), Ordering::Release);
            if n % 500 == 0 {
                // Up to here, less than a chunk or several of them stay.
                let stay = FRAME_BYTES * (n % 3000);
                let durable = tail.next().at.get().saturating_sub(stay).max(BASE.at.get());
                let durable = durable.max(shown.durable.load(Ordering::Relaxed));
                shown.durable.store(durable, Ordering::Release);
                tail.set_durable(Location::new(durable));
            }
        }
        shown.done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(found > 0, "the readers found nothing to read");
}
