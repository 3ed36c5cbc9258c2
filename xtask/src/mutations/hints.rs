//! Which test notices which missing step, so that it is asked first.
//!
//! A step without a hint, or whose hint is wrong, is looked for in all stages, which takes minutes:
//! `cargo xtask mutations NAME` says what noticed it.

/// A test of the log, and the steps whose absence makes it fail.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) test: &'static str,
    pub(super) steps: &'static [&'static str],
}

const fn notices(test: &'static str, steps: &'static [&'static str]) -> Hint {
    Hint { test, steps }
}

pub(super) const HINTS: &[Hint] = &[
    notices(
        "basics::the_epoch_rises_with_every_opening_that_no_close_went_before",
        &["RaiseEpoch"],
    ),
    notices("crashes::a_kill_anywhere_and_a_power_cut_in_the_next_opening", &["SyncFound"]),
    notices(
        "crashes::an_orderly_close_is_one_after_a_power_cut_too",
        &["SyncMark", "SyncNameOfMark"],
    ),
    notices("crashes::what_opening_removed_does_not_come_back", &["SyncTidy"]),
    notices("landmarks::a_landmark_of_another_log_changes_nothing", &["CheckLandmark"]),
    notices("damage::a_damaged_mark_of_a_close_only_costs_work", &["CheckMark"]),
    notices("damage::a_log_shorter_than_its_mark_of_a_close_is_an_error", &["CheckMarkedSize"]),
    notices("damage::a_missing_segment_in_the_middle_is_an_error", &["CheckMissing"]),
    notices("damage::an_old_mark_of_a_close_that_came_back_says_nothing", &["CheckMarkedSegment"]),
    notices("damage::an_overwritten_range_never_yields_other_records", &["CheckSealed"]),
    notices(
        "damage::damage_below_a_promise_is_an_error_that_names_the_place",
        &["CheckClaims", "CheckClaimsBehind"],
    ),
    notices(
        "damage::every_flipped_bit_is_an_error_or_leaves_at_least_what_was_promised",
        &["CheckSegmentHeader", "CheckFrameHeader", "CheckPayload", "CheckPadding"],
    ),
    notices("damage::exchanged_segments_are_an_error", &["CheckSegmentName"]),
    notices(
        "exhaustive::every_power_cut_of_small_workloads_in_large_segments",
        &["SyncNewSegment", "NameLast", "SyncBeforeRoll", "SyncCommit"],
    ),
    notices(
        "exhaustive::every_power_cut_of_small_workloads_in_the_file_of_a_trimmed_segment",
        &["SyncTornCopy", "SyncNameOfTornCopy"],
    ),
    notices(
        "failures::a_file_whose_sync_failed_is_not_used_for_another_segment",
        &["DropSuspectFile"],
    ),
    notices(
        "failures::after_a_failed_sync_the_rest_is_written_again_and_nothing_is_lost",
        &["SuspectAfterFailedSync"],
    ),
    notices(
        "failures::what_a_failed_sync_left_in_the_page_cache_is_made_true_by_the_next_opening",
        &["WriteRecoveredAgain", "SyncRecovered"],
    ),
    notices(
        "forged::a_frame_that_goes_on_behind_the_end_of_its_segment_is_refused",
        &["CheckFrameLength"],
    ),
    notices(
        "forged::a_log_whose_name_another_process_did_not_sync_gets_a_durable_one",
        &["SyncNameOfLog"],
    ),
    notices(
        "forged::a_mark_of_the_beginning_that_its_segment_does_not_fit_is_refused",
        &["CheckLowWaterFits"],
    ),
    notices(
        "forged::a_sealed_segment_that_is_cut_is_noticed_after_an_orderly_close_too",
        &["CheckSealedSize"],
    ),
    notices(
        "forged::a_segment_that_begins_before_the_one_that_it_follows_is_refused",
        &["CheckJoint"],
    ),
    notices(
        "forged::a_segment_that_does_not_begin_with_the_next_record_is_refused",
        &["CheckSealedEnd"],
    ),
    notices(
        "forged::a_segment_with_more_records_than_its_bytes_can_hold_is_refused",
        &["CheckFits"],
    ),
    notices("forged::an_epoch_and_a_time_that_go_back_are_refused", &["CheckEpoch"]),
    notices("forged::numbers_that_no_log_reaches_are_refused", &["CheckSegmentNumbers"]),
    notices("forged::records_that_are_not_the_next_ones_are_no_records", &["CheckNextOffset"]),
    notices("forged::records_whose_lengths_do_not_add_up_are_no_records", &["CheckRecordLengths"]),
    notices("needs::a_rescue_asks_about_all_that_it_rewrites", &["AskBeforeRescue"]),
    notices("needs::an_opening_cuts_off_what_needs_something_that_is_not_there", &["AskRecovered"]),
    notices("needs::every_way_to_become_durable_asks_first", &["AskBeforeSync"]),
    notices("open_files::a_file_that_is_not_the_segments_own_is_not_read", &["CheckOpenedAgain"]),
    notices(
        "open_files::a_segment_whose_name_went_before_a_trim_failed_is_still_read",
        &["HoldTrimmedFile"],
    ),
    notices(
        "recycling::a_trimmed_segments_file_becomes_a_later_segment_and_says_so",
        &["SyncNameOfSegment"],
    ),
    notices(
        "recycling::an_own_frame_behind_a_hole_of_former_bytes_is_torn_too",
        &["ReadOverStaleBytes"],
    ),
    notices("trimming::a_mark_that_its_segments_do_not_fit_is_an_error", &["CheckFirstMissing"]),
    notices(
        "trimming::a_power_cut_at_any_operation_of_a_trim_leaves_all_or_nothing_of_it",
        &["SyncLowWater", "SyncNameOfLowWater", "LowWater", "SyncTrim"],
    ),
    notices(
        "trimming::every_flipped_bit_of_the_mark_is_an_error_that_names_it",
        &["CheckLowWater"],
    ),
    notices("trimming::nine_segments_go_with_one_mark_and_few_syncs", &["SyncTrimOfMany"]),
    notices(
        "truncation::a_power_cut_at_any_operation_of_a_cut_leaves_the_log_as_it_was_or_cut",
        &["SyncBeforeNamingCut"],
    ),
    notices(
        "truncation::who_is_told_of_a_cut_hears_of_it_when_no_power_cut_undoes_it",
        &["SyncCut"],
    ),
];
