//! `textgen`: makes text, lists text, counts text. See the library for the rules of each.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use squall_textgen::size::parse_bytes;
use squall_textgen::sources::crate_sources;
use squall_textgen::{Generator, GeneratorOptions, WordCount};

/// Deterministic text, the source text of a workspace's crates, and a plain word count
#[derive(Parser)]
#[command(name = "textgen", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write text of Zipf-distributed words; equal options give equal bytes
    Generate(Generate),
    /// List the source-text files of all packages in the lock file, one path a line
    CrateSources(CrateSources),
    /// Count words, lines and bytes of files, folders or @lists with a plain loop
    Count(Count),
}

#[derive(Args)]
struct Generate {
    /// Length of the text (1000, 64KiB, 200M, 2G), met exactly
    #[arg(long, value_parser = parse_bytes, default_value = "200M")]
    bytes: u64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Size of the vocabulary
    #[arg(long, default_value_t = 50_000)]
    words: u32,
    /// Zipf exponent, 0 (all words equally frequent) to 8
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// File to write [default: standard output]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct CrateSources {
    /// Most bytes that the listed files may have in sum
    #[arg(long, value_parser = parse_bytes, default_value = "200M")]
    limit: u64,
    /// Output of `cargo metadata --format-version 1`, `-` for standard input [default: run it]
    #[arg(long)]
    metadata: Option<PathBuf>,
}

#[derive(Args)]
struct Count {
    /// Files, folders, or @FILE for a file that lists them
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// How many of the most frequent words to show
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Print JSON with the keys of a run's report
    #[arg(long)]
    json: bool,
    /// Compare with a run's report over the same input; differences end with a failure
    #[arg(long, value_name = "REPORT")]
    compare: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Generate(task) => generate(task),
        Task::CrateSources(task) => list_sources(task),
        Task::Count(task) => count(task),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe went away (`textgen … | head`): nothing to complain about.
        Err(e) if is_broken_pipe(e.as_ref()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("textgen: {e}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn generate(task: Generate) -> Result<(), Box<dyn Error>> {
    let mut generator =
        Generator::new(&GeneratorOptions { bytes: task.bytes, seed: task.seed, words: task.words, zipf: task.zipf })?;
    let target: Box<dyn Write> = match &task.output {
        Some(path) => Box::new(File::create(path).map_err(|e| format!("cannot create {}: {e}", path.display()))?),
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(1 << 20, target);
    let written = generator.write_to(&mut out).and_then(|_| out.flush());
    match (written, &task.output) {
        (Err(e), Some(path)) => Err(format!("cannot write {}: {e}", path.display()).into()),
        (result, _) => Ok(result?),
    }
}

fn list_sources(task: CrateSources) -> Result<(), Box<dyn Error>> {
    let metadata = match task.metadata.as_deref() {
        Some(path) if path == Path::new("-") => io::read_to_string(io::stdin())?,
        Some(path) => {
            let mut text = String::new();
            File::open(path)
                .and_then(|mut file| file.read_to_string(&mut text))
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            text
        }
        None => run_cargo_metadata()?,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for file in crate_sources(&metadata, task.limit)? {
        writeln!(out, "{}", file.path.display())?;
    }
    Ok(out.flush()?)
}

/// Asks cargo for all packages. A machine without a network may lack those that other platforms
/// need, which a build here never fetches: then the list of this platform's packages has to do.
fn run_cargo_metadata() -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = |more: &[&str]| {
        Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(more)
            .output()
            .map_err(|e| format!("cannot run {}: {e}", Path::new(&cargo).display()))
    };
    let full = metadata(&[])?;
    if full.status.success() {
        return Ok(String::from_utf8(full.stdout)?);
    }
    let part = metadata(&["--offline", "--filter-platform", "host-tuple"])?;
    if part.status.success() {
        eprintln!("textgen: packages for other platforms are not on this machine: left out");
        return Ok(String::from_utf8(part.stdout)?);
    }
    Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&full.stderr).trim()).into())
}

fn count(task: Count) -> Result<(), Box<dyn Error>> {
    let mut counted = WordCount::default();
    for input in &task.inputs {
        counted.add_path(input)?;
    }
    if let Some(report) = &task.compare {
        compare(&counted, report)?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if task.json {
        writeln!(out, "{:#}", counted.to_json(task.top))?;
        return Ok(out.flush()?);
    }
    for (word, n) in counted.top(task.top) {
        writeln!(out, "{n:>12}  {word}")?;
    }
    writeln!(
        out,
        "{} words, {} distinct, in {} lines and {} bytes of {} files ({} binary files skipped, {} lines not UTF-8)",
        counted.total,
        counted.words.len(),
        counted.lines,
        counted.bytes,
        counted.files,
        counted.skipped_binary,
        counted.invalid_utf8
    )?;
    Ok(out.flush()?)
}

fn compare(counted: &WordCount, report: &Path) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(report).map_err(|e| format!("cannot read {}: {e}", report.display()))?;
    let differences = counted.differences(&serde_json::from_str(&text)?);
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{} differs from the count: {}", report.display(), differences.join("; ")).into())
}
