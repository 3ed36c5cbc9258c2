//! What every [`MetaStore`] does, as checks that run against any of them.
//!
//! `make` gives a new, empty store each time. The checks panic with what is wrong.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::{
    Applied, Batch, KEY_BYTES_MAX, KeyRange, MetaError, MetaStore, Order, Table, VALUE_BYTES_MAX,
};

/// Runs all checks.
///
/// # Panics
///
/// If a store does not behave as [`MetaStore`] says.
pub fn check_all(make: &dyn Fn() -> Box<dyn MetaStore>) {
    rows_are_put_replaced_and_deleted(&*make());
    tables_are_apart(&*make());
    the_last_change_of_a_row_in_a_batch_wins(&*make());
    scans_give_every_range_in_both_orders(&*make());
    a_scan_shows_one_moment(&*make());
    a_snapshot_stays_as_it_was(&*make());
    the_applied_position_goes_with_the_commit(&*make());
    a_refused_commit_changes_nothing(&*make());
    rows_up_to_the_limits_are_kept(&*make());
    random_work_matches_a_model(&*make());
}

/// All rows of `table` within `range`.
///
/// # Panics
///
/// If the scan fails.
pub fn rows(
    store: &dyn MetaStore,
    table: Table,
    range: KeyRange<'_>,
    order: Order,
) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let mut keep = |key: &[u8], value: &[u8]| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    store.scan(table, range, order, &mut keep).expect("scan");
    rows
}

const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

fn value(store: &dyn MetaStore, table: Table, key: &[u8]) -> Option<Bytes> {
    store.get(table, key).expect("get")
}

fn rows_are_put_replaced_and_deleted(store: &dyn MetaStore) {
    let table = Table(3);
    let keys: [&'static [u8]; 5] = [b"", b"\0", b"key", b"key\0", b"\xff\xff"];
    assert!(keys.iter().all(|key| value(store, table, key).is_none()));
    let mut batch = Batch::new();
    for key in keys {
        batch.put(table, key, [b"value of ", key].concat());
    }
    batch.put(table, &b"empty"[..], Bytes::new());
    store.commit(&batch, Applied(1)).expect("commit");
    for key in keys {
        assert_eq!(value(store, table, key), Some([b"value of ", key].concat().into()));
    }
    assert_eq!(value(store, table, b"empty"), Some(Bytes::new()));

    let mut batch = Batch::new();
    batch
        .put(table, keys[2], &b"new"[..])
        .delete(table, keys[0])
        .delete(table, &b"never there"[..]);
    store.commit(&batch, Applied(2)).expect("commit");
    assert_eq!(value(store, table, keys[2]), Some(Bytes::from_static(b"new")));
    assert_eq!(value(store, table, keys[0]), None);
    assert_eq!(rows(store, table, ALL, Order::Ascending).len(), 5);
}

fn tables_are_apart(store: &dyn MetaStore) {
    let mut batch = Batch::new();
    for table in [0, 1, 2, 254, 255] {
        batch.put(Table(table), &b"key"[..], vec![table]).put(
            Table(table),
            vec![table, 0xff],
            vec![],
        );
    }
    store.commit(&batch, Applied(1)).expect("commit");
    store.commit(Batch::new().delete(Table(2), &b"key"[..]), Applied(2)).expect("commit");
    for table in 0..=255 {
        let want = match table {
            2 => 1,
            0 | 1 | 254 | 255 => 2,
            _ => 0,
        };
        for order in [Order::Ascending, Order::Descending] {
            assert_eq!(rows(store, Table(table), ALL, order).len(), want, "table {table}");
        }
        assert_eq!(value(store, Table(table), b"key").is_some(), want == 2);
    }
}

fn the_last_change_of_a_row_in_a_batch_wins(store: &dyn MetaStore) {
    let table = Table(1);
    let mut batch = Batch::new();
    batch.put(table, &b"a"[..], &b"1"[..]).put(table, &b"a"[..], &b"2"[..]);
    batch.put(table, &b"b"[..], &b"1"[..]).delete(table, &b"b"[..]);
    batch.delete(table, &b"c"[..]).put(table, &b"c"[..], &b"1"[..]);
    assert_eq!(batch.len(), 3);
    store.commit(&batch, Applied(1)).expect("commit");
    assert_eq!(value(store, table, b"a"), Some(Bytes::from_static(b"2")));
    assert_eq!(value(store, table, b"b"), None);
    assert_eq!(value(store, table, b"c"), Some(Bytes::from_static(b"1")));
}

fn scans_give_every_range_in_both_orders(store: &dyn MetaStore) {
    let table = Table(7);
    let present: [&[u8]; 5] = [b"", b"b", b"b\0", b"d", b"\xff"];
    let mut batch = Batch::new();
    for key in present {
        batch.put(table, key.to_vec(), key.to_vec());
    }
    // Neighbours that must never show.
    batch.put(Table(6), &b"\xff\xff"[..], Bytes::new()).put(Table(8), Bytes::new(), Bytes::new());
    store.commit(&batch, Applied(1)).expect("commit");

    let edges: [&[u8]; 7] = [b"", b"a", b"b", b"b\0", b"c", b"\xff", b"\xff\xff"];
    let mut bounds = vec![Bound::Unbounded];
    bounds.extend(edges.iter().flat_map(|edge| [Bound::Included(*edge), Bound::Excluded(*edge)]));
    for start in &bounds {
        for end in &bounds {
            let after_start = |key: &[u8]| match *start {
                Bound::Unbounded => true,
                Bound::Included(start) => key >= start,
                Bound::Excluded(start) => key > start,
            };
            let before_end = |key: &[u8]| match *end {
                Bound::Unbounded => true,
                Bound::Included(end) => key <= end,
                Bound::Excluded(end) => key < end,
            };
            let mut want: Vec<_> =
                present.iter().copied().filter(|key| after_start(key) && before_end(key)).collect();
            for order in [Order::Ascending, Order::Descending] {
                let found = rows(store, table, (*start, *end), order);
                let keys: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_ref()).collect();
                assert_eq!(keys, want, "{start:?}..{end:?} {order:?}");
                want.reverse();
            }
        }
    }
}

