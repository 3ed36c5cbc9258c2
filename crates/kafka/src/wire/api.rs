//! Which APIs are served, and in which versions.
//!
//! An API is advertised only if every advertised version is decoded, with one exception that Kafka
//! makes too: Produce is advertised from version 0, because librdkafka before 2.11.1 otherwise turns
//! compression off without a word; versions 0 to 2 are refused when used.

use super::Message;
use super::messages::{
    api_versions, configs, coordinator, epochs, fetch, list_offsets, metadata, produce, topics,
};

/// The oldest and the newest version of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    fn of<M: Message>() -> Self {
        Self { min: *M::VERSIONS.start(), max: *M::VERSIONS.end() }
    }

    /// Whether `version` lies in the range.
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

macro_rules! apis {
    ($( $(#[$meta:meta])* $name:ident = $number:literal, $request:ty; )*) => {
        /// An API that is served here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ApiKey { $( $(#[$meta])* $name, )* }

        impl ApiKey {
            /// Every API, in the order of their numbers.
            pub const ALL: [Self; [$($number),*].len()] = [$( Self::$name, )*];

            /// The API of a number, if it is served here.
            pub fn from_number(number: i16) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// The API's number in the protocol.
            pub fn number(self) -> i16 {
                match self { $( Self::$name => $number, )* }
            }

            /// The API's name in the protocol.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// Versions that are decoded and answered.
            pub fn decoded(self) -> VersionRange {
                match self { $( Self::$name => VersionRange::of::<$request>(), )* }
            }
        }
    };
}

apis! {
    /// Stores record batches.
    Produce = 0, produce::ProduceRequest;
    /// Reads record batches, waiting for new ones.
    Fetch = 1, fetch::FetchRequest;
    /// Finds offsets by time.
    ListOffsets = 2, list_offsets::ListOffsetsRequest;
    /// Names the broker and describes topics, creating them if asked.
    Metadata = 3, metadata::MetadataRequest;
    /// Finds who coordinates a group.
    FindCoordinator = 10, coordinator::FindCoordinatorRequest;
    /// Says what is served.
    ApiVersions = 18, api_versions::ApiVersionsRequest;
    /// Creates topics.
    CreateTopics = 19, topics::CreateTopicsRequest;
    /// Deletes topics.
    DeleteTopics = 20, topics::DeleteTopicsRequest;
    /// Says where a leader epoch ended.
    OffsetForLeaderEpoch = 23, epochs::OffsetForLeaderEpochRequest;
    /// Lists the settings of a topic or the broker.
    DescribeConfigs = 32, configs::DescribeConfigsRequest;
    /// Names the brokers of the cluster.
    DescribeCluster = 60, metadata::DescribeClusterRequest;
}

impl ApiKey {
    /// Versions that clients are told of.
    pub fn advertised(self) -> VersionRange {
        match self {
            Self::Produce => VersionRange { min: 0, ..self.decoded() },
            _ => self.decoded(),
        }
    }

    /// The place of this API in [`ApiKey::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}
