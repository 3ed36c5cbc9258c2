//! Goal: what a producer packs comes out again, record by record and with every codec; and no bytes at
//! all, damaged or invented, panic or make more memory than the bound.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn record(timestamp: i64, key: &'static str, value: &'static str) -> NewRecord {
    NewRecord { timestamp, key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
}

fn built(compression: Compression, records: &[NewRecord]) -> Bytes {
    let mut builder = Builder::new(compression);
    for record in records {
        builder.push(record).unwrap();
    }
    builder.build().unwrap()
}

fn read(bytes: &Bytes, limit: usize) -> Result<Vec<Record>, BatchError> {
    Batch::parse(bytes)?.records(limit)?.collect()
}

#[track_caller]
fn check_comes_back(compression: Compression, records: &[NewRecord]) {
    let bytes = built(compression, records);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.check_crc(), Ok(()));
    assert_eq!(batch.header().compression(), Ok(compression));
    let max = records.iter().map(|record| record.timestamp).max().unwrap_or(-1).max(-1);
    assert_eq!(batch.header().max_timestamp, max);
    let got = read(&bytes, LIMIT).unwrap();
    assert_eq!(got.len(), records.len());
    for (offset, (got, want)) in got.into_iter().zip(records).enumerate() {
        assert_eq!(got.offset, i64::try_from(offset).unwrap());
        let got = NewRecord {
            timestamp: got.timestamp,
            key: got.key,
            value: got.value,
            headers: got.headers,
        };
        assert_eq!(&got, want);
    }
}

/// Any walk over any bytes ends, with records or with an error.
fn survives(bytes: Bytes) {
    for batch in batches(bytes.clone()).flatten() {
        let _ = batch.check_crc();
        if let Ok(records) = batch.records(LIMIT) {
            records.for_each(drop);
        }
    }
    let _ = Header::parse(&bytes);
}

#[test]
fn every_codec_gives_the_records_back() {
    let long = NewRecord { value: Some(vec![7; 100_000].into()), ..record(5, "long", "") };
    let headers = vec![
        RecordHeader { key: "a".into(), value: None },
        RecordHeader { key: "a".into(), value: Some("b".into()) },
    ];
    let with_headers = NewRecord { headers, key: None, value: None, timestamp: 9 };
    for compression in Compression::ALL {
        check_comes_back(compression, &[record(3, "k", "v"), long.clone(), with_headers.clone()]);
    }
}

#[test]
fn the_xerial_frame_of_snappy_is_read() {
    let plain = built(Compression::None, &[record(1, "k", "v"), record(2, "l", "w")]);
    let run = &plain[HEADER_BYTES..];
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for part in run.chunks(7) {
        let block = snap::raw::Encoder::new().compress_vec(part).unwrap();
        framed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&block);
    }
    let got = codec::decompress(Compression::Snappy, framed.clone().into(), LIMIT).unwrap();
    assert_eq!(got, run);
    framed.pop();
    assert!(codec::decompress(Compression::Snappy, framed.into(), LIMIT).is_err());
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let bomb = NewRecord { value: Some(vec![0; 4 << 20].into()), ..NewRecord::default() };
    for compression in Compression::ALL.into_iter().skip(1) {
        let bytes = built(compression, std::slice::from_ref(&bomb));
        assert_eq!(
            read(&bytes, LIMIT),
            Err(BatchError::OverLimit { limit: LIMIT }),
            "{compression:?}"
        );
    }
}

#[test]
fn a_claim_beyond_the_bytes_is_refused_before_memory_is_taken() {
    let claims_half_a_gib = Bytes::from_static(b"\x80\x80\x80\x80\x02\x00");
    let got = codec::decompress(Compression::Snappy, claims_half_a_gib, 1 << 30);
    assert!(matches!(got, Err(BatchError::Compressed(_))), "{got:?}");
}

#[test]
fn a_changed_byte_under_the_checksum_is_found() {
    let bytes = built(Compression::None, &[record(1, "k", "v")]);
    for at in 17..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let Ok(batch) = Batch::parse(&changed.into()) else { continue };
        assert!(matches!(batch.check_crc(), Err(BatchError::Checksum { .. })), "byte {at}");
    }
}

#[test]
fn what_cannot_be_a_batch_is_named() {
    let good = built(Compression::None, &[record(1, "k", "v")]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Batch::parse(&changed.into()).map(drop)
    };
    assert_eq!(with(16, &[1]), Err(BatchError::Magic(1)));
    assert_eq!(with(8, &[0, 0, 0, 48]), Err(BatchError::Length(48)));
    assert_eq!(with(8, &[255; 4]), Err(BatchError::Length(-1)));
    assert_eq!(with(23, &[255; 4]), Err(BatchError::Negative("last offset delta")));
    assert_eq!(with(57, &[255; 4]), Err(BatchError::Negative("record count")));
    let need = good.len() + 1;
    let longer = i32::try_from(need - 12).unwrap().to_be_bytes();
    assert_eq!(with(8, &longer), Err(BatchError::Truncated { have: good.len(), need }));
}

