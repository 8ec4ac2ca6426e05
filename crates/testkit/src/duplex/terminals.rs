//! Every stream has one end, and its reader can tell which.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use sinew_plane::{AppCode, CancelReason, Code, Error, Executed, Outcome, Terminal};
use tokio::sync::Notify;

use crate::{
    Harness, Received, Record, check,
    handlers::{counting, failing, refusing, spawned},
    payload::numbered,
    request, within,
};

#[track_caller]
fn assert_same_error(got: &Error, wanted: &Error) {
    assert_eq!(got.code(), wanted.code(), "{got:?}");
    assert_eq!(got.message(), wanted.message());
    assert_eq!(got.executed(), wanted.executed(), "{got:?}");
    assert_eq!(got.retry_after(), wanted.retry_after(), "{got:?}");
    assert_eq!(got.app_code(), wanted.app_code(), "{got:?}");
    assert_eq!(got.details(), wanted.details(), "{got:?}");
}

fn detailed(code: Code) -> Error {
    Error::new(code, "the disk is \"full\": \u{1f4be}\nadd one")
        .with_executed(Executed::Yes)
        .with_retry_after(Duration::from_millis(1500))
        .with_app_code(AppCode::RESOURCE_EXHAUSTED)
        .with_details(vec![0xFF; Error::MAX_DETAILS_BYTES])
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Complete, with the number of items.
pub async fn complete_is_told(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let mut stream = served.open(request("3")).await;
    assert!(stream.outcome().is_none(), "it has not ended yet");
    assert_eq!(Received::read(&mut stream).await.complete(), ["0", "1", "2"]);
}

/// Both `started()` and the stream return the handler's error with all its fields.
pub async fn an_error_before_the_first_item_comes_whole(harness: &dyn Harness) {
    let error = detailed(Code::HandlerFailed);
    let served = harness.serve(failing(error.clone())).await;
    let mut stream = served.open(request("0")).await;
    let Err(first) = within("the error", stream.started()).await else {
        panic!("the stream started, and its handler failed at once")
    };
    assert_same_error(&first, &error);
    let received = Received::read(&mut stream).await;
    assert!(received.items.is_empty());
    assert_same_error(received.failed(), &error);
}

/// The stream returns every item that the handler sent, and then its error with all its fields.
pub async fn an_error_after_items_comes_whole(harness: &dyn Harness) {
    let error = detailed(Code::Overloaded);
    let served = harness.serve(failing(error.clone())).await;
    let mut stream = served.open(request("3")).await;
    let started = within("the start", stream.started()).await;
    assert!(started.is_ok(), "it failed later: {started:?}");
    let received = Received::read(&mut stream).await;
    assert_same_error(received.failed(), &error);
    assert_eq!(received.items, ["0", "1", "2"]);
}

/// Each code of the contract comes back as itself.
pub async fn every_code_survives(harness: &dyn Harness) {
    let handler = spawned(|call| async move {
        match Code::from_wire(call.number() as u16) {
            Some(code) => call.sink.fail(Error::new(code, code.as_str())),
            None => call.sink.complete(),
        }
    });
    let served = harness.serve(handler).await;
    for code in Code::ALL {
        let error = served.refusal(request(code.to_wire().to_string())).await;
        let failed = Error::new(*code, code.as_str()).with_executed(Executed::Yes);
        assert_same_error(&error, &failed);
    }
}

/// I7: a handler that fails has run, even if its error is the refusal of a service that it called.
/// The request is not safe to send again.
pub async fn a_failed_handler_has_run_whatever_its_error_says(harness: &dyn Harness) {
    for executed in [Executed::No, Executed::Maybe, Executed::Yes] {
        for code in [Code::HandlerFailed, Code::Overloaded, Code::ConnectFailed] {
            let error = Error::new(code, "").with_executed(executed);
            let served = harness.serve(failing(error.clone())).await;
            let told = served.refusal(request("0")).await;
            assert_same_error(&told, &error.with_executed(Executed::Yes));
            assert!(!told.is_safe_to_resend());
        }
    }
}

/// A request that the handler rejects is safe to send again, whatever the code of the error is.
pub async fn a_rejected_request_is_safe_to_resend(harness: &dyn Harness) {
    for code in [Code::Overloaded, Code::UnknownEndpoint, Code::HandlerFailed] {
        let served = harness.serve(refusing(Error::new(code, "not here"))).await;
        let error = served.refusal(request("")).await;
        assert_eq!((error.code(), error.executed()), (code, Executed::No));
        assert!(error.is_safe_to_resend());
    }
}

/// With and without items, and with its reason.
pub async fn a_handler_may_end_its_stream_as_cancelled(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for number in 0..call.number() {
            if call.sink.send(numbered(number)).await.is_err() {
                return;
            }
        }
        call.sink.cancelled(CancelReason::DeadlineExceeded);
    });
    let served = harness.serve(handler).await;
    let error = served.refusal(request("0")).await;
    assert_eq!(error.code(), Code::DeadlineExceeded);

    let received = served.call(request("2")).await;
    assert_eq!(received.items, ["0", "1"]);
    let late = CancelReason::DeadlineExceeded;
    assert!(matches!(received.outcome, Outcome::Cancelled { reason } if reason == late));
    assert_eq!(received.error.map(|error| error.code()), Some(Code::DeadlineExceeded));
}

