//! The `squall` command: topologies in YAML, and what is not about one topology. Topologies in Rust are programs of their own
//! ([`squall::main!`]).
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    squall::stock_main()
}
