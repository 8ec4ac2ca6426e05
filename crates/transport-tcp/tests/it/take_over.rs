//! Another process continues to read a stream whose caller is gone.

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{
    CallLimits, Code, Context, DuplexTransport, Error, IncomingRequest, Outcome, ProcessId,
    ResponseSink, ResponseStream, ResumeRequest, ResumeToken,
};
use sinew_transport_tcp::{TcpServer, TcpTransport};
use tokio::sync::mpsc;

use crate::{
    attach::settings,
    fixture::{client, request, server, soon, tcp_address},
    gate::Gate,
};

/// Sends what the test says, and ends when that ends.
fn told() -> (mpsc::UnboundedSender<u64>, impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync)
{
    let (tell, told) = mpsc::unbounded_channel::<u64>();
    let told = std::sync::Mutex::new(Some(told));
    let handler = move |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        let Some(mut told) = told.lock().unwrap().take() else { return };
        tokio::spawn(async move {
            while let Some(number) = told.recv().await {
                if sink.send(Bytes::from(number.to_string())).await.is_err() {
                    return;
                }
            }
            sink.complete();
        });
    };
    (tell, handler)
}

struct World {
    server: TcpServer,
    gate: Gate,
    first: TcpTransport,
    stream: ResponseStream,
    tell: mpsc::UnboundedSender<u64>,
}

/// A stream of which the first process has read five items.
async fn begun() -> World {
    let (tell, handler) = told();
    let server = server(settings(7), handler);
    let gate = Gate::tcp(&server).await;
    let first = client(settings(1));
    let mut stream = soon("a stream", first.open(&gate.address, request("go"))).await.unwrap();
    (0..5).for_each(|number| tell.send(number).unwrap());
    for number in 0..5 {
        assert_eq!(next(&mut stream).await, number);
    }
    World { server, gate, first, stream, tell }
}

async fn next(stream: &mut ResponseStream) -> u64 {
    let item = soon("an item", stream.next()).await.unwrap().unwrap();
    std::str::from_utf8(&item).unwrap().parse().unwrap()
}

async fn resume(
    by: &TcpTransport,
    server: &TcpServer,
    token: ResumeToken,
) -> Result<ResponseStream, Error> {
    let (context, limits) = (Context::new(), CallLimits::default());
    let request = ResumeRequest { token, context, window: None, limits };
    let mut stream = soon("a connection", by.resume(&tcp_address(server), request)).await?;
    soon("the answer", stream.started()).await.map(|()| stream)
}

fn code(resumed: Result<ResponseStream, Error>) -> (Code, Option<(u64, u64)>) {
    let error = resumed.unwrap_err();
    (error.code(), error.resume_window())
}

#[tokio::test]
async fn a_stream_whose_caller_is_gone_is_taken_over_and_resumes_like_any_other() {
    let World { server, gate, first, mut stream, tell } = begun().await;
    let token = stream.resume_token().unwrap();
    assert_eq!((token.next_item, token.caller, token.worker), (5, ProcessId(1), ProcessId(7)));
    // Nobody comes back: it is as if the first process were killed.
    gate.close();
    gate.cut();
    tell.send(5).unwrap();
    let second_gate = Gate::tcp(&server).await;
    let second = client(settings(2));
    let (context, limits) = (Context::new(), CallLimits::default());
    let request = ResumeRequest { token: token.at(3), context, window: None, limits };
    let mut resumed = loop {
        // The server may not have seen the loss yet.
        let by = second.resume(&second_gate.address, request.clone());
        let mut resumed = soon("a connection", by).await.unwrap();
        if soon("the answer", resumed.started()).await.is_ok() {
            break resumed;
        }
    };
    for number in 3..6 {
        assert_eq!(next(&mut resumed).await, number);
    }
    assert_eq!(resumed.received(), 6);
    // From here on it is the stream of the second process.
    for number in 6..10 {
        second_gate.cut();
        tell.send(number).unwrap();
        assert_eq!(next(&mut resumed).await, number);
    }
    let again = resumed.resume_token().unwrap();
    assert_eq!((again.caller, again.next_item), (ProcessId(2), 10));
    drop(tell);
    assert!(soon("the end", resumed.next()).await.is_none());
    assert!(matches!(resumed.outcome(), Some(Outcome::Complete { items: 10 })));
    let lost = soon("the end of the first", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(lost.code(), Code::Truncated);
    drop(first);
}

#[tokio::test]
async fn only_who_has_the_secret_takes_a_stream_over_and_only_while_it_waits() {
    let World { server, gate, first: _first, stream, tell } = begun().await;
    let token = stream.resume_token().unwrap();
    let second = client(settings(2));
    let refused = code(resume(&second, &server, token.clone()).await);
    assert_eq!(refused, (Code::ResumeExpired, None), "its caller is connected");
    gate.close();
    gate.cut();
    let beyond = loop {
        // The server may not have seen the loss yet.
        let refused = code(resume(&second, &server, token.at(99)).await);
        if refused.1.is_some() {
            break refused;
        }
    };
    assert_eq!(
        beyond,
        (Code::ResumeExpired, Some((0, 5))),
        "who has the secret hears what is kept"
    );
    let wrong = [
        ResumeToken { secret: token.secret ^ 1, ..token.clone() },
        ResumeToken { caller: ProcessId(3), ..token.clone() },
        ResumeToken { stream: sinew_plane::StreamId(token.stream.0 ^ 1), ..token.clone() },
        ResumeToken { worker: ProcessId(8), ..token.clone() },
    ];
    for token in wrong {
        let refused = code(resume(&second, &server, token).await);
        assert_eq!(refused, (Code::ResumeExpired, None));
    }
    let mut resumed = resume(&second, &server, token.clone()).await.unwrap();
    let third = code(resume(&client(settings(3)), &server, token).await);
    assert_eq!(third, (Code::ResumeExpired, None), "it belongs to the second now");
    tell.send(5).unwrap();
    assert_eq!(next(&mut resumed).await, 5);
}

#[tokio::test]
async fn a_cancel_by_who_has_taken_over_reaches_the_handler() {
    let (contexts, mut running) = mpsc::unbounded_channel();
    let handler = move |request: IncomingRequest<'_>, mut sink: ResponseSink| {
        sink.accept();
        contexts.send((request.context, sink)).unwrap();
    };
    let server = server(settings(7), handler);
    let gate = Gate::tcp(&server).await;
    let first = client(settings(1));
    let mut stream = soon("a stream", first.open(&gate.address, request("go"))).await.unwrap();
    soon("the start", stream.started()).await.unwrap();
    let (context, _sink) = soon("the handler", running.recv()).await.unwrap();
    let token = stream.resume_token().unwrap();
    gate.close();
    gate.cut();
    let second = client(settings(2));
    let resumed = loop {
        if let Ok(resumed) = resume(&second, &server, token.clone()).await {
            break resumed;
        }
    };
    drop(resumed);
    soon("the cancel", context.killed()).await;
}

/// A worker that ends gives its streams to nobody.
#[tokio::test]
async fn a_worker_that_is_started_again_has_no_streams_of_the_one_before() {
    let world = begun().await;
    let token = world.stream.resume_token().unwrap();
    drop(world);
    let (_tell, handler) = told();
    let server = server(settings(8), handler);
    let refused = code(resume(&client(settings(2)), &server, token).await);
    assert_eq!(refused, (Code::ResumeExpired, None));
}
