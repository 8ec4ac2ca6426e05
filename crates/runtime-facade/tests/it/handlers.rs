//! What may serve a typed endpoint.

use futures_util::{Stream, StreamExt, stream};
use sinew::{
    AppCode, BoxError, Code, Context, Endpoint, Error, HandlerError, HandlerResult, Headers,
    ManyOut, SingleIn, ValueRefused, ValueSink, engine_fn,
};

use crate::support::World;

const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");
const PARSE: Endpoint<String, u32> = Endpoint::new("text/numbers/parse");

fn words(text: &str) -> Vec<Result<String, HandlerError>> {
    text.split(' ').map(|word| Ok(word.to_owned())).collect()
}

async fn split(text: String) -> HandlerResult<impl Stream<Item = HandlerResult<String>>> {
    Ok(stream::iter(words(&text)))
}

async fn first(text: String) -> HandlerResult<String> {
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// The words that a header asks for.
async fn chosen(
    text: String,
    context: Context,
) -> Result<impl Stream<Item = Result<String, Error>>, Error> {
    let count: usize = context.headers().get("count").map_or(1, |count| count.parse().unwrap());
    let words: Vec<_> = text.split(' ').take(count).map(|word| Ok(word.to_owned())).collect();
    Ok(stream::iter(words))
}

async fn named(text: String, context: Context) -> anyhow::Result<String> {
    Ok(format!("{text} of {}", context.headers().get("tenant").unwrap_or("nobody")))
}

async fn parse(text: String) -> HandlerResult<u32> {
    if text == "none" {
        let error = Error::application(AppCode::NOT_FOUND, "there is no such number");
        return Err(error.with_details("none")?.into());
    }
    Ok(text.trim().parse()?)
}

/// What another engine answers, with what it says beside.
async fn described(text: String, context: Context) -> Result<ManyOut<String>, Error> {
    let named = |name: &str, value: &str| {
        let mut headers = Headers::new();
        headers.insert(name, value).unwrap();
        headers
    };
    let words = stream::iter(vec![Ok(text)]);
    let response = ManyOut::new(words, context).with_head(named("model", "small"));
    Ok(response.with_facts(move || named("words", "1")))
}

#[tokio::test]
async fn a_response_that_a_function_returns_keeps_its_head_and_its_facts() {
    let world = World::new().await;
    let endpoint = Endpoint::<String, String>::new("text/words/described");
    let served = world.worker.serve(&endpoint, described).await.unwrap();
    // Through a second service that passes the response on, and within the process of each.
    let middle = Endpoint::<String, String>::new("text/words/passed");
    let onward = world.router(&endpoint).await;
    let pass = move |text: String| {
        let onward = onward.clone();
        async move { onward.call(text).await }
    };
    let passing = world.worker.serve(&middle, pass).await.unwrap();
    for router in [world.router(&endpoint).await, world.router(&middle).await] {
        let mut response = router.call("one").await.unwrap();
        assert_eq!(response.head().await.unwrap().get("model"), Some("small"));
        let words: Vec<_> = response.by_ref().map(Result::unwrap).collect().await;
        assert_eq!(words, ["one"]);
        assert_eq!(response.facts().get("words"), Some("1"));
    }
    drop((passing, served));
    world.end().await;
}

#[tokio::test]
async fn a_function_returns_one_value_or_a_stream_with_its_context_or_without() {
    let world = World::new().await;
    let served = world.worker.serve(&SPLIT, split).await.unwrap();
    let router = world.router(&SPLIT).await;
    assert_eq!(router.call("one two").collect().await.unwrap(), ["one", "two"]);
    drop(served);

    let endpoint = Endpoint::<String, String>::new("text/words/first");
    let _first = world.worker.serve(&endpoint, first).await.unwrap();
    let router = world.router(&endpoint).await;
    assert_eq!(router.call("one two").unary().await.unwrap(), "one");

    let endpoint = Endpoint::<String, String>::new("text/words/chosen");
    let _chosen = world.worker.serve(&endpoint, chosen).await.unwrap();
    let router = world.router(&endpoint).await;
    let call = router.call("one two three").header("count", "2");
    assert_eq!(call.collect().await.unwrap(), ["one", "two"]);

    let endpoint = Endpoint::<String, String>::new("text/words/named");
    let _named = world.worker.serve(&endpoint, named).await.unwrap();
    let router = world.router(&endpoint).await;
    let call = router.call("words").header("tenant", "red");
    assert_eq!(call.unary().await.unwrap(), "words of red");
    world.end().await;
}

#[tokio::test]
async fn an_engine_and_a_closure_serve_as_well() {
    let world = World::new().await;
    let engine = engine_fn(|request: SingleIn<String>| async move {
        let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
        Ok::<_, Error>(stream::iter(words))
    });
    let served = world.worker.serve(&SPLIT, engine).max_in_flight(4).await.unwrap();
    let router = world.router(&SPLIT).await;
    assert_eq!(router.call("one two").collect().await.unwrap(), ["one", "two"]);
    assert_eq!(served.endpoint(), &SPLIT.name());

    let name = Endpoint::<u32, u32>::named(&"demo/numbers/next".parse().unwrap());
    let by = 2;
    let next = move |number: u32| async move { Ok::<_, BoxError>(number + by) };
    let _next = world.worker.serve(&name, next).await.unwrap();
    assert_eq!(world.router(&name).await.call(1_u32).unary().await.unwrap(), 3);
    world.end().await;
}

#[tokio::test]
async fn an_error_reaches_the_caller_as_what_it_is() {
    let world = World::new().await;
    let _served = world.worker.serve(&PARSE, parse).await.unwrap();
    let router = world.router(&PARSE).await;
    assert_eq!(router.call(" 7 ").unary().await.unwrap(), 7);
    let foreign = router.call("seven").unary().await.unwrap_err();
    assert_eq!(foreign.code(), Code::HandlerFailed);
    assert_eq!(foreign.message(), "invalid digit found in string");
    let ours = router.call("none").unary().await.unwrap_err();
    assert_eq!(ours.app_code(), Some(AppCode::NOT_FOUND));
    assert_eq!(&ours.details()[..], b"none");

    let late = |text: String| async move {
        let values = [Ok(text), Err(std::io::Error::other("the disk broke"))];
        Ok::<_, std::io::Error>(stream::iter(values))
    };
    let served = world.worker.serve(&SPLIT, late).await.unwrap();
    let router = world.router(&SPLIT).await;
    let error = router.call("one").collect().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::HandlerFailed, "the disk broke"));
    drop(served);
    world.end().await;
}

