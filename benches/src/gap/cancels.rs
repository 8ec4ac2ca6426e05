//! From a caller's cancel to the context of the handler.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use sinew::{Context, SingleIn, Window};

use super::{
    Row,
    cuts::{Lanes, Scene, pass_of},
    millis_since, nanos, router,
    server::{CANCELS, HEARD},
};

/// How long one cancel may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(20);

/// In which situation a stream is cancelled, and what the worker is asked for.
const SITUATIONS: [(&str, &str); 3] =
    [("after", "after an item"), ("before", "before the first item"), ("parked", "without credit")];

pub(super) async fn measure(streams: usize, cancels: usize) -> Result<Vec<Row>> {
    let scene = Scene::set(pass_of(streams)).await?;
    let lanes = Lanes::open(&scene.router, streams).await?;
    let (_runtime, router) = router(scene.folder.path(), CANCELS).await?;
    let router = router.with_window(Window { items: 2, bytes: 4 << 10 });
    let s = if streams == 1 { "stream" } else { "streams" };
    let mut rows = Vec::new();
    for (ask, words) in SITUATIONS {
        let mut millis = Vec::new();
        for _ in 0..cancels {
            let context = Context::new();
            let request = SingleIn::with_context(Bytes::from(ask), context.clone());
            let mut stream = router.generate(request).await?;
            match ask {
                "after" => drop(stream.next().await.context("no item")??),
                // The handler runs and waits: for the cancel, or for credit.
                _ => tokio::time::sleep(Duration::from_millis(3)).await,
            }
            let at = nanos();
            context.stop();
            let rest = async { while stream.next().await.is_some() {} };
            tokio::time::timeout(PATIENCE, rest).await.context("a cancel without an answer")?;
            let facts = stream.facts();
            let heard = facts.get(HEARD).context("the handler does not say when it heard")?;
            millis.push(millis_since(at, heard.parse()?));
        }
        rows.push(Row {
            what: format!("cancel to handler, {words}, {streams} live {s} beside it"),
            events: cancels,
            millis,
            targets: (None, 5.0),
        });
    }
    drop(lanes);
    Ok(rows)
}
