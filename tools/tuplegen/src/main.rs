//! `tuplegen`: load one can trust. See the library.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    squall_tuplegen::verbs::main()
}
