//! The subjects of expected streams, which are also the secrets that authorise their delivery.

use std::num::NonZeroU128;

use uuid::{Builder, Uuid, fmt::Hyphenated};

use crate::random_bytes;

/// Length of a subject's text, in bytes.
pub const SUBJECT_TEXT_BYTES: usize = Hyphenated::LENGTH;

/// The id of an expected stream: a UUID of version 4. Four of its random bits say in which part of
/// the table it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject(NonZeroU128);

impl Subject {
    /// Makes a random subject, from the system's generator, because a worker that has it may
    /// deliver the stream. Only the lowest four bits of `shard` count.
    ///
    /// # Panics
    /// The system returns no random bytes.
    pub fn random(shard: usize) -> Self {
        let uuid = Builder::from_random_bytes(random_bytes()).into_uuid().as_u128();
        // The lowest bits are free of the UUID's version and variant.
        let placed = (uuid & !0xF) | (shard as u128 & 0xF);
        // The version is in it, so it is not zero.
        Self(NonZeroU128::new(placed).unwrap_or(NonZeroU128::MAX))
    }

    /// Parses a subject. `None` if the text is not a UUID, or is the UUID of zeros.
    pub fn parse(text: &str) -> Option<Self> {
        // Of the forms that a UUID may have only the one that is sent.
        let uuid = if text.len() == SUBJECT_TEXT_BYTES { Uuid::try_parse(text).ok() } else { None };
        uuid.and_then(|it| NonZeroU128::new(it.as_u128())).map(Self)
    }

    /// The part of the table that it is in.
    pub fn shard(self) -> usize {
        (self.0.get() & 0xF) as usize
    }

    /// Other random bits of the subject.
    pub fn spread(self) -> usize {
        // At the top there is no version and no variant either.
        (self.0.get() >> 96) as usize
    }

    /// Appends its text.
    pub fn write(self, text: &mut String) {
        write_uuid(self.0.get(), text);
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Uuid::from_u128(self.0.get()).hyphenated())
    }
}

/// Adds the text of a UUID: 36 bytes, in lower case.
pub(crate) fn write_uuid(uuid: u128, text: &mut String) {
    let mut buffer = [0; SUBJECT_TEXT_BYTES];
    text.push_str(Uuid::from_u128(uuid).hyphenated().encode_lower(&mut buffer));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn subjects_are_uuids_of_version_4_that_name_their_shard() {
        for shard in 0..16 {
            let subject = Subject::random(shard);
            let text = subject.to_string();
            assert_eq!(Subject::parse(&text), Some(subject));
            assert_eq!(subject.shard(), shard);
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
            let mut written = String::from("x");
            subject.write(&mut written);
            assert_eq!(written, format!("x{text}"));
        }
        let nil = "00000000-0000-0000-0000-000000000000";
        for bad in ["", "x", "00000000000000000000000000000001", "{}", nil] {
            assert_eq!(Subject::parse(bad), None, "{bad:?}");
        }
    }

    /// No two are the same, on any thread, and every bit that is free takes both values.
    #[test]
    fn subjects_are_never_given_out_twice() {
        let many = || (0..2_000).map(|_| Subject::random(5)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(many)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let (ones, zeros) = all.iter().fold((0, 0), |(ones, zeros), subject| {
            (ones | subject.0.get(), zeros | !subject.0.get())
        });
        assert_eq!((ones & zeros).count_ones(), 128 - 4 - 2 - 4);
    }
}
