//! The suites that every [`Store`](crate::backend::Store) and every [`Broker`](crate::backend::Broker) must pass, for
//! authors of stores and brokers.
//!
//! To test a store, enable the feature `conformance` in `dev-dependencies`, implement [`Fixture`] for a type of the
//! tests, and call `fieldsync::backend::store_tests!(ThatType);` in a module of its own. For a broker these are
//! [`BrokerFixture`] and `fieldsync::backend::broker_tests!`. Each macro generates one test per sentence of the
//! contract. The cases are in one file per topic.

mod cursors;
mod fixture;
mod node;
mod tasks;

#[doc(hidden)]
pub mod bases;
#[doc(hidden)]
pub mod captures;
#[doc(hidden)]
pub mod constraints;
#[doc(hidden)]
pub mod edits;
#[doc(hidden)]
pub mod faults;
#[doc(hidden)]
pub mod groups;
#[doc(hidden)]
pub mod history;
#[doc(hidden)]
pub mod ids;
#[doc(hidden)]
pub mod keys;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod notifications;
#[doc(hidden)]
pub mod preconditions;
#[doc(hidden)]
pub mod reads;
#[doc(hidden)]
pub mod references;
#[doc(hidden)]
pub mod rights;
#[doc(hidden)]
pub mod tables;
#[doc(hidden)]
pub mod trimming;
#[doc(hidden)]
pub mod types;

pub use fixture::{Column, ColumnKind, Constraint, Constraints, Fixture, Table};
pub use notifications::BrokerFixture;

#[doc(hidden)]
pub use cursors::open_cursor;
#[doc(hidden)]
pub use tasks::run;

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($fixture:ty; $($topic:ident: $($name:ident)*;)*) => {
        $($(
            #[test]
            fn $name() {
                $crate::backend::conformance::run($crate::backend::conformance::$topic::$name::<$fixture>());
            }
        )*)*
    };
}

