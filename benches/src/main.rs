//! `sinew-bench`: the peers of this workspace side by side. Run it with `cargo xtask bench`.

fn main() {
    std::process::exit(sinew_benches::run("cargo xtask bench", sinew_benches::builtin(), &[]));
}
