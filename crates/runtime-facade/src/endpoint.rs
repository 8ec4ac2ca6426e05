//! The name of an endpoint with its request and response types, as one constant for both ends.

use std::{borrow::Cow, fmt, marker::PhantomData};

use sinew_plane::{EndpointName, NameError};

/// An endpoint with the types of its requests and responses. The worker and its callers share one
/// constant, so the compiler checks that both ends use the same name and types.
///
/// ```
/// use sinew::Endpoint;
///
/// const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");
/// assert_eq!(SPLIT.name().component(), "words");
/// ```
///
/// An invalid name does not compile:
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
    /// Makes an endpoint from its name, `namespace/component/endpoint`.
    ///
    /// # Panics
    /// The text is not a valid name. In a constant this is a compile error that says why. For a
    /// name that the program reads at run time use [`named`](Self::named).
    pub const fn new(name: &'static str) -> Self {
        if let Err(reason) = EndpointName::check(name) {
            panic!("{}", reason);
        }
        Self { name: Cow::Borrowed(name), types: PhantomData }
    }

    /// Makes an endpoint from a name that is known only at run time.
    pub fn named(name: &EndpointName) -> Self {
        Self { name: Cow::Owned(name.as_str().to_owned()), types: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> EndpointName {
        let name: Result<EndpointName, NameError> = self.name.parse();
        // Both ways to make one have checked it.
        name.unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The name as text.
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
