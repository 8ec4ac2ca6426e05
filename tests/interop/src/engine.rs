//! The engine: the items that a [`Job`] asks for.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use futures_util::{Stream, stream};
use serde_json::{Value, json};
use sinew::{Code, Context, Error, InstanceId, SingleIn};

use crate::{
    job::{FailAt, Job, Kind},
    print,
};

/// Begins to answer a job.
pub(crate) async fn answer(
    instance: InstanceId,
    request: SingleIn<Value>,
) -> Result<impl Stream<Item = Result<Value, Error>> + Send + 'static, Error> {
    let (request, context) = request.into_parts();
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::new(Code::InvalidPayload, format!("not a job: {error}"))
    };
    let job: Job = serde_json::from_value(request).map_err(|error| unreadable(&error))?;
    let report = Report::start(context.clone());
    sleep(Duration::from_millis(job.open_delay_ms), &context).await;
    let fail_at = job.fail_at().map_err(|error| unreadable(&error))?;
    if fail_at == Some(FailAt::Before) {
        report.end("failed");
        return Err(Error::handler("the engine refuses this request"));
    }
    let run = Run { job, fail_at, instance: instance.to_string(), next: 0, report };
    Ok(stream::unfold(run, |mut run| async move { run.item().await.map(|item| (item, run)) }))
}

/// A stream in progress.
struct Run {
    job: Job,
    fail_at: Option<FailAt>,
    instance: String,
    next: u64,
    report: Report,
}

impl Run {
    async fn item(&mut self) -> Option<Result<Value, Error>> {
        let context = self.report.context.clone();
        sleep(self.job.delay(), &context).await;
        if self.job.stall_after == Some(self.next) {
            context.stopped().await;
        }
        if context.is_stopped() && !self.job.ignore_stop {
            return None;
        }
        if self.fail_at == Some(FailAt::After(self.next)) {
            self.report.end("failed");
            return Some(Err(Error::handler("the engine failed half way")));
        }
        if self.job.count() == Some(self.next) {
            self.report.end("complete");
            return None;
        }
        let item = self.payload();
        self.next += 1;
        Some(Ok(item))
    }

    fn payload(&self) -> Value {
        let position = usize::try_from(self.next).unwrap_or(usize::MAX);
        match self.job.kind {
            Kind::Text => json!(self.job.text),
            Kind::Values => self.job.values.get(position).cloned().unwrap_or_default(),
            Kind::Echo => {
                let mut item = json!({
                    "i": self.next, "text": self.job.text, "worker": self.instance,
                    "pid": std::process::id(),
                });
                if self.job.size > 0 {
                    item["pad"] = json!("x".repeat(self.job.size));
                }
                item
            }
        }
    }
}

async fn sleep(time: Duration, context: &Context) {
    if time.is_zero() {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = context.stopped() => {}
    }
}

/// Tells the begin and the end of a request, whatever ends it.
struct Report {
    context: Context,
    outcome: OnceLock<&'static str>,
}

impl Report {
    fn start(context: Context) -> Self {
        let headers: BTreeMap<_, _> = context.headers().iter().collect();
        let request = context.id().to_string();
        print(&json!({ "event": "start", "request": request, "headers": headers }));
        Self { context, outcome: OnceLock::new() }
    }

    fn end(&self, outcome: &'static str) {
        // The first one counts.
        let _ = self.outcome.set(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let cancelled = match (self.context.is_killed(), self.context.is_stopped()) {
            (true, _) => "killed",
            (false, true) => "stopped",
            (false, false) => "dropped",
        };
        let outcome = self.outcome.get().unwrap_or(&cancelled);
        let request = self.context.id().to_string();
        print(&json!({ "event": "end", "request": request, "outcome": outcome }));
    }
}