/// Generates one test per sentence of the contract of [`Store`](crate::backend::Store), for a type that implements
/// [`Fixture`](crate::backend::conformance::Fixture).
///
/// ```ignore
/// mod store {
///     fieldsync::backend::store_tests!(super::SqliteFixture);
/// }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ($fixture:ty) => {
        $crate::__conformance_tests! { $fixture;
            tables:
                prepare_creates_what_is_missing
                a_second_prepare_changes_nothing
                nodes_can_prepare_at_the_same_time
                the_key_of_cursors_is_random_and_kept
                nodes_that_prepare_at_the_same_time_share_the_key_of_cursors
                existing_rows_get_the_default_of_a_new_field
                a_new_field_without_a_default_does_not_fit_a_table_with_rows
                data_survives_a_restart
                an_existing_table_is_used_as_it_is
                a_log_belongs_to_its_table
                the_key_column_can_have_any_name
                a_column_of_another_type_does_not_fit
                a_nullable_field_does_not_fit_a_not_null_column
                a_required_column_without_a_field_fits_only_with_no_create
            ;
            edits:
                a_create_logs_one_change
                a_patch_logs_one_change_with_the_previous_values
                an_update_logs_only_the_fields_that_its_closure_changed
                a_delete_logs_the_whole_previous_record
                a_refresh_logs_what_another_program_wrote
                a_refresh_of_a_row_that_another_program_deleted_logs_a_delete
                an_edit_that_changes_nothing_logs_nothing
                an_edit_that_changes_nothing_stores_its_key
                concurrent_edits_of_different_fields_all_survive
                concurrent_updates_by_closure_all_count
                an_update_writes_only_the_columns_that_change
                ids_are_never_reused
            ;
            groups:
                an_empty_batch_has_no_results
                a_group_is_applied_as_a_whole_or_not_at_all
                a_refused_group_does_not_affect_other_groups
                later_groups_do_not_see_the_edits_of_a_refused_group
                edits_of_one_record_in_a_batch_build_on_each_other
                an_edit_that_repeats_an_earlier_one_of_its_batch_is_unchanged
                batches_that_edit_the_same_records_in_different_orders_all_commit
            ;
            constraints:
                a_create_that_violates_a_unique_constraint_is_a_conflict
                an_update_that_violates_a_unique_constraint_is_a_conflict
                a_violated_check_constraint_is_invalid
                a_reference_to_a_missing_record_is_a_conflict
                deleting_a_referenced_record_is_a_conflict
                a_store_tells_its_foreign_keys
            ;
            ids:
                an_edit_can_use_the_id_of_a_record_created_earlier_in_its_group
                a_reserved_id_is_given_to_one_record_only
                ids_are_reserved_in_an_existing_table
                a_record_can_be_created_with_a_given_uuid
                of_two_creates_with_the_same_id_in_a_batch_the_first_is_applied
                of_two_creates_with_the_same_id_from_two_nodes_one_is_applied
            ;
            keys:
                an_edit_repeated_in_one_batch_is_applied_once
                a_repeated_edit_returns_the_outcome_of_the_first
                an_edit_sent_to_two_nodes_at_the_same_time_is_applied_once
                a_key_belongs_to_one_principal
                a_key_that_was_used_for_another_edit_is_refused
                a_repeated_delete_returns_the_outcome_of_the_first
                a_key_is_looked_up_before_any_precondition
                the_key_of_a_refused_edit_is_not_stored
                a_key_is_kept_when_its_change_is_trimmed
                a_repetition_of_an_edit_whose_record_was_deleted_returns_its_id
                a_repetition_of_an_edit_whose_record_was_deleted_returns_what_the_log_has
                a_key_is_kept_for_24_hours
            ;
            preconditions:
                a_precondition_is_checked_on_the_current_row
                of_edits_with_the_same_entity_tag_in_a_batch_the_first_is_applied
                of_edits_with_the_same_entity_tag_from_two_nodes_one_is_applied
            ;
            bases:
                an_edit_is_applied_if_its_fields_have_not_changed_since_its_base
                an_edit_of_a_field_that_has_changed_since_its_base_is_refused
                of_edits_with_the_same_base_in_a_batch_the_first_is_applied
                an_edit_whose_base_is_not_in_the_log_is_refused
                an_edit_whose_base_is_too_far_back_is_refused
            ;
            captures:
                what_others_wrote_is_logged_with_previous_values
                an_edit_on_top_of_what_others_wrote_conflicts_with_its_base
                two_nodes_log_everything_once
                previous_values_chain_whoever_writes
            ;
            log:
                offsets_rise_by_one_in_commit_order
                a_reader_never_sees_a_gap
                a_page_of_changes_is_bounded_in_bytes_but_has_a_change
                large_values_that_did_not_change_are_not_logged
                offsets_are_never_reused
                each_collection_has_its_own_log
                the_heads_are_the_ends_of_all_logs
                changes_are_read_in_order_and_in_pages
                a_page_contains_at_least_one_change_of_any_size
                no_changes_follow_the_end_of_the_log
                a_position_of_another_epoch_is_out_of_range
                a_position_that_the_log_never_had_is_out_of_range
            ;
            trimming:
                trimming_keeps_the_newest_changes
                trimming_deletes_changes_that_are_too_old
                trimming_keeps_the_newest_bytes
                a_cursor_at_the_end_of_a_fully_trimmed_log_resumes
                one_trim_deletes_a_bounded_number_of_changes
                one_trim_deletes_a_bounded_number_of_keys
            ;
            reads:
                a_record_and_the_end_of_the_log_are_read_consistently
                every_later_read_on_any_node_sees_a_committed_edit
                a_missing_record_is_none
                records_are_listed_in_the_order_of_their_ids
                a_page_is_bounded_in_bytes_but_has_a_record
                records_are_read_by_their_ids
                records_with_uuids_are_listed_in_the_order_of_their_ids
                rows_written_by_another_program_are_read_at_once
            ;
            rights:
                a_right_ends_with_the_record_that_it_rests_on
                a_record_can_be_moved_only_to_where_a_right_is
                a_right_ends_within_a_batch
                a_commit_waits_for_a_lock_of_the_record_that_a_right_rests_on
            ;
            references:
                a_principal_refers_only_to_what_it_sees
                a_principal_refers_to_a_record_only_as_long_as_it_sees_it
                a_principal_refers_to_what_it_creates_itself
                a_refused_reference_does_not_affect_other_groups
            ;
            history:
                the_table_equals_the_fold_of_the_log
            ;
            types:
                text_round_trips
                times_round_trip
                dates_round_trip
                other_times_and_decimals_round_trip
                uuids_round_trip
                integers_round_trip
                numbers_round_trip
                booleans_round_trip
                json_round_trips
                null_round_trips_in_nullable_fields
                columns_can_have_any_name
            ;
            faults:
                readers_do_not_wait_for_writers
                a_commit_waits_for_a_lock_until_its_deadline
                a_commit_proceeds_when_the_lock_is_released
                groups_that_a_lock_refused_can_be_committed_again
                an_edit_whose_deadline_has_passed_is_not_applied
                a_dropped_commit_is_applied_as_a_whole_or_not_at_all
            ;
        }
    };
}

/// Generates one test per sentence of the contract of [`Broker`](crate::backend::Broker), for a type that implements
/// [`BrokerFixture`](crate::backend::conformance::BrokerFixture).
#[doc(hidden)]
#[macro_export]
macro_rules! __broker_tests {
    ($fixture:ty) => {
        $crate::__conformance_tests! { $fixture;
            notifications:
                a_notification_reaches_the_other_nodes
                notifications_travel_in_both_directions
                publishing_without_subscribers_succeeds
                many_nodes_can_publish_at_the_same_time
                a_dropped_publish_does_not_affect_later_ones
            ;
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_a_suite() {
        let listed: Vec<&str> = include_str!("mod.rs").split_whitespace().collect();
        let topics = [
            include_str!("bases.rs"),
            include_str!("captures.rs"),
            include_str!("constraints.rs"),
            include_str!("edits.rs"),
            include_str!("faults.rs"),
            include_str!("groups.rs"),
            include_str!("history.rs"),
            include_str!("ids.rs"),
            include_str!("keys.rs"),
            include_str!("log.rs"),
            include_str!("notifications.rs"),
            include_str!("preconditions.rs"),
            include_str!("reads.rs"),
            include_str!("references.rs"),
            include_str!("rights.rs"),
            include_str!("tables.rs"),
            include_str!("trimming.rs"),
            include_str!("types.rs"),
        ];
        for line in topics.iter().flat_map(|topic| topic.lines()) {
            if let Some(case) = line.strip_prefix("pub async fn ") {
                let name = case.split('<').next().unwrap();
                assert!(listed.contains(&name), "{name} is not listed in mod.rs");
            }
        }
    }
}
