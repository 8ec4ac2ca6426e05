//! What a request leaves in the logs.

use std::{io, sync::Arc};

use futures_util::stream;
use parking_lot::Mutex;
use sinew_ingress::PushHandler;
use sinew_plane::{Context, Error, Headers, SingleIn, engine_fn, header};

use crate::support::Fixture;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn logs_at(level: tracing::Level) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _here = tracing::subscriber::set_default(subscriber);

    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<String>| async move {
        // Another task in between: the span is the request's, not the thread's.
        tokio::task::yield_now().await;
        tracing::debug!("the engine works");
        Ok::<_, Error>(stream::iter([Ok(request.into_parts().0)]))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let mut headers = Headers::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert(header::TRACEPARENT, parent).unwrap();
    headers.insert(header::REQUEST_ID, "order-66").unwrap();
    headers.insert("authorization", "secret-token").unwrap();
    let context = Context::builder().headers(headers).build();
    let calls = [fixture.call_with("\"payload\"", context), fixture.call("\"payload\"")];
    for call in calls {
        call.end().await;
    }
    fixture.call("\"payload").end().await;
    let bytes = log.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_span_of_a_request_names_it_and_follows_its_task() {
    let text = logs_at(tracing::Level::DEBUG).await;
    let fields = [
        "the engine works",
        "endpoint=\"test/unit/echo\"",
        "instance=1",
        "request_id=\"order-66\"",
        "trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"",
        "parent_id=\"00f067aa0ba902b7\"",
    ];
    let has_all = |line: &str| fields.iter().all(|field| line.contains(field));
    assert!(text.lines().any(has_all), "{text}");
    assert_eq!(text.matches("the engine works").count(), 2, "{text}");
    assert_eq!(text.matches("answered end=").count(), 3, "{text}");
}

#[tokio::test]
async fn no_level_shows_payloads_or_secrets_and_info_shows_nothing() {
    let text = logs_at(tracing::Level::TRACE).await;
    assert!(!text.contains("payload\"") && !text.contains("secret-token"), "{text}");
    assert_eq!(logs_at(tracing::Level::INFO).await, "");
}
