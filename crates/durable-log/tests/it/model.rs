//! Goal: under any sequence of operations the log behaves like a vector of records with three
//! marks on it. Method: random operations on both, compared after each.

use durable_log::{Location, Log, Offset};
use proptest::prelude::*;

use crate::support::{Place, all};

#[derive(Clone, Debug)]
enum Op {
    /// Records with these lengths, as one unit.
    Append(Vec<usize>),
    AppendParts(Vec<usize>),
    WriteOut,
    Sync,
    Roll,
    /// Below this part of what there is, of 8.
    Trim(u64),
    /// The end off, from this record on.
    Cut(prop::sample::Index),
    Read(prop::sample::Index),
    Scan,
    Close,
    /// The process dies: what was not written out may be gone.
    Drop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![4 => 0..300_usize, 1 => 3000..9000_usize];
    let op = prop_oneof![
        8 => prop::collection::vec(len.clone(), 1..4).prop_map(Op::Append),
        2 => prop::collection::vec(len, 1..4).prop_map(Op::AppendParts),
        3 => Just(Op::WriteOut),
        3 => Just(Op::Sync),
        1 => Just(Op::Roll),
        1 => (0..9_u64).prop_map(Op::Trim),
        1 => any::<prop::sample::Index>().prop_map(Op::Cut),
        4 => any::<prop::sample::Index>().prop_map(Op::Read),
        1 => Just(Op::Scan),
        1 => Just(Op::Close),
        2 => Just(Op::Drop),
    ];
    prop::collection::vec(op, 1..60)
}

#[derive(Default)]
struct Model {
    /// Every record ever, trimmed ones too.
    records: Vec<(Vec<u8>, Location)>,
    start: usize,
    written: usize,
}

impl Model {
    fn record(&self, len: usize) -> Vec<u8> {
        (0..len).map(|n| (self.records.len() * 31 + n).to_le_bytes()[0]).collect()
    }

    fn apply(&mut self, place: &Place, log: Log, op: &Op) -> Log {
        match op {
            Op::Append(lens) => {
                let records: Vec<Vec<u8>> = lens.iter().map(|len| self.record(*len)).collect();
                let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
                let appended = log.append(&slices).unwrap();
                assert_eq!(appended.first.get(), self.records.len() as u64);
                let mut at = appended.at;
                for record in records {
                    let next = at.plus(record.len() as u64 + 4);
                    self.records.push((record, at));
                    at = next;
                }
                assert_eq!(appended.next.get(), self.records.len() as u64);
            }
            Op::AppendParts(lens) => {
                let record = self.record(lens.iter().sum());
                let mut rest = &record[..];
                let mut parts = Vec::new();
                for len in lens {
                    let (part, after) = rest.split_at(*len);
                    parts.push(part);
                    rest = after;
                }
                let at = log.append_parts(&parts).unwrap().at;
                self.records.push((record, at));
            }
            Op::WriteOut => self.written = index(log.write_out().unwrap()),
            Op::Sync => self.written = index(log.sync().unwrap()),
            Op::Roll => {
                log.roll().unwrap();
                self.written = self.records.len();
            }
            Op::Trim(eighths) => {
                let before =
                    self.start as u64 + (self.records.len() - self.start) as u64 * eighths / 8;
                let start = log.trim(Offset::new(before)).unwrap();
                assert!(index(start) >= self.start && start.get() <= before.max(self.start as u64));
                self.start = index(start);
            }
            Op::Read(which) => self.read(&log, *which),
            Op::Scan => self.check_all(&log),
            Op::Cut(which) => return self.cut(&log, *which),
            Op::Close => {
                log.close().unwrap();
                self.written = self.records.len();
                return self.reopen(place, true);
            }
            Op::Drop => {
                drop(log);
                return self.reopen(place, false);
            }
        }
        log
    }

    fn read(&self, log: &Log, which: prop::sample::Index) {
        if self.start == self.records.len() {
            return;
        }
        let (record, at) = &self.records[self.start + which.index(self.records.len() - self.start)];
        let slice = log.slice(*at, u32::try_from(record.len()).unwrap()).unwrap();
        assert_eq!(&slice.read().unwrap()[..], &record[..]);
        let offset = self.records.iter().position(|(_, other)| other == at).unwrap();
        let found = log.read(Offset::new(offset as u64)).unwrap();
        assert_eq!((&found[..], found.at()), (&record[..], *at));
        assert_eq!((index(found.offset()), found.epoch() <= log.epoch()), (offset, true));
        assert_eq!(&found.to_bytes()[..], &record[..]);
    }

    fn cut(&mut self, log: &Log, which: prop::sample::Index) -> Log {
        let end = self.start + which.index(self.records.len() - self.start + 1);
        let before = log.epoch();
        let log = log.truncate_after(Offset::new(end as u64)).unwrap();
        assert_eq!(log.epoch() > before, end < self.records.len());
        self.records.truncate(end);
        self.written = self.written.min(end);
        self.check_all(&log);
        log
    }

    fn check_all(&self, log: &Log) {
        let expected: Vec<&[u8]> =
            self.records[self.start..].iter().map(|(record, _)| &record[..]).collect();
        assert_eq!(all(log), expected);
    }

    fn reopen(&mut self, place: &Place, clean: bool) -> Log {
        let (log, recovery) = place.reopen();
        assert_eq!(recovery.clean, clean);
        let appended = index(log.positions().appended);
        assert!(appended >= self.written && appended <= self.records.len());
        self.records.truncate(appended);
        self.written = appended;
        self.check_all(&log);
        log
    }

    fn check(&self, log: &Log) {
        let positions = log.positions();
        assert_eq!(index(positions.start), self.start);
        assert_eq!(index(positions.appended), self.records.len());
        assert!(index(positions.written) >= self.written);
        assert!(positions.durable <= positions.written && positions.written <= positions.appended);
        assert!(log.stats().segments == place_count(log));
    }
}

fn place_count(log: &Log) -> u64 {
    log.oldest_segments().len() as u64
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).unwrap()
}

fn check(place: &Place, ops: &[Op]) {
    let mut model = Model::default();
    let mut log = place.open();
    for op in ops {
        log = model.apply(place, log, op);
        model.check(&log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector_on_real_files(ops in ops()) {
        check(&Place::new(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector_on_simulated_files(ops in ops()) {
        check(&Place::simulated(), &ops);
    }
}
