//! CRC-32C, quick for the short pieces that frames are made of.
//!
//! A record of some hundred bytes is too short for what checksum crates do best; there the time goes
//! into waiting for one instruction after the other. So a piece is cut into three runs of as many
//! words each, which the processor sums up side by side. Summing up a run's zero bytes is the same
//! as multiplying by a power of x modulo the polynomial, so two multiplications and one more step
//! put the three sums together (Gopal and others, "Fast CRC computation for iSCSI polynomial using
//! CRC32 instruction", Intel 2011).
//!
//! On other processors the crate `crc32c` does it, which is also what the tests compare with.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that not every processor has")
)]

/// The checksum of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    append(0, bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
#[inline]
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has both features.
        return unsafe { x86::append(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// The checksum of `prefix` and `bytes`, as [`append`].
#[inline]
pub(crate) fn append_prefixed(crc: u32, prefix: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has both features.
        return unsafe { x86::append_prefixed(crc, prefix, bytes) };
    }
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &prefix.to_le_bytes()), bytes)
}

/// The checksum of words as they lie in a file.
#[inline]
pub(crate) fn of_words(words: &[u64; 6]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has both features.
        return unsafe { x86::of_words(words) };
    }
    words.iter().fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128,
        _mm_cvtsi128_si64,
    };

    /// Words in a run at most: so many that putting three together costs little beside them.
    const RUN_WORDS: usize = 42;
    /// Words in a run at least: below that three runs are not quicker than one.
    const RUN_WORDS_MIN: usize = 4;
    /// The polynomial, lowest power in the highest bit.
    const POLYNOMIAL: u32 = 0x82F6_3B78;

    /// At `n - 1`: what multiplies a sum so that, with one more step, it is moved on by `n` words.
    ///
    /// The step multiplies by x^32, and a product of two numbers with the lowest power in the
    /// highest bit is one power too high: so it is x^(64 n - 33) modulo the polynomial.
    const MOVE_ON: [u32; 2 * RUN_WORDS] = {
        let mut table = [0; 2 * RUN_WORDS];
        // x^31.
        let mut power: u32 = 1;
        let mut n = 0;
        while n < table.len() {
            table[n] = power;
            let mut bit = 0;
            while bit < 64 {
                power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
                bit += 1;
            }
            n += 1;
        }
        table
    };

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
        !go_on(!crc, bytes)
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn append_prefixed(crc: u32, prefix: u32, bytes: &[u8]) -> u32 {
        !go_on(_mm_crc32_u32(!crc, prefix), bytes)
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn of_words(words: &[u64; 6]) -> u32 {
        let crc = words.iter().fold(u64::from(u32::MAX), |crc, word| _mm_crc32_u64(crc, *word));
        !lower(crc)
    }

    /// What the instruction gives; its upper half is zero.
    #[inline]
    fn lower(crc: u64) -> u32 {
        (crc & 0xFFFF_FFFF) as u32
    }

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn go_on(crc: u32, bytes: &[u8]) -> u32 {
        let (mut words, rest) = bytes.as_chunks::<8>();
        let mut crc = u64::from(crc);
        while words.len() >= 3 * RUN_WORDS_MIN {
            let run = (words.len() / 3).min(RUN_WORDS);
            let (now, later) = words.split_at(3 * run);
            crc = three_runs(crc, now, run);
            words = later;
        }
        for word in words {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        rest.iter().fold(lower(crc), |crc, byte| _mm_crc32_u8(crc, *byte))
    }

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn three_runs(crc: u64, words: &[[u8; 8]], run: usize) -> u64 {
        let (first, rest) = words.split_at(run);
        let (second, third) = rest.split_at(run);
        let (mut a, mut b, mut c) = (crc, 0, 0);
        let mut last = 0;
        for ((first, second), third) in first.iter().zip(second).zip(third) {
            a = _mm_crc32_u64(a, u64::from_le_bytes(*first));
            b = _mm_crc32_u64(b, u64::from_le_bytes(*second));
            // The last word waits for the other two sums.
            c = _mm_crc32_u64(c, last);
            last = u64::from_le_bytes(*third);
        }
        let moved = moved_on(a, 2 * run) ^ moved_on(b, run);
        _mm_crc32_u64(c, last ^ moved)
    }

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn moved_on(crc: u64, words: usize) -> u64 {
        let by = i64::from(MOVE_ON[words - 1]);
        let product =
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc.cast_signed()), _mm_cvtsi64_si128(by));
        _mm_cvtsi128_si64(product).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the same checksums as the crate `crc32c` gives, for all lengths, cuts and alignments.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn every_length_has_the_checksum_of_the_crate() {
        let bytes: Vec<u8> = (0..3000_u32).map(|n| ((n * n) >> 3).to_le_bytes()[0]).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc32c(&bytes[..len]), crc32c::crc32c(&bytes[..len]), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_have_the_checksum_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            start in 0..8_usize,
            cut: prop::sample::Index,
        ) {
            let bytes = &bytes[start.min(bytes.len())..];
            let (one, two) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(append(crc32c(one), two), crc32c::crc32c(bytes));
        }

        #[test]
        fn a_prefix_and_words_have_the_checksum_of_their_bytes(
            prefix: u32, words: [u64; 6], bytes in proptest::collection::vec(any::<u8>(), 0..500), crc: u32,
        ) {
            let prefixed = [&prefix.to_le_bytes(), &bytes[..]].concat();
            prop_assert_eq!(append_prefixed(crc, prefix, &bytes), crc32c::crc32c_append(crc, &prefixed));
            let flat = words.map(u64::to_le_bytes).concat();
            prop_assert_eq!(of_words(&words), crc32c::crc32c(&flat));
        }
    }
}
