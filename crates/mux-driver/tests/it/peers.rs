//! What a transport of a user's own says of itself, and of the other end.

use std::sync::Arc;

use parking_lot::Mutex;
use sinew_mux_driver::{DriverConfig, MuxTransport};
use sinew_plane::{
    DuplexServer, DuplexTransport, IncomingRequest, InstanceId, LatencyClass, Origin,
    OutgoingRequest, PeerFacts, ProcessId, ResponseSink, TransportCapabilities,
    TransportRequirements,
};

use crate::memory::{Hub, PIPE, PipeServer, client};

fn config(process: u64) -> DriverConfig {
    let mut config = DriverConfig::default();
    config.mux.process = ProcessId(process);
    config
}

#[tokio::test]
async fn a_handler_sees_what_the_carrier_knows_and_which_process_calls() {
    let hub = Arc::<Hub>::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let handler = move |request: IncomingRequest<'_>, sink: ResponseSink| {
        noted.lock().push(request.peer.clone());
        sink.complete();
    };
    let server = PipeServer::new(&hub, config(7).checked().unwrap(), Arc::new(handler));
    let address = server.addresses().remove(0);
    let caller = client(&hub, config(8).checked().unwrap());
    for _ in 0..2 {
        let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), "hi".into());
        let mut response = caller.open(&address, request).await.unwrap();
        response.started().await.unwrap();
    }
    let expected = PeerFacts::same_host(None).with_encryption(true).with_process(ProcessId(8));
    assert_eq!(expected.origin, Origin::SameHost);
    assert_eq!(*seen.lock(), [expected.clone(), expected]);
}

#[test]
fn a_transport_offers_what_its_carriers_do_within_the_limits_of_its_settings() {
    let mut config = config(7);
    config.mux.max_message_bytes = 1 << 20;
    let config = config.checked().unwrap();
    let with = |limit: usize, encrypted: bool| {
        let offers = TransportCapabilities::streaming(limit)
            .with_latency(LatencyClass::Network)
            .with_encryption(encrypted);
        let transport = MuxTransport::new(PIPE, offers, Arc::<Hub>::default(), config.clone());
        transport.capabilities().clone()
    };
    let required = TransportRequirements { encrypted: true, ..TransportRequirements::default() };
    assert!(with(usize::MAX, true).satisfy(&required));
    assert!(!with(usize::MAX, false).satisfy(&required));
    assert_eq!(with(usize::MAX, true).max_message_bytes, 1 << 20);
    assert_eq!(with(4 << 10, true).max_message_bytes, 4 << 10);
    let resuming = TransportRequirements { resumable: true, ..TransportRequirements::default() };
    assert!(with(usize::MAX, false).satisfy(&resuming), "it has an identity and resumes");
}
