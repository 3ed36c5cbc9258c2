//! Goal: when syncs fail, a ticket says durable only when it is, everybody who waits gets an answer, and a
//! power cut afterwards takes nothing that was acknowledged.
//!
//! Method: random steps on the simulated disk while syncs fail, at random places and with random parts of
//! what they should have saved; then a power cut and a look at what is left, against the model.

use std::sync::Arc;

use host::sim::{Machine, Reached};

use super::power_cut::{Synced, check_survivors, live, open, steps};
use super::{Model, ROWS};
use crate::{Commit, CommitError, Strands};

fn reached(seed: u64) -> Reached {
    match seed % 3 {
        0 => Reached::Nothing,
        1 => Reached::Everything,
        _ => Reached::Some(seed),
    }
}

fn put(strands: &Strands, key: &'static [u8]) -> Result<(), CommitError> {
    let mut commit = Commit::new();
    commit.put(ROWS, key, &b"v"[..]);
    strands.commit(commit)?.wait_durable()
}

#[test]
fn what_was_acknowledged_around_failed_syncs_survives_the_next_power_cut() {
    for seed in 0..150 {
        println!("seed {seed}");
        let machine = Machine::new(seed);
        let mut meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let syncs = machine.counts().syncs;
        // One to five syncs in a row fail, so that rescues fail too.
        for failing in 0..=seed % 5 {
            machine.fail_sync(syncs + 1 + (seed * 5) % 12 + failing, reached(seed + failing));
        }
        let failed = |error: &CommitError| matches!(error, CommitError::Failed(_));
        let life = live(&strands, (0, Model::default()), &steps(seed), &failed);
        drop(strands);
        machine.crash_seeded(seed);
        meta = meta.after_power_cut();
        let strands = open(&machine, &meta).unwrap();
        check_survivors(&strands, &life);
    }
}

#[test]
fn one_failed_sync_is_rescued_and_changes_the_write_epoch() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    let epoch = strands.write_epoch();
    put(&strands, b"before").unwrap();
    assert_eq!(strands.write_epoch(), epoch);
    machine.fail_sync(machine.counts().syncs + 1, Reached::Nothing);
    put(&strands, b"during").unwrap();
    assert_ne!(strands.write_epoch(), epoch);
    put(&strands, b"after").unwrap();
    drop(strands);
    machine.crash(&mut host::sim::Lost);
    let strands = open(&machine, &meta.after_power_cut()).unwrap();
    for key in [&b"before"[..], b"during", b"after"] {
        assert_eq!(strands.row(ROWS, key).unwrap().as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn when_the_rescue_fails_too_all_who_wait_are_told_and_nothing_more_is_accepted() {
    let machine = Machine::new(1);
    let meta = Arc::new(Synced::default());
    let strands = open(&machine, &meta).unwrap();
    put(&strands, b"before").unwrap();
    let syncs = machine.counts().syncs;
    (1..=8).for_each(|next| machine.fail_sync(syncs + next, Reached::Nothing));
    let tickets: Vec<_> = (0..8)
        .map(|number| {
            let mut commit = Commit::new();
            commit.put(ROWS, vec![number], &b"v"[..]);
            strands.commit(commit).unwrap()
        })
        .collect();
    let waiting: Vec<_> = (0..8)
        .zip(tickets)
        .map(|(number, ticket)| {
            let wait = move || match number % 2 {
                0 => ticket.wait_durable(),
                _ => crate::admit::block_on(ticket.durable()),
            };
            host::spawn("waiting", wait).unwrap()
        })
        .collect();
    for waiter in waiting {
        let told = waiter.join().unwrap();
        assert!(matches!(told, Err(CommitError::Failed(_))), "{told:?}");
    }
    assert!(matches!(put(&strands, b"after"), Err(CommitError::Failed(_))));
    let seen = strands.positions().durable;
    assert_eq!(crate::admit::block_on(strands.wait_durable_beyond(seen)), None);
    drop(strands);
    machine.crash(&mut host::sim::Lost);
    let strands = open(&machine, &meta.after_power_cut()).unwrap();
    assert_eq!(strands.row(ROWS, b"before").unwrap().as_deref(), Some(&b"v"[..]));
}
