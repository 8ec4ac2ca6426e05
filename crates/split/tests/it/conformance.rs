//! The suite that every transport passes, over the two planes of a split exchange.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sinew_plane::{
    Address, BoxFuture, DuplexServer, DuplexTransport, Error, OutgoingRequest, ProcessId,
    RequestHandler, ResponseStream, Shutdown, TransportCapabilities, TransportId, Window,
};
use sinew_plane_call_home::TcpStreamServer;
use sinew_split::{SplitServerConfig, SplitTransport};
use sinew_testkit::{Cuts, CuttingProxy, Harness, Listen, Served, Way};

use crate::fixture::{Worker, response_server, response_server_at, transport};

struct Split {
    /// Whether many responses share connections.
    pool: bool,
    processes: Processes,
}

/// Which process answers at an address, as discovery would tell.
type Processes = Arc<Mutex<HashMap<Address, ProcessId>>>;

impl Split {
    fn new(pool: bool) -> Self {
        Self { pool, processes: Processes::default() }
    }

    fn client_of(&self, responses: Arc<TcpStreamServer>) -> Arc<dyn DuplexTransport> {
        let processes = Arc::clone(&self.processes);
        Arc::new(Informed { transport: transport(responses), processes })
    }
}

/// A caller that knows what discovery would have told it.
struct Informed {
    transport: SplitTransport,
    processes: Processes,
}

impl DuplexTransport for Informed {
    fn id(&self) -> &TransportId {
        self.transport.id()
    }

    fn capabilities(&self) -> &TransportCapabilities {
        self.transport.capabilities()
    }

    fn dials(&self, address: &Address) -> bool {
        self.transport.dials(address)
    }

    fn open<'a>(
        &'a self,
        address: &'a Address,
        mut request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        request.process = self.processes.lock().unwrap().get(address).copied();
        self.transport.open(address, request)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        self.transport.close(grace)
    }
}

/// The serving side as one server, ended in the order that lets the last words leave.
struct Server(Worker);

impl DuplexServer for Server {
    fn addresses(&self) -> Vec<Address> {
        vec![self.0.address()]
    }

    fn drain(&self) {
        self.0.split.drain();
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let until = tokio::time::Instant::now() + grace;
            let accepted = self.0.split.shutdown(grace).await;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let responses = self.0.back.close(left).await;
            let requests = self.0.tcp.shutdown(Duration::ZERO).await;
            accepted + responses + requests
        })
    }
}

impl Harness for Split {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let worker = Worker::with(handler, SplitServerConfig::default(), self.pool).await;
            let address = worker.address();
            self.processes.lock().unwrap().insert(address.clone(), worker.process);
            Served { server: Arc::new(Server(worker)), client: self.client(), address }
        })
    }

    /// The worker is the one that dials, so the proxy stands before the caller's port.
    fn serve_resuming(
        &self,
        handler: Arc<dyn RequestHandler>,
    ) -> Option<BoxFuture<'_, (Served, Arc<dyn Way>)>> {
        self.pool.then(|| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let proxy =
                    CuttingProxy::start(Listen::loopback(), self.nowhere(), Cuts::when_told());
                let proxy = proxy.await.unwrap().counting_to_server();
                let responses = response_server_at(true, Some(proxy.address().rest().to_owned()));
                proxy.retarget(Address::tcp(responses.local_address()));
                let served = self.serve(handler).await;
                (Served { client: self.client_of(responses), ..served }, Arc::new(proxy) as _)
            })
        })
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        self.client_of(response_server(self.pool))
    }

    fn nowhere(&self) -> Address {
        // Bound and let go of again: nobody listens there now.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Address::new("split-tcp", &listener.local_addr().unwrap().to_string()).unwrap()
    }

    fn window(&self) -> Window {
        Window { items: 1024, bytes: 256 << 10 }
    }
}

/// As `duplex_suite!`, for some of its cases, in modules of other names where those are given.
macro_rules! cases {
    ($harness:expr; $($name:ident: $module:ident { $($case:ident,)+ })+) => {$(
        mod $name {
            $(
                #[test]
                fn $case() {
                    sinew_testkit::run(
                        concat!(stringify!($module), "::", stringify!($case)),
                        async { sinew_testkit::duplex::$module::$case(&$harness).await },
                    );
                }
            )+
        }
    )+};
}

