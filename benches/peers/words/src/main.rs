//! The service of `docs/beside-tonic.md` as a user of tonic writes it. Never measured: it is here to
//! be compiled.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use self::text::{
    Text, Word,
    words_client::WordsClient,
    words_server::{Words, WordsServer},
};

mod text {
    tonic::include_proto!("text");
}

struct Splitter;

#[tonic::async_trait]
impl Words for Splitter {
    type SplitStream = Pin<Box<dyn Stream<Item = Result<Word, Status>> + Send>>;

    async fn split(&self, request: Request<Text>) -> Result<Response<Self::SplitStream>, Status> {
        let text = request.into_inner().text;
        let words: Vec<_> =
            text.split(' ').map(|word| Ok(Word { word: word.to_owned() })).collect();
        Ok(Response::new(Box::pin(stream::iter(words))))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(
        Server::builder()
            .add_service(WordsServer::new(Splitter))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
                stopped.await.unwrap_or_default()
            }),
    );

    let mut client = WordsClient::connect(address).await?;
    let request = Text { text: "one two three".to_owned() };
    let mut words = client.split(request).await?.into_inner();
    while let Some(word) = words.message().await? {
        println!("{}", word.word);
    }

    drop(stop);
    serving.await??;
    Ok(())
}
