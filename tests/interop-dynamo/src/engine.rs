//! The worker's engine: streams the items that a [`Job`] asks for and reports how each request went.

use std::sync::Arc;
use std::time::Duration;

use dynamo_runtime::error::{DynamoError, ErrorClass};
use dynamo_runtime::pipeline::{
    AsyncEngine, AsyncEngineContext, AsyncEngineContextProvider, Error, ManyOut, ResponseStream,
    SingleIn, async_trait,
};
use dynamo_runtime::protocols::annotated::Annotated;
use serde_json::{Value, json};

use crate::job::{FailAt, Job, Kind};
use crate::report::Report;

/// Serves jobs in the name of one instance.
#[derive(Debug)]
pub struct Engine {
    /// The instance's id, in the hexadecimal form that discovery uses.
    pub instance: String,
    /// Print nothing per request.
    pub quiet: bool,
}

#[async_trait]
impl AsyncEngine<SingleIn<Value>, ManyOut<Annotated<Value>>, Error> for Engine {
    async fn generate(&self, input: SingleIn<Value>) -> Result<ManyOut<Annotated<Value>>, Error> {
        let (request, context) = input.into_parts();
        let metadata = context.metadata().clone();
        let context = context.context();
        let mut report = Report::start(context.clone(), json!(metadata), self.quiet);
        let job: Job = serde_json::from_value(request)?;
        sleep_unless_stopped(Duration::from_millis(job.open_delay_ms), &job, &context).await;
        let fail_at = job.fail_at()?;
        if fail_at == Some(FailAt::Before) {
            report.ended_with("failed");
            return Err(failure(&job, "the engine refuses this request").into());
        }
        let run = Run { job, fail_at, report, instance: self.instance.clone(), next: 0 };
        let stream = futures::stream::unfold(run, |mut run| async move {
            run.item().await.map(|item| (item, run))
        });
        Ok(ResponseStream::new(Box::pin(stream), context))
    }
}

/// One stream in progress.
struct Run {
    job: Job,
    fail_at: Option<FailAt>,
    report: Report,
    instance: String,
    next: u64,
}

impl Run {
    async fn item(&mut self) -> Option<Annotated<Value>> {
        if self.report.has_ended() {
            return None;
        }
        let context = self.report.context().clone();
        sleep_unless_stopped(self.job.delay(), &self.job, &context).await;
        if self.job.stall_after == Some(self.next) {
            sleep_unless_stopped(Duration::MAX, &self.job, &context).await;
        }
        if context.is_stopped() && !self.job.ignore_stop {
            return None;
        }
        if self.fail_at == Some(FailAt::After(self.next)) {
            self.report.ended_with("failed");
            return Some(error_item(failure(&self.job, "the engine failed half way")));
        }
        if self.job.count() == Some(self.next) {
            self.report.ended_with("complete");
            return None;
        }
        let item = self.payload();
        self.next += 1;
        self.report.sent();
        // An endless stream without delays must still let the rest of the process run.
        tokio::task::yield_now().await;
        Some(Annotated::from_data(item))
    }

    fn payload(&self) -> Value {
        match self.job.kind {
            Kind::Text => json!(self.job.text),
            Kind::Values => self
                .job
                .values
                .get(self.next as usize % self.job.values.len().max(1))
                .cloned()
                .unwrap_or_default(),
            Kind::Echo => {
                let mut item = json!({ "i": self.next, "text": self.job.text, "worker": self.instance, "pid": std::process::id() });
                if self.job.size > 0 {
                    item["pad"] = json!("x".repeat(self.job.size));
                }
                item
            }
        }
    }
}

async fn sleep_unless_stopped(time: Duration, job: &Job, context: &Arc<dyn AsyncEngineContext>) {
    if time.is_zero() {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = context.stopped(), if !job.ignore_stop => {}
    }
}

fn failure(job: &Job, text: &str) -> DynamoError {
    let Some(class) = &job.fail_class else { return DynamoError::msg(text) };
    // The class's name on the wire is the one spelling that both projects share.
    match serde_json::from_value::<ErrorClass>(json!(class)) {
        Ok(class) => DynamoError::builder().error_type(class).message(text).build(),
        Err(error) => DynamoError::msg(format!("{text}; no class {class}: {error}")),
    }
}

fn error_item(error: DynamoError) -> Annotated<Value> {
    let mut item = Annotated::from_error("");
    item.error = Some(error);
    item
}
