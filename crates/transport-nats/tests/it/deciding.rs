//! Handlers that need a moment before they can say whether they take a request.

use std::sync::Arc;

use parking_lot::Mutex;
use sinew_plane::{Code, Decision, Error, InstanceId, Origin, PlaneRequest, RequestPlaneHandler};
use sinew_transport_nats::NatsServer;
use tokio::sync::Notify;

use crate::{
    handler::{name, send},
    server::Server,
};

/// Takes everything; what says `slow` once it is let.
#[derive(Default)]
struct Ponderer {
    origins: Mutex<Vec<Origin>>,
    asked: Notify,
    known: Arc<Notify>,
}

impl RequestPlaneHandler for Ponderer {
    fn accept(&self, _: PlaneRequest<'_>) -> Result<(), Error> {
        panic!("planes ask for a decision")
    }

    fn decide(&self, request: PlaneRequest<'_>) -> Decision {
        self.origins.lock().push(request.peer.origin);
        if !request.payload.starts_with(b"slow") {
            return Decision::Now(Ok(()));
        }
        self.asked.notify_one();
        let known = Arc::clone(&self.known);
        let refused = request.payload.ends_with(b"refused");
        Decision::Later(Box::pin(async move {
            known.notified().await;
            let refusal = || Err(Error::new(Code::Overloaded, "after all"));
            if refused { refusal() } else { Ok(()) }
        }))
    }
}

/// A caller hears what was found out, and the others do not wait for it.
#[tokio::test]
async fn a_decision_that_takes_time_holds_up_nobody_else() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Arc::new(Ponderer::default());
    let plane = NatsServer::new(worker.clone(), Arc::clone(&handler) as _);
    let _served = plane.serve(&name("ns1/backend/generate"), InstanceId(0x1f)).await.unwrap();
    for (payload, is_refused) in [("slow", false), ("slow, refused", true)] {
        let slow = send(&caller, payload);
        let others = async {
            handler.asked.notified().await;
            for _ in 0..10 {
                send(&caller, "fast").await.unwrap();
            }
            handler.known.notify_one();
        };
        let (answer, ()) = tokio::join!(slow, others);
        assert_eq!(
            answer.map_err(|error| error.code()).err(),
            is_refused.then_some(Code::Overloaded)
        );
    }
    let origins = handler.origins.lock();
    assert!(origins.iter().all(|it| *it == Origin::Broker { is_local: true }), "{origins:?}");
}
