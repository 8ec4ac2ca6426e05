//! The workspace as cargo describes it: where it is, its packages, their dependencies.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// The workspace around the current folder.
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
}

/// One member of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Last part of the path, e.g. `codec`.
    pub(crate) folder: String,
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// False with `publish = false`.
    pub(crate) publishable: bool,
    pub(crate) has_library: bool,
    pub(crate) binaries: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a member's dependency tables.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// True if a path leads to it, so it is ours.
    pub(crate) local: bool,
    /// False for a path without a version; such a dev-dependency is left out when publishing.
    pub(crate) has_version: bool,
}

/// Which table a dependency stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Workspace {
    /// Walks up from the current folder to the manifest with a `[workspace]` table.
    pub(crate) fn find() -> Result<Self> {
        let start = env::current_dir()?;
        let root = start.ancestors().find(|folder| {
            fs::read_to_string(folder.join("Cargo.toml"))
                .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
        });
        match root {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => bail!("no Cargo.toml with a [workspace] table at or above {}", start.display()),
        }
    }

    /// `target/`, where everything goes that may be deleted at any time.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |folder| self.root.join(folder))
    }

    /// The members, in the order of their paths.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        packages(&self.metadata()?)
    }

    /// The programs of all members whose documentation is built, by name.
    pub(crate) fn documented_programs(&self) -> Result<Vec<String>> {
        Ok(documented_programs(&self.metadata()?))
    }

    fn metadata(&self) -> Result<Value> {
        let mut cargo = process::cargo(&self.root);
        let text = process::output(cargo.args(["metadata", "--no-deps", "--format-version=1"]))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `path` as seen from the root, for messages.
    pub(crate) fn relative<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Reads the answer of `cargo metadata --no-deps`.
pub(crate) fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let mut packages = list(metadata, "packages").map(package).collect::<Result<Vec<_>>>()?;
    packages.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(packages)
}

fn documented_programs(metadata: &Value) -> Vec<String> {
    list(metadata, "packages")
        .flat_map(|package| list(package, "targets"))
        .filter(|target| target["doc"] == true && list(target, "kind").any(|kind| kind == "bin"))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}

/// Names of the members that may go to the registry.
pub(crate) fn publishable(packages: &[Package]) -> HashSet<&str> {
    packages.iter().filter(|package| package.publishable).map(|p| p.name.as_str()).collect()
}

/// The elements of the array `key`; nothing if there is no such array.
pub(crate) fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// The string `key`, which cargo promises to be there.
pub(crate) fn string(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().with_context(|| format!("cargo metadata has no `{key}`"))?;
    Ok(text.to_owned())
}

fn package(value: &Value) -> Result<Package> {
    let manifest = PathBuf::from(string(value, "manifest_path")?);
    let directory = manifest.parent().context("a manifest lies in a folder")?.to_owned();
    let folder = directory.file_name().context("a package folder has a name")?;
    let targets = |kind: &'static str| {
        list(value, "targets")
            .filter(move |target| list(target, "kind").any(|found| found == kind))
            .filter_map(|target| target["name"].as_str().map(str::to_owned))
    };
    Ok(Package {
        name: string(value, "name")?,
        version: string(value, "version")?,
        folder: folder.to_string_lossy().into_owned(),
        publishable: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        has_library: targets("lib").next().is_some(),
        binaries: targets("bin").collect(),
        dependencies: list(value, "dependencies").map(dependency).collect::<Result<_>>()?,
        directory,
    })
}

fn dependency(value: &Value) -> Result<Dependency> {
    let kind = match value["kind"].as_str() {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    };
    Ok(Dependency {
        name: string(value, "name")?,
        kind,
        local: value["path"].is_string(),
        has_version: string(value, "req")? != "*",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_is_documented_unless_its_manifest_says_no() {
        let target =
            |name: &str, kind: &str, doc: bool| json!({ "name": name, "kind": [kind], "doc": doc });
        let metadata = json!({ "packages": [
            { "targets": [target("a", "lib", true), target("a-load", "bin", true)] },
            { "targets": [target("b", "bin", false), target("c", "example", false)] },
            { "targets": [target("d", "bin", true)] },
        ] });
        assert_eq!(documented_programs(&metadata), ["a-load", "d"]);
    }
}
