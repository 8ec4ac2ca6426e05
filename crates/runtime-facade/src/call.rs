//! One call: the request value, its options, and the form in which the caller wants the response.

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{
    BoxFuture, Code, Context, ContextBuilder, Error, Executed, Headers, HeadersError, InstanceId,
    ManyOut, SingleIn,
};

use crate::{Response, Router};

/// A call that is not sent yet, made by [`Router::call`](crate::Router::call). Awaiting it sends
/// the request and returns the response stream as soon as a worker has accepted the request;
/// [`unary`](Self::unary) and [`collect`](Self::collect) wait for the end of the response, and
/// [`unary_response`](Self::unary_response) and [`collect_response`](Self::collect_response) return
/// its head and facts as well.
///
/// Dropping the future, or the stream before its end, cancels the request.
#[must_use = "nothing is sent until the call is awaited"]
pub struct Call<'a, Req, Resp> {
    router: &'a Router<Req, Resp>,
    value: Req,
    context: ContextBuilder,
    headers: Headers,
    /// The error of the first header that was not valid.
    refused: Option<HeadersError>,
    instance: Option<InstanceId>,
}

impl<'a, Req, Resp> Call<'a, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(router: &'a Router<Req, Resp>, value: Req) -> Self {
        let (context, headers) = (Context::builder(), Headers::default());
        Self { router, value, context, headers, refused: None, instance: None }
    }

    /// Sets the longest time from now until the end of the response.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.context = self.context.timeout(timeout);
        self
    }

    /// Sets the instant by which the response has to end.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.context = self.context.deadline(deadline);
        self
    }

    /// Sets the longest wait until a worker accepts the request.
    pub fn accept_timeout(mut self, limit: Duration) -> Self {
        self.context = self.context.accept_timeout(limit);
        self
    }

    /// Sets the longest wait for the first item.
    pub fn first_item_timeout(mut self, limit: Duration) -> Self {
        self.context = self.context.first_item_timeout(limit);
        self
    }

    /// Sets the longest wait for each further item.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.context = self.context.idle_timeout(limit);
        self
    }

    /// Sets how long the response waits for another connection when it has lost its own, instead of
    /// what the settings of the process say; zero ends it with the connection. The worker's end has
    /// a grace of its own, beyond which a longer one here is of no use.
    pub fn resume_grace(mut self, grace: Duration) -> Self {
        self.context = self.context.resume_grace(grace);
        self
    }

    /// Adds a header, which the handler finds in the context of the request. A header that is not
    /// valid fails the call before anything is sent.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.headers.insert(name, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Sends the request to this instance, instead of one that the router picks.
    pub fn instance(mut self, id: impl Into<InstanceId>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// Sends the request and returns the response stream, as awaiting the call does.
    ///
    /// # Errors
    /// As [`PushRouter::generate`](crate::PushRouter::generate), a layer's refusal, or a header that is not valid.
    pub async fn stream(self) -> Result<ManyOut<Resp>, Error> {
        if let Some(error) = self.refused {
            let error = Error::new(Code::InvalidPayload, format!("a header of the call: {error}"));
            return Err(error.with_executed(Executed::No));
        }
        let context = self.context.headers(self.headers).build();
        let request = SingleIn::with_context(self.value, context);
        self.router.send(request, self.instance).await
    }

    /// Sends the request and returns the value of a response that has exactly one.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), the error that ends the response, or
    /// [`InvalidPayload`](Code::InvalidPayload) where it has no value or more than one.
    pub async fn unary(self) -> Result<Resp, Error> {
        one(&mut self.stream().await?).await
    }

    /// As [`unary`](Self::unary), and returns the head and the facts of the response with its value.
    ///
    /// # Errors
    /// As [`unary`](Self::unary).
    pub async fn unary_response(self) -> Result<Response<Resp>, Error> {
        let mut values = self.stream().await?;
        let value = one(&mut values).await?;
        whole(value, values).await
    }

    /// Sends the request, waits for the end of the response and returns all its values.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), or the error that ends the response; the values before it are
    /// dropped.
    pub async fn collect(self) -> Result<Vec<Resp>, Error> {
        all(&mut self.stream().await?).await
    }

    /// As [`collect`](Self::collect), and returns the head and the facts of the response with its
    /// values.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub async fn collect_response(self) -> Result<Response<Vec<Resp>>, Error> {
        let mut values = self.stream().await?;
        let value = all(&mut values).await?;
        whole(value, values).await
    }
}

async fn one<T>(values: &mut ManyOut<T>) -> Result<T, Error> {
    let wrong = |what| {
        let error = Error::new(Code::InvalidPayload, format!("the response has {what}"));
        Err(error.with_executed(Executed::Yes))
    };
    let Some(value) = values.next().await.transpose()? else { return wrong("no value") };
    match values.next().await.transpose()? {
        None => Ok(value),
        Some(_) => wrong("more than one value"),
    }
}

async fn all<T>(values: &mut ManyOut<T>) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    while let Some(value) = values.next().await.transpose()? {
        all.push(value);
    }
    Ok(all)
}

/// The head and the facts of a response that has ended, with its value.
async fn whole<T, V>(value: V, mut values: ManyOut<T>) -> Result<Response<V>, Error> {
    let head = values.head().await?;
    Ok(Response::new(value, head, values.facts(), values.migrations()))
}

impl<'a, Req, Resp> IntoFuture for Call<'a, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    type Output = Result<ManyOut<Resp>, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.stream())
    }
}

impl<Req, Resp> std::fmt::Debug for Call<'_, Req, Resp> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("instance", &self.instance).finish_non_exhaustive()
    }
}
