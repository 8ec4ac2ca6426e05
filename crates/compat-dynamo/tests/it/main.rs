//! Both sides over real sockets: the exact bytes of Dynamo 1.6 against a peer that is written out
//! here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use sinew_compat_dynamo::{DynamoCodec, DynamoScheme};
use sinew_plane_call_home::TcpStreamServer;
use sinew_split::{SplitServerConfig, SplitTransport};

mod bidirectional;
mod dial_back;
mod dynamo;
#[allow(dead_code, reason = "the tests of split use more of it")]
#[path = "../../../split/tests/it/fixture.rs"]
mod fixture;
mod refusals;
#[path = "../../../split/tests/it/streams.rs"]
mod streams;
mod to_caller;
mod to_worker;

use fixture::soon;

/// Callers of Dynamo too.
fn server_config() -> SplitServerConfig {
    let peer = Some(Arc::new(DynamoCodec) as _);
    SplitServerConfig { peer, ..SplitServerConfig::default() }
}

/// The calling side for Dynamo's workers.
fn to_dynamo(responses: Arc<TcpStreamServer>) -> SplitTransport {
    let requests = fixture::request_client();
    DynamoScheme::Tcp.split_transport(fixture::MAX_MESSAGE_BYTES, requests, responses)
}

/// The control message of another request: what comes twice with one subject runs once.
fn another(control: &str, number: usize) -> String {
    let (fixed, _) = dynamo::SUBJECT.rsplit_once('-').unwrap();
    control.replace(dynamo::SUBJECT, &format!("{fixed}-{number:012x}"))
}
