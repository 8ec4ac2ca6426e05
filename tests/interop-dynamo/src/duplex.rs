//! The engine of a bidirectional worker: every item that comes in goes out again.

use dynamo_runtime::pipeline::{
    AsyncEngine, AsyncEngineContextProvider, Error, ManyIn, ManyOut, ResponseStream, async_trait,
};
use dynamo_runtime::protocols::annotated::Annotated;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::report::Report;

/// Echoes in the name of one instance.
#[derive(Debug)]
pub struct Echo {
    /// The instance's id, in the hexadecimal form that discovery uses.
    pub instance: String,
    /// Print nothing per request.
    pub quiet: bool,
}

#[async_trait]
impl AsyncEngine<ManyIn<Value>, ManyOut<Annotated<Value>>, Error> for Echo {
    async fn generate(&self, input: ManyIn<Value>) -> Result<ManyOut<Annotated<Value>>, Error> {
        let context = input.context();
        let report = Report::start(context.clone(), json!({}), self.quiet);
        let (requests, _) = input.into_parts();
        let Some(requests) = requests.take() else {
            anyhow::bail!("the request stream was taken before")
        };
        let start = (requests, report, self.instance.clone());
        let stream = futures::stream::unfold(
            start,
            |(mut requests, mut report, instance)| async move {
                let Some(value) = requests.next().await else {
                    if !report.context().is_stopped() {
                        report.ended_with("complete");
                    }
                    return None;
                };
                let item = json!({ "i": report.items(), "echo": value, "worker": instance, "pid": std::process::id() });
                report.sent();
                Some((Annotated::from_data(item), (requests, report, instance)))
            },
        );
        Ok(ResponseStream::new(Box::pin(stream), context))
    }
}
