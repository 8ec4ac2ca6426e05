//! One worker process of the demo.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use sinew::{
    Code, Config, Continuation, DiscoverySource, EndpointName, Error, InstanceId, SingleIn,
    engine_fn,
};
use tokio::io::AsyncReadExt;

use super::words::{Range, Word, split};
use crate::{
    exit::{Exit, Failure},
    serve::instance,
    settings,
};

/// How often a stream pauses, and how long. Without it a stream is over in a millisecond, and the
/// demo would hardly show one that is caught midway.
const PAUSES: usize = 20;
const PAUSE: Duration = Duration::from_millis(4);
/// In the second half they have to last while connections are cut and workers replaced.
const LONG_PAUSE: Duration = Duration::from_millis(150);

/// One worker process of the demo.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[arg(long)]
    pub(crate) name: EndpointName,
    #[arg(long)]
    pub(crate) place: PathBuf,
    #[arg(long, value_parser = instance)]
    pub(crate) id: InstanceId,
    /// Of the second half: longer pauses, and checkpoints.
    #[arg(long)]
    pub(crate) long: bool,
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// The text whose words are served.
    pub(crate) text: PathBuf,
}

/// Serves words until standard input ends, which it does with the process that started this one.
pub(crate) async fn run(args: WorkerArgs) -> Result<Exit, Failure> {
    let text = std::fs::read_to_string(&args.text).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read {}: {error}", args.text.display()))
    })?;
    let words: Arc<[String]> = split(&text).into();
    // Not from the environment, which may name one port for all three workers.
    let mut config = Config { discovery: DiscoverySource::File(args.place), ..Config::default() };
    config.advertise = args.advertise;
    config.listen = args.listen.unwrap_or(config.listen);
    // The way of the second half is TCP, as that is what is cut.
    config.unix = !args.long;
    let runtime = settings::start(config, &|_| {}).await?;
    let builder = runtime.serve_named(args.name).instance(args.id);
    let served = if args.long {
        let engine = engine_fn(move |request: SingleIn<Range>| {
            let words = Arc::clone(&words);
            async move { Ok::<_, Error>(answer_at_length(words, request)) }
        });
        builder.continuation(Continuation::Checkpoint).engine(engine).await?
    } else {
        let engine = engine_fn(move |request: SingleIn<Range>| {
            let words = Arc::clone(&words);
            async move { answer(words, *request.data()) }
        });
        builder.engine(engine).await?
    };
    let mut stdin = tokio::io::stdin();
    let mut byte = [0];
    while let Ok(1..) = stdin.read(&mut byte).await {}
    served.drain().await;
    runtime.shutdown(Duration::from_secs(1)).await;
    Ok(Exit::Complete)
}

fn answer(
    words: Arc<[String]>,
    range: Range,
) -> Result<impl futures_util::Stream<Item = Result<Word, Error>>, Error> {
    let end = range.first.checked_add(range.count).filter(|end| *end <= words.len());
    let Some(end) = end else {
        return Err(Error::new(Code::InvalidPayload, "the text does not have that many words"));
    };
    let chunk = range.count.div_ceil(PAUSES).max(1);
    Ok(stream::unfold(range.first, move |position| {
        let words = Arc::clone(&words);
        async move {
            if position == end {
                return None;
            }
            if position > range.first && (position - range.first).is_multiple_of(chunk) {
                tokio::time::sleep(PAUSE).await;
            }
            Some((Ok(Word { position, word: words[position].clone() }), position + 1))
        }
    }))
}

/// As [`answer`], with a text that begins anew, longer pauses and a checkpoint with each word. It goes
/// on behind the words that another worker has sent.
fn answer_at_length(
    words: Arc<[String]>,
    request: SingleIn<Range>,
) -> impl Stream<Item = Result<Word, Error>> {
    let (Range { first, count }, context) = request.into_parts();
    let had = context.continued().map_or(0, |continued| continued.items);
    let begin = first + usize::try_from(had).unwrap_or(usize::MAX).min(count);
    let chunk = count.div_ceil(PAUSES).max(1);
    stream::iter(begin..first + count).then(move |position| {
        let (words, context) = (Arc::clone(&words), context.clone());
        async move {
            if position > begin && (position - first).is_multiple_of(chunk) {
                tokio::time::sleep(LONG_PAUSE).await;
            }
            // The number of the item is all the state that there is.
            context.checkpoint("")?;
            Ok(Word { position, word: words[position % words.len()].clone() })
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_words_come_with_their_positions() {
        let words: Arc<[String]> = (0..200).map(|n| n.to_string()).collect();
        let range = Range { first: 10, count: 120 };
        let got: Vec<_> = answer(Arc::clone(&words), range).unwrap().collect().await;
        assert_eq!(got.len(), 120);
        for (n, word) in got.into_iter().enumerate() {
            let expected = Word { position: 10 + n, word: (10 + n).to_string() };
            assert_eq!(word.unwrap(), expected);
        }
        for bad in [Range { first: 100, count: 101 }, Range { first: usize::MAX, count: 2 }] {
            assert!(answer(Arc::clone(&words), bad).is_err());
        }
    }
}
