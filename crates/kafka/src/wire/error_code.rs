//! Kafka's error codes: those that are used here have names, all others pass through as numbers.

use std::fmt;

use super::{DecodeError, Dialect, Field, Reader, Writer};

/// What went wrong, as the protocol numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub i16);

macro_rules! codes {
    ($( $(#[$meta:meta])* $constant:ident = $number:literal; )*) => {
        impl ErrorCode {
            $( $(#[$meta])* pub const $constant: Self = Self($number); )*

            /// The protocol's name of the code, if it is used here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $number => Some(stringify!($constant)), )*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Not expected; details are in the server's log.
    UNKNOWN_SERVER_ERROR = -1;
    /// No error.
    NONE = 0;
    /// The offset lies outside of what is stored.
    OFFSET_OUT_OF_RANGE = 1;
    /// A record batch that is damaged or malformed.
    CORRUPT_MESSAGE = 2;
    /// No such topic or partition.
    UNKNOWN_TOPIC_OR_PARTITION = 3;
    /// The partition has no leader at the moment.
    LEADER_NOT_AVAILABLE = 5;
    /// The request took too long.
    REQUEST_TIMED_OUT = 7;
    /// The batch is larger than the broker takes.
    MESSAGE_TOO_LARGE = 10;
    /// Nobody coordinates this group.
    COORDINATOR_NOT_AVAILABLE = 15;
    /// A topic name that is not allowed.
    INVALID_TOPIC_EXCEPTION = 17;
    /// An `acks` other than 0, 1 and -1.
    INVALID_REQUIRED_ACKS = 21;
    /// A version that is not served.
    UNSUPPORTED_VERSION = 35;
    /// The topic exists.
    TOPIC_ALREADY_EXISTS = 36;
    /// A number of partitions that is not possible.
    INVALID_PARTITIONS = 37;
    /// A number of replicas that is not possible.
    INVALID_REPLICATION_FACTOR = 38;
    /// A replica assignment that is not possible.
    INVALID_REPLICA_ASSIGNMENT = 39;
    /// A setting that is not possible.
    INVALID_CONFIG = 40;
    /// A request that makes no sense.
    INVALID_REQUEST = 42;
    /// Record batches older than version 2.
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43;
    /// A limit that the operator set.
    POLICY_VIOLATION = 44;
    /// The disk is full or failed; retry.
    KAFKA_STORAGE_ERROR = 56;
    /// Fetch sessions are not kept here.
    FETCH_SESSION_ID_NOT_FOUND = 70;
    /// The client's leader epoch is older than the leader's.
    FENCED_LEADER_EPOCH = 74;
    /// The client's leader epoch is newer than the leader's.
    UNKNOWN_LEADER_EPOCH = 75;
    /// A record that this server refuses.
    INVALID_RECORD = 87;
    /// No topic has this id.
    UNKNOWN_TOPIC_ID = 100;
    /// Controllers were asked for and this is a broker.
    MISMATCHED_ENDPOINT_TYPE = 114;
}

impl ErrorCode {
    /// Whether the code stands for success.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => out.write_str(name),
            None => write!(out, "error {}", self.0),
        }
    }
}

impl Field for ErrorCode {
    fn decode(input: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        i16::decode(input, dialect).map(Self)
    }
    fn encode(&self, out: &mut Writer, dialect: Dialect) {
        self.0.encode(out, dialect);
    }
}
