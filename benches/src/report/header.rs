//! What stands above the numbers: what was measured, on what, and with what switched on.

use super::{Conditions, document::push, measures::exactly, targets::is_other};
use crate::{Contestant, Results, cell};

/// What no number here was bought with.
const SWITCHED_ON: &str = "\
**On in every measured Sinew configuration**, at its default: limits on streams, messages and bytes; flow
control, which over the mux is credit for each stream with cumulative acknowledgements, and over Dynamo's
frames a bounded read; keep-alive of the mux's connections; the count of items against the end of a
stream, where the wire has one (Dynamo's has none); exactly one terminal; cancellation. In short: the
invariants of `docs/ARCHITECTURE.md`. No build and no setting here goes without them.

**Frame checks.** `sinew-tcp-checked` has an XXH3 behind every frame, written and verified
(`MuxConfig::integrity`): what a `Runtime` does that listens on more than loopback. The other peers over
the mux are without, as a `Runtime` is within one host. The split peers check nothing: Dynamo's frames
have a place for a checksum of responses, in which Dynamo writes 0, and so does `sinew-split-single` with
`TcpConfig::frame_checks` off. Neither raw mux checks anything.
";

/// The title, with how the report came about.
pub(super) fn title(text: &mut String, peers: &[&dyn Contestant], conditions: &Conditions) {
    let Conditions { command, .. } = conditions;
    let others = match peers.iter().any(|peer| is_other(peer.name())) {
        true => " and beside what others would use in its place",
        false => "",
    };
    push(
        text,
        format_args!(
            "# Benchmarks\n\nWritten by `{command}`; do not edit. Sinew beside the least that a \
             mux over TCP can cost{others}, in one run.\n\n"
        ),
    );
}

pub(super) fn header(
    text: &mut String,
    peers: &[&dyn Contestant],
    results: &Results,
    conditions: &Conditions,
) {
    let Conditions { machine, pace, load, variation, .. } = conditions;
    text.push_str("## What was measured, and how\n\n");
    for peer in peers {
        push(text, format_args!("- **{}**: {}.\n", peer.name(), peer.about()));
    }
    push(
        text,
        format_args!(
            "\n| | |\n|---|---|\n| date | {}, commit {} |\n| machine | {}, {} hardware threads, \
             {} |\n| compiler | {} |\n| load | {} |\n| shape | \
             {} rounds; in each, every workload on every peer in turn, {} ms after a warm-up of \
             {} ms |\n| sizes | items of {}, bodies of unary calls of {}, large bodies of 1 MiB |\n\
             | processes | new for each measurement: a client and a server, for the forward pass \
             one for each engine and one for each of the 4 callers; tokio with {} workers each, \
             loopback |\n",
            machine.date,
            machine.revision,
            machine.processor,
            machine.cpus,
            machine.system,
            machine.compiler,
            load.sentence(),
            results.rounds(),
            pace.measured.as_millis(),
            pace.warm_up.as_millis(),
            exactly(variation.item_bytes()),
            exactly(variation.body_bytes()),
            cell::WORKERS,
        ),
    );
    if load.is_idle() == Some(false) {
        text.push_str(
            "\n**The machine was busy with something else.** The ratios within a round still \
             compare; the absolute numbers are those of a busy machine.\n",
        );
    }
    push(text, format_args!("\n{SWITCHED_ON}"));
    text.push_str(
        "\nNumbers are medians over the rounds. Ratios are taken within each round, and their \
         median is quoted: absolute numbers move with the machine, ratios hold.\n",
    );
}
