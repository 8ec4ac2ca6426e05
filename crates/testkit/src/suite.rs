//! The list of all cases, and how one is run.

use std::{any::Any, panic::AssertUnwindSafe};

use crate::{duplex, guard::CASE};

/// Runs one case on a runtime of its own with two workers.
///
/// # Panics
/// When the case fails, with its name, what went wrong, and the rule that the transport breaks;
/// or when the operating system grants no threads.
pub fn run(case: &'static str, body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(case)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("{case}: no runtime: {error}"),
    };
    let failure = {
        // What the case shared with the transport is not looked at again.
        let running = AssertUnwindSafe(|| runtime.block_on(CASE.scope(case, body)));
        std::panic::catch_unwind(running).err()
    };
    if let Some(failure) = failure {
        let what = said(&*failure);
        let rule = duplex::rule(case).unwrap_or_else(|| "it has no documentation".to_owned());
        panic!(
            "the conformance case `{case}` failed: {what}\n  the rule: {rule}\n  the case: \
             sinew_testkit::duplex::{case}"
        );
    }
}

/// The message of a panic.
fn said(failure: &(dyn Any + Send)) -> &str {
    match (failure.downcast_ref::<String>(), failure.downcast_ref::<&str>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "a panic without a message",
    }
}

/// Makes one test out of each case of [`duplex`](crate::duplex), in modules of the same names.
///
/// Takes an expression that makes a [`Harness`](crate::Harness); each test evaluates it on its
/// own runtime. A case that is added to the list here reaches every transport by itself.
#[macro_export]
macro_rules! duplex_suite {
    ($harness:expr) => {
        $crate::duplex_suite! { @modules $harness;
            burst {
                a_burst_delivers_everything,
                a_burst_fills_no_more_than_the_windows,
                bursts_of_several_items_keep_their_order,
            }
            cancel {
                a_stop_reaches_the_handler_before_the_first_item,
                a_kill_reaches_the_handler_before_the_first_item,
                a_stop_between_items_lets_the_handler_finish,
                a_kill_between_items_ends_the_stream,
                a_stopped_handler_may_still_complete,
                a_kill_is_not_softened_by_a_stop,
                a_stop_is_hardened_by_a_kill,
                a_kill_frees_a_parked_producer,
                a_killed_stream_takes_no_more_items,
                a_dropped_stream_cancels_its_handler,
                a_dropped_stream_cancels_its_handler_before_the_first_item,
                a_dropped_stream_frees_a_parked_producer,
                a_context_killed_before_the_call_never_completes,
                one_context_cancels_all_its_streams,
                a_cancel_leaves_other_streams_alone,
                a_stop_is_answered_by_the_end_of_the_stream,
                a_kill_is_answered_by_the_end_of_the_stream,
                a_cancel_after_the_end_changes_nothing,
                many_dropped_streams_leave_nothing_behind,
            }
            concurrency {
                five_hundred_streams_at_once,
                two_thousand_streams_one_after_the_other,
                many_clients,
                one_client_and_many_servers,
                each_request_runs_once,
            }
            credit {
                the_item_window_parks_the_producer,
                the_byte_window_parks_the_producer,
                the_window_of_the_transport_parks_the_producer,
                an_item_larger_than_the_window_passes,
                a_window_of_one_item_carries_many,
                a_parked_producer_resumes,
                a_parked_stream_holds_up_no_other,
                one_stalled_stream_and_fifty_live_ones,
                unread_windows_of_many_streams_hold_up_no_other,
                a_terminal_needs_no_credit,
            }
            deadline {
                the_handler_gets_the_deadline,
                no_deadline_stays_none,
                a_passed_deadline_runs_nothing,
            }
            lifecycle {
                the_address_and_the_capabilities_fit,
                nobody_there_fails_fast_and_safely,
                a_draining_server_refuses_and_finishes,
                a_shutdown_waits_for_what_runs,
                a_shutdown_cuts_what_outlives_the_grace,
                an_idle_shutdown_is_quick_and_may_be_repeated,
                nothing_is_served_after_a_shutdown,
                a_closed_client_cuts_what_outlives_the_grace,
                a_closing_client_waits_for_what_runs,
                a_transport_that_says_that_it_resumes_does,
            }
            limits {
                a_body_at_the_limit_passes,
                a_body_over_the_limit_is_refused_and_nothing_else,
                an_item_at_the_limit_passes,
                an_item_over_the_limit_is_refused_and_nothing_else,
            }
            loss {
                a_loss_between_items_truncates,
                a_loss_after_the_start_truncates,
                a_loss_before_the_start_may_have_run,
                a_loss_cancels_the_handler,
                a_loss_under_load_leaves_true_prefixes,
            }
            metadata {
                a_head_arrives_before_the_first_item,
                a_head_is_a_start,
                a_response_without_a_head_has_an_empty_one,
                head_and_facts_may_be_read_at_the_end,
                the_largest_head_and_facts_arrive,
                an_empty_head_ends_the_wait_for_it,
                a_head_goes_first_and_once,
                facts_come_with_every_end,
                facts_come_with_the_end_of_a_stopped_stream,
                the_wait_for_a_head_has_a_limit,
            }
            order {
                no_items,
                items_come_in_order,
                empty_items_are_items,
                unicode_survives,
                many_more_items_than_a_window,
                streams_side_by_side_keep_their_order,
            }
            runs {
                items_come_in_order_whatever_the_window,
                a_killed_response_takes_none,
                an_item_over_the_limit_ends_its_run,
            }
            request {
                everything_reaches_the_handler,
                headers_are_optional,
                large_headers_arrive,
            }
            sizes {
                bodies_of_every_length,
                items_of_every_length,
                large_and_small_items_stay_whole,
                large_bodies_side_by_side,
            }
            terminals {
                complete_is_told,
                an_error_before_the_first_item_comes_whole,
                an_error_after_items_comes_whole,
                every_code_survives,
                a_failed_handler_has_run_whatever_its_error_says,
                a_rejected_request_is_safe_to_resend,
                a_handler_may_end_its_stream_as_cancelled,
                a_dropped_sink_is_a_handler_gone,
                a_panic_is_a_handler_gone,
                an_accepted_stream_has_started,
                an_end_without_items_is_a_start,
                the_start_may_be_asked_for_again,
                every_end_is_told_apart,
            }
            waits {
                a_silent_handler_is_accepted_soon,
                a_handler_that_blocks_its_thread_is_accepted,
                an_accepted_stream_outlasts_the_accept_limit,
                the_first_item_limit_ends_a_silent_stream,
                the_idle_limit_ends_a_stream_that_falls_silent,
                the_limits_of_the_call_come_first,
                limits_that_are_kept_change_nothing,
            }
        }
    };
    (@modules $harness:expr; $($module:ident { $($case:ident,)+ })+) => {$(
        mod $module {
            #[allow(unused_imports, reason = "for the harness, which may stand beside the suite")]
            use super::*;

            $(
                #[test]
                fn $case() {
                    $crate::run(
                        concat!(stringify!($module), "::", stringify!($case)),
                        async { $crate::duplex::$module::$case(&$harness).await },
                    );
                }
            )+
        }
    )+};
}

