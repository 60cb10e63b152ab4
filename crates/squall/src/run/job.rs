//! One `run` from start to exit code: workers, hook, report.

use std::io::{self, Write};
use std::process::ExitCode;

use squall_metrics::format;

use super::course::Course;
use super::engine::Outline;
use super::error::RunError;
use super::live::{Screen, Show};
use super::outcome::Outcome;
use super::parent::{Launch, Parent, Policy};
use super::system;
use super::watch::{Progress, Watch};
use crate::BoxError;
use crate::cli::{EXIT_FAILED, Ending};
use crate::report::file::ReportFile;
use crate::report::{Report, Sections, Verdict, json, text};

/// An app's hook with its arguments bound.
pub(crate) type AfterRun<'a> = dyn Fn(&mut Outcome<'_>) -> Result<Verdict, BoxError> + 'a;

/// What to run and what to do with its outcome.
pub(crate) struct Job<'a> {
    pub outline: &'a Outline,
    pub launch: Launch,
    pub policy: Policy,
    pub show: Show,
    pub report: Option<ReportFile>,
    pub progress: Progress,
    pub process_start_ns: u64,
    pub after_run: Option<&'a AfterRun<'a>>,
}

/// Runs the job. Everything a user must know has been printed when this returns.
pub(crate) fn run(job: Job<'_>) -> ExitCode {
    let screen = Screen::new(job.show, system::now_ns());
    let mut watch = Watch::new(job.outline.workers, job.progress, screen);
    watch.screen.note(&banner(job.outline));
    let mut parent = match Parent::start(job.outline, &job.launch, watch, job.policy) {
        Ok(parent) => parent,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EXIT_FAILED);
        }
    };
    parent.wait_for_rows();
    let (sections, verdict) = call_hook(&mut parent, job.after_run);
    parent.finish();

    let mut report = Report::new(job.outline, parent.course(), parent.watch(), job.process_start_ns);
    report.sections = sections;
    let problems = judge(&mut report, verdict, parent.course());
    let mut ending = Ending {
        failed: parent.course().failure().is_some(),
        interrupted: parent.course().interrupted(),
        wrong: !problems.is_empty(),
        unwritten: false,
    };
    if parent.course().begun_ns().is_some()
        && let Err(error) = print(&text::render(&report))
    {
        complain(&format!("the report cannot be written to standard output: {error}"));
        ending.unwritten = true;
    }
    if let Some(file) = job.report
        && let Err(error) = write_report(file, &report)
    {
        complain(&error);
        ending.unwritten = true;
    }
    problems.iter().for_each(complain);
    ExitCode::from(ending.exit_code())
}

fn banner(outline: &Outline) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}: {} on {} in {}, {} usable; buffers at most {}",
        outline.name,
        count(outline.tasks as usize, "task"),
        count(outline.reactors as usize, "reactor"),
        count(outline.workers as usize, "worker"),
        count(outline.cores.len(), "core"),
        format::bytes(outline.memory_bytes),
    )
}

/// Calls the app unless the run has failed or never began: there would be nothing to see.
fn call_hook(parent: &mut Parent, hook: Option<&AfterRun<'_>>) -> (Sections, Result<Verdict, RunError>) {
    match hook {
        Some(hook) if parent.course().failure().is_none() && parent.course().begun_ns().is_some() => {
            let mut outcome = Outcome::new(parent);
            let verdict = hook(&mut outcome).map_err(|error| RunError::AfterRun(error.to_string()));
            (outcome.report, verdict)
        }
        _ => (Sections::default(), Ok(Verdict::Unverified)),
    }
}

/// Everything that is wrong with the run, the run's own failure first; enters verdict and first problem in the report.
fn judge(report: &mut Report, verdict: Result<Verdict, RunError>, course: &Course) -> Vec<String> {
    let mut problems: Vec<String> = course.failure().map(ToString::to_string).into_iter().collect();
    match verdict {
        // A run that failed under the app's hands gives it wrong results: its own failure is the news.
        _ if course.failure().is_some() => {}
        Ok(Verdict::Unverified) => {}
        Ok(Verdict::Verified) => report.verified = Some(true),
        Ok(Verdict::Mismatch(reason)) => {
            report.verified = Some(false);
            problems.push(format!("the results are wrong: {reason}"));
        }
        Err(error) => problems.push(error.to_string()),
    }
    problems.extend(failed_tuples(report));
    problems.extend(report.uneven.iter().map(|what| {
        format!("the counts do not add up: {what}; this is a bug in Squall, please report it with the topology")
    }));
    report.problem = problems.first().cloned();
    problems
}

