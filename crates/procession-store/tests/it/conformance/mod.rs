//! What every store does, as functions of a store: one `conformance!` line runs all of them
//! on a backend.

pub(crate) mod admission;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod delete;
pub(crate) mod delivery;
pub(crate) mod expire;
pub(crate) mod family;
pub(crate) mod idempotency;
pub(crate) mod lanes;
pub(crate) mod lease;
pub(crate) mod life;
pub(crate) mod list;
pub(crate) mod schedule;
pub(crate) mod tasks;

/// Makes a module of tests, one for each behaviour, on stores that `$fresh` makes.
#[macro_export]
macro_rules! conformance {
    ($backend:ident, $fresh:path) => {
        mod $backend {
            $crate::conformance::cases!($fresh);
        }
    };
}

macro_rules! cases {
    ($fresh:path) => {
        $crate::conformance::cases!(@each $fresh,
            life: [
                a_job_from_submission_to_success,
                a_job_is_loaded_as_it_was_submitted,
                what_an_attempt_left_is_loaded_as_it_was_recorded,
                every_outcome_leads_to_its_state,
                what_was_seen_running_stays_seen_though_its_end_is_lost,
            ],
            admission: [
                the_last_place_is_given_once_to_fifty_at_a_time,
                without_a_waiting_room_a_slot_that_others_wait_for_is_not_free,
                queues_that_could_not_run_take_no_slot_from_others,
                what_waits_for_its_time_counts_and_what_is_over_does_not,
                a_task_nobody_named_is_made,
            ],
            idempotency: [
                the_same_key_and_body_is_the_same_job,
                another_body_is_a_conflict,
                keys_of_other_principals_and_tasks_are_others,
                a_replay_is_answered_though_the_queue_is_full,
                one_key_fifty_times_at_once_is_one_job,
                a_key_is_free_again_with_its_job,
                the_very_same_job_again_is_a_replay,
            ],
            claim: [
                priority_then_time_then_id,
                limits_hold_under_concurrent_claims,
                tasks_take_turns_within_a_claim_and_between_claims,
                what_one_task_lacks_the_others_get,
                paused_full_and_unnamed_tasks_delay_nobody,
                a_scheduled_job_runs_when_its_time_has_come,
                an_expired_job_is_not_given_out,
                each_claim_has_a_new_fence_and_its_own_id,
                nothing_is_given_without_a_free_slot,
                what_a_node_holds_can_be_read_back,
            ],
            lease: [
                a_stale_lease_changes_nothing,
                repeating_is_seen,
                a_release_gives_the_attempt_back,
                a_deferral_waits_and_is_counted,
                a_start_ends_the_row_of_deferrals,
                a_finish_and_a_release_at_once_leave_one_of_them,
            ],
            cancel: [
                what_waits_is_over_at_once,
                what_runs_is_marked_once,
                a_cancelled_job_that_never_started_does_not_come_back,
                f34_a_cancel_and_an_exit_at_once_leave_one_end,
                what_is_unknown_or_over_is_said,
            ],
            expire: [
                what_waited_too_long_ends,
                at_most_a_thousand_at_once,
                next_due_is_the_earliest_of_starts_and_expiries,
            ],
            list: [
                pages_are_newest_first_and_meet_without_gap,
                every_filter_alone_and_together,
                pages_hold_still_while_jobs_are_added,
                lines_come_without_tails_and_results,
                ids_are_found_by_their_end,
                a_position_counts_those_ahead,
            ],
            delete: [
                only_what_is_over_is_deleted,
                prune_takes_the_oldest_ends_first,
                labels_and_attempts_go_with_their_job,
            ],
            delivery: [
                an_end_writes_what_it_met,
                whatever_ends_a_job_something_follows_and_only_then,
                what_is_due_is_taken_in_turn_by_host,
                what_came_of_a_try_is_recorded_once,
                f37_a_receiver_that_wants_no_more_is_asked_no_more_until_it_takes_one,
                what_is_asked_for_once_more_begins_anew,
                a_job_that_follows_and_its_delivery_are_one_write,
                pages_of_deliveries_are_newest_first,
                deliveries_live_as_long_as_their_job,
                f37_the_outbox_is_bounded,
            ],
            schedule: [
                it_is_known_as_long_as_it_is_named,
                f18_a_moment_runs_once,
                f18_a_moment_at_which_fifty_look_runs_once,
                what_overlaps_is_skipped_or_queued,
                a_job_that_is_gone_holds_nothing_up,
                a_moment_can_pass_without_a_job,
                a_paused_one_waits_for_what_comes_after,
                by_hand_it_runs_at_any_time,
                what_is_due_is_taken_though_the_task_is_full,
                one_that_is_there_already_stands_for_it,
            ],
            family: [
                a_family_from_its_request_to_its_result,
                a_join_has_its_place_under_every_limit_but_the_nodes,
                failed_children_make_it_fail_unless_the_join_decides,
                one_that_fails_stops_the_others,
                f34_a_cancel_goes_down_and_up_again,
                f35_a_cancel_of_many_leaves_no_count_behind,
                a_family_whose_time_is_over_ends_with_all_below_it,
                children_ask_for_no_place_in_their_tasks_queue,
                a_family_is_removed_as_a_whole,
                an_end_is_told_however_it_came,
            ],
            lanes: [
                lanes_take_turns_however_long_they_are,
                a_lane_holds_as_many_slots_as_it_may_under_concurrent_claims,
                a_full_lane_is_looked_at_again_when_it_has_room,
                one_unique_value_fifty_times_at_once_is_one_job,
                the_newest_takes_the_place_of_what_waits_or_runs,
                a_rate_refuses_until_exactly_when_it_says,
                attempts_follow_each_other_and_stay,
                f34_a_cancel_leaves_no_further_attempt,
            ],
            tasks: [
                a_pause_stops_claims_and_nothing_else,
                counts_are_those_of_the_jobs_after_a_storm,
                a_probe_changes_nothing,
            ],
        );
    };
    (@each $fresh:path, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $fresh();
                $crate::conformance::$module::$case(&fixture.store).await;
            }
        )*)*
    };
}
pub(crate) use cases;
