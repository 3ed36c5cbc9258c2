//! Goal: whatever bytes a directory holds, opening the log never panics and never allocates more
//! than the bytes that are there call for. Method: the bodies of the fuzz targets (`hostile`), with
//! random programs.

use durable_log::Reads;
use host::Host;
use proptest::prelude::*;

use crate::allocations::largest_allocation;
use crate::hostile;

/// Two buffers of a walk and some room for tables; the files that a program makes are smaller.
const LARGEST: usize = 2 << 20;

#[track_caller]
fn check(target: impl Fn(&[u8]), program: &[u8]) {
    let largest = largest_allocation(|| target(program));
    assert!(largest <= LARGEST, "{largest} bytes at once");
}

/// Programs: any bytes, or instructions that mean something more often.
fn programs() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        prop::collection::vec(prop_oneof![3 => 0..16_u8, 1 => any::<u8>()], 0..100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_log_of_any_bytes_opens_or_is_refused(program in programs()) {
        check(hostile::recovery, &program);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn a_log_with_any_index_reads_as_with_its_own(program in programs()) {
        check(hostile::index, &program);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_mapped_log_with_any_index_reads_as_with_its_own(program in programs()) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("log");
        check(|program| hostile::index_on(&Host::real(), &dir, Reads::Mapped, program), &program);
    }
}

/// A mark of a close with a good checksum, three records and no bytes.
#[test]
fn a_log_whose_mark_counts_records_that_are_not_there_is_refused() {
    check(hostile::recovery, &[11, 15, 10, 4, 8, 4, 13, 3]);
}
