//! The metadata of a response: its head and its facts.

use crate::Headers;

/// The head and the facts of a response, as a transport keeps them. Allocates nothing if the
/// response has neither, which is the usual case.
#[derive(Debug, Clone, Default)]
pub struct ResponseMetadata(Option<Box<Parts>>);

#[derive(Debug, Clone, Default)]
struct Parts {
    head: Option<Headers>,
    facts: Headers,
}

impl ResponseMetadata {
    /// No head and no facts.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets the head, unless there is one already. False if there is.
    pub fn set_head(&mut self, head: Headers) -> bool {
        let parts = self.0.get_or_insert_default();
        let is_first = parts.head.is_none();
        parts.head.get_or_insert(head);
        is_first
    }

    /// The head, if there is one. It may be empty.
    pub fn head(&self) -> Option<&Headers> {
        self.0.as_ref()?.head.as_ref()
    }

    /// Drops the head.
    pub fn take_head(&mut self) -> Option<Headers> {
        self.0.as_mut()?.head.take()
    }

    /// Sets the facts, in place of earlier ones.
    pub fn set_facts(&mut self, facts: Headers) {
        if !facts.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default().facts = facts;
        }
    }

    /// The facts; empty when there are none.
    pub fn facts(&self) -> &Headers {
        static NONE: Headers = Headers::new();
        self.0.as_ref().map_or(&NONE, |parts| &parts.facts)
    }

    /// Bytes of head and facts in their wire form.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.bytes())
    }
}

impl Parts {
    #[cold]
    fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.as_block().len());
        head + self.facts.as_block().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.insert("a", value).unwrap();
        headers
    }

    #[test]
    fn nothing_costs_nothing() {
        let mut metadata = ResponseMetadata::new();
        assert_eq!(size_of_val(&metadata), size_of::<usize>());
        metadata.set_facts(Headers::new());
        assert!(metadata.0.is_none());
        assert!(metadata.head().is_none() && metadata.facts().is_empty());
        assert_eq!(metadata.bytes(), 0);
    }

    #[test]
    fn the_first_head_and_the_last_facts_stay() {
        let mut metadata = ResponseMetadata::new();
        assert!(metadata.set_head(headers("1")));
        assert!(!metadata.set_head(headers("2")));
        metadata.set_facts(headers("3"));
        metadata.set_facts(headers("four"));
        assert_eq!(metadata.head(), Some(&headers("1")));
        assert_eq!(metadata.facts(), &headers("four"));
        assert_eq!(metadata.bytes(), 5 + 8);
        assert_eq!(metadata.take_head(), Some(headers("1")));
        metadata.set_facts(Headers::new());
        assert_eq!((metadata.head(), metadata.bytes()), (None, 0));
    }
}
