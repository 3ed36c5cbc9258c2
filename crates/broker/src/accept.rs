//! What a producer may send: the one place where a batch is checked before it is stored.

use bytes::Bytes;

use crate::batch::{Batch, BatchError, Compression, Header};
use crate::error::AppendFault;

/// Checks that `bytes` is exactly one record batch that may be stored as it is.
///
/// Cheap checks come first; the checksum is computed here and nowhere else on the way in.
pub(crate) fn check(bytes: &Bytes, bytes_max: u64) -> Result<Header, AppendFault> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > bytes_max {
        return Err(AppendFault::TooLarge { size, limit: bytes_max });
    }
    let batch = Batch::parse(bytes).map_err(|error| match error {
        BatchError::Magic(magic) => AppendFault::UnsupportedFormat(magic),
        other => AppendFault::Corrupt(other),
    })?;
    let header = *batch.header();
    if header.bytes != bytes.len() {
        return Err(AppendFault::Invalid("bytes follow the batch"));
    }
    batch.check_crc().map_err(AppendFault::Corrupt)?;
    match refusal(&header) {
        Some(why) => Err(AppendFault::Invalid(why)),
        None => Ok(header),
    }
}

/// Why a well-formed batch is not stored, if it is not.
fn refusal(header: &Header) -> Option<&'static str> {
    if header.compression().is_err() {
        return Some("its codec does not exist");
    }
    if header.is_control() || header.is_transactional() {
        return Some("transactions are not supported");
    }
    if header.is_log_append_time() {
        return Some("only the broker may set the time of appending");
    }
    if header.record_count < 1 {
        return Some("it has no records");
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Some("its last offset does not match its record count");
    }
    // With a codec only reading the records could tell.
    let records = usize::try_from(header.record_count).unwrap_or(usize::MAX);
    let is_plain = matches!(header.compression(), Ok(Compression::None));
    if is_plain && records.saturating_mul(RECORD_BYTES_MIN) > header.bytes {
        return Some("it is too short for its record count");
    }
    None
}

/// A record without key, value and headers: seven fields of one byte each.
const RECORD_BYTES_MIN: usize = 7;

#[cfg(test)]
mod tests {
    //! Goal: each thing that a batch must not be is refused by its own name.

    use super::*;
    use crate::batch::{Builder, NewRecord};

    const LIMIT: u64 = 1000;

    /// A good batch of two records after `change`, with a checksum that is right again if asked for.
    fn batch(fix_crc: bool, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut builder = Builder::new(Compression::None);
        for value in ["v", "w"] {
            let value = Some(Bytes::from(value));
            builder.push(&NewRecord { timestamp: 1, value, ..NewRecord::default() }).unwrap();
        }
        let mut bytes = builder.build().unwrap().to_vec();
        change(&mut bytes);
        if fix_crc {
            let crc = crate::batch::crc_of(&bytes);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        bytes.into()
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut Vec<u8>), why: &'static str) {
        assert_eq!(check(&batch(true, change), LIMIT), Err(AppendFault::Invalid(why)));
    }

    #[test]
    fn a_good_batch_is_taken() {
        assert_eq!(check(&batch(false, |_| {}), LIMIT).map(|header| header.record_count), Ok(2));
    }

    #[test]
    fn damage_is_told_from_what_is_not_allowed() {
        let flipped = batch(false, |bytes| bytes[62] ^= 1);
        let got = check(&flipped, LIMIT);
        assert!(matches!(got, Err(AppendFault::Corrupt(BatchError::Checksum { .. }))), "{got:?}");
        let cut = batch(false, |bytes| bytes.truncate(65));
        let got = check(&cut, LIMIT);
        assert!(matches!(got, Err(AppendFault::Corrupt(BatchError::Truncated { .. }))), "{got:?}");
        let old = batch(true, |bytes| bytes[16] = 1);
        assert_eq!(check(&old, LIMIT), Err(AppendFault::UnsupportedFormat(1)));
        check_refused(|bytes| bytes[22] = 7, "its codec does not exist");
        check_refused(|bytes| bytes[22] = 16, "transactions are not supported");
        check_refused(|bytes| bytes[22] = 32, "transactions are not supported");
        check_refused(|bytes| bytes[22] = 8, "only the broker may set the time of appending");
        check_refused(|bytes| bytes[60] = 0, "it has no records");
        check_refused(|bytes| bytes[60] = 3, "its last offset does not match its record count");
        check_refused(
            |bytes| {
                bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
                bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
            },
            "it is too short for its record count",
        );
        check_refused(|bytes| bytes.extend_from_within(..), "bytes follow the batch");
    }

    #[test]
    fn a_batch_over_the_limit_is_refused_by_its_size() {
        let bytes = batch(false, |_| {});
        let size = bytes.len() as u64;
        assert!(check(&bytes, size).is_ok());
        let limit = size - 1;
        assert_eq!(check(&bytes, limit), Err(AppendFault::TooLarge { size, limit }));
    }
}
