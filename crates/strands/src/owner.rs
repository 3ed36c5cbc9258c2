//! The owner of a store: one object that says whose store it is, so that two servers on one store never harm
//! each other.
//!
//! ```text
//! owner = magic "sl.owner" | version u32 | crc32c u32 | store [u8; 16] | epoch u64 | instance [u8; 16] | time i64
//! ```
//!
//! Integers are little-endian; the checksum covers all behind it. An opening takes the store once its epoch is durable,
//! with a put that fails when somebody else was there meanwhile. Before anything that could harm
//! another owner (a root, a sweep) it looks again; when the store is not its own any more, it is *fenced* and writes
//! nothing more to it. Blocks need no look: their names hold the epoch and are used once.
//!
//! A store that cannot be reached at the start is taken later, before the first root.

use std::fmt;

use block_store::{ObjectGetError, ObjectPutError, PutIf, Version};
use bytes::Bytes;

use crate::frames::Fields;
use crate::pack::PackError;
use crate::shared::{Shared, lock};
use crate::types::StoreId;

/// What the store calls it.
pub(crate) const OWNER: &str = "owner";

const MAGIC: &[u8; 8] = b"sl.owner";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
/// How often the store is taken again when somebody else was there meanwhile.
const TRIES: u32 = 3;

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) store: StoreId,
    pub(crate) epoch: u64,
    /// Random for each opening.
    pub(crate) instance: [u8; 16],
    pub(crate) time_ms: i64,
}

/// Why a store may not be written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// It belongs to another data directory.
    #[error(
        "the store belongs to the data directory with id {owner}, not to this one ({own}); give each its own \
         prefix, or, when that one is gone for good, start once with --take-over"
    )]
    Another {
        /// Whose it is.
        owner: StoreId,
        /// Who we are.
        own: StoreId,
    },
    /// A copy of this data directory was opened on it, later than this one.
    #[error(
        "a copy of this data directory has opened the store since (opening {epoch}, this one is {own}); stop \
         one of the two, and start this one with --take-over if it is to go on"
    )]
    Copy {
        /// The opening of the copy.
        epoch: u64,
        /// This opening.
        own: u64,
    },
    /// The object that says whose it is cannot be read.
    #[error(
        "whose store it is cannot be read ({why}); start once with --take-over if it is this one's"
    )]
    Damaged {
        /// What is wrong with it.
        why: String,
    },
}

/// What this opening knows about the owner.
#[derive(Debug)]
pub(crate) struct Ownership {
    instance: [u8; 16],
    /// It was us at the last look.
    is_held: bool,
    fenced: Option<OwnerError>,
}

/// Why it is not known whether the store is ours.
#[derive(Debug)]
pub(crate) enum TakeError {
    /// It is not.
    Owner(OwnerError),
    /// The store does not say.
    Store(String),
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(error) => error.fmt(f),
            Self::Store(why) => why.fmt(f),
        }
    }
}

impl From<TakeError> for PackError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Owner(error) => Self::Owner(error),
            TakeError::Store(why) => Self::Store(why),
        }
    }
}

impl Ownership {
    pub(crate) fn new(random: &dyn host::Random) -> Self {
        let (low, high) = (u128::from(random.next_u64()), u128::from(random.next_u64()));
        let instance = (low | high << 64).to_le_bytes();
        Self { instance, is_held: false, fenced: None }
    }
}

impl Owner {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.store.0);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.instance);
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
        out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = Fields { rest: bytes };
        if fields.array() != Some(*MAGIC) {
            return Err("the magic is missing at byte 0".to_owned());
        }
        match fields.u32() {
            Some(VERSION) => {}
            found => {
                return Err(format!("it has unknown version {} at byte 8", found.unwrap_or(0)));
            }
        }
        if fields.u32() != Some(crc32c::crc32c(fields.rest)) {
            return Err("it does not match its checksum at byte 12".to_owned());
        }
        let mut body = || {
            let store = StoreId(fields.array()?);
            let epoch = fields.u64()?;
            Some(Self { store, epoch, instance: fields.array()?, time_ms: fields.i64()? })
        };
        let owner = body().filter(|_| fields.rest.is_empty());
        owner.ok_or_else(|| "it has the wrong length".to_owned())
    }
}

