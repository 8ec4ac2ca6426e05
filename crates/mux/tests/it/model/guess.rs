//! A process asks for a stream of the model without what it takes: it gets nothing, and the stream
//! does not notice.

use std::sync::Arc;

use sinew_mux::Connection;
use sinew_plane::{Code, Executed, ProcessId, ResumeToken, StreamId, Terminal};

use super::{
    caller::Caller,
    carrier::By,
    stream::{Ended, Stream},
};
use crate::manual::Manual;

/// A process that the server never met.
const UNKNOWN: ProcessId = ProcessId(99);

/// What is wrong with a token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrong {
    Secret,
    /// Another process than the one that has opened the stream.
    Origin,
    Stream,
}

impl Wrong {
    fn of(self, token: &ResumeToken, by: By) -> ResumeToken {
        let mut token = token.clone();
        let wrong = match by {
            By::First => {
                // One that names its own process asks for nothing.
                token.caller = UNKNOWN;
                // Id and secret are all that an attach within the process proves.
                if let Self::Origin = self { Self::Secret } else { self }
            }
            By::Second => self,
        };
        match wrong {
            Self::Secret => ResumeToken { secret: token.secret ^ 1, ..token },
            Self::Origin => ResumeToken { caller: UNKNOWN, ..token },
            Self::Stream => ResumeToken { stream: StreamId(token.stream.0 | 1 << 64), ..token },
        }
    }
}

impl Stream {
    /// Asks for the stream with a token in which something is wrong.
    pub(crate) fn guess(&mut self, connection: &Arc<Connection<Manual>>, by: By, wrong: Wrong) {
        let Some(token) = self.caller.token() else { return };
        let token = wrong.of(token, by).at(self.caller.taken() as u64);
        if let Ok(call) = connection.try_take_over(&self.request_from(token)).unwrap() {
            let mut guess = Caller::default();
            guess.open(call);
            self.guesses.push(guess);
        }
    }

    /// No answer yet to one of the guesses.
    pub(crate) fn is_guessed(&self) -> bool {
        !self.guesses.is_empty()
    }

    /// Looks at the answers: each is that there is no such stream, and no more.
    pub(crate) fn hear_of_guesses(&mut self) {
        for guess in &mut self.guesses {
            guess.poll(&[]);
            assert!(!guess.is_started(), "a stream for who has no right to it");
            assert!(guess.checkpoint().is_none() && guess.head().is_none_or(|it| it.is_empty()));
            match guess.ended() {
                Some(Ended::Terminal(Terminal::Failed { error })) => {
                    assert_eq!(error.code(), Code::ResumeExpired, "{error:?}");
                    assert_eq!(error.resume_window(), None, "it says what there is: {error:?}");
                    assert_ne!(error.executed(), Executed::No, "another process has opened it");
                }
                Some(Ended::Terminal(terminal)) => panic!("{terminal:?} for a guess"),
                Some(Ended::Lost(_)) | None => {}
            }
        }
        self.guesses.retain(|guess| guess.ended().is_none());
    }
}
