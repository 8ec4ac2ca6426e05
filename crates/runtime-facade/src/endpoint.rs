//! The name of an endpoint and the types of what travels there, as one constant for both ends.

use std::{borrow::Cow, fmt, marker::PhantomData};

use sinew_plane::{EndpointName, NameError};

/// An endpoint with the types of its requests and responses: a constant that the worker and its
/// callers share, so that neither can have another name or type in mind.
///
/// ```
/// use sinew::Endpoint;
///
/// const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");
/// assert_eq!(SPLIT.name().component(), "words");
/// ```
///
/// A name that is none does not compile:
/// ```compile_fail
/// # use sinew::Endpoint;
/// const SPLIT: Endpoint<String, String> = Endpoint::new("text/split");
/// ```
pub struct Endpoint<Req, Resp> {
    /// Checked.
    name: Cow<'static, str>,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp> Endpoint<Req, Resp> {
    /// The endpoint with that name, `namespace/component/endpoint`.
    ///
    /// # Panics
    /// The text is not a name. In a constant that is an error of the compiler, which says why. For
    /// a text that the program does not hold itself there is [`named`](Self::named).
    pub const fn new(name: &'static str) -> Self {
        if let Err(reason) = EndpointName::check(name) {
            panic!("{}", reason);
        }
        Self { name: Cow::Borrowed(name), types: PhantomData }
    }

    /// The endpoint with a name that is known at run time alone.
    pub fn named(name: &EndpointName) -> Self {
        Self { name: Cow::Owned(name.as_str().to_owned()), types: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> EndpointName {
        let name: Result<EndpointName, NameError> = self.name.parse();
        // Both ways to make one have checked it.
        name.unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Its name, as it is written.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl<Req, Resp> Clone for Endpoint<Req, Resp> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), types: PhantomData }
    }
}

impl<Req, Resp> fmt::Debug for Endpoint<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.name)
    }
}

impl<Req, Resp> fmt::Display for Endpoint<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Endpoint<u32, u32> = Endpoint::new("demo/numbers.v1/count-up");

    #[test]
    fn a_constant_is_the_name_that_it_spells() {
        assert_eq!(COUNT.name().as_str(), "demo/numbers.v1/count-up");
        let same = Endpoint::<u32, u32>::named(&COUNT.name());
        assert_eq!((same.as_str(), same.to_string()), (COUNT.as_str(), COUNT.to_string()));
    }

    #[test]
    #[should_panic(expected = "three parts")]
    fn a_text_that_is_no_name_is_refused() {
        let _ = Endpoint::<u32, u32>::new("demo/count");
    }
}
