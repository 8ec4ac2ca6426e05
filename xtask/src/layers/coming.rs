//! The crates that are planned, and what each is to depend on. docs/crates-to-come.svg is drawn
//! from this table, and the checks of today are made on it as well.

/// A crate of the plan, whether it exists already or not.
pub(crate) struct Planned {
    pub(crate) name: &'static str,
    pub(crate) owns: &'static str,
    /// What it is to use, without what these bring in themselves.
    pub(crate) uses: &'static [&'static str],
}

pub(crate) const PLAN: &[Planned] = &[
    Planned { name: "codec", owns: "bytes to frames", uses: &[] },
    Planned { name: "folder", owns: "folders to trust", uses: &[] },
    Planned { name: "plane", owns: "the contract, small shared parts", uses: &[] },
    Planned { name: "mux", owns: "sessions, connections, streams", uses: &["plane"] },
    Planned { name: "net", owns: "carriers, listening, ports", uses: &["folder", "plane"] },
    Planned { name: "dynamo-wire", owns: "Dynamo's bytes", uses: &["codec", "plane"] },
    Planned { name: "mux-driver", owns: "the one tokio driver", uses: &["mux", "net"] },
    Planned { name: "transport-tcp", owns: "the mux over TCP and Unix", uses: &["mux-driver"] },
    Planned {
        name: "plane-call-home",
        owns: "responses, dialled back",
        uses: &["mux-driver", "dynamo-wire"],
    },
    Planned {
        name: "plane-request-tcp",
        owns: "Dynamo's request frames",
        uses: &["net", "dynamo-wire"],
    },
    Planned { name: "split", owns: "an exchange on two planes", uses: &["dynamo-wire"] },
    Planned { name: "compat-dynamo", owns: "Dynamo's items and errors", uses: &["split"] },
    Planned {
        name: "runtime-facade",
        owns: "puts the parts together",
        uses: &["transport-tcp", "plane-call-home", "plane-request-tcp", "compat-dynamo"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Kind, fault, sentences};

    #[test]
    fn the_plan_keeps_to_the_layers_and_to_every_sentence() {
        let rows: Vec<_> = PLAN.iter().map(|planned| (planned.name, planned.uses)).collect();
        for (from, to) in rows.iter().flat_map(|(from, uses)| uses.iter().map(move |to| (from, to)))
        {
            assert!(rows.iter().any(|(name, _)| name == to), "{to} is not in the plan");
            assert_eq!(fault(from, to, Kind::Normal), None);
        }
        let faults = sentences::check(&sentences::tests::packages(&rows), &[]);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