/// A handler that forgets its sink has not completed.
pub async fn a_dropped_sink_is_a_handler_gone(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for number in 0..call.number() {
            if call.sink.send(numbered(number)).await.is_err() {
                return;
            }
        }
        drop(call.sink);
    });
    assert_gone(harness, handler).await;
}

/// A handler that panics in its task has not completed either, and takes nobody with it.
pub async fn a_panic_is_a_handler_gone(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for number in 0..call.number() {
            if call.sink.send(numbered(number)).await.is_err() {
                return;
            }
        }
        panic!("on purpose: this handler panics in its task");
    });
    assert_gone(harness, handler).await;
}

async fn assert_gone(harness: &dyn Harness, handler: Arc<dyn sinew_plane::RequestHandler>) {
    let served = harness.serve(handler).await;
    // A handler that takes long to go has been accepted by then.
    let error = match within("an answer", served.client.open(&served.address, request("0"))).await {
        Ok(mut stream) => Received::read(&mut stream).await.failed().clone(),
        Err(error) => error,
    };
    assert_eq!((error.code(), error.executed()), (Code::HandlerGone, Executed::Yes));
    let received = served.call(request("2")).await;
    assert_eq!(received.failed().code(), Code::HandlerGone);
    assert_eq!(received.items, ["0", "1"]);
}

/// `started()` is ready once the handler has accepted, though no item comes for long.
pub async fn an_accepted_stream_has_started(harness: &dyn Harness) {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let handler = spawned(move |mut call| {
        let gate = Arc::clone(&opened);
        async move {
            call.sink.accept();
            call.sink.flush();
            gate.notified().await;
            if call.sink.send("first".into()).await.is_ok() {
                call.sink.complete();
            }
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    let started = within("the start", stream.started()).await;
    assert!(started.is_ok(), "{started:?}");
    gate.notify_one();
    assert_eq!(Received::read(&mut stream).await.complete(), ["first"]);
}

/// A stream that completes without items has started.
pub async fn an_end_without_items_is_a_start(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let mut stream = served.open(request("0")).await;
    let started = within("the start", stream.started()).await;
    assert!(started.is_ok(), "{started:?}");
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

/// Before, between and after the items, and given up midway.
pub async fn the_start_may_be_asked_for_again(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let mut stream = served.open(request("3")).await;
    drop(futures_util::poll!(Box::pin(stream.started())));
    for _ in 0..2 {
        assert!(within("the start", stream.started()).await.is_ok());
    }
    let first = within("the first item", stream.next()).await;
    assert_eq!(first.map(Result::ok), Some(Some("0".into())));
    assert!(within("the start", stream.started()).await.is_ok());
    assert_eq!(Received::read(&mut stream).await.complete(), ["1", "2"]);
}

/// The history of each kind of end keeps I1, I2 and I3.
pub async fn every_end_is_told_apart(harness: &dyn Harness) {
    let record = Record::default();
    let handler_record = record.clone();
    let handler = spawned(move |mut call| {
        let record = handler_record.clone();
        async move {
            for number in 0..4 {
                if call.sink.send(record.item(numbered(number))).await.is_err() {
                    return;
                }
            }
            match &call.body[..] {
                b"complete" => {
                    record.end(Terminal::Complete { items: 4 });
                    call.sink.complete();
                }
                b"failed" => {
                    let error = Error::handler("told");
                    record.end(Terminal::Failed { error: error.clone() });
                    call.sink.fail(error);
                }
                b"cancelled" => {
                    let reason = CancelReason::Shutdown;
                    record.end(Terminal::Cancelled { reason });
                    call.sink.cancelled(reason);
                }
                _ => std::future::pending().await,
            }
        }
    });
    let served = harness.serve(handler).await;
    for kind in ["complete", "failed", "cancelled", "truncated"] {
        let before = record.steps().len();
        let mut stream = served.open(request(kind)).await;
        if kind == "truncated" {
            assert!(within("the start", stream.started()).await.is_ok());
            within("the cut", harness.cut(&served)).await;
        }
        let received = Received::read(&mut stream).await;
        assert_eq!(received.outcome.as_str(), kind);
        if let Err(violation) = check(&record.steps()[before..], &received.observed()) {
            panic!("{kind}: {violation}");
        }
    }
}
