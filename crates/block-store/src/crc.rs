//! CRC-32C as fast as the processor can: with carry-less multiplication of wide vectors where it has that.
//!
//! The crate `crc32c`, which other crates use for short records and which the tests compare with, sums by the
//! processor's CRC instruction and reaches less than half of it on chunks of 64 KiB.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// The checksum of `parts`, one behind the other.
pub(crate) fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    narrow(digest.finalize())
}

/// The crate gives every checksum as 64 bits.
fn narrow(crc: u64) -> u32 {
    u32::try_from(crc).expect("a checksum of 32 bits")
}

#[cfg(test)]
mod tests {
    //! Goal: the checksums are those of every block that was ever written. Method: another implementation.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn two_implementations_agree_however_the_bytes_are_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..70_000), cut: prop::sample::Index, skip in 0..64_usize,
        ) {
            let bytes = &bytes[skip.min(bytes.len())..];
            let (head, rest) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc32c(bytes), ::crc32c::crc32c(bytes));
            prop_assert_eq!(crc32c_of(&[head, rest]), ::crc32c::crc32c(bytes));
        }
    }
}
