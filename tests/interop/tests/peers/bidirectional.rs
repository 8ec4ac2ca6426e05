//! Requests that are streams, each way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sinew::{
    CancelReason, Code, Config, Context, Error, InstanceId, Outcome, ResponseSink, ResponseStream,
    Runtime, StopKind,
    layers::{
        compat_dynamo::{DynamoCodec, DynamoScheme},
        discovery::{Discovery, FileDiscovery, Instance, Registration},
        ingress::Ingress,
        plane::{
            Address, BoxStream, DuplexServer, IncomingRequest, OutgoingRequest, RequestPlaneClient,
            RequestPlaneServer, RequestStream,
        },
        plane_call_home::{
            ListenHost, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer,
            TcpStreamServerConfig,
        },
        plane_request_tcp::{
            TcpRequestClient, TcpRequestConfig, TcpRequestServer, TcpRequestServerConfig,
        },
        split::{
            BidirectionalEndpoint, DeclaredEndpoint, EndpointDeclaration, SplitServer,
            SplitServerConfig, SplitTransport,
        },
        transport_nats::{NatsConfig, NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer},
        transport_tcp::{TcpConfig, TcpServer},
    },
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::{
    place::{Backend, Codec, Place, Plane, service},
    process::{Process, soon},
    stock,
};

const ID: InstanceId = InstanceId(0x1f2e);

async fn nats() -> NatsConnection {
    let servers = vec![service("SINEW_TEST_NATS")];
    let config = NatsConfig { servers, ..NatsConfig::default() };
    NatsConnection::connect(config.checked().unwrap()).await.unwrap()
}

/// A Sinew worker that echoes the items of its requests.
struct Echo {
    split: SplitServer,
    /// How the items of each request ended.
    ended: UnboundedReceiver<Option<Code>>,
    _tcp: TcpServer,
    _nats: Option<NatsEndpoint>,
    _declared: DeclaredEndpoint,
    _served: BidirectionalEndpoint,
    _registration: Registration,
}

impl Echo {
    async fn start(place: &Place, codec: Codec) -> Self {
        let back = TcpStreamClientConfig::default().checked().unwrap();
        let back = Arc::new(TcpStreamClient::new(back));
        let peer = Some(Arc::new(DynamoCodec) as _);
        let config = SplitServerConfig { peer, ..SplitServerConfig::default() };
        let others = Arc::new(Ingress::default());
        let split = SplitServer::new(config, Arc::clone(&back) as _, others.clone());
        let plane = TcpRequestServerConfig::default().checked().unwrap();
        let plane = TcpRequestServer::new(plane, Arc::new(split.clone()));
        let tcp = TcpServer::new(TcpConfig::default().checked().unwrap(), others)
            .with_protocol(Arc::new(plane));
        tcp.start("127.0.0.1:0".parse().unwrap()).await.unwrap();

        let mut declaration = EndpointDeclaration::new(place.endpoint.clone(), ID);
        let mut instance = Instance::new(place.endpoint.clone(), ID, tcp.addresses());
        instance.serves_dynamo = true;
        let nats = match place.plane {
            Plane::Tcp => None,
            Plane::Nats => {
                let server = NatsServer::new(nats().await, Arc::new(split.clone()));
                let served = server.serve(&place.endpoint, ID).await.unwrap();
                declaration.subject = Some(served.subject().to_owned());
                instance.addresses = vec![Address::new("nats", served.subject()).unwrap()];
                Some(served)
            }
        };
        let (tell, ended) = mpsc::unbounded_channel();
        let handler = move |request: IncomingRequest<'_>, items, sink| {
            assert!(request.body.is_empty());
            tokio::spawn(echo(items, sink, tell.clone()));
        };
        let declared = split.declare(declaration);
        let endpoint = place.endpoint.clone();
        let served = split.serve_bidirectional(endpoint, back, Arc::new(handler));
        instance.codecs = vec![codec.name().to_owned()];
        let store = FileDiscovery::open(place.folder.path()).unwrap();
        let registration = store.register(instance).await.unwrap();
        Self {
            split,
            ended,
            _tcp: tcp,
            _nats: nats,
            _declared: declared,
            _served: served,
            _registration: registration,
        }
    }

    async fn ended(&mut self) -> Option<Code> {
        soon("the end of the items", self.ended.recv()).await.unwrap()
    }
}