fn failed_tuples(report: &Report) -> Option<String> {
    let of = |row| (report.failed_for_good(row), &row.name);
    let failed: Vec<_> = report.components.iter().map(of).filter(|(n, _)| *n > 0).collect();
    let each: Vec<_> = failed.iter().map(|(n, name)| format!("{} in {name}", format::count(*n))).collect();
    let total = format::count(failed.iter().map(|(n, _)| n).sum());
    let why = "the log above says why; no spout emits them again, so they are lost";
    (!each.is_empty()).then(|| format!("{total} tuples failed ({}): {why}", each.join(", ")))
}

fn write_report(file: ReportFile, report: &Report) -> Result<(), String> {
    let path = file.path().to_owned();
    file.write(&json::render(report)).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
            io::ErrorKind::FileTooLarge => "raise `ulimit -f`",
            _ => "choose another --report path",
        };
        format!("the report cannot be written to {}: {error}; {remedy} and run again", path.display())
    })
}

/// Writes to standard output. A reader that has left is no error: it has seen what it wanted.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says what is wrong on standard error; if that is closed, the exit code must do.
pub(crate) fn complain(problem: &impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "error: {problem}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    fn ended(failure: Option<RunError>) -> Course {
        let mut course = Course::new([1]);
        course.on_prepared(0, 1);
        if let Some(error) = failure {
            course.on_failure(error, 2);
        }
        course
    }

    #[test]
    fn failed_tuples_make_a_run_fail_and_are_said_by_component() {
        let mut report = sample();
        let problems = judge(&mut report, Ok(Verdict::Verified), &ended(None));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("2 tuples failed (2 in count): "), "{problems:?}");
        assert_eq!((report.verified, report.problem), (Some(true), Some(problems[0].clone())));
    }

    #[test]
    fn roots_that_failed_and_were_emitted_again_make_no_run_fail_unless_they_were_given_up() {
        let mut report = sample();
        report.components.iter_mut().for_each(|row| (row.failed, row.counts.lost) = (0, 0));
        let lines = &mut report.components[0];
        (lines.failed, lines.reliable) = (7, true);
        // Its tuples failed in a bolt, anchored to it.
        report.components[1].failed = 7;
        assert_eq!(judge(&mut report, Ok(Verdict::Unverified), &ended(None)), Vec::<String>::new());
        report.counters.entry("lines".into()).or_default().insert("given_up".into(), 2);
        let problems = judge(&mut report, Ok(Verdict::Unverified), &ended(None));
        assert!(problems[0].starts_with("2 tuples failed (2 in lines): "), "{problems:?}");
        report.counters.clear();
        report.components[0].reliable = false;
        let problems = judge(&mut report, Ok(Verdict::Unverified), &ended(None));
        assert!(problems[0].starts_with("7 tuples failed (7 in lines): "), "{problems:?}");
    }

    #[test]
    fn a_mismatch_is_told_unless_the_run_itself_failed() {
        let mismatch = || Ok(Verdict::Mismatch("`the` 3, not 4".into()));
        let mut report = sample();
        report.components.iter_mut().for_each(|row| (row.failed, row.counts.lost) = (0, 0));
        assert_eq!(judge(&mut report, mismatch(), &ended(None)), ["the results are wrong: `the` 3, not 4"]);
        assert_eq!(report.verified, Some(false));
        let failure = RunError::Worker { worker: 0, cause: "c; r".into() };
        let mut report = sample();
        report.verified = None;
        report.components.iter_mut().for_each(|row| (row.failed, row.counts.lost) = (0, 0));
        assert_eq!(judge(&mut report, mismatch(), &ended(Some(failure))), ["worker 0: c; r"]);
        assert_eq!(report.verified, None);
    }

    #[test]
    fn the_banner_says_how_much_runs_where_and_the_bound_of_memory() {
        let outline = Outline {
            name: "word-count".into(),
            workers: 2,
            tasks: 8,
            reactors: 3,
            cores: vec![0],
            memory_bytes: 12 << 20,
            ..Outline::default()
        };
        let want = "word-count: 8 tasks on 3 reactors in 2 workers, 1 core usable; buffers at most 12.0 MiB";
        assert_eq!(banner(&outline), want);
    }
}