/// As [`duplex_suite!`](crate::duplex_suite), for what a resumable transport must do besides: streams
/// outlive their connections. Its harness has
/// [`serve_resuming`](crate::Harness::serve_resuming).
#[macro_export]
macro_rules! resume_suite {
    ($harness:expr) => {
        $crate::duplex_suite! { @modules $harness;
            resume {
                a_cut_between_items_loses_none,
                a_connection_that_falls_silent_is_found_and_left,
                a_cut_inside_a_large_item_sends_it_again,
                a_cut_before_the_first_item_loses_nothing,
                a_cut_at_any_byte_loses_nothing,
                cuts_one_after_another_lose_nothing,
                many_streams_come_back_together,
                cuts_while_the_server_shuts_down_lose_nothing,
                cuts_under_load_leave_each_item_once,
                a_parked_producer_goes_on_where_it_was,
                no_request_runs_twice,
            }
            detached {
                what_is_sent_without_a_connection_arrives,
                a_terminal_that_was_lost_comes_again,
                an_error_without_a_connection_arrives,
                the_head_and_the_facts_survive,
                a_stop_without_a_connection_reaches_the_handler,
                a_kill_without_a_connection_reaches_the_handler,
                a_stream_dropped_without_a_connection_cancels_its_handler,
                a_stream_that_stays_alone_is_truncated_and_its_handler_cancelled,
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// `module::case` of every case that stands in a file of `src/duplex`.
    fn written() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/duplex");
        let mut cases = BTreeSet::new();
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            cases
                .extend(names.map(|name| format!("{module}::{}", name.split('(').next().unwrap())));
        }
        cases
    }

    /// `module::case` of every case in the two lists above.
    fn listed() -> Vec<String> {
        let text = include_str!("suite.rs").split("#[cfg(test)]").next().unwrap();
        let lists = text.split("@modules $harness;\n").skip(1);
        let (mut module, mut cases) = ("", Vec::new());
        for list in lists {
            for line in list.split("\n        }\n").next().unwrap().lines().map(str::trim) {
                if let Some(name) = line.strip_suffix(" {") {
                    module = name;
                } else if let Some(case) = line.strip_suffix(',') {
                    cases.push(format!("{module}::{case}"));
                }
            }
        }
        cases
    }

    #[test]
    fn every_case_is_in_the_list_once() {
        let listed = listed();
        let unique: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(listed.len(), unique.len(), "a case is listed twice");
        assert_eq!(unique, written());
        assert!(unique.len() > 50);
    }

    #[test]
    fn every_case_states_its_rule() {
        for case in listed() {
            let rule = duplex::rule(&case).unwrap_or_default();
            assert!(rule.ends_with('.') && rule.len() > 10, "{case}: {rule:?}");
        }
        assert_eq!(duplex::rule("order::no_items").unwrap(), "A stream may have no items.");
        assert_eq!(duplex::rule("order::no_such_case"), None);
        assert_eq!(duplex::rule("nonsense"), None);
    }

    /// What a failed case says.
    fn failure(case: &'static str, body: impl Future<Output = ()>) -> String {
        let failed = std::panic::catch_unwind(AssertUnwindSafe(|| run(case, body)));
        said(&*failed.unwrap_err()).to_owned()
    }

    #[test]
    fn a_failure_names_the_case_and_the_rule_and_what_went_wrong() {
        let message = failure("order::empty_items_are_items", async {
            assert_eq!(1 + 1, 3, "items came");
        });
        for part in [
            "`order::empty_items_are_items` failed",
            "items came",
            "right: 3",
            "the rule: An empty item is not nothing.",
            "sinew_testkit::duplex::order::empty_items_are_items",
        ] {
            assert!(message.contains(part), "{part:?} is missing in:\n{message}");
        }
        let message = failure("order::no_items", async { std::panic::panic_any(7) });
        assert!(message.contains("without a message") && message.contains("may have no items"));
    }
}
