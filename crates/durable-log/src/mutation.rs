//! Steps that a build for tests can leave out, one at a time, to see that some test notices.
//!
//! Each [`Step`] stands at one place of the code: a sync, an order, a check. Without the cargo feature
//! `mutation` [`left_out`] is always false and costs nothing. With it, the environment variable
//! `DURABLE_LOG_LEAVE_OUT` names the step to leave out; `cargo xtask mutations` goes through them all.
//!
//! Not here: what a step is for; that stands where the step is.

use std::io;
use std::path::Path;

use host::{File, Host};

macro_rules! steps {
    ($($step:ident: $what:literal,)*) => {
        /// A step that keeps a promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Step { $(#[doc = $what] $step,)* }

        #[cfg(feature = "mutation")]
        const STEPS: &[(Step, &str)] = &[$((Step::$step, $what),)*];
    };
}

steps! {
    SyncNameOfLog: "sync of the directory that names the log",
    SyncFound: "sync of the names that an opening finds, before it goes by them",
    SyncNewSegment: "sync of a segment before it gets its name",
    SyncNameOfSegment: "sync of a new segment's name",
    NameLast: "a segment gets its name when it is whole",
    SyncBeforeRoll: "sync of a segment before the next one begins",
    SyncCommit: "sync of what is appended",
    SuspectAfterFailedSync: "a file whose sync failed is not believed",
    WriteRecoveredAgain: "what was recovered and not promised is written again",
    SyncRecovered: "sync of what was recovered",
    SyncTornCopy: "sync of the copy of a torn end",
    SyncNameOfTornCopy: "sync of that copy's name",
    SyncMark: "sync of the mark of a close",
    SyncNameOfMark: "sync of that mark's name",
    SyncLowWater: "sync of the mark of the log's beginning",
    SyncNameOfLowWater: "sync of that mark's name",
    LowWater: "the mark of the log's beginning, before many segments go",
    SyncTrim: "sync of the name that a trim removes",
    SyncTrimOfMany: "sync of the names that a trim of many removes, before their files are used again",
    SyncCut: "sync of the name that decides a cut of the log's end",
    SyncBeforeNamingCut: "sync of the names that a cut removes, before its segment gets its own",
    HoldTrimmedFile: "the file of a segment that loses its name while it may be read is open",
    CheckOpenedAgain: "a file that is opened again is the one that the segment had",
    DropSuspectFile: "a file whose sync failed is not used again",
    SyncTidy: "sync after leftovers were removed",
    CheckSegmentHeader: "checksum of a segment's header",
    CheckSegmentNumbers: "limits of the numbers in a segment's header",
    CheckSegmentName: "a segment's name and number are the same",
    CheckFrameHeader: "checksum of a frame's header",
    CheckPayload: "checksum of a frame's records",
    CheckPadding: "zeros after a frame's records",
    CheckRecordLengths: "the lengths of a frame's records add up",
    CheckNextOffset: "a frame's records are the next ones",
    CheckFrameLength: "a frame ends within its segment",
    CheckLowWater: "checksum of the mark of the log's beginning",
    CheckLowWaterFits: "that mark fits the first segment",
    CheckFirstMissing: "the segment that the mark names is there, or a later one",
    ReadOverStaleBytes: "bytes of a former life are no torn end",
    CheckMark: "checksum of the mark of a close",
    CheckMarkedSegment: "a mark counts while its segment is the last one",
    CheckMarkedSize: "a marked segment is as long as its mark says",
    CheckMissing: "no segment is missing in the middle",
    CheckJoint: "a segment does not begin before the one that it follows",
    CheckFits: "a segment has no more records than its bytes can hold",
    CheckSealedSize: "a sealed segment is as long as the next one says",
    CheckSealedEnd: "a sealed segment ends with the record before the next one",
    CheckSealed: "the frames of sealed segments are checked",
    CheckLandmark: "a landmark counts in the segment that it was taken in",
    CheckClaims: "damage below the highest claim is an error",
    CheckClaimsBehind: "claims behind the damage count",
    RaiseEpoch: "an unclean opening begins an epoch",
    CheckEpoch: "epochs and times do not go back",
    AskBeforeSync: "what records need is durable before a sync makes them so",
    AskBeforeRescue: "what records need is durable before they are rewritten after a failed sync",
    AskRecovered: "an opening keeps no record that needs what is not there",
}

/// Whether a step is to be left out.
#[cfg(not(feature = "mutation"))]
#[inline(always)]
pub(crate) const fn left_out(_step: Step) -> bool {
    false
}

/// Whether a step is to be left out.
#[cfg(feature = "mutation")]
pub(crate) fn left_out(step: Step) -> bool {
    static LEFT_OUT: std::sync::OnceLock<Option<Step>> = std::sync::OnceLock::new();
    let chosen = LEFT_OUT.get_or_init(|| {
        let name = std::env::var("DURABLE_LOG_LEAVE_OUT").ok()?;
        let named = STEPS.iter().find(|(step, _)| format!("{step:?}") == name);
        Some(named.expect("a step of this name").0)
    });
    *chosen == Some(step)
}

/// `sync_data`, unless it is to be left out.
pub(crate) fn sync_data(step: Step, file: &dyn File) -> io::Result<()> {
    if left_out(step) { Ok(()) } else { file.sync_data() }
}

/// `sync_dir`, unless it is to be left out.
pub(crate) fn sync_dir(step: Step, host: &Host, dir: &Path) -> io::Result<()> {
    if left_out(step) { Ok(()) } else { host.disk.sync_dir(dir) }
}

/// The steps, each with its name and what it is.
#[cfg(feature = "mutation")]
pub fn steps() -> Vec<(String, &'static str)> {
    STEPS.iter().map(|(step, what)| (format!("{step:?}"), *what)).collect()
}
