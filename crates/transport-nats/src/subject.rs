//! The NATS subjects of instances and endpoints.

use sinew_plane::{Code, EndpointName, Error, InstanceId};

/// Longest subject that is sent to, in bytes: as long as any path of the other planes, and with
/// a reply subject well under the 4,096 bytes of control line that a NATS server reads.
const MAX_SUBJECT_BYTES: usize = 1024;

/// The names under which NATS knows one instance of an endpoint, or all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedNames {
    /// Name of the micro service: `NAMESPACE_COMPONENT`.
    pub(crate) service: String,
    /// Name of the micro endpoint: `ENDPOINT-ID`, the id in hexadecimal; `ENDPOINT` if shared.
    pub(crate) endpoint: String,
    /// `SERVICE.ENDPOINT`.
    pub(crate) subject: String,
    /// Whether others answer there too.
    pub(crate) is_shared: bool,
}

impl ServedNames {
    /// Names an instance the way that a stock Dynamo caller will spell it.
    ///
    /// A stock caller writes the names as they are, a stock worker writes them in lower case,
    /// with `_` for what is not a letter, digit, `-` or `_`, and without leading `_`. Where the
    /// two differ no request arrives, so such names are refused.
    pub(crate) fn new(name: &EndpointName, id: InstanceId) -> Result<Self, Error> {
        Self::checked(name, format!("{}-{id}", name.endpoint()), false)
    }

    /// Names what all instances of an endpoint answer to together.
    ///
    /// An endpoint whose name looks like an instance of another one is refused: both would have
    /// one subject and one queue group, and get each other's requests.
    pub(crate) fn shared(name: &EndpointName) -> Result<Self, Error> {
        let id = name.endpoint().rsplit_once('-').map(|(_, id)| id);
        let is_id = |id: &str| (1..=16).contains(&id.len()) && id.bytes().all(is_hex);
        if let Some(id) = id.filter(|id| is_id(id)) {
            let message = format!(
                "{name} cannot have a shared NATS subject: it ends like that of instance {id} of \
                 another endpoint; rename the endpoint so that its last part is no hexadecimal \
                 number"
            );
            return Err(Error::new(Code::InvalidPayload, message));
        }
        Self::checked(name, name.endpoint().to_owned(), true)
    }

    fn checked(name: &EndpointName, endpoint: String, is_shared: bool) -> Result<Self, Error> {
        let parts = [
            ("namespace", name.namespace()),
            ("component", name.component()),
            ("endpoint", name.endpoint()),
        ];
        for (which, part) in parts {
            check_part(name, which, part)?;
        }
        let service = format!("{}_{}", name.namespace(), name.component());
        let subject = format!("{service}.{endpoint}");
        Ok(Self { service, endpoint, subject, is_shared })
    }
}

/// The subject for requests that any instance of an endpoint may take, in the queue group of
/// [`NatsServer::serve_shared`](crate::NatsServer::serve_shared): `NAMESPACE_COMPONENT.ENDPOINT`.
///
/// # Errors
/// [`Code::InvalidPayload`]: the name cannot be served. The error says what to write instead.
pub fn shared_subject(endpoint: &EndpointName) -> Result<String, Error> {
    ServedNames::shared(endpoint).map(|names| names.subject)
}

/// As instance ids are written.
fn is_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn check_part(name: &EndpointName, which: &str, part: &str) -> Result<(), Error> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let renamed: String = part
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c == '.' { '_' } else { c })
        .collect();
    let renamed = renamed.trim_start_matches('_');
    if part.bytes().all(is_plain) && renamed == part {
        return Ok(());
    }
    let way_out = match renamed {
        "" => "begin it with a letter or digit".to_owned(),
        _ => format!("rename it, for example to {renamed:?}"),
    };
    let message = format!(
        "{name} cannot be served over NATS: in the {which} {part:?} only a-z, 0-9, '-' and '_' \
         may stand, and no '_' in front, or callers would send to another subject than the one \
         served; {way_out}"
    );
    Err(Error::new(Code::InvalidPayload, message))
}

