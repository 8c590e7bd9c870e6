//! The suites that every [`Store`](crate::backend::Store) and every [`Broker`](crate::backend::Broker) must pass, for authors of stores and brokers.
//!
//! Enable the feature `conformance` in `dev-dependencies`, implement [`Fixture`] (or [`BrokerFixture`]) for a type of
//! your tests, and write `fieldsync::backend::store_tests!(ThatType);` in a module of its own: it makes one test per sentence of
//! the contract. The tests themselves are in one file per theme.

mod fixture;
mod node;
mod tasks;

#[doc(hidden)]
pub mod bases;
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
pub mod notices;
#[doc(hidden)]
pub mod preconditions;
#[doc(hidden)]
pub mod reads;
#[doc(hidden)]
pub mod tables;
#[doc(hidden)]
pub mod trimming;
#[doc(hidden)]
pub mod types;

pub use fixture::{Column, ColumnKind, Constraint, Constraints, Fixture, Table};
pub use notices::BrokerFixture;

#[doc(hidden)]
pub use tasks::run;

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($fixture:ty; $($theme:ident: $($name:ident)*;)*) => {
        $($(
            #[test]
            fn $name() {
                $crate::backend::conformance::run($crate::backend::conformance::$theme::$name::<$fixture>());
            }
        )*)*
    };
}

/// Makes one test per sentence of the contract of [`Store`](crate::backend::Store), for a type that is a
/// [`Fixture`](crate::backend::conformance::Fixture).
///
/// ```ignore
/// mod store {
///     fieldsync::backend::store_tests!(super::SqliteFixture);
/// }
/// ```
#[macro_export]
macro_rules! __store_tests {
    ($fixture:ty) => {
        $crate::__conformance_tests! { $fixture;
            tables:
                preparing_makes_what_is_missing
                preparing_again_changes_nothing
                two_nodes_may_prepare_at_once
                a_new_field_gets_its_default_in_old_records
                a_new_field_without_a_default_does_not_fit_a_table_with_records
                data_survives_reopening
                a_table_that_is_there_is_used_as_it_is
                the_key_may_have_any_column
                a_column_of_another_type_does_not_fit
                a_column_that_somebody_else_must_set_fits_only_without_creating
            ;
            edits:
                creating_logs_one_change
                a_patch_logs_one_change_with_the_former_values
                a_closure_logs_the_fields_that_it_changed
                deleting_logs_the_whole_former_record
                touching_logs_what_others_wrote
                touching_a_row_that_others_deleted_logs_a_deletion
                an_edit_that_changes_nothing_logs_nothing
                an_edit_that_changes_nothing_has_its_key_remembered
                edits_of_different_fields_from_two_nodes_all_survive
                closures_from_two_nodes_all_count
                ids_are_never_used_twice
            ;
            groups:
                a_group_is_all_or_nothing
                a_refused_group_is_refused_alone
                what_a_refused_group_did_is_not_seen_by_the_next
                edits_of_one_record_in_one_batch_chain
                an_edit_that_undoes_nothing_new_in_its_batch_is_unchanged
            ;
            constraints:
                what_must_be_unique_is_a_conflict
                an_update_to_what_another_record_has_is_a_conflict
                a_check_that_fails_is_invalid
                a_reference_to_nothing_is_a_conflict
                deleting_what_another_record_refers_to_is_a_conflict
            ;
            ids:
                a_later_edit_uses_the_id_that_an_earlier_one_creates
                an_id_that_was_reserved_is_not_given_again
                a_given_uuid_is_the_id_of_the_record
                of_two_creates_with_one_id_in_one_batch_the_first_wins
                of_two_creates_with_one_id_from_two_nodes_one_wins
            ;
            keys:
                an_edit_sent_twice_in_one_batch_is_applied_once
                an_edit_sent_again_is_answered_as_the_first_was
                an_edit_sent_to_two_nodes_at_once_is_applied_once
                a_key_is_its_principals_own
                a_key_used_for_another_edit_is_refused
                a_delete_sent_again_is_answered_as_the_first_was
                a_key_is_looked_up_before_any_precondition
                the_key_of_a_refused_edit_is_not_remembered
                a_key_survives_the_trimming_of_its_change
                a_key_is_remembered_for_24_hours
            ;
            preconditions:
                a_precondition_is_judged_on_the_current_row
                of_edits_with_one_entity_tag_in_one_batch_the_first_wins
                of_edits_with_one_entity_tag_from_two_nodes_one_wins
            ;
            bases:
                an_edit_is_applied_when_its_fields_did_not_change_since_its_base
                an_edit_of_a_field_that_changed_since_its_base_is_refused
                of_edits_with_one_base_in_one_batch_the_first_wins
                an_edit_whose_base_the_log_does_not_have_is_refused
                an_edit_whose_base_is_too_far_back_is_refused
            ;
            log:
                offsets_rise_by_one_in_commit_order
                a_reader_never_sees_a_gap
                offsets_are_never_used_twice
                each_collection_has_a_log_of_its_own
                heads_are_the_last_changes_of_all_collections
                changes_are_read_in_order_and_in_pages
                nothing_follows_the_end_of_the_log
                a_place_of_another_epoch_is_lost
                a_place_that_the_log_never_had_is_lost
            ;
            trimming:
                trimming_keeps_the_newest_by_count
                trimming_keeps_the_youngest_by_age
                a_fully_trimmed_log_still_resumes_at_its_end
                trimming_goes_in_bounded_steps
            ;
            reads:
                a_record_and_the_end_of_the_log_are_one_consistent_read
                every_later_read_on_any_node_sees_a_write
                a_record_that_is_not_there_is_none
                records_are_listed_in_the_order_of_their_ids
                records_with_uuids_are_listed_in_the_order_of_their_ids
                rows_written_past_fieldsync_are_seen_at_once
            ;
            history:
                the_table_is_the_fold_of_the_log
            ;
            types:
                text_comes_back
                times_come_back
                days_come_back
                uuids_come_back
                whole_numbers_come_back
                numbers_come_back
                truth_comes_back
                json_comes_back
                null_comes_back_where_it_is_allowed
                columns_may_have_any_name
            ;
            faults:
                readers_do_not_wait_for_writers
                a_commit_waits_for_a_lock_until_its_deadline
                a_commit_goes_on_when_the_lock_is_released
                an_edit_whose_deadline_has_passed_is_not_applied
                a_commit_whose_future_is_dropped_is_whole_or_absent
            ;
        }
    };
}

