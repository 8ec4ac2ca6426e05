//! A failed call or item as JSON: Dynamo's own classification beside the text of the whole chain.

use dynamo_runtime::error::DynamoError;
use serde_json::{Value, json};

/// Describes why a call failed. `at` is `call` before the stream exists, `item` inside it.
pub fn of_call(error: &anyhow::Error) -> Value {
    let typed = error.chain().find_map(|cause| cause.downcast_ref::<DynamoError>());
    describe("call", typed, &format!("{error:#}"))
}

/// Describes an error item of a stream.
pub fn of_item(error: &DynamoError) -> Value {
    describe("item", Some(error), &error.to_string())
}

fn describe(at: &str, typed: Option<&DynamoError>, text: &str) -> Value {
    json!({
        "at": at,
        "class": typed.map(|error| error.class().to_string()),
        "type": typed.map(|error| error.error_type().to_string()),
        "reason": typed.map(|error| error.reason().to_string()),
        "message": typed.map(|error| error.message().to_owned()),
        "text": text,
    })
}
