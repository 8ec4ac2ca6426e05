//! What became of one request, judged against the text itself.

use sinew::{Error, Executed, Fault, Outcome};

use super::words::{Range, Word};

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every word came, in order.
    Complete,
    /// The worker died midway; what came is a true beginning, and the stream says so.
    Truncated,
    /// The worker died before it answered: it may have begun, so nobody else was asked.
    Unknown,
    /// It had not begun anywhere and still did not complete, or what came is wrong or silently
    /// short. Must not happen.
    Lost,
}

/// Checks words as they come.
pub(crate) struct Check<'a> {
    expected: std::slice::Iter<'a, String>,
    position: usize,
    wrong: bool,
}

impl<'a> Check<'a> {
    pub(crate) fn new(words: &'a [String], range: Range) -> Self {
        let expected = words[range.first..range.first + range.count].iter();
        Self { expected, position: range.first, wrong: false }
    }

    pub(crate) fn word(&mut self, word: &Word) {
        let expected = self.expected.next();
        self.wrong |= expected != Some(&word.word) || word.position != self.position;
        self.position += 1;
    }

    /// Judges a stream that began.
    pub(crate) fn end(&self, outcome: &Outcome) -> Verdict {
        match outcome {
            _ if self.wrong => Verdict::Lost,
            Outcome::Complete { .. } if self.expected.len() == 0 => Verdict::Complete,
            Outcome::Truncated { .. } => Verdict::Truncated,
            Outcome::Failed { error } => unanswered(error),
            Outcome::Complete { .. } | Outcome::Cancelled { .. } => Verdict::Lost,
        }
    }
}

/// Judges a request that got no stream, or one that was lost before its first word.
pub(crate) fn unanswered(error: &Error) -> Verdict {
    match (error.fault(), error.executed()) {
        (Fault::Transport, Executed::Maybe) => Verdict::Unknown,
        (Fault::Transport, Executed::Yes) => Verdict::Truncated,
        _ => Verdict::Lost,
    }
}

#[cfg(test)]
mod tests {
    use sinew::Code;

    use super::*;

    fn judge(got: &[(usize, &str)], outcome: Outcome) -> Verdict {
        let words = ["a", "b", "c", "d"].map(str::to_owned);
        let mut check = Check::new(&words, Range { first: 1, count: 3 });
        for (position, word) in got {
            check.word(&Word { position: *position, word: (*word).to_owned() });
        }
        check.end(&outcome)
    }

    #[test]
    fn only_all_words_in_order_are_complete() {
        let complete = || Outcome::Complete { items: 0 };
        let all = [(1, "b"), (2, "c"), (3, "d")];
        assert_eq!(judge(&all, complete()), Verdict::Complete);
        for wrong in [
            &all[..2],
            &all[1..],
            &[(1, "b"), (3, "d"), (2, "c")],
            &[(0, "b"), (1, "c"), (2, "d")],
            &[(1, "b"), (2, "c"), (3, "d"), (4, "d")],
            &[],
        ] {
            assert_eq!(judge(wrong, complete()), Verdict::Lost, "{wrong:?}");
        }
    }

    #[test]
    fn a_broken_stream_must_be_a_true_beginning() {
        let truncated = || Outcome::Truncated { received: 0 };
        assert_eq!(judge(&[(1, "b")], truncated()), Verdict::Truncated);
        assert_eq!(judge(&[(1, "c")], truncated()), Verdict::Lost);
    }

    #[test]
    fn what_had_not_begun_and_did_not_complete_is_lost() {
        let verdict = |code| unanswered(&Error::new(code, ""));
        assert_eq!(verdict(Code::ConnectFailed), Verdict::Lost);
        assert_eq!(verdict(Code::NoInstances), Verdict::Lost);
        assert_eq!(verdict(Code::HandlerFailed), Verdict::Lost);
        assert_eq!(verdict(Code::ConnectionLost), Verdict::Unknown);
        assert_eq!(verdict(Code::Truncated), Verdict::Truncated);
    }
}
