//! How each kind of field is encoded, in plain and in flexible versions.
//!
//! ```text
//! kind            plain                     flexible
//! integers        big-endian                the same
//! bool            one byte, 0 or 1          the same
//! string          length i16 | UTF-8        uvarint length+1 | UTF-8
//! bytes, records  length i32 | bytes        uvarint length+1 | bytes
//! array           count i32 | elements      uvarint count+1 | elements
//! uuid            16 bytes                  the same
//! null            length or count -1        uvarint 0
//! ```

use bytes::Bytes;

use super::{DecodeError, Dialect, Reader, Writer};

/// A value that has an encoding in every [`Dialect`].
pub trait Field: Sized {
    /// Reads one value.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`]; the reader is then somewhere inside the value.
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError>;

    /// Writes the value. A length that does not fit is reported by [`Writer::finish`].
    fn encode(&self, out: &mut Writer, dialect: Dialect);
}

/// Sixteen bytes that name a topic; all zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The id that stands for no id.
    pub const ZERO: Self = Self([0; 16]);
}

macro_rules! integer_fields {
    ($($integer:ty),*) => {$(
        impl Field for $integer {
            fn decode(input: &mut Reader<'_>, _: Dialect) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(input.array()?))
            }
            fn encode(&self, out: &mut Writer, _: Dialect) {
                out.raw(&self.to_be_bytes());
            }
        }
    )*};
}
integer_fields!(i8, i16, i32, i64);

impl Field for bool {
    fn decode(input: &mut Reader<'_>, _: Dialect) -> Result<Self, DecodeError> {
        Ok(input.array::<1>()? != [0])
    }
    fn encode(&self, out: &mut Writer, _: Dialect) {
        out.raw(&[u8::from(*self)]);
    }
}

impl Field for Uuid {
    fn decode(input: &mut Reader<'_>, _: Dialect) -> Result<Self, DecodeError> {
        Ok(Self(input.array()?))
    }
    fn encode(&self, out: &mut Writer, _: Dialect) {
        out.raw(&self.0);
    }
}

impl Field for Option<String> {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        input.short_length(dialect)?.map(|bytes| input.string(bytes)).transpose()
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        out.short_length(self.as_ref().map(String::len), dialect);
        out.raw(self.as_deref().unwrap_or_default().as_bytes());
    }
}

impl Field for String {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        let at = input.position();
        Option::<Self>::decode(input, dialect)?.ok_or(DecodeError::Null { at })
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        out.short_length(Some(self.len()), dialect);
        out.raw(self.as_bytes());
    }
}

/// Record batches: slices of the frame when decoded, spliced in when encoded.
impl Field for Option<Bytes> {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        input.long_length(dialect)?.map(|bytes| input.slice(bytes)).transpose()
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        out.long_length(self.as_ref().map(Bytes::len), dialect);
        if let Some(bytes) = self {
            out.payload(bytes);
        }
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        let Some(count) = input.long_length(dialect)? else {
            return Ok(None);
        };
        let mut elements = input.vector(count)?;
        for _ in 0..count {
            elements.push(T::decode(input, dialect)?);
        }
        Ok(Some(elements))
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        out.long_length(self.as_ref().map(Vec::len), dialect);
        for element in self.iter().flatten() {
            element.encode(out, dialect);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        let at = input.position();
        Option::<Self>::decode(input, dialect)?.ok_or(DecodeError::Null { at })
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        out.long_length(Some(self.len()), dialect);
        for element in self {
            element.encode(out, dialect);
        }
    }
}
