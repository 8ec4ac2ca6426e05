//! The path that names an instance of an endpoint: `{id in hex}/{namespace}/{component}/{endpoint}`.
//!
//! In the last three parts `%` is written `%25` and `/` is written `%2F`; nothing else is escaped.

use std::{borrow::Cow, fmt::Write};

use sinew_plane::InstanceId;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub struct InstancePath<'a> {
    /// The instance.
    pub instance: InstanceId,
    /// As the peer spelled it, `namespace/component/endpoint`: to be looked up, not validated.
    pub endpoint: Cow<'a, str>,
}

impl<'a> InstancePath<'a> {
    /// Parses a path. `None` if the text does not have this form, or if a name in it contains an
    /// escaped slash (`%2F`), because no Sinew endpoint has such a name.
    pub fn parse(path: &'a str) -> Option<Self> {
        let (instance, endpoint) = path.split_once('/')?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if instance.is_empty() || !instance.bytes().all(is_hex) {
            return None;
        }
        let instance = InstanceId::from_hex(instance)?;
        if endpoint.split('/').count() != 3 || endpoint.split('/').any(str::is_empty) {
            return None;
        }
        let endpoint = if endpoint.contains('%') {
            if endpoint.contains("%2F") {
                return None;
            }
            Cow::Owned(endpoint.replace("%25", "%"))
        } else {
            Cow::Borrowed(endpoint)
        };
        Some(Self { instance, endpoint })
    }
}

/// Adds the path of an instance, as it stands in a discovery record and in a request's frame.
/// `endpoint` is a name as [`EndpointName`](sinew_plane::EndpointName) holds it.
pub fn push_instance_path(path: &mut String, endpoint: &str, instance: InstanceId) {
    // Memory takes all that is written. The parts of a name hold neither '%' nor '/', so there is
    // nothing to escape.
    let _ = write!(path, "{instance}/");
    path.push_str(endpoint);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sinew_plane::EndpointName;

    use super::*;

    #[test]
    fn the_path_of_a_stock_record_is_understood() {
        let path = InstancePath::parse("5315a1fc98a85605/ns1/backend/generate").unwrap();
        assert_eq!(path.instance, InstanceId(0x5315_a1fc_98a8_5605));
        assert_eq!(path.endpoint, "ns1/backend/generate");
        assert_eq!(InstancePath::parse("1/a%25b/c/d").unwrap().endpoint, "a%b/c/d");
    }

    #[test]
    fn what_is_no_path_of_ours_is_none() {
        for bad in [
            "",
            "/",
            "1",
            "1/a",
            "1/a/b",
            "1/a/b/c/d",
            "/1/a/b/c",
            "x1/a/b/c",
            "+1/a/b/c",
            "1F/a/b/c",
            "11112222333344445/a/b/c",
            "1//b/c",
            "1/a/b/",
            "1/a%2Fb/c/d",
        ] {
            assert_eq!(InstancePath::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn our_paths_come_back(id: u64, parts in prop::array::uniform3("[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}")) {
            let name = EndpointName::new(&parts[0], &parts[1], &parts[2]).unwrap();
            let mut path = String::new();
            push_instance_path(&mut path, name.as_str(), InstanceId(id));
            let read = InstancePath::parse(&path).unwrap();
            prop_assert_eq!(read.instance, InstanceId(id));
            prop_assert_eq!(&*read.endpoint, name.as_str());
        }

        #[test]
        fn any_text_parses_or_does_not(text in "\\PC{0,60}") {
            let _ = InstancePath::parse(&text);
        }
    }
}
