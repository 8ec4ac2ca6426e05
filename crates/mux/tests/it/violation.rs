//! What a connection leaves behind whose peer broke a rule.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use sinew_mux::{CheckedMuxConfig, Connection, MuxConfig, Role, Serving};
use sinew_plane::{
    Budget, BudgetUse, Code, EndpointName, Error, InstanceId, OutgoingRequest, ProcessId,
    ResponseSink, StreamId, budget::Account,
};

use crate::{
    frames::frame,
    manual::{End, Manual},
};

/// A critical kind of a later version.
const UNKNOWN: u8 = 0x7F;

fn end(role: Role, process: u64, serving: Serving, account: Option<Arc<Account>>) -> End {
    let config: CheckedMuxConfig =
        MuxConfig { process: ProcessId(process), ..MuxConfig::default() }.checked().unwrap();
    let connection = Connection::new(role, &config, serving, account, Manual::default());
    End::new(Arc::new(connection), &config, Arc::default(), Instant::now())
}

/// Carries what one end has to write to the other, which answers each request with an item.
fn carry(from: &End, to: &mut End) {
    let mut wire = BytesMut::new();
    from.write(usize::MAX, &mut wire);
    let serve = |request: sinew_mux::ReceivedRequest<Manual>| {
        let context = request.context().clone();
        let mut sink = ResponseSink::new(request.response, context);
        sink.try_send(Bytes::from(vec![0; 1_000])).unwrap();
        sink.complete();
    };
    to.handle_input(&wire, Instant::now(), serve).unwrap();
}

/// The peer says that it has the end of a stream, and breaks a rule in the same write.
#[test]
fn streams_that_were_to_be_let_go_of_go_with_their_connection() {
    let budget = Budget::new(1 << 30);
    let mut caller = end(Role::Dialler, 1, Serving::Nothing, None);
    let mut server = end(Role::Acceptor, 2, Serving::Admits, Some(budget.open()));
    carry(&caller, &mut server);
    carry(&server, &mut caller);
    let endpoint = EndpointName::new("a", "b", "c").unwrap();
    let request = OutgoingRequest::new(endpoint, InstanceId(1), Bytes::new());
    let call = caller.connection.try_open(&request, "a/b/c", StreamId(1)).unwrap().unwrap();
    carry(&caller, &mut server);
    carry(&server, &mut caller);
    assert!(budget.used(BudgetUse::Kept) > 0, "the stream is kept for its consumer");

    // The word that the end has come goes with the next write.
    caller.connection.ping(1);
    let mut wire = BytesMut::new();
    caller.write(usize::MAX, &mut wire);
    wire.extend_from_slice(&frame(UNKNOWN, 1, b""));
    let violation = server.handle_input(&wire, Instant::now(), |_| {}).unwrap_err();
    server.refuse_peer(&violation);
    server.connection.end(&Error::new(Code::Violation, "the peer broke a rule"));

    let connection = Arc::downgrade(&server.connection);
    drop(server);
    assert!(connection.upgrade().is_none(), "nothing holds it any more");
    assert_eq!(budget.total(), 0);
    drop(call);
}
