//! `sinew-bench-peers`: Sinew beside what others would use in its place. Run it with
//! `cargo xtask bench --peers`.

mod grpc;
mod grpc_form;
mod http_sse;
mod nats;
mod quic;
mod raw_conn;
mod tarpc_rpc;
mod velo_node;
mod wire;

use std::path::Path;

use sinew_benches::Contestant;

use self::velo_node::Streams;

/// Files that a peer with a connection for each stream may open: below the number that a process
/// is commonly allowed.
const MAX_FILES: usize = 1_000;

/// Where the program with Dynamo's runtime is. Without it there is no Dynamo in the run.
const DYNAMO: &str = "SINEW_BENCH_DYNAMO";

fn main() {
    let mut peers = sinew_benches::builtin();
    peers.extend(others());
    let dynamo = std::env::var_os(DYNAMO);
    let programs: Vec<_> = dynamo.iter().map(Path::new).collect();
    std::process::exit(sinew_benches::run("cargo xtask bench --peers", peers, &programs));
}

fn others() -> Vec<Box<dyn Contestant>> {
    vec![
        Box::new(raw_conn::RawConn),
        Box::new(grpc::Tonic::prost()),
        Box::new(grpc::Tonic::plain()),
        Box::new(grpc::Tonic::tuned()),
        Box::new(tarpc_rpc::Tarpc),
        Box::new(quic::Quic),
        Box::new(http_sse::Http { is_v2: false }),
        Box::new(http_sse::Http { is_v2: true }),
        Box::new(nats::Nats),
        Box::new(velo_node::VeloPeer { streams: Streams::Mux }),
        Box::new(velo_node::VeloPeer { streams: Streams::WideMux }),
        Box::new(velo_node::VeloPeer { streams: Streams::ManualMux }),
        Box::new(velo_node::VeloPeer { streams: Streams::Connection }),
    ]
}