async fn echo(items: RequestStream, mut sink: ResponseSink, ended: UnboundedSender<Option<Code>>) {
    sink.accept();
    let echoed = forward(items, &mut sink).await;
    match &echoed {
        Ok(()) => sink.complete(),
        Err(_) => sink.cancelled(CancelReason::Caller),
    }
    // The test may have seen enough.
    let _ = ended.send(echoed.err().map(|error| error.code()));
}

async fn forward(mut items: RequestStream, sink: &mut ResponseSink) -> Result<(), Error> {
    while let Some(item) = items.next().await {
        sink.send(item?).await?;
    }
    Ok(())
}

async fn stock_calls_sinew(plane: Plane, codec: Codec) {
    let place = Place::new(Backend::File, plane);
    let mut worker = Echo::start(&place, codec).await;
    let mut client = stock::Client::start(&place, 1).await;
    for count in [0, 1, 500] {
        let items: Vec<_> = (0..count).map(|n| json!({ "n": n, "text": "\u{1f980}" })).collect();
        let ended = client.call(json!({ "items": items })).await;
        assert!(ended.error.is_none(), "{ended:?}");
        assert_eq!(ended.items, items);
        assert_eq!(worker.ended().await, None);
    }
    for how in ["stop", "kill", "drop"] {
        let call = json!({
            "items": ["x"], "repeat": true, "item_delay_ms": 1, "cancel_after": 3, "how": how,
        });
        let ended = client.call(call).await;
        assert!(ended.error.is_none() && ended.count >= 3, "{how}: {ended:?}");
        // Cancelled or cut short, as the one or the other of its two connections says first.
        worker.ended().await;
    }

    // A request of the other shape is at fault itself: the router does not blame the worker.
    let ended = client.call(json!({ "request": {} })).await;
    let error = ended.error.expect("an error");
    assert_eq!((&error["at"], &error["class"]), (&json!("call"), &json!("InvalidRequest")));
    let ended = client.call(json!({ "items": [1] })).await;
    assert_eq!((ended.items, ended.error), (vec![json!(1)], None));
    let cut = worker.split.shutdown(Duration::from_secs(5)).await;
    assert_eq!((cut.cut_streams, cut.cut_tasks), (0, 0));
}

/// A Sinew caller of stock workers.
struct Caller {
    runtime: Runtime,
    transport: SplitTransport,
    responses: Arc<TcpStreamServer>,
    address: Address,
    request: OutgoingRequest,
    codec: Codec,
}

impl Caller {
    async fn start(place: &Place, worker: &Process, codec: Codec) -> Self {
        let config = Config::from_variables(place.variables()).unwrap().checked().unwrap();
        let runtime = Runtime::new(config).await.unwrap();
        let client = runtime.client(place.endpoint.clone());
        let instances = client.wait_for_instances(Duration::from_secs(30)).await.unwrap();
        let (instance, address) = (instances[0].id, instances[0].addresses[0].clone());
        assert_eq!(worker.ready["instance"], instance.to_string());
        let config = TcpRequestConfig::default().checked().unwrap();
        let (scheme, requests): (_, Arc<dyn RequestPlaneClient>) = match place.plane {
            Plane::Tcp => (DynamoScheme::Tcp, Arc::new(TcpRequestClient::new(config))),
            Plane::Nats => (DynamoScheme::Nats, Arc::new(NatsRequestClient::new(nats().await))),
        };
        let responses = TcpStreamServerConfig {
            host: ListenHost::Ip([127, 0, 0, 1].into()),
            ..TcpStreamServerConfig::default()
        };
        let responses = Arc::new(TcpStreamServer::bind(responses.checked().unwrap()).unwrap());
        let transport = scheme.split_transport(1 << 20, requests, responses.clone());
        let mut request = OutgoingRequest::new(place.endpoint.clone(), instance, Bytes::new());
        let content = codec.format().content_type();
        request.headers.insert("content-type", content).unwrap();
        Self { runtime, transport, responses, address, request, codec }
    }

