//! `ci --only dependencies`: whether everything we depend on is allowed by `deny.toml`.
//!
//! cargo-deny is run when it is installed. It takes minutes to install, so the tables that matter
//! most are always checked here, too: licences, banned crates with their wrappers, sources.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use toml::Table;

use crate::licence;
use crate::process;
use crate::workspace::{Workspace, list, string};

/// How cargo writes a registry that is a git repository in front of its address.
const REGISTRY_PREFIX: &str = "registry+";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join("deny.toml"))?;
    let policy: Table = text.parse().context("reading deny.toml")?;
    let packages = resolved(workspace)?;
    let faults = faults(&policy, &packages)?;
    for fault in &faults {
        eprintln!("dependencies: {fault}\n");
    }
    if !faults.is_empty() {
        bail!("{} dependencies are not allowed by deny.toml", faults.len());
    }
    println!("{} packages: licences, bans and sources are as deny.toml allows", packages.len());
    if process::find("cargo-deny").is_none() {
        println!("cargo-deny is not installed and was not run (`cargo install cargo-deny`)");
        return Ok(());
    }
    let mut deny = process::cargo(&workspace.root);
    process::run(deny.args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

/// One package that is part of a build on this machine with all features.
struct Resolved {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for our own.
    source: Option<String>,
    /// Names of the packages that depend on it directly.
    dependents: Vec<String>,
}

fn resolved(workspace: &Workspace) -> Result<Vec<Resolved>> {
    let host = process::host_triple()?;
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]);
    let text = process::output(cargo.args(["--filter-platform", &host]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let name_of: HashMap<String, String> = list(&metadata, "packages")
        .map(|package| Ok((string(package, "id")?, string(package, "name")?)))
        .collect::<Result<_>>()?;
    let mut dependents: HashMap<String, Vec<String>> = HashMap::new();
    for node in list(&metadata["resolve"], "nodes") {
        let id = string(node, "id")?;
        dependents.entry(id.clone()).or_default();
        for dependency in list(node, "deps") {
            let users = dependents.entry(string(dependency, "pkg")?).or_default();
            users.extend(name_of.get(&id).cloned());
        }
    }
    // `packages` also lists crates for other systems; only those in the graph are looked at.
    let in_graph = list(&metadata, "packages").filter_map(|package| {
        let users = dependents.remove(package["id"].as_str()?)?;
        Some((package, users))
    });
    in_graph
        .map(|(package, dependents)| {
            Ok(Resolved {
                name: string(package, "name")?,
                version: string(package, "version")?,
                licence: package["license"].as_str().map(str::to_owned),
                source: package["source"].as_str().map(str::to_owned),
                dependents,
            })
        })
        .collect()
}

fn faults(policy: &Table, packages: &[Resolved]) -> Result<Vec<String>> {
    let licences = strings(policy, "licenses", "allow")?;
    let registries = strings(policy, "sources", "allow-registry")?;
    let bans = policy["bans"]["deny"].as_array().context("deny.toml has no bans.deny")?;
    let bans = bans.iter().map(Ban::read).collect::<Result<Vec<_>>>()?;
    let mut faults = Vec::new();
    for package in packages {
        let Resolved { name, version, .. } = package;
        match &package.licence {
            None => faults.push(format!("{name} {version} declares no licence")),
            Some(licence) => {
                if !licence::is_met(licence, &|one| licences.iter().any(|known| known == one))? {
                    faults.push(format!(
                        "{name} {version} is under `{licence}`, which is not in licenses.allow.\n  \
                         Do: use another crate, or add the licence if it suits Apache-2.0 users."
                    ));
                }
            }
        }
        if let Some(source) = &package.source {
            let address = source.strip_prefix(REGISTRY_PREFIX).unwrap_or(source);
            if !registries.iter().any(|known| known == address) {
                faults.push(format!(
                    "{name} {version} comes from {source}.\n  \
                     Do: use a release from crates.io; we cannot publish with another source."
                ));
            }
        }
        faults.extend(bans.iter().filter_map(|ban| ban.fault(package)));
    }
    Ok(faults)
}

/// One line of `bans.deny`.
struct Ban {
    name: String,
    /// Only versions of this major number and later are banned.
    from_major: u64,
    /// Who may depend on it all the same.
    wrappers: Vec<String>,
    reason: String,
}

impl Ban {
    fn read(line: &toml::Value) -> Result<Self> {
        let text = |key: &str| line.get(key).and_then(toml::Value::as_str);
        let spec = text("crate").context("a line of bans.deny has no `crate`")?;
        let (name, from_major) = match spec.split_once('@') {
            None => (spec, 0),
            Some((name, version)) => {
                let major = version.strip_prefix(">=").and_then(|major| major.parse().ok());
                (name, major.with_context(|| format!("`{spec}`: write the version as >=MAJOR"))?)
            }
        };
        let wrappers = line.get("wrappers").and_then(toml::Value::as_array);
        Ok(Self {
            name: name.to_owned(),
            from_major,
            wrappers: wrappers
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            reason: text("reason").with_context(|| format!("`{spec}` has no reason"))?.to_owned(),
        })
    }

    fn fault(&self, package: &Resolved) -> Option<String> {
        let major: u64 = package.version.split('.').next()?.parse().ok()?;
        if package.name != self.name || major < self.from_major {
            return None;
        }
        let strangers: Vec<_> = package
            .dependents
            .iter()
            .map(String::as_str)
            .filter(|user| !self.wrappers.iter().any(|wrapper| wrapper == user))
            .collect();
        if strangers.is_empty() && !self.wrappers.is_empty() {
            return None;
        }
        Some(format!(
            "{} {} is used by {}.\n  Rule: {}.\n  Allowed users: {}.",
            package.name,
            package.version,
            strangers.join(", "),
            self.reason,
            if self.wrappers.is_empty() { "none".to_owned() } else { self.wrappers.join(", ") }
        ))
    }
}

fn strings(policy: &Table, table: &str, key: &str) -> Result<Vec<String>> {
    let array = policy.get(table).and_then(|table| table.get(key)).and_then(toml::Value::as_array);
    let array = array.with_context(|| format!("deny.toml has no {table}.{key}"))?;
    Ok(array.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn package(name: &str, version: &str, dependents: &[&str]) -> Resolved {
        Resolved {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: Some("MIT".to_owned()),
            source: Some(CRATES_IO.to_owned()),
            dependents: dependents.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// What the real policy says about one package.
    fn judged(package: Resolved) -> Vec<String> {
        let root = Workspace::find().unwrap().root;
        let policy = fs::read_to_string(root.join("deny.toml")).unwrap().parse().unwrap();
        faults(&policy, &[package]).unwrap()
    }

    #[test]
    fn banned_versions_and_crates_are_refused() {
        assert!(judged(package("bincode", "1.3.3", &["sinew-codec"])).is_empty());
        assert!(judged(package("bincode", "2.0.1", &["sinew-codec"]))[0].contains("sinew-codec"));
        assert_eq!(judged(package("openssl-sys", "0.9.1", &["openssl"])).len(), 1);
    }

    #[test]
    fn a_wrapped_crate_is_reached_through_its_wrapper_only() {
        assert!(judged(package("async-nats", "0.51.0", &["sinew-transport-nats"])).is_empty());
        let through_both = package("async-nats", "0.51.0", &["sinew-transport-nats", "sinew"]);
        assert!(judged(through_both)[0].contains("is used by sinew."));
    }

    #[test]
    fn unknown_licences_and_sources_are_refused() {
        let mut copyleft = package("a", "1.0.0", &[]);
        copyleft.licence = Some("GPL-3.0-only".to_owned());
        assert!(judged(copyleft)[0].contains("GPL-3.0-only"));
        let mut unlicensed = package("a", "1.0.0", &[]);
        unlicensed.licence = None;
        assert!(judged(unlicensed)[0].contains("declares no licence"));
        let mut forked = package("a", "1.0.0", &[]);
        forked.source = Some("git+https://example.org/a".to_owned());
        assert!(judged(forked)[0].contains("crates.io"));
    }
}
