//! Goal: packing by age tells the store of every change, of rows alone as of bytes, and of nothing that rounds do by
//! themselves.
//!
//! Method: simulated time, which passes only when the test says so, and the position up to which a node could be
//! restored.

use std::thread::yield_now;
use std::time::Duration;

use host::sim::Machine;

use super::watched::watched_on;
use super::{ROWS, options};
use crate::{Commit, Options, Position, Strands};

const AGE: Duration = Duration::from_secs(60);

fn by_age(machine: &Machine) -> Strands {
    let never = u64::MAX;
    watched_on(machine, Options { pack_after_age: Some(AGE), pack_after_bytes: never, ..options() })
        .0
}

/// Lets time pass until the store has a root behind `position`; the packer looks by itself each second.
fn wait_for_root(strands: &Strands, machine: &Machine, position: Position) {
    machine.advance(AGE);
    strands.shared.want_packing();
    let reaches = || strands.status().restorable.is_some_and(|(root, _)| root >= position);
    while !reaches() {
        yield_now();
    }
}

fn put(strands: &Strands) -> Position {
    let mut commit = Commit::new();
    commit.put(ROWS, &b"key"[..], &b"value"[..]);
    drop(strands.commit(commit).unwrap());
    strands.positions().appended
}

#[test]
fn the_store_hears_of_rows_of_placed_bytes_and_of_removals_when_they_are_old_enough() {
    let machine = Machine::new(1);
    let strands = by_age(&machine);
    let rows = put(&strands);
    wait_for_root(&strands, &machine, rows);

    let strand = strands.mint().unwrap();
    let staged = strands.stage_unsynced_blocking(strand, 0, vec![1; 1 << 20].into()).unwrap();
    let mut commit = Commit::new();
    commit.place(strand, 0, staged);
    drop(strands.commit(commit).unwrap());
    wait_for_root(&strands, &machine, strands.positions().appended);

    let mut commit = Commit::new();
    commit.remove(strand);
    drop(strands.commit(commit).unwrap());
    wait_for_root(&strands, &machine, strands.positions().appended);
}

#[test]
fn what_rounds_do_by_themselves_asks_for_no_round() {
    let machine = Machine::new(1);
    let strands = by_age(&machine);
    let rows = put(&strands);
    wait_for_root(&strands, &machine, rows);
    // The round ends after its root is there; one more, whose beginning may lie behind the row, ends them.
    strands.pack_now().unwrap();
    assert_eq!(strands.status().unpacked_age, None);
    machine.advance(100 * AGE);
    assert!(!strands.shared.is_due());
}

#[test]
fn a_start_counts_what_it_finds_in_the_journal() {
    let machine = Machine::new(1);
    let strands = by_age(&machine);
    assert_eq!(strands.status().unpacked_age, None, "a new journal holds what the start notes");
    put(&strands);
    assert!(strands.status().unpacked_age.is_some());
}