fn a_scan_shows_one_moment(store: &dyn MetaStore) {
    let table = Table(1);
    let mut batch = Batch::new();
    for key in 0..100u8 {
        batch.put(table, vec![key], &b"old"[..]);
    }
    store.commit(&batch, Applied(1)).expect("commit");
    let mut seen = 0;
    let mut visit = |key: &[u8], value: &[u8]| {
        if key == [10] {
            let mut batch = Batch::new();
            for key in 0..200u8 {
                batch.put(table, vec![key], &b"new"[..]);
            }
            batch.delete(table, vec![50]);
            store.commit(&batch, Applied(2)).expect("a scan keeps no commit out");
        }
        assert_eq!(value, b"old", "row {key:?}");
        seen += 1;
        if key == [90] { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(table, ALL, Order::Ascending, &mut visit).expect("scan");
    assert_eq!(seen, 91, "rows before the break, each once");
    assert_eq!(value(store, table, &[11]), Some(Bytes::from_static(b"new")));
    assert_eq!(rows(store, table, ALL, Order::Ascending).len(), 199);
}

fn a_snapshot_stays_as_it_was(store: &dyn MetaStore) {
    let empty = store.snapshot().expect("snapshot");
    let mut batch = Batch::new();
    for key in 0..50u8 {
        batch.put(Table(1), vec![key], &b"old"[..]).put(Table(2), vec![key], vec![key]);
    }
    store.commit(&batch, Applied(7)).expect("commit");
    let taken = store.snapshot().expect("snapshot");
    let mut batch = Batch::new();
    batch.put(Table(1), vec![3], &b"new"[..]).delete(Table(2), vec![4]).put(
        Table(9),
        vec![1],
        vec![1],
    );
    store.commit(&batch, Applied(9)).expect("commit");
    let count = |snapshot: &dyn crate::Snapshot, table, range, order| {
        let mut seen = Vec::new();
        let mut keep = |key: &[u8], value: &[u8]| {
            seen.push((key.to_vec(), value.to_vec()));
            if seen.len() == 45 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        snapshot.scan(table, range, order, &mut keep).expect("scan");
        seen
    };
    assert_eq!((empty.applied(), taken.applied()), (Applied(0), Applied(7)));
    assert_eq!(count(&*empty, Table(1), ALL, Order::Ascending), []);
    assert_eq!(count(&*taken, Table(9), ALL, Order::Ascending), []);
    let old = count(&*taken, Table(1), ALL, Order::Ascending);
    assert_eq!(old.len(), 45, "it ends where it is broken off");
    assert!(old.iter().all(|(_, value)| value == b"old"));
    let upper = (Bound::Excluded(&[2][..]), Bound::Included(&[5][..]));
    let keys = count(&*taken, Table(2), upper, Order::Descending);
    assert_eq!(keys, [5, 4, 3].map(|key| (vec![key], vec![key])));
    drop(taken);
    assert_eq!(rows(store, Table(1), ALL, Order::Ascending).len(), 50);
    assert_eq!(value(store, Table(1), &[3]), Some(Bytes::from_static(b"new")));
}

fn the_applied_position_goes_with_the_commit(store: &dyn MetaStore) {
    assert_eq!(store.applied(), Applied(0));
    assert_eq!(store.sync().expect("sync"), Applied(0));
    store.commit(Batch::new().put(Table(1), &b"k"[..], &b"v"[..]), Applied(5)).expect("commit");
    assert_eq!(store.applied(), Applied(5));
    store.commit(&Batch::new(), Applied(5)).expect("the same position again");
    store.commit(&Batch::new(), Applied(u64::MAX)).expect("nothing but the position");
    assert_eq!(store.applied(), Applied(u64::MAX));
    assert_eq!(store.sync().expect("sync"), Applied(u64::MAX));
}

fn a_refused_commit_changes_nothing(store: &dyn MetaStore) {
    store.commit(Batch::new().put(Table(1), &b"k"[..], &b"v"[..]), Applied(5)).expect("commit");
    let mut batch = Batch::new();
    batch.put(Table(0), &b"other"[..], &b"w"[..]);
    let back = store.commit(&batch, Applied(4));
    assert!(
        matches!(back, Err(MetaError::AppliedBack { current: Applied(5), given: Applied(4) })),
        "{back:?}"
    );
    let long_key =
        store.commit(batch.clone().put(Table(9), vec![0; KEY_BYTES_MAX + 1], vec![]), Applied(6));
    assert!(matches!(long_key, Err(MetaError::KeyTooLong { .. })), "{long_key:?}");
    let long_value =
        store.commit(batch.put(Table(9), vec![0], vec![0; VALUE_BYTES_MAX + 1]), Applied(6));
    assert!(matches!(long_value, Err(MetaError::ValueTooLong { .. })), "{long_value:?}");
    assert_eq!(store.applied(), Applied(5));
    assert_eq!(value(store, Table(0), b"other"), None);
}

fn rows_up_to_the_limits_are_kept(store: &dyn MetaStore) {
    let (key, long) = (vec![0xab; KEY_BYTES_MAX], vec![0xcd; VALUE_BYTES_MAX]);
    let mut batch = Batch::new();
    batch.put(Table(255), key.clone(), &b"v"[..]).put(Table(255), &b"k"[..], long.clone());
    store.commit(&batch, Applied(1)).expect("commit");
    assert_eq!(value(store, Table(255), &key), Some(Bytes::from_static(b"v")));
    assert!(value(store, Table(255), b"k").expect("kept") == long);
}

/// Numbers that look random and are the same in each run.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

fn random_work_matches_a_model(store: &dyn MetaStore) {
    let mut next = numbers(1);
    let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for round in 1..=400u64 {
        let mut batch = Batch::new();
        for _ in 0..next(20) {
            let table = Table(next(3).to_le_bytes()[0]);
            let key = next(300).to_be_bytes()[6..].to_vec();
            if next(3) == 0 {
                batch.delete(table, key.clone());
                model.remove(&(table, key));
            } else {
                let value =
                    vec![round.to_le_bytes()[0]; usize::try_from(next(3000)).expect("small")];
                batch.put(table, key.clone(), value.clone());
                model.insert((table, key), value);
            }
        }
        store.commit(&batch, Applied(round)).expect("commit");
        if round % 100 == 0 {
            assert_eq!(store.sync().expect("sync"), Applied(round));
            for table in (0..3).map(Table) {
                let found = rows(store, table, ALL, Order::Ascending);
                let want: Vec<(Bytes, Bytes)> = model
                    .range((table, vec![])..(Table(table.0 + 1), vec![]))
                    .map(|((_, key), value)| (key.clone().into(), value.clone().into()))
                    .collect();
                assert!(found == want, "table {table:?} after round {round}");
            }
        }
    }
}
