//! Options from a file (`run --job FILE`), and a run's options as such a file: a YAML map of long names to values, lists where an option can be
//! repeated, `true` for one that has no value. What the command line says wins.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use serde_json::Value;

use crate::model::yaml;

/// Options of which a run has one: that on the command line takes the place of each of the file's.
const ALTERNATIVES: [&[&str]; 2] =
    [&["builtin", "local", "ingest", "egress", "capture"], &["rate", "closed", "throughput", "replay", "arrival"]];
/// What a job is not about: where its result goes.
const NOT_OF_A_JOB: [&str; 6] = ["job", "print-job", "out", "format", "quiet", "no-tui"];

/// The arguments with those of the file that `--job` names, behind the verb.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn expanded(args: Vec<String>, program: &Command) -> Result<Vec<String>, String> {
    let (Some("run"), Some(file)) = (args.get(1).map(String::as_str), job_file(&args)) else { return Ok(args) };
    let known = program.find_subcommand("run").ok_or("no `run`")?;
    let map = match yaml::read(Path::new(&file))? {
        Value::Object(map) => map,
        _ => return Err(format!("{file}: a job is a map of options, as in `rate: 10k`")),
    };
    let given = |name: &str| {
        let short = known.get_arguments().find(|a| a.get_long() == Some(name)).and_then(clap::Arg::get_short);
        args.iter().skip(2).any(|a| {
            let long = a.strip_prefix("--").is_some_and(|a| a.split('=').next() == Some(name));
            long || short.is_some_and(|s| !a.starts_with("--") && a.strip_prefix('-').is_some_and(|a| a.starts_with(s)))
        })
    };
    let mut of_file = Vec::new();
    for (name, value) in &map {
        let arg = known.get_arguments().find(|a| a.get_long() == Some(name)).filter(|_| !is_not_of_a_job(name));
        let arg =
            arg.ok_or_else(|| format!("{file}: `{name}` is no option of a job; `tuplegen run --help` has them"))?;
        let alternatives = ALTERNATIVES.iter().find(|a| a.contains(&name.as_str()));
        if given(name) || alternatives.is_some_and(|a| a.iter().any(|other| given(other))) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            match (arg.get_action(), value) {
                (ArgAction::SetTrue, Value::Bool(true)) => of_file.push(format!("--{name}")),
                (ArgAction::SetTrue, Value::Bool(false)) => {}
                (ArgAction::SetTrue, _) => return Err(format!("{file}: `{name}` is true or false")),
                (_, Value::String(text)) => of_file.push(format!("--{name}={text}")),
                (_, Value::Number(n)) => of_file.push(format!("--{name}={n}")),
                _ => return Err(format!("{file}: `{name}` is {value}; give a text or a number")),
            }
        }
    }
    let mut all = args;
    all.splice(2..2, of_file);
    Ok(all)
}

fn is_not_of_a_job(name: &str) -> bool {
    NOT_OF_A_JOB.contains(&name)
}

fn job_file(args: &[String]) -> Option<String> {
    let at = args.iter().position(|a| a == "--job" || a.starts_with("--job="))?;
    match args[at].strip_prefix("--job=") {
        Some(file) => Some(file.to_owned()),
        None => args.get(at + 1).cloned(),
    }
}

/// All options of a run as a job file, those with their defaults included.
pub(super) fn text(matches: &ArgMatches) -> String {
    let mut lines = Vec::new();
    let run = matches.subcommand().map(|(_, run)| run);
    for id in run.iter().flat_map(|run| run.ids()).map(clap::Id::as_str) {
        let name = id.replace('_', "-");
        // Groups of options have ids of their own, and no values.
        let Some((run, Ok(Some(raw)))) = run.map(|run| (run, run.try_get_raw(id))) else { continue };
        let values: Vec<String> = raw.map(|v| v.to_string_lossy().into_owned()).collect();
        if is_not_of_a_job(&name) || id.chars().any(char::is_uppercase) {
            continue;
        }
        let quoted = |v: &String| serde_json::to_string(v).unwrap_or_default();
        match &values[..] {
            [flag] if flag == "true" => lines.push(format!("{name}: true\n")),
            [flag] if flag == "false" && run.value_source(id) == Some(ValueSource::DefaultValue) => {}
            [one] => lines.push(format!("{name}: {}\n", quoted(one))),
            many => lines.push(format!("{name}: [{}]\n", many.iter().map(quoted).collect::<Vec<_>>().join(", "))),
        }
    }
    // In the parser's order they follow the command line: the same job is to be the same file.
    lines.sort();
    "# tuplegen run --job FILE repeats this run\n".to_owned() + &lines.concat()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    fn args(line: &str) -> Vec<String> {
        std::iter::once("tuplegen").chain(line.split_whitespace()).map(str::to_owned).collect()
    }

    fn with_file(job: &str, line: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("job.yaml");
        std::fs::write(&file, job).unwrap();
        let all = expanded(args(&format!("run {line} --job {}", file.display())), &Cli::command())?;
        Ok(all[2..all.len() - 2].to_vec())
    }

    #[test]
    fn options_of_the_file_come_first_and_those_of_the_command_line_win() {
        let job = "builtin: wordcount\nrate: 20k\nduration: 2s\nacks: true\nstrict: false\nslo: [p99<5ms, loss==0]\nseed: 7\n";
        let all = with_file(job, "").unwrap();
        let wanted = "--acks --builtin=wordcount --duration=2s --rate=20k --seed=7 --slo=loss==0 --slo=p99<5ms";
        let sorted = |mut v: Vec<String>| {
            v.sort();
            v.join(" ")
        };
        assert_eq!(sorted(all), wanted);
        let other = with_file(job, "-R 5k --capture x").unwrap();
        assert!(!other.iter().any(|a| a.contains("builtin") || a.contains("rate")), "{other:?}");
        assert_eq!(with_file(job, "-R5k").unwrap().iter().filter(|a| a.contains("rate")).count(), 0);
    }

    #[test]
    fn what_is_no_job_is_refused() {
        for (job, what) in [
            ("[1]", "a map of options"),
            ("colour: red", "`colour` is no option"),
            ("out: dir", "`out` is no option of a job"),
            ("acks: 3", "true or false"),
            ("rate: {a: 1}", "a text or a number"),
            ("rate: 1\nrate: 2", "given twice"),
        ] {
            let told = with_file(job, "").unwrap_err();
            assert!(told.contains(what), "{job}: {told}");
        }
        assert!(expanded(args("run --job /no/such"), &Cli::command()).unwrap_err().contains("/no/such"));
    }

    #[test]
    fn a_run_as_a_job_is_the_same_run() {
        let parse = |args: Vec<String>| Cli::command().try_get_matches_from(args).unwrap();
        let first = text(&parse(args("run --builtin echo -R 10k --slo p99<5ms --slo loss==0 --acks --size 64..1k -q")));
        assert!(first.contains("slo: [\"p99<5ms\", \"loss==0\"]") && first.contains("acks: true"), "{first}");
        assert!(!first.contains("quiet"), "{first}");
        let again = with_file(&first, "").unwrap();
        let all = ["tuplegen".to_owned(), "run".to_owned()].into_iter().chain(again).collect();
        assert_eq!(text(&parse(all)), first);
    }
}
