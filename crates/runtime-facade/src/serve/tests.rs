//! Who finds what is served.

use std::{fs, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{DiscoverySource, Error, PushRouter, RouterMode, Runtime, SingleIn, engine_fn};

#[tokio::test]
async fn a_worker_is_announced_to_those_whom_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let discovery = DiscoverySource::File(folder.path().to_owned());
        Runtime::builder().discovery(discovery).build()
    };
    let (worker, caller) = (start().await.unwrap(), start().await.unwrap());
    let endpoint = || "text/words/split".parse().unwrap();
    let engine = engine_fn(|request: SingleIn<String>| async move {
        Ok::<_, Error>(stream::iter([Ok(request.data().clone())]))
    });
    let served = worker.serve(endpoint()).engine(engine).await.unwrap();

    let record = format!("text%2Fwords%2Fsplit%2F{}", served.instance());
    let record = fs::read_to_string(folder.path().join("v1/instances").join(record)).unwrap();
    // Stock callers of Dynamo know `tcp`, and skip a record with another one.
    let transport = if cfg!(feature = "dynamo") { "tcp" } else { "sinew" };
    assert!(record.contains(&format!(r#""transport":{{"{transport}":""#)), "{record}");

    let client = caller.client(endpoint());
    client.wait_for_instances(Duration::from_secs(30)).await.unwrap();
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let mut response = router.await.unwrap().generate("one".to_owned()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "one");
    assert!(response.next().await.is_none());
    caller.shutdown(Duration::from_secs(5)).await;
    worker.shutdown(Duration::from_secs(5)).await;
}
