//! What every [`BlockStore`] does, as checks that run against any of them.
//!
//! `make` gives a new, empty store each time. The checks panic with what is wrong.

mod objects;

use std::ops::ControlFlow;

use crate::{
    Block, BlockBuilder, BlockName, BlockStore, CHUNK_BYTES, Listed, Piece, PutError, ReadError,
    Usage,
};

/// Runs all checks.
///
/// # Panics
///
/// If a store does not behave as [`BlockStore`] says.
pub fn check_all(make: &dyn Fn() -> Box<dyn BlockStore>) {
    what_was_put_is_read_in_any_range(&*make());
    a_name_is_used_once(&*make());
    what_is_not_there_is_missing(&*make());
    what_is_put_unsynced_is_there_and_can_be_synced(&*make());
    ranges_end_with_the_payload(&*make());
    listing_is_in_order_and_stops_when_told(&*make());
    usage_follows_puts_and_deletes(&*make());
    many_are_deleted_at_once(&*make());
    objects::check_all(make);
}

/// A block named `counter` whose pieces have the lengths `lens`; each byte follows from its place.
///
/// # Panics
///
/// If the pieces do not fit into one block.
pub fn sample(counter: u64, lens: &[u32]) -> Block {
    let mut builder = BlockBuilder::new();
    for (n, len) in (0u64..).zip(lens) {
        let bytes: Vec<u8> =
            (0..*len).map(|i| sample_byte(counter, builder.payload_len() + i)).collect();
        let (head, rest) = bytes.split_at(bytes.len() / 3);
        let piece = Piece { strand: n, start: n * 1000, generation: counter, len: *len };
        let _at = builder.add(piece, &[head, rest]).expect("the sample fits");
    }
    builder.finish(BlockName { domain: 1, epoch: counter % 3, counter })
}

fn sample_byte(counter: u64, at: u32) -> u8 {
    let mixed = (u64::from(at) ^ counter.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[7]
}

fn what_was_put_is_read_in_any_range(store: &dyn BlockStore) {
    let lens = [1, CHUNK_BYTES - 2, CHUNK_BYTES, 3, 70_000, 1];
    let block = sample(7, &lens);
    store.put(&block).expect("put");
    let payload = block.payload();
    let len = block.footer().payload_len();
    let edges = [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
        150_000,
        len - 1,
        len,
    ];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            let read = store.read(block.name(), start..end).expect("read");
            assert!(read == payload.slice(start as usize..end as usize), "{start}..{end} differs");
        }
    }
    assert_eq!(store.footer(block.name()).expect("footer"), *block.footer());
    assert_eq!(block.footer().pieces().len(), lens.len());
}

fn a_name_is_used_once(store: &dyn BlockStore) {
    let first = sample(3, &[100]);
    let mut other = BlockBuilder::new();
    let piece = Piece { strand: 9, start: 0, generation: 0, len: 2 };
    let _at = other.add(piece, &[b"no"]).expect("fits");
    store.put(&first).expect("put");
    for again in [first.clone(), other.finish(first.name())] {
        let refused = store.put(&again);
        assert!(
            matches!(refused, Err(PutError::AlreadyExists { name }) if name == first.name()),
            "{refused:?}"
        );
    }
    assert_eq!(store.read(first.name(), 0..100).expect("read"), first.payload());
    assert_eq!(store.usage().blocks, 1);
}

fn what_is_put_unsynced_is_there_and_can_be_synced(store: &dyn BlockStore) {
    let blocks: Vec<_> = (0..4).map(|counter| sample(counter, &[100_000, 3])).collect();
    for block in &blocks[..3] {
        store.put_unsynced(block).expect("put");
    }
    store.put(&blocks[3]).expect("put");
    let check = |there: &[Block]| {
        for block in there {
            let whole = 0..block.footer().payload_len();
            assert!(store.read(block.name(), whole).expect("read") == block.payload());
            assert_eq!(store.footer(block.name()).expect("footer"), *block.footer());
            for again in [store.put(block), store.put_unsynced(block)] {
                assert!(matches!(again, Err(PutError::AlreadyExists { .. })), "{again:?}");
            }
        }
        let mut listed = Vec::new();
        let mut visit = |found: Listed| {
            listed.push((found.name, found.bytes));
            ControlFlow::Continue(())
        };
        store.list(&mut visit).expect("list");
        let mut want: Vec<_> =
            there.iter().map(|block| (block.name(), block.bytes().len() as u64)).collect();
        want.sort_unstable();
        assert_eq!(listed, want);
        let bytes = want.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(store.usage(), Usage { blocks: want.len() as u64, bytes });
    };
    check(&blocks);
    let names: Vec<_> = blocks.iter().map(Block::name).collect();
    for names in [&names[..2], &names[..], &[]] {
        store.sync(names).expect("sync");
        check(&blocks);
    }
    assert!(store.delete(names[0]).expect("delete"));
    let late = sample(9, &[5]);
    store.put_unsynced(&late).expect("put");
    assert!(store.delete(late.name()).expect("delete"));
    check(&blocks[1..]);
}

