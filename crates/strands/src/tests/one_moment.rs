//! Goal: a read shows bytes of one moment, and all of them, whatever is written and packed meanwhile.
//!
//! Method: readers beside a writer that packs, and packing placed exactly between two looks of one read.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use block_store::BlockStore;
use bytes::Bytes;
use host::sim::Machine;
use meta_store::{Applied, Batch, KeyRange, MetaError, MetaStore, Order, Visit};

use super::options;
use super::power_cut::open;
use crate::{Commit, Strands};

#[test]
fn a_read_sees_one_moment_while_its_bytes_are_overwritten_and_packed() {
    const LEN: usize = 3000;
    let machine = Machine::new(1);
    let strands = open(&machine, &Arc::default()).unwrap();
    let strand = strands.mint().unwrap();
    let fill = |round: usize| {
        // Cut differently each time, so that extents begin elsewhere.
        let cut = 1 + round * 997 % (LEN - 1);
        let bytes = Bytes::from(vec![round.to_le_bytes()[0]; LEN]);
        let mut commit = Commit::new();
        commit.write(strand, cut as u64, bytes.slice(cut..)).write(strand, 0, bytes.slice(..cut));
        drop(strands.commit(commit).unwrap());
    };
    fill(0);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (strands, done) = (strands.clone(), Arc::clone(&done));
            let read = move || {
                while !done.load(Ordering::Relaxed) {
                    let from = 500 * reader;
                    let len = LEN as u64 - from;
                    let got =
                        strands.read_dense_blocking(strand, from, u32::try_from(len).unwrap());
                    let got = got.unwrap();
                    assert_eq!(got.len() as u64, len);
                    assert!(got.iter().all(|byte| *byte == got[0]), "two moments in one read");
                }
            };
            host::spawn("reader", read).unwrap()
        })
        .collect();
    for round in 1..150 {
        fill(round);
        strands.pack_now().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

type Happens = Box<dyn FnOnce() + Send>;

/// A meta store in which something happens just before a scan.
#[derive(Default)]
struct Interrupted {
    rows: meta_store::Memory,
    /// How many scans go on undisturbed, and what happens then.
    next: Mutex<Option<(u32, Happens)>>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupted").finish_non_exhaustive()
    }
}

impl MetaStore for Interrupted {
    fn get(&self, table: meta_store::Table, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: meta_store::Table,
        range: KeyRange<'_>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        let now = {
            let mut next = self.next.lock().unwrap();
            match next.take() {
                Some((0, happens)) => Some(happens),
                Some((scans, happens)) => {
                    *next = Some((scans - 1, happens));
                    None
                }
                None => None,
            }
        };
        if let Some(happens) = now {
            happens();
        }
        self.rows.scan(table, range, order, visit)
    }

    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError> {
        self.rows.commit(batch, applied)
    }

    fn applied(&self) -> Applied {
        self.rows.applied()
    }

    fn snapshot(&self) -> Result<Box<dyn meta_store::Snapshot>, MetaError> {
        self.rows.snapshot()
    }

    fn sync(&self) -> Result<Applied, MetaError> {
        self.rows.sync()
    }
}

#[test]
fn a_read_is_of_one_moment_when_packing_changes_the_extents_while_it_looks_for_them() {
    for (scans, cuts) in [(0, [20, 100]), (1, [20, 100]), (0, [55, 70]), (1, [55, 70])] {
        let meta = Arc::new(Interrupted::default());
        let blocks: Arc<dyn BlockStore> = Arc::new(block_store::Memory::new());
        let machine = Machine::new(1);
        let (journal, view) = (Path::new("/journal"), Arc::clone(&meta) as Arc<dyn MetaStore>);
        let strands = Strands::open(machine.host(), journal, view, blocks, options()).unwrap();
        let strand = strands.mint().unwrap();
        let fill = move |strands: &Strands, range: Range<u64>, byte| {
            let mut commit = Commit::new();
            let len = usize::try_from(range.end - range.start).unwrap();
            commit.write(strand, range.start, Bytes::from(vec![byte; len]));
            drop(strands.commit(commit).unwrap());
            strands.pack_now().unwrap();
        };
        fill(&strands, 0..100, 1);
        fill(&strands, 30..60, 2);
        let other = strands.clone();
        let happens = Box::new(move || {
            let [from, to] = cuts;
            fill(&other, from..to, 3);
        });
        *meta.next.lock().unwrap() = Some((scans, happens));
        let got = strands.read_blocking(strand, 50, 50).unwrap();
        assert!(meta.next.lock().unwrap().is_none(), "it was interrupted");
        let after = strands.read_blocking(strand, 50, 50).unwrap();
        assert_eq!(got, after, "{scans} {cuts:?}");
    }
}