#[tokio::test]
async fn a_function_that_keeps_the_sink_pushes_values() {
    let world = World::new().await;
    let (submit, mut waiting) = tokio::sync::mpsc::channel(1);
    let accept = move |request: SingleIn<u32>, sink: ValueSink<String>| {
        let (number, _) = request.into_parts();
        if number == 0 {
            let error = Error::new(Code::Overloaded, "the batch is full");
            return Err::<(), ValueRefused<String>>(Box::new((error, sink)));
        }
        submit.try_send((number, sink)).unwrap();
        Ok(())
    };
    let endpoint = Endpoint::<u32, String>::new("demo/numbers/spell");
    let served = world.worker.serve(&endpoint, accept).await.unwrap();
    let batch = tokio::spawn(async move {
        while let Some((number, mut sink)) = waiting.recv().await {
            sink.try_send(&"first".to_owned()).unwrap();
            for number in 1..number {
                sink.send(&number.to_string()).await.unwrap();
            }
            assert_eq!(sink.sent(), u64::from(number));
            sink.complete();
        }
    });
    let router = world.router(&endpoint).await;
    assert_eq!(router.call(3_u32).collect().await.unwrap(), ["first", "1", "2"]);
    let refused = router.retry(sinew::RetryConfig::none());
    assert_eq!(refused.call(0_u32).collect().await.unwrap_err().code(), Code::Overloaded);

    // What is no number is refused before the function hears of it.
    let client = world.caller.client(endpoint.name());
    let texts = sinew::PushRouter::<String, String>::from_client(client, sinew::RouterMode::Random);
    let texts = texts.await.unwrap().with_retry(sinew::RetryConfig::none());
    let error = texts.generate("three".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPayload, "{error}");
    drop(served);
    world.end().await;
    batch.await.unwrap();
}