/// Makes one test per sentence of the contract of [`Broker`](crate::backend::Broker), for a type that is a
/// [`BrokerFixture`](crate::backend::conformance::BrokerFixture).
#[macro_export]
macro_rules! __broker_tests {
    ($fixture:ty) => {
        $crate::__conformance_tests! { $fixture;
            notices:
                a_notice_reaches_the_other_nodes
                nodes_hear_each_other
                publishing_without_subscribers_is_no_error
                many_nodes_may_publish_at_once
            ;
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_test_of_the_suites_is_run() {
        let listed: Vec<&str> = include_str!("mod.rs").split_whitespace().collect();
        let themes = [
            include_str!("bases.rs"),
            include_str!("constraints.rs"),
            include_str!("edits.rs"),
            include_str!("faults.rs"),
            include_str!("groups.rs"),
            include_str!("history.rs"),
            include_str!("keys.rs"),
            include_str!("log.rs"),
            include_str!("notices.rs"),
            include_str!("preconditions.rs"),
            include_str!("reads.rs"),
            include_str!("tables.rs"),
            include_str!("trimming.rs"),
            include_str!("types.rs"),
        ];
        for line in themes.iter().flat_map(|theme| theme.lines()) {
            if let Some(test) = line.strip_prefix("pub async fn ") {
                let name = test.split('<').next().unwrap();
                assert!(listed.contains(&name), "{name} is in no list");
            }
        }
    }
}
