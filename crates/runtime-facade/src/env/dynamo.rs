//! What a process that is set up for Dynamo says in several variables together.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{ConfigError, DiscoverySource};

/// Where a process that is set up for Dynamo looks for instances. Only what is asked for by name:
/// Dynamo's own default, etcd, is not ours.
pub(super) fn discovery(
    variables: &BTreeMap<String, String>,
) -> Result<Option<DiscoverySource>, ConfigError> {
    let get = |name: &str| variables.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let fault = |name: &str, reason: String| ConfigError::new(name, reason);
    match get("DYN_DISCOVERY_BACKEND") {
        None => Ok(None),
        Some("mem") => Ok(Some(DiscoverySource::Memory)),
        Some("file") => {
            let default = || std::env::temp_dir().join("dynamo_store_kv");
            let folder = get("DYN_FILE_KV").map_or_else(default, PathBuf::from);
            Ok(Some(DiscoverySource::File(folder)))
        }
        Some("etcd") => {
            let list = get("ETCD_ENDPOINTS").unwrap_or("http://localhost:2379");
            let member = |one: &str| one.trim().trim_start_matches("http://").to_owned();
            let members: Vec<_> = list.split(',').map(member).collect();
            let source = format!("etcd://{}", members.join(",")).parse();
            source
                .map(Some)
                .map_err(|error: ConfigError| fault("ETCD_ENDPOINTS", error.to_string()))
        }
        Some(other) => Err(fault(
            "DYN_DISCOVERY_BACKEND",
            format!("{other:?} is not supported: use etcd, file or mem"),
        )),
    }
}
