//! A policy as it is stored: one JSON object for each endpoint.

use serde::{Deserialize, Serialize};
use sinew_plane::{EndpointName, TransportId};

use crate::{PlanePolicy, RollBack};

/// Largest record that is read, in bytes. One has about 250.
pub(crate) const MAX_BYTES: usize = 4 << 10;

#[derive(Serialize, Deserialize)]
struct Stored {
    endpoint: String,
    transport: String,
    percent: u8,
    version: u64,
    author: String,
    expires_ms: u64,
    #[serde(default)]
    roll_back: RollBack,
}

/// Reads one record again and again, and complains once about each that cannot be used.
#[derive(Debug, Default)]
pub(crate) struct PolicyReader {
    complaint: Option<String>,
}

impl PolicyReader {
    /// The policy; one that cannot be used is as none.
    pub(crate) fn read(&mut self, endpoint: &EndpointName, bytes: &[u8]) -> Option<PlanePolicy> {
        match decode(endpoint, bytes) {
            Ok(policy) => {
                self.complaint = None;
                Some(policy)
            }
            Err(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    tracing::warn!(%endpoint, %why, "the policy of the endpoint cannot be used");
                    self.complaint = Some(why);
                }
                None
            }
        }
    }
}

/// As it is stored.
pub(crate) fn encode(policy: &PlanePolicy) -> Vec<u8> {
    let stored = Stored {
        endpoint: policy.endpoint.to_string(),
        transport: policy.transport.to_string(),
        percent: policy.percent,
        version: policy.version,
        author: policy.author.clone(),
        expires_ms: policy.expires_ms,
        roll_back: policy.roll_back,
    };
    // Maps with other keys than text are all that fails.
    serde_json::to_vec(&stored).unwrap_or_default()
}

/// Reads what [`encode`] writes; fields that are not known are passed over.
///
/// # Errors
/// Why it is not a policy for this endpoint.
pub(crate) fn decode(endpoint: &EndpointName, bytes: &[u8]) -> Result<PlanePolicy, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.endpoint != endpoint.as_str() {
        return Err("it is for another endpoint".to_owned());
    }
    let policy = PlanePolicy {
        endpoint: endpoint.clone(),
        transport: TransportId::new(stored.transport),
        percent: stored.percent,
        version: stored.version,
        author: stored.author,
        expires_ms: stored.expires_ms,
        roll_back: stored.roll_back,
    };
    policy.check().map_err(|error| error.to_string())?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_anything_else_says_why_not() {
        let endpoint: EndpointName = "a/b/c".parse().unwrap();
        let written = PlanePolicy::new(endpoint.clone(), TransportId::from_static("unix"));
        let written = written.by("ann@x").replacing(None);
        let bytes = encode(&written);
        assert_eq!(decode(&endpoint, &bytes), Ok(written.clone()));
        let text = String::from_utf8(bytes).unwrap();
        let newer = text.replacen('{', r#"{"added_later":[1],"#, 1);
        assert_eq!(decode(&endpoint, newer.as_bytes()), Ok(written));
        let other = "a/b/d".parse().unwrap();
        assert!(decode(&other, text.as_bytes()).is_err());
        let long = text.replacen('{', &format!("{{{}", " ".repeat(MAX_BYTES)), 1);
        for wrong in ["", "{}", "[]", &text.replace("100", "101"), &long] {
            assert!(decode(&endpoint, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
