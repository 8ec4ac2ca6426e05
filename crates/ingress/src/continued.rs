//! Requests that go on with a response which another instance has begun.

use bytes::Bytes;
use sinew_plane::{
    Checkpoints, Code, Context, Continuation, Continued, Error, Executed, ResponseSink, header,
};

/// Takes header and checkpoint of a continued request off its context and its body. The context of a
/// request whose endpoint declares checkpoints has a place for them from then on.
///
/// # Errors
/// The header has another form, or the endpoint has no checkpoints. The request did not run.
#[cold]
pub(crate) fn prepare(
    continuation: Continuation,
    body: &mut Bytes,
    context: &mut Context,
    sink: &mut ResponseSink,
) -> Result<(), Error> {
    let headers = context.headers();
    let value = headers.get(header::CONTINUE_AT);
    if continuation != Continuation::Checkpoint {
        let Some(_) = value else { return Ok(()) };
        let message = format!(
            "the request goes on from an item, and this instance declares the continuation \
             `{continuation}`: the record in discovery is that of another instance"
        );
        return Err(Error::new(Code::InvalidPayload, message).with_executed(Executed::No));
    }
    let continued = value.map(|value| Continued::read(value, body)).transpose()?;
    // Without it: a handler that sends its headers on would send a continued request.
    let headers = headers.without(&[header::CONTINUE_AT]);
    *context = context.replaced(headers, Some(Checkpoints::new(continued)));
    sink.set_context(context.clone());
    Ok(())
}
