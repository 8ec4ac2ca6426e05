//! The seven-argument registration, and the state it reports.

use std::sync::Arc;

use parking_lot::Mutex;
use sinew_ingress::{IncomingOwned, IngressConfig, RawHandler, SystemHealth};
use sinew_plane::{Code, Context, EndpointName, Executed, InstanceId, ResponseSink, Terminal};

use crate::support::{Consumer, Fixture};

#[derive(Default)]
struct Reports(Mutex<Vec<(String, bool)>>);

impl SystemHealth for Reports {
    fn set_ready(&self, endpoint: &EndpointName, instance: InstanceId, ready: bool) {
        self.0.lock().push((format!("{endpoint}#{instance}"), ready));
    }
}

#[tokio::test]
async fn subject_and_name_both_lead_to_the_handler_until_it_is_dropped() {
    let (fixture, reports) = (Fixture::new(), Arc::new(Reports::default()));
    let echo = RawHandler::new(|request: IncomingOwned, mut sink: ResponseSink| async move {
        sink.send(request.body).await.unwrap();
        sink.complete();
    });
    let health = Arc::clone(&reports) as Arc<dyn SystemHealth>;
    let served = fixture
        .ingress
        .register_endpoint("a_b.c-ff", echo, 255, "a", "b", "c", Some(health))
        .await
        .unwrap();
    let call =
        |name: &str, instance| fixture.send(name, instance, "x", Consumer::new(9, Context::new()));
    for (name, instance) in [("a/b/c", 255), ("a_b.c-ff", 255), ("a_b.c-ff", 0)] {
        assert!(matches!(call(name, instance).end().await, Terminal::Complete { items: 1 }));
    }
    assert_eq!(reports.0.lock().as_slice(), [("a/b/c#ff".to_owned(), true)]);
    drop(served);
    for name in ["a/b/c", "a_b.c-ff"] {
        assert_eq!(call(name, 255).failure().await, (Code::UnknownEndpoint, Executed::No));
    }
    assert_eq!(reports.0.lock().last(), Some(&("a/b/c#ff".to_owned(), false)));
}

#[tokio::test]
async fn a_bad_name_serves_nothing_and_a_drain_is_reported_before_it_waits() {
    let (fixture, reports) = (Fixture::new(), Arc::new(Reports::default()));
    let handler = || RawHandler::new(|_, _| async {});
    let health = || Some(Arc::clone(&reports) as Arc<dyn SystemHealth>);
    let register = |name: &'static str| {
        fixture.ingress.register_endpoint("s", handler(), 1, "a", "b", name, health())
    };
    assert!(register("not a name").await.is_err());
    assert!(reports.0.lock().is_empty());
    let served = register("c").await.unwrap();
    served.drain().await;
    let states: Vec<_> = reports.0.lock().iter().map(|(_, ready)| *ready).collect();
    assert_eq!(states, [true, false]);
}

#[tokio::test]
async fn what_is_served_without_a_health_of_its_own_reports_to_that_of_the_process() {
    let reports = Arc::new(Reports::default());
    let health = Some(Arc::clone(&reports) as Arc<dyn SystemHealth>);
    let fixture = Fixture::with(IngressConfig { health, ..IngressConfig::default() });
    let served = fixture.serve(RawHandler::new(|_, _| async {}));
    drop(served);
    let states: Vec<_> = reports.0.lock().iter().map(|(_, ready)| *ready).collect();
    assert_eq!(states, [true, false]);
}
