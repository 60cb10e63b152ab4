//! `chaos break`: runs a tracked word count over two worker processes, does one fault after another to it, and proves that nothing was lost.
//!
//! The other subcommands are those of every topology program: `break` runs itself as `chaos run`.
//!
//! One fault at a time: the next one comes at a random moment after the run has recovered from the last. Which fault, which worker and when follow from
//! the seed; what was under way then does not.
#![forbid(unsafe_code)]

mod faults;
mod topology;

use std::process::ExitCode;

fn main() -> ExitCode {
    let app = squall::App::new("chaos", topology::topology).version(env!("CARGO_PKG_VERSION"));
    if std::env::args().nth(1).as_deref() == Some("break") {
        return faults::main();
    }
    app.main()
}
