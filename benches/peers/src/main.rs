//! `sinew-bench-peers`: Sinew beside what others would use in its place. Run it with
//! `cargo xtask bench --peers`.

mod grpc;
mod raw_conn;
mod wire;

/// Files that a peer with a connection for each stream may open: below the number that a process
/// is commonly allowed.
const MAX_FILES: usize = 1_000;

fn main() {
    let mut peers = sinew_benches::builtin();
    peers.push(Box::new(raw_conn::RawConn));
    peers.push(Box::new(grpc::Tonic { is_tuned: false }));
    peers.push(Box::new(grpc::Tonic { is_tuned: true }));
    std::process::exit(sinew_benches::run("cargo xtask bench --peers", &peers));
}