/// Checks a subject that a request is to be sent to.
///
/// It comes from discovery, so from others: nothing that reaches several receivers, the server's
/// own subjects or somebody's replies is sent to.
pub(crate) fn check_target(subject: &str, inbox_prefix: &str) -> Result<(), Error> {
    let fault = |reason: &str| {
        let shown: String = subject.chars().take(64).collect();
        Err(Error::new(Code::InvalidPayload, format!("the NATS subject {shown:?} {reason}")))
    };
    if subject.len() > MAX_SUBJECT_BYTES {
        return fault("is longer than 1,024 bytes");
    }
    if subject.split('.').any(str::is_empty) {
        return fault("has an empty part");
    }
    if subject.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'*' | b'>')) {
        return fault("holds a wildcard or what is not visible ASCII");
    }
    let is_inbox = |prefix| {
        subject
            .strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('.'))
    };
    if subject.starts_with('$') || is_inbox("_INBOX") || is_inbox(inbox_prefix) {
        return fault("belongs to the server or to replies");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(name: &str) -> Result<ServedNames, Error> {
        ServedNames::new(&name.parse().unwrap(), InstanceId(0x5315_a1fc_98a8_560e))
    }

    #[test]
    fn the_subject_is_the_one_of_a_stock_caller() {
        let names = served("ns1/backend/generate").unwrap();
        assert_eq!(names.service, "ns1_backend");
        assert_eq!(names.endpoint, "generate-5315a1fc98a8560e");
        assert_eq!(names.subject, "ns1_backend.generate-5315a1fc98a8560e");
        assert!(served("a_b/c-d/e_1").is_ok());
    }

    #[test]
    fn names_that_stock_peers_spell_in_two_ways_are_refused() {
        for (name, needles) in [
            ("a.b/c/d", ["namespace", "a_b"]),
            ("Ab/c/d", ["namespace", "ab"]),
            ("a/C.d/e", ["component", "c_d"]),
            ("a/b/v1.X", ["endpoint", "v1_x"]),
            ("_a/b/c", ["namespace", "\"a\""]),
            ("a/___/c", ["component", "begin it with"]),
        ] {
            let refusal = served(name).unwrap_err();
            for needle in needles {
                assert!(refusal.message().contains(needle), "{name}: {refusal}");
            }
            assert!(!refusal.is_safe_to_resend());
        }
    }

    #[test]
    fn a_shared_subject_is_never_that_of_an_instance() {
        let shared = |name: &str| shared_subject(&name.parse().unwrap());
        assert_eq!(shared("ns1/backend/generate").unwrap(), "ns1_backend.generate");
        assert_eq!(shared("a/b/chat-v1").unwrap(), "a_b.chat-v1");
        for name in ["a/b/generate-1f", "a/b/x-0", "a/b/generate-5315a1fc98a8560e"] {
            let refusal = shared(name).unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidPayload, "{name}");
            assert!(refusal.message().contains("rename"), "{refusal}");
        }
        assert!(shared("a/b/generate-5315a1fc98a8560e0").is_ok(), "too long for an id");
        assert!(shared("A/b/c").unwrap_err().message().contains("namespace"));
    }

    #[test]
    fn only_plain_subjects_are_sent_to() {
        assert!(check_target("ns1_backend.generate-1", "_INBOX").is_ok());
        let long = "a".repeat(5000);
        for subject in [
            "",
            ".",
            ".a",
            "a.",
            "a..b",
            "a b",
            "a\tb",
            "a\r\nPUB x 0",
            "a.*",
            "a.>",
            "\u{e4}.b",
            "$SYS.a",
            "$JS.API",
            "$SRV.PING",
            "_INBOX.x",
            "_INBOX",
            "mine.x",
            long.as_str(),
        ] {
            let refusal = check_target(subject, "mine").unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidPayload, "{subject:?}");
        }
    }
}
