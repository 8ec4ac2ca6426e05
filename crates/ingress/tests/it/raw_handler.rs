//! Async functions of bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sinew_ingress::{IncomingOwned, RawHandler};
use sinew_plane::{
    CancelReason, Code, Context, Executed, Headers, InstanceId, ResponseSink, Terminal,
};

use crate::support::{Fixture, NAME, due_in};

#[tokio::test]
async fn it_gets_the_request_as_it_came_and_sends_by_itself() {
    let fixture = Fixture::new();
    let handler = RawHandler::new(|request: IncomingOwned, mut sink: ResponseSink| async move {
        assert_eq!((request.endpoint.as_str(), request.instance), (NAME, InstanceId(1)));
        assert_eq!((request.transport.as_str(), request.attempt), ("test", 0));
        let header = request.context.headers().get("x").unwrap_or_default().to_owned();
        sink.send(request.body).await.unwrap();
        sink.send(header.into()).await.unwrap();
        sink.complete();
    });
    let _served = fixture.serve(handler);
    let mut headers = Headers::new();
    headers.insert("x", "header").unwrap();
    let context = Context::builder().headers(headers).build();
    let call = fixture.call_with(Bytes::from_static(b"\x00any\x01"), context);
    assert!(matches!(call.end().await, Terminal::Complete { items: 2 }));
    assert_eq!(call.texts(), ["\u{0}any\u{1}", "header"]);
    fixture.assert_idle();
}

#[tokio::test]
async fn leaving_without_an_end_and_panicking_both_fail_the_request() {
    let fixture = Fixture::new();
    let handler = RawHandler::new(|request: IncomingOwned, sink: ResponseSink| {
        // Before the future exists, which is the worst place.
        assert_ne!(request.body, "panic", "this is the bug under test");
        async move { drop(sink) }
    });
    let _served = fixture.serve(handler);
    for body in ["leave", "panic"] {
        assert_eq!(fixture.call(body).failure().await, (Code::HandlerGone, Executed::Yes));
    }
    assert_eq!(fixture.errors("application"), 2);
    fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_kill_and_a_deadline_drop_the_future() {
    let fixture = Fixture::new();
    let alive = Arc::new(());
    let inside = Arc::clone(&alive);
    let handler = RawHandler::new(move |_: IncomingOwned, sink: ResponseSink| {
        let held = Arc::clone(&inside);
        async move {
            std::future::pending::<()>().await;
            drop((held, sink));
        }
    });
    let _served = fixture.serve(handler);
    let killed = fixture.call("");
    let late = due_in(Duration::from_secs(5));
    let late = fixture.call_with("", late);
    tokio::task::yield_now().await;
    killed.context.kill();
    assert!(matches!(killed.end().await, Terminal::Cancelled { reason: CancelReason::Caller }));
    let reason = CancelReason::DeadlineExceeded;
    assert!(matches!(late.end().await, Terminal::Cancelled { reason: r } if r == reason));
    fixture.ingress.shutdown(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&alive), 2, "the handler's own and ours");
    fixture.assert_idle();
}