fn what_is_not_there_is_missing(store: &dyn BlockStore) {
    let block = sample(4, &[10]);
    let name = block.name();
    let missing = |error: ReadError| {
        assert!(matches!(error, ReadError::Missing { name: n } if n == name), "{error}")
    };
    missing(store.read(name, 0..1).expect_err("nothing there"));
    missing(store.footer(name).expect_err("nothing there"));
    assert!(!store.delete(name).expect("delete"));
    store.put(&block).expect("put");
    let _cached = store.read(name, 0..10).expect("read");
    assert!(store.delete(name).expect("delete"));
    missing(store.read(name, 0..10).expect_err("deleted"));
    missing(store.footer(name).expect_err("deleted"));
    assert!(!store.delete(name).expect("delete"));
}

fn ranges_end_with_the_payload(store: &dyn BlockStore) {
    let block = sample(5, &[10]);
    store.put(&block).expect("put");
    #[expect(clippy::reversed_empty_ranges, reason = "hostile ranges are what is checked")]
    for range in [0..11, 11..11, 5..4, 0..u32::MAX, u32::MAX..u32::MAX] {
        let error = store.read(block.name(), range.clone()).expect_err("out of range");
        assert!(
            matches!(error, ReadError::OutOfRange { payload_len: 10, .. }),
            "{range:?}: {error}"
        );
    }
    assert!(store.read(block.name(), 10..10).expect("empty").is_empty());
}

fn listing_is_in_order_and_stops_when_told(store: &dyn BlockStore) {
    let mut want = Vec::new();
    for counter in [600, 2, 1, 256, 255, 0, 70_000] {
        let block = sample(counter, &[8]);
        store.put(&block).expect("put");
        want.push((block.name(), block.bytes().len() as u64));
    }
    want.sort_unstable();
    for stop_after in [1, 3, 100] {
        let mut seen = Vec::new();
        let mut visit = |Listed { name, bytes, modified_ms }| {
            seen.push((name, bytes));
            assert!(modified_ms > 0, "a block was put before there was time");
            if seen.len() == stop_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        store.list(&mut visit).expect("list");
        assert_eq!(seen, want[..stop_after.min(want.len())]);
    }
}

fn usage_follows_puts_and_deletes(store: &dyn BlockStore) {
    assert_eq!(store.usage(), Usage::default());
    let (a, b) = (sample(1, &[10]), sample(2, &[1000, 5]));
    store.put(&a).expect("put");
    store.put(&b).expect("put");
    let bytes = (a.bytes().len() + b.bytes().len()) as u64;
    assert_eq!(store.usage(), Usage { blocks: 2, bytes });
    assert!(store.delete(a.name()).expect("delete"));
    assert_eq!(store.usage(), Usage { blocks: 1, bytes: b.bytes().len() as u64 });
}

fn many_are_deleted_at_once(store: &dyn BlockStore) {
    let blocks: Vec<_> = (0..5).map(|counter| sample(counter, &[10])).collect();
    for block in &blocks {
        store.put(block).expect("put");
    }
    assert_eq!(store.delete_many(&[]).expect("delete nothing"), 0);
    let names: Vec<_> = blocks[1..4].iter().map(Block::name).collect();
    assert_eq!(store.delete_many(&names).expect("delete"), 3);
    let mut left = Vec::new();
    let mut visit = |listed: Listed| {
        left.push(listed.name);
        ControlFlow::Continue(())
    };
    store.list(&mut visit).expect("list");
    let mut want = [blocks[0].name(), blocks[4].name()];
    want.sort_unstable();
    assert_eq!(left, want);
    // Names that are gone do no harm.
    let _counted_or_not = store.delete_many(&names).expect("delete again");
    assert_eq!(store.read(blocks[0].name(), 0..10).expect("read"), blocks[0].payload());
}
