//! Rules for packages: what their manifests inherit, how they are named, what lies beside them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Finding;
use crate::workspace::{Package, Workspace};

/// Written once, in the root manifest.
const INHERITED: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// Needed on crates.io, so by published crates only.
const INHERITED_TO_PUBLISH: [&str; 4] = ["authors", "repository", "keywords", "categories"];

const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in workspace.packages()? {
        let manifest = package.directory.join("Cargo.toml");
        let path = workspace.relative(&manifest).to_string();
        let table: Table =
            fs::read_to_string(&manifest)?.parse().with_context(|| format!("reading {path}"))?;
        let mut faults = inheritance(&package, &table);
        faults.extend(names(&workspace.root, &package));
        faults.extend(versions(&table));
        findings.extend(faults.into_iter().map(|message| Finding {
            path: path.clone(),
            line: 0,
            rule: "manifest",
            message,
        }));
        if !package.directory.join("README.md").exists() {
            findings.push(Finding {
                path: workspace.relative(&package.directory).to_string(),
                line: 0,
                rule: "readme",
                message: "there is no README.md. Say what the package is for, what it is not \
                          for, the smallest example, and where to look next."
                    .to_owned(),
            });
        }
    }
    Ok(findings)
}

fn inheritance(package: &Package, manifest: &Table) -> Vec<String> {
    let inherits = |value: Option<&Value>| {
        value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
    };
    let section = manifest.get("package");
    let field = |name: &str| section.and_then(|section| section.get(name));
    let to_publish = if package.publishable { &INHERITED_TO_PUBLISH[..] } else { &[] };
    let mut faults: Vec<String> = INHERITED
        .iter()
        .chain(to_publish)
        .filter(|name| !inherits(field(name)))
        .map(|name| {
            format!("`{name}` is not inherited, so it can drift. Write `{name}.workspace = true`.")
        })
        .collect();
    if !inherits(manifest.get("lints")) {
        faults.push(
            "the lint table is not inherited, so this package is checked less than the others. \
             Write `[lints]` with `workspace = true`."
                .to_owned(),
        );
    }
    if package.publishable && field("description").is_none() {
        faults.push("there is no `description`, without which crates.io refuses it.".to_owned());
    }
    faults
}

fn names(root: &Path, package: &Package) -> Option<String> {
    let expected = match package.folder.as_str() {
        "xtask" => "xtask".to_owned(),
        "runtime-facade" => "sinew".to_owned(),
        folder => format!("sinew-{folder}"),
    };
    let is_crate = package.directory.parent() == Some(&root.join("crates"));
    if package.name == expected || !(is_crate || package.directory.parent() == Some(root)) {
        return None;
    }
    Some(format!(
        "the package in `{}` is called `{}`. `ls crates/` is the table of contents, so rename it \
         to `{expected}`, or the folder.",
        package.folder, package.name
    ))
}

/// Dependencies that do not take their version from the root manifest.
fn versions(manifest: &Table) -> Vec<String> {
    let for_targets = manifest.get("target").and_then(Value::as_table);
    let places = std::iter::once(manifest)
        .chain(for_targets.into_iter().flat_map(Table::values).filter_map(Value::as_table));
    let mut faults = Vec::new();
    for place in places {
        for table in DEPENDENCY_TABLES {
            let lines = place.get(table).and_then(Value::as_table);
            for (name, line) in lines.into_iter().flatten() {
                let is_by_path = table == "dev-dependencies" && is_path_only(line);
                if line.get("workspace").is_none() && !is_by_path {
                    faults.push(format!(
                        "`{name}` in [{table}] has its own version, and two versions of one crate \
                         do not know each other's types. Move it to [workspace.dependencies] and \
                         write `{name} = {{ workspace = true }}`."
                    ));
                }
            }
        }
    }
    faults
}

/// A dependency on a member that has no version: two crates whose tests use each other can be
/// published only so, see `publish`.
fn is_path_only(line: &Value) -> bool {
    line.as_table().is_some_and(|line| line.keys().eq(["path"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn package(folder: &str, name: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            folder: folder.to_owned(),
            directory: Path::new("/repository/crates").join(folder),
            publishable: true,
            has_library: true,
            binaries: Vec::new(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn every_dependency_table_takes_versions_from_the_root() {
        let faults = versions(&table(
            "[dependencies]\na = { workspace = true, features = [\"b\"] }\nc = \"1\"\n\
             [dev-dependencies]\nd = { version = \"1\" }\nf = { path = \"../f\" }\n\
             [target.'cfg(unix)'.build-dependencies]\ne = { path = \"../e\" }\n",
        ));
        assert_eq!(faults.len(), 3, "{faults:#?}");
        assert!(faults[0].starts_with("`c` in [dependencies]"));
        assert!(faults[2].starts_with("`e` in [build-dependencies]"));
    }

    #[test]
    fn what_is_not_inherited_is_named() {
        let bare = inheritance(&package("mux", "sinew-mux"), &table("[package]\nversion = \"1\""));
        assert_eq!(bare.len(), INHERITED.len() + INHERITED_TO_PUBLISH.len() + 2, "{bare:#?}");
        assert!(bare[0].contains("version.workspace = true"));
    }

    #[test]
    fn a_package_is_called_after_its_folder() {
        let root = Path::new("/repository");
        assert_eq!(names(root, &package("mux", "sinew-mux")), None);
        assert_eq!(names(root, &package("runtime-facade", "sinew")), None);
        assert!(names(root, &package("mux", "sinew-streams")).unwrap().contains("sinew-mux"));
    }
}
