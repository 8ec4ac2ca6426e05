//! The layer table, and the checks that every dependency between our crates points down it, that
//! no crate reaches one that it must not know, that none is in a build without its feature, and that
//! all can be published in some order.

pub(crate) mod coming;
mod features;
pub(crate) mod sentences;

use anyhow::{Result, bail};
use clap::Args;

use crate::publish;
use crate::workspace::{Kind, Package, Workspace};

/// Check that every dependency between our crates points to a lower layer, that no crate reaches
/// one that it must not know, that none is in a build without its feature, and that all can be
/// published in some order.
#[derive(Args)]
#[command(after_help = "\
The layers are LAYERS in xtask/src/layers.rs; docs/layers.svg is drawn from them. What a crate must
not know is MUST_NOT in xtask/src/layers/sentences.rs, with the exceptions that hold today. What a
build without a feature lacks is BUILDS in xtask/src/layers/features.rs.
Dev-dependencies may point anywhere, as tests need the crates above them.")]
pub(crate) struct Options {}

/// One row of the table.
pub(crate) struct Layer {
    pub(crate) level: u8,
    /// Folder names below `crates/`.
    pub(crate) crates: &'static [&'static str],
    /// What the row is about, for the picture.
    pub(crate) owns: &'static str,
}

/// Lowest first. A crate depends only on rows above itself in this list.
pub(crate) const LAYERS: &[Layer] = &[
    Layer { level: 0, crates: &["codec", "folder"], owns: "bytes to frames; folders to trust" },
    Layer { level: 1, crates: &["plane"], owns: "the contract: names, context, plane traits" },
    Layer {
        level: 2,
        crates: &["mux", "net", "dynamo-wire", "telemetry"],
        owns: "stream rules, Dynamo's bytes; metrics",
    },
    Layer {
        level: 3,
        crates: &["mux-driver", "security", "discovery"],
        owns: "who could serve; the mux over any carrier",
    },
    Layer {
        level: 4,
        crates: &[
            "transport-memory",
            "transport-tcp",
            "transport-http",
            "transport-nats",
            "transport-quic",
            "transport-websocket",
            "transport-grpc",
            "transport-webrtc",
            "plane-call-home",
            "plane-request-tcp",
            "membership",
        ],
        owns: "moving bytes, in one way each",
    },
    Layer { level: 5, crates: &["registry"], owns: "which transport an exchange uses" },
    Layer {
        level: 6,
        crates: &["router", "ingress", "split"],
        owns: "which instance; the serving side",
    },
    Layer {
        level: 7,
        crates: &["compat-dynamo", "cluster", "node"],
        owns: "other systems, whole clusters",
    },
    Layer { level: 8, crates: &["runtime-facade"], owns: "the stable API and its configuration" },
    Layer { level: 9, crates: &["cli"], owns: "the sinew command" },
];

/// Beside the layers: it may use these rows and lower, and only tests may use it.
const TESTKIT: (&str, u8) = ("testkit", 1);

/// Programs and tests of the repository. They may use everything; nothing may use them.
const LEAVES: &[&str] = &["xtask", "tests", "interop", "soak", "benches", "guards"];

/// What several of these programs share. Nothing else may use it.
const SHARED_BY_LEAVES: &[&str] = &["svg"];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    let (edges, mut faults) = check(&packages);
    faults.extend(sentences::check(&packages, sentences::EXCEPTIONS));
    faults.extend(features::check(workspace, &packages)?);
    faults.extend(publish::order(&packages).err().map(|ring| ring.to_string()));
    for fault in &faults {
        eprintln!("layers: {fault}\n");
    }
    if !faults.is_empty() {
        bail!("{} faults in {edges} dependencies between our crates", faults.len());
    }
    println!("layers: {edges} dependencies between {} packages all point down", packages.len());
    println!("layers: {} builds do without what they did not ask for", features::BUILDS.len());
    println!("layers: {} exceptions to what crates must not know", sentences::EXCEPTIONS.len());
    Ok(())
}

/// How many edges were looked at, and a message for each that is not allowed.
fn check(packages: &[Package]) -> (usize, Vec<String>) {
    let unknown = packages.iter().filter(|package| place(&package.folder).is_none()).map(|found| {
        format!(
            "crates/{} ({}) is in no layer.\n  Rule: every crate has one place in the table.\n  \
             Do: add it to LAYERS in xtask/src/layers.rs, in the lowest layer that is above \
             everything it needs.",
            found.folder, found.name
        )
    });
    let mut faults: Vec<String> = unknown.collect();
    let mut edges = 0;
    for from in packages {
        for dependency in from.dependencies.iter().filter(|dependency| dependency.local) {
            let Some(to) = packages.iter().find(|package| package.name == dependency.name) else {
                continue;
            };
            edges += 1;
            faults.extend(fault(&from.folder, &to.folder, dependency.kind));
        }
    }
    (edges, faults)
}

