//! The macro that turns a table of fields into a structure with an encoder and a decoder.
//!
//! ```text
//! structures! {
//!     /// What it is.
//!     pub struct Name {
//!         field: i32 => 0..;             present in all versions, 0 where absent
//!         other: i64 = -1 => 5..;        present from version 5, -1 where absent
//!     }
//! }
//! message!(NameRequest: Produce, versions 3..=11, flexible from 9);
//! ```
//!
//! Fields are read and written in the order of the table. Tagged fields are skipped when read and
//! never written: all of them are optional by the protocol's rule.

/// Defines structures by their fields, the versions that have them, and the value they have elsewhere.
macro_rules! structures {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $field:ident : $kind:ty $(= $absent:expr)? => $versions:expr; )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $( pub $field: $kind, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: structures!(@absent $($absent)?), )* }
            }
        }

        impl $crate::wire::Field for $name {
            fn decode(
                input: &mut $crate::wire::Reader<'_>,
                dialect: $crate::wire::Dialect,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let value = Self {
                    $( $field: if ($versions).contains(&dialect.version) {
                        <$kind as $crate::wire::Field>::decode(input, dialect)?
                    } else {
                        structures!(@absent $($absent)?)
                    }, )*
                };
                input.skip_tags(dialect)?;
                Ok(value)
            }

            fn encode(&self, out: &mut $crate::wire::Writer, dialect: $crate::wire::Dialect) {
                $( if ($versions).contains(&dialect.version) {
                    $crate::wire::Field::encode(&self.$field, out, dialect);
                } )*
                out.no_tags(dialect);
            }
        }

        #[cfg(test)]
        impl $crate::wire::tests::Sample for $name {
            fn sample(
                source: &mut $crate::wire::tests::Source,
                dialect: $crate::wire::Dialect,
            ) -> Self {
                Self {
                    $( $field: if ($versions).contains(&dialect.version) {
                        $crate::wire::tests::Sample::sample(source, dialect)
                    } else {
                        structures!(@absent $($absent)?)
                    }, )*
                }
            }
        }
    )*};
    (@absent) => { Default::default() };
    (@absent $absent:expr) => { $absent };
}

/// Makes a structure the request or the response of an API.
macro_rules! message {
    ($name:ident : $api:ident, versions $versions:expr, flexible from $flexible:expr) => {
        impl $crate::wire::Message for $name {
            const API: $crate::wire::ApiKey = $crate::wire::ApiKey::$api;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE_FROM: i16 = $flexible;
        }
    };
    (
        $request:ident => $response:ident : $api:ident,
        versions $versions:expr, flexible from $flexible:expr
    ) => {
        message!($request: $api, versions $versions, flexible from $flexible);
        message!($response: $api, versions $versions, flexible from $flexible);
        impl $crate::wire::Request for $request {
            type Response = $response;
        }
    };
}

pub(crate) use {message, structures};
