//! `sinew-bench-peers`: Sinew beside what others would use in its place. Run it with
//! `cargo xtask bench --peers`.

mod grpc;
mod http_sse;
mod nats;
mod quic;
mod raw_conn;
mod tarpc_rpc;
mod velo_node;
mod wire;

use self::velo_node::Streams;

/// Files that a peer with a connection for each stream may open: below the number that a process
/// is commonly allowed.
const MAX_FILES: usize = 1_000;

fn main() {
    let mut peers = sinew_benches::builtin();
    peers.push(Box::new(raw_conn::RawConn));
    peers.push(Box::new(grpc::Tonic { is_tuned: false }));
    peers.push(Box::new(grpc::Tonic { is_tuned: true }));
    peers.push(Box::new(tarpc_rpc::Tarpc));
    peers.push(Box::new(quic::Quic));
    peers.push(Box::new(http_sse::Http { is_v2: false }));
    peers.push(Box::new(http_sse::Http { is_v2: true }));
    peers.push(Box::new(nats::Nats));
    for streams in [Streams::Mux, Streams::WideMux, Streams::Connection] {
        peers.push(Box::new(velo_node::VeloPeer { streams }));
    }
    std::process::exit(sinew_benches::run("cargo xtask bench --peers", &peers));
}