/// What holds over connections of one stream too.
macro_rules! split_suite {
    ($harness:expr; $($more:tt)*) => {
        cases! { $harness;
            burst: burst {
                a_burst_delivers_everything,
                bursts_of_several_items_keep_their_order,
            }
            cancel: cancel {
                a_stop_reaches_the_handler_before_the_first_item,
                a_kill_reaches_the_handler_before_the_first_item,
                a_stop_between_items_lets_the_handler_finish,
                a_stopped_handler_may_still_complete,
                a_kill_between_items_ends_the_stream,
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
                a_cancel_after_the_end_changes_nothing,
                many_dropped_streams_leave_nothing_behind,
            }
            concurrency: concurrency {
                five_hundred_streams_at_once,
                two_thousand_streams_one_after_the_other,
                many_clients,
                one_client_and_many_servers,
                each_request_runs_once,
            }
            deadline: deadline {
                the_handler_gets_the_deadline,
                no_deadline_stays_none,
                a_passed_deadline_runs_nothing,
            }
            lifecycle: lifecycle {
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
            limits: limits {
                a_body_at_the_limit_passes,
                a_body_over_the_limit_is_refused_and_nothing_else,
                an_item_at_the_limit_passes,
                an_item_over_the_limit_is_refused_and_nothing_else,
            }
            loss: loss {
                a_loss_between_items_truncates,
                a_loss_after_the_start_truncates,
                a_loss_before_the_start_may_have_run,
                a_loss_cancels_the_handler,
                a_loss_under_load_leaves_true_prefixes,
            }
            metadata: metadata {
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
            order: order {
                no_items,
                items_come_in_order,
                empty_items_are_items,
                unicode_survives,
                many_more_items_than_a_window,
                streams_side_by_side_keep_their_order,
            }
            runs: runs {
                items_come_in_order_whatever_the_window,
                a_killed_response_takes_none,
                an_item_over_the_limit_ends_its_run,
            }
            request: request {
                everything_reaches_the_handler,
                headers_are_optional,
                large_headers_arrive,
            }
            sizes: sizes {
                bodies_of_every_length,
                items_of_every_length,
                large_and_small_items_stay_whole,
                large_bodies_side_by_side,
            }
            terminals: terminals {
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
            waits: waits {
                a_silent_handler_is_accepted_soon,
                a_handler_that_blocks_its_thread_is_accepted,
                an_accepted_stream_outlasts_the_accept_limit,
                the_first_item_limit_ends_a_silent_stream,
                the_idle_limit_ends_a_stream_that_falls_silent,
                the_limits_of_the_call_come_first,
                limits_that_are_kept_change_nothing,
            }
            $($more)*
        }
    };
}

/// One connection for each response. The socket's buffer is its window, so the suite's cases
/// about windows do not apply; and the end of the connection answers a kill, without facts.
mod plain {
    split_suite! { crate::conformance::Split::new(false);
        credit: credit {
            a_window_of_one_item_carries_many,
            a_parked_stream_holds_up_no_other,
            a_terminal_needs_no_credit,
        }
    }
}

/// Many responses on each connection.
mod pooled {
    split_suite! { crate::conformance::Split::new(true);
        credit: credit {
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
        kills: cancel {
            a_kill_is_answered_by_the_end_of_the_stream,
        }
        windows: burst {
            a_burst_fills_no_more_than_the_windows,
        }
    }
    sinew_testkit::resume_suite!(crate::conformance::Split::new(true));
}

#[tokio::test]
async fn responses_share_connections_where_the_caller_knows_who_answers() {
    let worker = Worker::new(sinew_testkit::handlers::counting()).await;
    let responses = response_server(true);
    let transport = transport(Arc::clone(&responses));
    let address = worker.address();
    let call = async || {
        let mut request = sinew_testkit::request("3");
        request.process = Some(worker.process);
        let mut stream = transport.open(&address, request).await.unwrap();
        assert_eq!(sinew_testkit::Received::read(&mut stream).await.complete().len(), 3);
    };
    for _ in 0..100 {
        call().await;
    }
    let usage = worker.back.pool();
    assert_eq!((usage.created, responses.connections()), (1, 1), "{usage:?}");
    assert!(usage.reused >= 99, "{usage:?}");
}