#[test]
fn a_count_that_is_not_true_is_an_error_after_the_true_records() {
    let good = built(Compression::None, &[record(1, "k", "v"), record(2, "k", "v")]);
    for count in [1_u8, 3] {
        let mut changed = good.to_vec();
        changed[60] = count;
        let batch = Batch::parse(&changed.into()).unwrap();
        let got: Vec<_> = batch.records(LIMIT).unwrap().collect();
        assert_eq!(got.iter().filter(|record| record.is_ok()).count(), usize::from(count.min(2)));
        assert!(matches!(got.last(), Some(Err(BatchError::Record { .. }))));
    }
}

#[test]
fn times_of_the_broker_stand_for_all_records() {
    let mut changed =
        built(Compression::None, &[record(1, "k", "v"), record(8, "k", "v")]).to_vec();
    changed[22] |= 8;
    let got = read(&changed.into(), LIMIT).unwrap();
    assert!(got.iter().all(|record| record.timestamp == 8));
}

#[test]
fn a_stamp_leaves_the_checksum_and_the_payload_alone() {
    let small = [record(1, "k", "v")];
    let large = [NewRecord { value: Some(vec![1; 100_000].into()), ..NewRecord::default() }];
    for records in [&small, &large] {
        for shared in [false, true] {
            let bytes = built(Compression::None, records);
            let holder = shared.then(|| bytes.clone());
            let payload = bytes[MAGIC..].to_vec();
            let at = bytes[MAGIC..].as_ptr();
            let large = bytes.len() > 50_000;
            let got = match stamp(bytes, 77, 5) {
                Stamped::Whole(bytes) => {
                    assert_eq!(bytes[MAGIC..].as_ptr() == at, !shared);
                    bytes
                }
                Stamped::Parts(head, rest) => {
                    assert!(shared && large && rest.as_ptr() == at);
                    [head, rest].concat().into()
                }
            };
            let batch = Batch::parse(&got).unwrap();
            assert_eq!(batch.check_crc(), Ok(()));
            assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (77, 5));
            assert_eq!(got[MAGIC..], payload);
            if let Some(before) = holder {
                assert_eq!(Header::parse(&before).unwrap().base_offset, 0, "shared bytes changed");
            }
        }
    }
}

const MAGIC: usize = header::MAGIC_AT;

fn any_record() -> impl Strategy<Value = NewRecord> {
    let blob = || option::of(vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let header = (vec(any::<u8>(), 0..5), blob())
        .prop_map(|(key, value)| RecordHeader { key: key.into(), value });
    (0..1_i64 << 42, blob(), blob(), vec(header, 0..3))
        .prop_map(|(timestamp, key, value, headers)| NewRecord { timestamp, key, value, headers })
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #[test]
    fn any_records_come_back(compression in any_compression(), records in vec(any_record(), 1..20)) {
        check_comes_back(compression, &records);
    }

    #[test]
    fn any_cut_of_a_run_gives_the_batches_before_it(
        counts in vec(1..4_usize, 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let runs: Vec<Bytes> =
            counts.iter().map(|n| built(Compression::None, &vec![record(1, "k", "v"); *n])).collect();
        let whole: Bytes = runs.concat().into();
        let cut = cut.index(whole.len() + 1);
        let mut whole_before = 0;
        let mut end = 0;
        while whole_before < runs.len() && end + runs[whole_before].len() <= cut {
            end += runs[whole_before].len();
            whole_before += 1;
        }
        let got: Vec<_> = batches(whole.slice(..cut)).collect();
        prop_assert_eq!(got.iter().filter(|batch| batch.is_ok()).count(), whole_before);
        let ends_well = end == cut;
        let truncated = matches!(got.last(), Some(Err(BatchError::Truncated { .. })));
        prop_assert_eq!(!ends_well, truncated);
    }

    #[test]
    fn any_damage_to_any_batch_is_survived(
        compression in any_compression(),
        records in vec(any_record(), 1..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = built(compression, &records).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(bytes.into());
    }

    #[test]
    fn any_compressed_run_is_survived(code in 0..8_u8, run in vec(any::<u8>(), 0..200)) {
        let mut bytes = built(Compression::None, &[]).to_vec();
        bytes.truncate(HEADER_BYTES);
        bytes[11] = 49 + u8::try_from(run.len()).unwrap().min(200);
        bytes[22] = code;
        bytes[60] = 3;
        bytes.extend_from_slice(&run);
        survives(bytes.into());
    }
}
