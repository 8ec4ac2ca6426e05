//! The discovery: who registers, who watches, who edits.

use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, TryStreamExt};
use sinew::layers::{
    discovery::{Change, Discovery, Instance, View, record},
    registry::{LocalEndpoints, LocalProcess, TransportRegistration, TransportRegistry},
    router::{Client, PushRouter, RouterMode},
};
use sinew_outside::{lines::LinesDiscovery, masked::masked_transport};
use sinew_plane::{Code, DuplexServer, InstanceId};
use sinew_testkit::within;
use tempfile::TempDir;

use crate::fixture::{Worker, config, endpoint};

/// A file that two processes follow.
struct Shared {
    folder: TempDir,
    here: LinesDiscovery,
    there: LinesDiscovery,
}

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            LinesDiscovery::open(folder.path().join("instances"), Duration::from_millis(5)).unwrap()
        };
        let (here, there) = (open(), open());
        Self { folder, here, there }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("instances")).unwrap()
    }
}

fn instance(id: u64) -> Instance {
    let address = format!("masked://127.0.0.1:{id}").parse().unwrap();
    Instance::new(endpoint(), InstanceId(id), vec![address])
}

async fn next(view: &mut View) -> Vec<Change> {
    within("a change", view.changed()).await.unwrap()
}

/// A router that finds its instances in a discovery and reaches them masked.
async fn router(discovery: &LinesDiscovery) -> PushRouter<String, String> {
    let registry = Arc::new(TransportRegistry::new());
    let transport = Arc::new(masked_transport(config().driver));
    let registration = TransportRegistration::duplex(&*transport);
    registry.register_duplex_transport(registration, transport).unwrap();
    let (view, locals) = (discovery.watch().await.unwrap(), LocalEndpoints::new());
    let client = Client::new(endpoint(), view, registry, locals, LocalProcess::default());
    PushRouter::from_client(client, RouterMode::RoundRobin).await.unwrap()
}

#[tokio::test]
async fn a_router_finds_a_worker_and_loses_it() {
    let file = Shared::new();
    let worker = Worker::start(InstanceId(7)).await;
    let announced = Instance::new(endpoint(), InstanceId(7), worker.server.addresses());
    let mut view = file.there.watch().await.unwrap();
    let registration = file.here.register(announced.clone()).await.unwrap();
    assert_eq!(next(&mut view).await, [Change::Added(Arc::new(announced))]);

    let router = router(&file.there).await;
    let words = within("a response", router.generate("one two".to_owned())).await.unwrap();
    let words: Vec<_> = within("its end", words.try_collect()).await.unwrap();
    assert_eq!(words, ["one", "two"]);

    registration.withdraw().await.unwrap();
    assert!(matches!(&next(&mut view).await[..], [Change::Removed(_)]));
    let error = within("a refusal", router.generate("three".to_owned())).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);
}

#[tokio::test]
async fn a_registration_that_is_dropped_or_given_up_is_taken_back() {
    let file = Shared::new();
    let mut view = file.there.watch().await.unwrap();
    let dropped = file.here.register(instance(1)).await.unwrap();
    assert!(matches!(&next(&mut view).await[..], [Change::Added(_)]));
    drop(dropped);
    assert!(matches!(&next(&mut view).await[..], [Change::Removed(_)]));

    // Another process is about to write.
    let lock = File::create(file.folder.path().join("instances.lock")).unwrap();
    lock.lock().unwrap();
    assert!(file.here.register(instance(2)).now_or_never().is_none(), "it has to wait");
    drop(lock);
    // What is done behind it finds the file without it.
    let last = file.here.register(instance(3)).await.unwrap();
    assert_eq!(file.text().lines().count(), 1, "{}", file.text());
    last.withdraw().await.unwrap();
    assert_eq!(file.text().lines().count(), 0);
}

#[tokio::test]
async fn people_may_edit_and_what_is_no_record_is_left_alone() {
    let file = Shared::new();
    let mut view = file.here.watch().await.unwrap();
    let edited = instance(1);
    let value = record::encode(&edited.clone().into()).unwrap();
    let mut text = b"# by hand\ntext/words/split/2 {}\n".to_vec();
    write!(text, "{} ", edited.key()).unwrap();
    text.extend(value);
    // As an editor saves: in one step.
    let saved = file.folder.path().join("saved");
    fs::write(&saved, text).unwrap();
    fs::rename(saved, file.folder.path().join("instances")).unwrap();
    assert_eq!(next(&mut view).await, [Change::Added(Arc::new(edited))]);

    let registration = file.there.register(instance(3)).await.unwrap();
    assert!(matches!(&next(&mut view).await[..], [Change::Added(_)]));
    assert_eq!(file.text().lines().count(), 4);
    registration.withdraw().await.unwrap();
    assert!(file.text().starts_with("# by hand\n") && file.text().lines().count() == 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("missing/instances");
    let error = LinesDiscovery::open(nowhere, Duration::from_secs(60)).err().unwrap();
    assert!(error.to_string().starts_with("lines discovery is not available"), "{error}");
}
