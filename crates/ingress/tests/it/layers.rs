//! Layers around a handler of bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use sinew_ingress::{
    AdmittedHandler, AdmittedRequest, EndpointConfig, Handler, HandlerLayer, PushHandler,
    RawHandler, handler_layer_fn,
};
use sinew_plane::{
    AppCode, Code, Context, Error, Executed, Headers, InstanceId, ResponseSink, SingleIn, Terminal,
    engine_fn,
};

use crate::support::{Fixture, NAME};

/// Answers with the body and a header.
fn echo() -> Handler {
    let answer = |request: sinew_ingress::IncomingOwned, mut sink: ResponseSink| async move {
        let tenant = request.context.headers().get("tenant").unwrap_or("nobody").to_owned();
        sink.send(request.body).await.unwrap();
        sink.send(Bytes::from(tenant)).await.unwrap();
        sink.complete();
    };
    RawHandler::new(answer).into()
}

fn with_token(token: &str) -> Context {
    let mut headers = Headers::new();
    headers.insert("authorization", token).unwrap();
    Context::builder().headers(headers).build()
}

fn authenticated() -> impl HandlerLayer {
    handler_layer_fn(|request, sink, inside| match request.headers().get("authorization") {
        Some("token") => inside.handle(request, sink),
        _ => request.refuse(sink, Error::application(AppCode::UNAUTHENTICATED, "who is there?")),
    })
}

/// Writes its name before the body.
struct Marks(&'static str);

struct Marked(&'static str, Arc<dyn AdmittedHandler>);

impl HandlerLayer for Marks {
    fn layer(&self, handler: Arc<dyn AdmittedHandler>) -> Arc<dyn AdmittedHandler> {
        Arc::new(Marked(self.0, handler))
    }
}

impl AdmittedHandler for Marked {
    fn handle(&self, mut request: AdmittedRequest<'_>, sink: ResponseSink) {
        assert_eq!((request.endpoint().as_str(), request.instance()), (NAME, InstanceId(1)));
        assert_eq!((request.transport().as_str(), request.attempt()), ("test", 0));
        request.body = [self.0.as_bytes(), &request.body].concat().into();
        let mut headers = request.headers().clone();
        headers.insert("tenant", self.0).unwrap();
        request.context = request.context.child_with(headers);
        self.1.handle(request, sink);
    }
}

#[tokio::test]
async fn a_refusal_of_a_layer_is_counted_and_does_not_reach_the_handler() {
    let fixture = Fixture::new();
    let handler = RawHandler::new(|_, _| async { panic!("behind a refusal") });
    let handler = Handler::from(handler).with_layer(&authenticated());
    let _served = fixture.serve(handler);
    for context in [Context::new(), with_token("another")] {
        let consumer = fixture.call_with("hi", context);
        let Terminal::Failed { error } = consumer.end().await else { panic!("not refused") };
        assert_eq!(error.app_code(), Some(AppCode::UNAUTHENTICATED));
        assert_eq!(error.executed(), Executed::No);
    }
    assert_eq!(fixture.errors("application"), 2);
    fixture.assert_idle();
}

#[tokio::test]
async fn the_last_layer_is_asked_first_and_may_change_what_the_handler_gets() {
    let fixture = Fixture::new();
    let handler = echo().with_layer(&Marks("a")).with_layer(&Marks("b"));
    let _served = fixture.serve(handler.with_layer(&authenticated()));
    let consumer = fixture.call_with("hi", with_token("token"));
    assert!(matches!(consumer.end().await, Terminal::Complete { items: 2 }));
    assert_eq!(consumer.texts(), ["abhi", "a"]);
    fixture.assert_idle();
}

#[tokio::test]
async fn a_cancel_reaches_a_handler_whose_context_a_layer_has_changed() {
    let fixture = Fixture::new();
    let handler = RawHandler::new(|_, _sink| std::future::pending());
    let _served = fixture.serve(Handler::from(handler).with_layer(&Marks("a")));
    let context = Context::new();
    let consumer = fixture.call_with("hi", context.clone());
    context.kill();
    assert!(matches!(consumer.end().await, Terminal::Cancelled { .. }));
    fixture.assert_idle();
}

#[tokio::test]
async fn a_panic_of_a_layer_or_of_a_handler_fails_its_request_alone() {
    struct Panics;
    impl AdmittedHandler for Panics {
        fn handle(&self, _: AdmittedRequest<'_>, _: ResponseSink) {
            panic!("in the reader");
        }
    }
    let layer = handler_layer_fn(|_, _, _| panic!("in the reader"));
    for handler in [Handler::new(Panics), echo().with_layer(&layer)] {
        let fixture = Fixture::new();
        let _served = fixture.serve(handler);
        let failure = fixture.call("hi").failure().await;
        assert_eq!(failure, (Code::HandlerGone, Executed::Yes));
        assert_eq!(fixture.errors("application"), 1);
        fixture.assert_idle();
    }
}

/// What is refused over a transport must not be open to whoever shares the process.
#[tokio::test]
async fn callers_in_the_process_do_not_pass_a_layer_of_bytes_by() {
    let fixture = Fixture::new();
    let engine = || {
        PushHandler::new(engine_fn(|request: SingleIn<u32>| async move {
            Ok::<_, Error>(stream::iter([Ok(*request.data())]))
        }))
    };
    let open = fixture.serve(engine());
    assert!(open.local_engine::<u32, u32>().is_some());
    let layered = Handler::from(engine()).with_layer(&authenticated());
    let layered = fixture.serve_as(2, EndpointConfig::default(), layered);
    assert!(layered.local_engine::<u32, u32>().is_none());
}
