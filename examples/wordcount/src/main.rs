//! Word count over real text, and the proof that it counted right.
//!
//! The topology is [`topology`], with the bolts [`Split`] and [`Count`]. What else is here belongs to its
//! results: they are sent to the parent of the run as [`rows`], summed up in [`words`], and compared with
//! what a [`plain`] single-threaded loop counts in the same files.
//!
//! `make run` runs it over the source text of the crates that Squall is built from.

#![forbid(unsafe_code)]

mod check;
mod count;
mod plain;
mod rows;
mod words;

use squall::components::{Line, Lines, LinesOptions};
use squall::prelude::*;

use count::Count;

/// What to count and how to show it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// File or folder to read, or @FILE for a file that lists some; may be given several times
    #[arg(long = "input", value_name = "PATH|@LIST")]
    pub(crate) inputs: Vec<String>,
    /// Leave out the comparison with a plain loop (VERIFY=0 in the environment does the same)
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// How many of the most frequent words to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,
    /// Tasks of each component
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tasks: u32,
}

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq, Tuple)]
pub(crate) struct Word {
    /// As `split_whitespace` yields it.
    pub(crate) word: String,
}

/// Splits lines into words.
pub(crate) struct Split;

impl Bolt for Split {
    type In = Line;
    type Out = Stream<Word>;

    fn execute(&mut self, line: Input<'_, Line>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        for word in line.text.split_whitespace() {
            out.emit(WordRef { word });
        }
        Ok(())
    }
}

/// Lines are split in the worker that read them; equal words meet in one counting task.
fn topology(t: &mut Topology, options: &Options) {
    t.configure(|config| config.workers = 2);
    let (inputs, tasks) = (options.inputs.clone(), options.tasks);
    let lines = t.spout("lines", move || Lines::over(inputs.clone()).unacked()).tasks(tasks).streams();
    let words = t.bolt("split", || Split).tasks(tasks).on(lines.local_or_shuffle()).streams();
    t.bolt("count", Count::default).tasks(tasks).on(words.fields([Word::WORD]));
}

/// Bytes of the input for the progress line, unless it has so many files that looking takes long.
fn input_bytes(options: &Options) -> Option<u64> {
    const FILES_MAX: usize = 20_000;
    LinesOptions::over(options.inputs.iter().cloned()).total_bytes(FILES_MAX).ok()?
}

fn main() -> std::process::ExitCode {
    squall::App::new("wordcount", topology)
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .input_counter("lines", "bytes")
        .input_bytes(input_bytes)
        .after_run(check::check)
        .main()
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall::testing::BoltHarness;

    #[test]
    fn a_line_is_split_at_whitespace_of_any_script() {
        let mut split = BoltHarness::new(|| Split);
        split.send(Line { text: " to be\u{3000}or\tnot\r".into() });
        split.send(Line { text: " ".into() });
        let words: Vec<String> = split.outputs::<Word>("default").into_iter().map(|word| word.word).collect();
        assert_eq!(words, ["to", "be", "or", "not"]);
        assert!(split.balanced());
    }
}
