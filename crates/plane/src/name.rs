//! Names of endpoints: `namespace/component/endpoint`.

use std::{fmt, hash::Hash, str::FromStr, sync::Arc};

/// Longest part of a name, in bytes. Three parts, an instance id and the separators then stay
/// under the 1,024-byte path that a Dynamo peer accepts.
const MAX_PART_BYTES: usize = 128;

const THREE_PARTS: &str = "must have three parts: namespace/component/endpoint";

/// The name of an endpoint: `namespace/component/endpoint`.
///
/// Each part is 1 to 128 bytes of ASCII letters, digits, `-`, `_` and `.`, and does not begin
/// with a dot. Clones share one allocation.
#[derive(Clone)]
pub struct EndpointName {
    text: Arc<str>,
    /// Offsets of the two slashes; each fits because a whole name is under 400 bytes.
    slashes: [u16; 2],
}

impl EndpointName {
    /// Makes a name from its parts.
    ///
    /// # Errors
    /// [`NameError`] names the part that is not valid and why.
    pub fn new(namespace: &str, component: &str, endpoint: &str) -> Result<Self, NameError> {
        for (which, part) in
            [("namespace", namespace), ("component", component), ("endpoint", endpoint)]
        {
            check_part(which, part)?;
        }
        let first = namespace.len();
        let second = first + 1 + component.len();
        // check_part bounds each part to 128 bytes, so both offsets are under 65,536.
        let slashes = [first as u16, second as u16];
        Ok(Self { text: format!("{namespace}/{component}/{endpoint}").into(), slashes })
    }

    /// Checks whether a text is a name; usable in constants.
    ///
    /// # Errors
    /// Why the text is not a name. [`parse`](str::parse) also says which part is wrong.
    pub const fn check(text: &str) -> Result<(), &'static str> {
        let (mut rest, mut parts) = (text.as_bytes(), 0);
        let mut at = 0;
        while at <= rest.len() {
            if at < rest.len() && rest[at] != b'/' {
                at += 1;
                continue;
            }
            let (part, behind) = rest.split_at(at);
            parts += 1;
            if parts > 3 {
                break;
            }
            if let Some(reason) = fault_of(part) {
                // A text without any slash is no name with a bad part.
                let is_name = parts > 1 || !behind.is_empty();
                return Err(if is_name { reason } else { THREE_PARTS });
            }
            if behind.is_empty() {
                break;
            }
            (_, rest) = behind.split_at(1);
            at = 0;
        }
        if parts == 3 { Ok(()) } else { Err(THREE_PARTS) }
    }

    /// The whole name, `namespace/component/endpoint`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// First part: the deployment or tenant.
    pub fn namespace(&self) -> &str {
        &self.text[..usize::from(self.slashes[0])]
    }

    /// Second part: the program that serves.
    pub fn component(&self) -> &str {
        &self.text[usize::from(self.slashes[0]) + 1..usize::from(self.slashes[1])]
    }

    /// Third part: the operation.
    pub fn endpoint(&self) -> &str {
        &self.text[usize::from(self.slashes[1]) + 1..]
    }
}

/// Why a part of a name is none, if it is not.
const fn fault_of(part: &[u8]) -> Option<&'static str> {
    if part.is_empty() {
        return Some("is empty");
    }
    if part.len() > MAX_PART_BYTES {
        return Some("is longer than 128 bytes");
    }
    if part[0] == b'.' {
        return Some("begins with a dot");
    }
    let mut at = 0;
    while at < part.len() {
        let byte = part[at];
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return Some("may hold only ASCII letters, digits, '-', '_' and '.'");
        }
        at += 1;
    }
    None
}

fn check_part(which: &'static str, part: &str) -> Result<(), NameError> {
    match fault_of(part.as_bytes()) {
        None => Ok(()),
        Some(reason) => Err(NameError { which, part: part.chars().take(64).collect(), reason }),
    }
}

impl FromStr for EndpointName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(component), Some(endpoint), None) => {
                Self::new(namespace, component, endpoint)
            }
            _ => Err(NameError {
                which: "name",
                part: text.chars().take(64).collect(),
                reason: THREE_PARTS,
            }),
        }
    }
}

impl PartialEq for EndpointName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EndpointName {}

impl Hash for EndpointName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for EndpointName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EndpointName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

// A map keyed by names can be asked with the `&str` that a peer sent, without building a name.
impl std::borrow::Borrow<str> for EndpointName {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointName({})", self.text)
    }
}

/// Why a text is not a name. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    which: &'static str,
    /// At most 64 characters of what was given.
    part: String,
    reason: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.which, self.part, self.reason)
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let name: EndpointName = "text/words.v1/split".parse().unwrap();
        assert_eq!((name.namespace(), name.component()), ("text", "words.v1"));
        assert_eq!(name.endpoint(), "split");
        assert_eq!(name.to_string(), "text/words.v1/split");
    }

    const CHECKED: Result<(), &str> = EndpointName::check("text/words.v1/split");

    fn error_of(text: &str) -> String {
        text.parse::<EndpointName>().unwrap_err().to_string()
    }

    #[test]
    fn a_constant_is_checked_as_a_text_is() {
        assert_eq!(CHECKED, Ok(()));
        for bad in ["a/b/c/", "/a/b/c", "a/b/c/d/e", "//", "/"] {
            assert!(EndpointName::check(bad).is_err() && bad.parse::<EndpointName>().is_err());
        }
    }

    #[test]
    fn bad_names_say_which_part_and_why() {
        let long = format!("a/{}/c", "b".repeat(129));
        for (text, needle) in [
            ("", "three parts"),
            ("a/b", "three parts"),
            ("a/b/c/d", "three parts"),
            ("a//c", "component \"\" is empty"),
            ("a/.b/c", "begins with a dot"),
            ("a/b/c d", "ASCII letters"),
            ("a/b/\u{e4}", "ASCII letters"),
            ("a/b/*", "ASCII letters"),
            (long.as_str(), "longer than 128"),
        ] {
            assert!(EndpointName::check(text).is_err_and(|reason| error_of(text).contains(reason)));
            let error = error_of(text);
            assert!(error.contains(needle), "{text:?} gave {error}");
        }
    }

    #[test]
    fn a_map_of_names_answers_plain_text() {
        let map: std::collections::HashMap<EndpointName, u8> =
            [("a/b/c".parse().unwrap(), 1)].into();
        assert_eq!(map.get("a/b/c"), Some(&1));
    }
}