/// Where a folder stands.
#[derive(Clone, Copy)]
enum Place {
    Layer(u8),
    Testkit,
    Leaf,
    SharedByLeaves,
}

fn place(folder: &str) -> Option<Place> {
    if folder == TESTKIT.0 {
        return Some(Place::Testkit);
    }
    if LEAVES.contains(&folder) {
        return Some(Place::Leaf);
    }
    if SHARED_BY_LEAVES.contains(&folder) {
        return Some(Place::SharedByLeaves);
    }
    LAYERS
        .iter()
        .find(|layer| layer.crates.contains(&folder))
        .map(|layer| Place::Layer(layer.level))
}

/// The message for the edge `from -> to`, if it breaks a rule.
fn fault(from: &str, to: &str, kind: Kind) -> Option<String> {
    let (rule, advice) = match (place(from)?, place(to)?) {
        (_, Place::Leaf) => (
            "nobody depends on xtask, tests or benches.",
            "move the shared code down into the crate that owns its subject.",
        ),
        (Place::Leaf, _) => return None,
        (_, Place::SharedByLeaves) => (
            "only programs and tests of the repository use what they share.",
            "do without it: it is not published with our crates.",
        ),
        (_, _) if kind == Kind::Dev => return None,
        (_, Place::Testkit) => (
            "testkit is reached through [dev-dependencies] only.",
            "make it a dev-dependency, so that users of the crate do not compile test tools.",
        ),
        (Place::SharedByLeaves, _) => (
            "what programs of the repository share uses none of our crates.",
            "take what it needs from the program, as an argument.",
        ),
        (Place::Testkit, Place::Layer(to)) if to <= TESTKIT.1 => return None,
        (Place::Testkit, Place::Layer(_)) => (
            "testkit uses plane and lower only, so that every crate above can be tested with it.",
            "take what it needs from the caller, through a trait of plane.",
        ),
        (Place::Layer(from), Place::Layer(to)) if to < from => return None,
        (Place::Layer(_), Place::Layer(_)) => (
            "a crate depends only on crates in lower layers.",
            "turn the edge round (put a trait in the lower crate and implement it in the higher \
             one), or move the shared type down.",
        ),
    };
    Some(format!(
        "{from} ({}) -> {to} ({}) is not allowed.\n  Rule: {rule}\n  Do: {advice}",
        level_name(from),
        level_name(to)
    ))
}

fn level_name(folder: &str) -> String {
    match place(folder) {
        Some(Place::Layer(level)) => format!("layer {level}"),
        Some(Place::Testkit) => "beside the layers".to_owned(),
        Some(Place::Leaf) => "leaf".to_owned(),
        Some(Place::SharedByLeaves) => "shared by leaves".to_owned(),
        None => "no layer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(from: &str, to: &str, kind: Kind, words: &[&str]) {
        let message = fault(from, to, kind).unwrap_or_else(|| panic!("{from} -> {to} was allowed"));
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }

    #[test]
    fn an_edge_that_points_up_or_sideways_is_refused_by_name() {
        refused("codec", "router", Kind::Normal, &["codec (layer 0) -> router (layer 6)"]);
        refused("codec", "router", Kind::Build, &["lower layers"]);
        refused("transport-tcp", "transport-nats", Kind::Normal, &["layer 4", "lower layers"]);
        refused("router", "testkit", Kind::Normal, &["dev-dependencies"]);
        refused("testkit", "mux", Kind::Normal, &["plane and lower"]);
        refused("router", "xtask", Kind::Dev, &["nobody depends on"]);
        refused("tests", "benches", Kind::Normal, &["nobody depends on"]);
        refused("router", "svg", Kind::Dev, &["only programs and tests of the repository"]);
        refused("svg", "codec", Kind::Normal, &["none of our crates"]);
    }

    #[test]
    fn an_edge_that_points_down_is_allowed() {
        for (from, to, kind) in [
            ("router", "codec", Kind::Normal),
            ("cli", "runtime-facade", Kind::Normal),
            ("codec", "testkit", Kind::Dev),
            ("codec", "router", Kind::Dev),
            ("testkit", "plane", Kind::Normal),
            ("benches", "testkit", Kind::Normal),
            ("benches", "svg", Kind::Normal),
        ] {
            assert_eq!(fault(from, to, kind), None);
        }
    }

    #[test]
    fn the_table_names_each_crate_once_and_rises() {
        let mut names: Vec<_> = LAYERS.iter().flat_map(|layer| layer.crates).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(LAYERS.windows(2).all(|pair| pair[0].level < pair[1].level));
    }

    #[test]
    fn this_workspace_keeps_to_the_table() {
        let packages = Workspace::find().unwrap().packages().unwrap();
        let (_, mut faults) = check(&packages);
        faults.extend(sentences::check(&packages, sentences::EXCEPTIONS));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
