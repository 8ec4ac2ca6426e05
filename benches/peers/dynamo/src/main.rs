fn main() {
    std::process::exit(sinew_benches::run(&sinew_benches::builtin()));
}
