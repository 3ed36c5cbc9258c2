//! Names of blocks: minted once, never reused, the same in every store.
//!
//! ```text
//! domain u32 | epoch u64 | counter u64        20 bytes, big-endian, so that bytes, text and numbers sort alike
//! ```

use std::fmt;
use std::str::FromStr;

/// The name of a block: which domain made it, in which opening, and as the how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName {
    /// Domain that the block belongs to.
    pub domain: u32,
    /// Opening of the domain, counted from its creation, in which the name was minted.
    pub epoch: u64,
    /// Number within that opening.
    pub counter: u64,
}

impl BlockName {
    /// Bytes in the fixed form.
    pub const BYTES: usize = 20;

    /// The fixed form; sorts as the name does.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.domain.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[12..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// The name in the fixed form; every 20 bytes are one.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [d0, d1, d2, d3, e0, e1, e2, e3, e4, e5, e6, e7, counter @ ..] = *bytes;
        Self {
            domain: u32::from_be_bytes([d0, d1, d2, d3]),
            epoch: u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]),
            counter: u64::from_be_bytes(counter),
        }
    }
}

/// Hexadecimal, `dddddddd-eeeeeeeeeeeeeeee-cccccccccccccccc`: always 42 characters.
impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}-{:016x}", self.domain, self.epoch, self.counter)
    }
}

/// The text is not the name of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block's name is three hexadecimal numbers of 8, 16 and 16 digits with hyphens between")]
pub struct ParseNameError;

/// Accepts exactly what [`BlockName`] displays, so that a block has one file name.
impl FromStr for BlockName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let text: &[u8; TEXT_BYTES] = text.as_bytes().try_into().map_err(|_| ParseNameError)?;
        if text[DOMAIN_END] != b'-' || text[EPOCH_END] != b'-' {
            return Err(ParseNameError);
        }
        let domain = number(&text[..DOMAIN_END])?;
        Ok(Self {
            domain: u32::try_from(domain).map_err(|_| ParseNameError)?,
            epoch: number(&text[DOMAIN_END + 1..EPOCH_END])?,
            counter: number(&text[EPOCH_END + 1..])?,
        })
    }
}

/// Characters of a name, and where its hyphens stand.
const TEXT_BYTES: usize = 42;
const DOMAIN_END: usize = 8;
const EPOCH_END: usize = 25;

/// A number of at most 16 hexadecimal digits, the letters small.
fn number(digits: &[u8]) -> Result<u64, ParseNameError> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(ParseNameError),
        };
        Ok((number << 4) | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a name has one text and one byte form, both give it back, and all three sort alike.

    use proptest::prelude::*;

    use super::*;

    fn any_name() -> impl Strategy<Value = BlockName> {
        any::<(u32, u64, u64)>().prop_map(|(domain, epoch, counter)| BlockName {
            domain,
            epoch,
            counter,
        })
    }

    proptest! {
        #[test]
        fn text_and_bytes_give_the_name_back_and_sort_alike(a in any_name(), b in any_name()) {
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(BlockName::from_bytes(&a.to_bytes()), a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn no_other_text_is_a_name(text in "[0-9a-fA-F+]{0,9}-[0-9a-f]{0,17}-[0-9a-f-]{0,17}") {
            if let Ok(name) = text.parse::<BlockName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