    /// Opens a request with these items.
    async fn open(&self, items: BoxStream<'static, Value>) -> ResponseStream {
        let format = self.codec.format();
        let items = items.map(move |item| format.encode(&item).unwrap()).boxed();
        let request = self.request.clone().with_context(Context::new());
        let opening =
            self.transport.open_bidirectional(&self.address, request, items, &*self.responses);
        soon("the opening", opening).await.unwrap()
    }

    async fn next(&self, response: &mut ResponseStream) -> Option<Value> {
        let item = soon("an item", response.next()).await?.ok()?;
        Some(self.codec.format().decode(&item).unwrap())
    }
}

async fn sinew_calls_stock(plane: Plane, codec: Codec) {
    let place = Place::new(Backend::File, plane);
    let mut worker = stock::bidi_worker(&place, codec).await;
    let caller = Caller::start(&place, &worker, codec).await;
    for count in [0_u64, 1, 500] {
        let mut response =
            caller.open(stream::iter(0..count).map(|n| json!({ "n": n })).boxed()).await;
        for n in 0..count {
            let item = caller.next(&mut response).await.unwrap();
            assert_eq!((&item["i"], &item["echo"]), (&json!(n), &json!({ "n": n })));
        }
        assert!(caller.next(&mut response).await.is_none());
        let outcome = response.outcome().unwrap();
        assert!(matches!(outcome, Outcome::Complete { items } if *items == count), "{outcome:?}");
        let end = worker.line(|line| line["event"] == "end").await;
        assert_eq!((&end["outcome"], &end["items"]), (&json!("complete"), &json!(count)));
    }
    for (kind, told) in [(StopKind::Stop, "stopped"), (StopKind::Kill, "killed")] {
        let items = stream::iter(0..3).map(|n| json!(n)).chain(stream::pending()).boxed();
        let mut response = caller.open(items).await;
        for n in 0..3 {
            assert_eq!(caller.next(&mut response).await.unwrap()["echo"], n);
        }
        response.context().cancel(kind, CancelReason::Caller);
        while caller.next(&mut response).await.is_some() {}
        let outcome = response.outcome().unwrap();
        assert!(matches!(outcome, Outcome::Cancelled { .. }), "{outcome:?}");
        let is_cancel = |line: &Value| line["event"] == "stopped" || line["event"] == "killed";
        assert_eq!(worker.line(is_cancel).await["event"], told);
        worker.line(|line| line["event"] == "end").await;
    }
    assert_eq!(caller.transport.open_streams(), 0);
    let none_expected = async {
        while caller.responses.streams() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the request streams", none_expected).await;
    caller.runtime.shutdown(Duration::from_secs(5)).await;
}

macro_rules! streams {
    ($($name:ident: $plane:ident, $codec:ident;)+) => {$(
        mod $name {
            use super::{Codec, Plane};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn stock_calls_sinew() {
                super::stock_calls_sinew(Plane::$plane, Codec::$codec).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sinew_calls_stock() {
                super::sinew_calls_stock(Plane::$plane, Codec::$codec).await;
            }
        }
    )+};
}

streams! {
    tcp_json: Tcp, Json;
    tcp_msgpack: Tcp, Msgpack;
    nats_json: Nats, Json;
    nats_msgpack: Nats, Msgpack;
}