impl Shared {
    /// Takes the store for this opening, whose epoch is durable. A store that cannot be reached is taken
    /// later.
    pub(crate) fn take_store(&self) -> Result<(), OwnerError> {
        match self.take(self.options.take_over) {
            Ok(()) => Ok(()),
            Err(TakeError::Owner(error)) => Err(error),
            Err(TakeError::Store(why)) => {
                tracing::warn!(why, "the store cannot be taken yet; that is tried again");
                Ok(())
            }
        }
    }

    /// Looks whether the store is still ours; takes it if that was not possible before. One that is not is
    /// not written to any more.
    pub(crate) fn check_owner(&self) -> Result<(), TakeError> {
        self.not_fenced().map_err(TakeError::Owner)?;
        let checked = if lock(&self.ownership).is_held {
            self.look().and_then(|(owner, _)| match owner {
                Some(Ok(owner)) => self.must_be_us(&owner).map_err(TakeError::Owner),
                // Somebody took it away, which nobody has a reason to; it is taken again.
                None => self.take(false),
                Some(Err(error)) => Err(TakeError::Owner(error)),
            })
        } else {
            self.take(false)
        };
        if let Err(TakeError::Owner(error)) = &checked {
            tracing::error!(%error, "the store is not written to any more");
            lock(&self.ownership).fenced = Some(error.clone());
        }
        checked
    }

    /// Whether the store was ours at the last look.
    pub(crate) fn not_fenced(&self) -> Result<(), OwnerError> {
        lock(&self.ownership).fenced.clone().map_or(Ok(()), Err)
    }

    fn take(&self, whatever_it_says: bool) -> Result<(), TakeError> {
        for _ in 0..TRIES {
            let (owner, version) = self.look()?;
            match owner {
                Some(Ok(owner)) if !whatever_it_says && !self.is_us(&owner) => {
                    self.must_be_older(&owner).map_err(TakeError::Owner)?;
                }
                Some(Err(error)) if !whatever_it_says => return Err(TakeError::Owner(error)),
                Some(_) | None => {}
            }
            let own = Owner {
                store: self.options.store_id,
                epoch: self.opening.epoch,
                instance: lock(&self.ownership).instance,
                time_ms: self.host.clock.wall().millis(),
            };
            let condition = version.map_or(PutIf::Absent, PutIf::Is);
            match self.blocks.objects().put(OWNER, Bytes::from(own.encode()), condition) {
                Ok(_) => {
                    lock(&self.ownership).is_held = true;
                    return Ok(());
                }
                Err(ObjectPutError::Conflict { .. }) => {}
                Err(error) => return Err(TakeError::Store(error.to_string())),
            }
        }
        Err(TakeError::Store("others take the store at the same time".to_owned()))
    }

    /// What the store says, and the version of the object to replace.
    #[expect(clippy::type_complexity, reason = "of no use elsewhere")]
    fn look(&self) -> Result<(Option<Result<Owner, OwnerError>>, Option<Version>), TakeError> {
        match self.blocks.objects().get(OWNER) {
            Ok(None) => Ok((None, None)),
            Ok(Some((bytes, version))) => {
                let owner = Owner::decode(&bytes).map_err(|why| OwnerError::Damaged { why });
                Ok((Some(owner), Some(version)))
            }
            Err(
                error @ (ObjectGetError::Damaged { .. } | ObjectGetError::UnknownVersion { .. }),
            ) => Err(TakeError::Owner(OwnerError::Damaged { why: error.to_string() })),
            Err(error) => Err(TakeError::Store(error.to_string())),
        }
    }

    fn is_us(&self, owner: &Owner) -> bool {
        owner.store == self.options.store_id && owner.instance == lock(&self.ownership).instance
    }

    fn must_be_us(&self, owner: &Owner) -> Result<(), OwnerError> {
        if self.is_us(owner) { Ok(()) } else { Err(self.not_ours(owner)) }
    }

    fn must_be_older(&self, owner: &Owner) -> Result<(), OwnerError> {
        let is_older = owner.store == self.options.store_id && owner.epoch < self.opening.epoch;
        if is_older { Ok(()) } else { Err(self.not_ours(owner)) }
    }

    fn not_ours(&self, owner: &Owner) -> OwnerError {
        let own = self.options.store_id;
        if owner.store == own {
            OwnerError::Copy { epoch: owner.epoch, own: self.opening.epoch }
        } else {
            OwnerError::Another { owner: owner.store, own }
        }
    }
}
