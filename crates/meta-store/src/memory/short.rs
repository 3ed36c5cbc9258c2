//! Bytes that lie in the place itself when they are few, so that a walk over many rows stays in the map's own memory.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// Up to `N` bytes here, more of them elsewhere.
#[derive(Clone, Debug)]
pub(super) enum Short<const N: usize> {
    Here { len: u8, bytes: [u8; N] },
    There(Bytes),
}

impl<const N: usize> Short<N> {
    pub(super) fn new(bytes: &Bytes) -> Self {
        let mut here = [0; N];
        match (here.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(bytes);
                Self::Here { len, bytes: here }
            }
            _ => Self::There(bytes.clone()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Here { len, bytes } => &bytes[..usize::from(*len)],
            Self::There(bytes) => bytes,
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Here { .. } => Bytes::copy_from_slice(self.as_slice()),
            Self::There(bytes) => bytes.clone(),
        }
    }
}

impl<const N: usize> Borrow<[u8]> for Short<N> {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: bytes are the same and in the same order wherever they lie.

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_stay_as_they_are_and_in_order(
            one in prop::collection::vec(0..3_u8, 0..12),
            other in prop::collection::vec(0..3_u8, 0..12),
        ) {
            let (one, other) = (Bytes::from(one), Bytes::from(other));
            let (short, next) = (Short::<6>::new(&one), Short::<6>::new(&other));
            prop_assert_eq!(short.to_bytes(), &one);
            prop_assert_eq!(matches!(short, Short::There(_)), one.len() > 6);
            prop_assert_eq!(short.cmp(&next), one.cmp(&other));
            prop_assert_eq!(short == next, one == other);
        }
    }
}
