//! A topology as a program: what [`main!`](crate::main) makes of a topology function.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use squall_api::{Built, Topology};
use squall_engine::Registry;
use squall_topology::{Machine, Plan};

use crate::cli::{self, Command, EXIT_FAILED, EXIT_USAGE, Identity, PlaceFlags, RunCommand, RunFlags};
use crate::cluster::seat;
use crate::cluster::talk::{self, Described, DescribedComponent};
use crate::plan_cmd;
use crate::report::Verdict;
use crate::report::file::ReportFile;
use crate::run::dataplane::{Dataplane, Settings};
use crate::run::engine::{Outline, Program};
use crate::run::error::RunError;
use crate::run::job::{AfterRun, Job, complain};
use crate::run::live::Show;
use crate::run::outcome::Outcome;
use crate::run::parent::{Launch, Policy};
use crate::run::record::Record;
use crate::run::watch::Progress;
use crate::run::{job, system, worker};

/// Any error of an app's own functions.
pub type BoxError = Box<dyn Error>;

/// No options of its own: the argument type of a topology that takes none.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct NoArgs {}

/// What a topology function may return: nothing, or a result.
pub trait Declared {
    /// The error to show, if there is one.
    fn declared(self) -> Result<(), BoxError>;
}

impl Declared for () {
    fn declared(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Declared for Result<(), E> {
    fn declared(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

type Build<A> = dyn Fn(&mut Topology, &A) -> Result<(), BoxError>;
type InputBytes<A> = dyn Fn(&A) -> Option<u64>;
type Hook<A> = dyn Fn(&A, &mut Outcome<'_>) -> Result<Verdict, BoxError>;

/// A topology as a program with the subcommands `run`, `plan` and `graph`, and a worker of its own runs.
///
/// ```no_run
/// use squall::prelude::*;
///
/// fn topology(t: &mut Topology) {
///     // t.spout(…), t.bolt(…)
/// }
///
/// fn main() -> std::process::ExitCode {
///     squall::App::new("my-topology", |t, _: &squall::NoArgs| topology(t)).main()
/// }
/// ```
///
/// Make it the first thing in `main`: start-up time is counted from [`App::new`]. `A` holds the author's own options.
pub struct App<A: Args + Clone + 'static = NoArgs> {
    identity: Identity,
    build: Box<Build<A>>,
    input_bytes: Option<Rc<InputBytes<A>>>,
    input_counter: Option<(String, String)>,
    after_run: Option<Box<Hook<A>>>,
    process_start_ns: u64,
}

impl<A: Args + Clone + 'static> App<A> {
    /// A program of this name around a topology function.
    ///
    /// The function is called in every process of a run and must declare the same topology each time: let it depend on
    /// its arguments only. The topology is named after the program unless the function or `--name` says otherwise.
    pub fn new<D: Declared>(name: &'static str, build: impl Fn(&mut Topology, &A) -> D + 'static) -> Self {
        App {
            process_start_ns: system::now_ns(),
            identity: Identity { name, version: env!("CARGO_PKG_VERSION"), about: "A Squall topology" },
            build: Box::new(move |topology, args| build(topology, args).declared()),
            input_bytes: None,
            input_counter: None,
            after_run: None,
        }
    }

    /// Version shown by `--version`; Squall's own by default.
    pub fn version(mut self, version: &'static str) -> Self {
        self.identity.version = version;
        self
    }

    /// First line of the help.
    pub fn about(mut self, about: &'static str) -> Self {
        self.identity.about = about;
        self
    }

    /// How many bytes the input has, for the progress line; `None` where that is not known. Called in the parent only,
    /// once, and only if there is a progress line: it may take its time.
    pub fn input_bytes(mut self, total: impl Fn(&A) -> Option<u64> + 'static) -> Self {
        self.input_bytes = Some(Rc::new(total));
        self
    }

    /// The user counter that counts input bytes, for the progress line: component and name.
    pub fn input_counter(mut self, component: &str, name: &str) -> Self {
        self.input_counter = Some((component.to_owned(), name.to_owned()));
        self
    }

    /// What to do with the results. Called in the parent when the first result row is here, or at the end if there are
    /// none; not called for a run that failed before that. See [`Outcome`].
    ///
    /// An error makes the run fail; a [`Verdict::Mismatch`] too, and enters `verified: false` in the report.
    pub fn after_run(mut self, hook: impl Fn(&A, &mut Outcome<'_>) -> Result<Verdict, BoxError> + 'static) -> Self {
        self.after_run = Some(Box::new(hook));
        self
    }

    /// Does what the command line asks for. The exit code: 0 done, 1 failed, 2 usage, 130 interrupted.
    pub fn main(self) -> ExitCode {
        let args: Vec<OsString> = std::env::args_os().collect();
        let cli = match cli::parse::<A>(self.identity, &args) {
            Ok(cli) => cli,
            Err(error) => {
                // A closed output is no reason to fail in another way.
                let _ = error.print();
                return ExitCode::from(error.exit_code() as u8);
            }
        };
        self.perform(cli.command, &args)
    }

    /// Does what a command asks for; `args` is the whole command line it came from.
    pub(crate) fn perform(&self, command: Command<A>, args: &[OsString]) -> ExitCode {
        match command {
            Command::Run(command) => self.run(&command, args),
            Command::Worker(command) => self.worker(&command),
            Command::Seat(command) => self.seat(&command),
            Command::Shape(command) => self.shape(&command),
            Command::Plan(command) => {
                self.with_plan(&command.place, &command.author, |plan| plan_cmd::plan(plan, command.output))
            }
            Command::Graph(command) => {
                self.with_plan(&command.place, &command.author, |plan| plan_cmd::graph(plan, command.output))
            }
        }
    }

    fn run(&self, command: &RunCommand<A>, args: &[OsString]) -> ExitCode {
        let settings = match settings(command) {
            Ok(settings) => settings,
            Err(usage) => return refuse(&usage),
        };
        let report = command.run.report.as_deref().map(|path| {
            ReportFile::check(path).map_err(|source| RunError::ReportPath { path: path.to_owned(), source })
        });
        let report = match report.transpose() {
            Ok(report) => report,
            Err(error) => return fail(&error),
        };
        let named = named(&settings);
        let record =
            command.run.record.as_deref().map(|path| {
                Record::create(path).map_err(|source| RunError::RecordPath { path: path.to_owned(), source })
            });
        let record = match record.transpose() {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => return fail(&error),
        };
        let RunFlags { restarts, standby, sockets, .. } = command.run;
        let policy = Policy { restarts, standby, family: sockets, record };
        let program = match self.load(command, settings, &system::usable_cores()) {
            Ok(program) => program,
            Err(cause) => return fail(&RunError::Topology(cause)),
        };
        if let Some(usage) = unknown_component(&named, program.outline()) {
            return refuse(&usage);
        }
        let author = &command.author;
        let after_run: Option<Box<AfterRun<'_>>> = match &self.after_run {
            Some(hook) => Some(Box::new(move |outcome: &mut Outcome<'_>| hook(author, outcome))),
            None => None,
        };
        job::run(Job {
            outline: program.outline(),
            launch: Launch { program: "/proc/self/exe".into(), args: cli::worker_args(args), env: Vec::new() },
            policy,
            show: Show::choose(command.run.quiet, command.run.plain),
            report,
            progress: Progress {
                counter: self.input_counter.clone(),
                total_bytes: self.input_bytes.clone().map(|total| {
                    let author = author.clone();
                    Box::new(move || total(&author)) as Box<dyn FnOnce() -> Option<u64>>
                }),
            },
            process_start_ns: self.process_start_ns,
            after_run: after_run.as_deref(),
        })
    }

    fn worker(&self, command: &RunCommand<A>) -> ExitCode {
        match settings(command) {
            Ok(settings) => worker::main(&|cores| {
                self.load(command, settings.clone(), cores).map(|program| Box::new(program) as Box<dyn Program>)
            }),
            Err(usage) => refuse(&usage),
        }
    }

    /// A worker of a cluster.
    fn seat(&self, command: &RunCommand<A>) -> ExitCode {
        match settings(command) {
            Ok(settings) => seat::main(&|hello| {
                let built = self.built(&command.place, &command.author)?;
                let mut spec = built.spec.clone();
                for component in &mut spec.components {
                    component.executors = hello.executors.get(&component.name).copied().unwrap_or(component.executors);
                }
                let faults = |errors: Vec<squall_topology::TopologyError>| {
                    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                };
                let plan = Plan::seated(spec, &hello.seats).map_err(faults)?;
                let program = Dataplane::new(plan, built.registry, &Machine::default(), settings.clone());
                Ok(Box::new(program) as Box<dyn Program>)
            }),
            Err(usage) => refuse(&usage),
        }
    }

    /// What `submit` has to know: the same checks as before a run.
    fn shape(&self, command: &RunCommand<A>) -> ExitCode {
        let settings = match settings(command) {
            Ok(settings) => settings,
            Err(usage) => return refuse(&usage),
        };
        let named = named(&settings);
        let program = match self.load(command, settings, &system::usable_cores()) {
            Ok(program) => program,
            Err(cause) => return fail(&RunError::Topology(cause)),
        };
        if let Some(usage) = unknown_component(&named, program.outline()) {
            return refuse(&usage);
        }
        plan_cmd::show(&format!("{}\n", json(&described(program.plan()))))
    }

    fn load(&self, command: &RunCommand<A>, settings: Settings, cores: &[usize]) -> Result<Dataplane, String> {
        let (plan, registry, machine) = self.plan(&command.place, &command.author, cores)?;
        if let Some(reactor) = settings.wait.last_named().filter(|r| *r as usize >= plan.reactors.len()) {
            let last = plan.reactors.len() - 1;
            return Err(format!(
                "--wait {}: there is no reactor {reactor}, the last is {last}; see `plan`",
                settings.wait
            ));
        }
        Ok(Dataplane::new(plan, registry, &machine, settings))
    }

    fn with_plan(&self, place: &PlaceFlags, author: &A, show: impl FnOnce(&Plan) -> ExitCode) -> ExitCode {
        match self.plan(place, author, &system::usable_cores()) {
            Ok((plan, _, _)) => show(&plan),
            Err(cause) => fail(&RunError::Topology(cause)),
        }
    }

    /// The plan for these cores, or everything that is wrong with the topology.
    pub(crate) fn plan(
        &self,
        place: &PlaceFlags,
        author: &A,
        cores: &[usize],
    ) -> Result<(Plan, Arc<Registry>, Machine), String> {
        let built = self.built(place, author)?;
        let machine = Machine { cores: cores.to_vec() };
        let plan = built.plan(&machine).map_err(|error| error.to_string())?;
        Ok((plan, built.registry, machine))
    }

    /// The topology with what the flags say of it, or everything that is wrong with it.
    fn built(&self, place: &PlaceFlags, author: &A) -> Result<Built, String> {
        let mut topology = Topology::new(self.identity.name);
        (self.build)(&mut topology, author).map_err(|error| error.to_string())?;
        if let Some(name) = &place.name {
            topology.set_name(name);
        }
        topology.configure(|config| {
            config.workers = place.workers.unwrap_or(config.workers);
            config.reactors = place.reactors.or(config.reactors);
            config.shm = place.shm.unwrap_or(config.shm);
            config.state = place.state.clone().or(config.state.take());
        });
        topology.build().map_err(|error| error.to_string())
    }
}

fn described(plan: &Plan) -> Described {
    let spec = &plan.spec;
    let component = |c: &squall_topology::ComponentSpec| {
        let (name, tasks, executors) = (c.name.clone(), c.tasks, c.executors);
        DescribedComponent { name, tasks, executors }
    };
    let talk = |s: &squall_topology::SubscriptionSpec| (spec.streams[s.stream as usize].component, s.to);
    let mut talks: Vec<(u32, u32)> = spec.subscriptions.iter().map(talk).collect();
    talks.sort_unstable();
    talks.dedup();
    Described {
        protocol: talk::PROTOCOL,
        name: spec.name.clone(),
        engine: talk::engine_version(),
        arch: talk::arch(),
        workers: spec.config.workers,
        reactors: spec.config.reactors,
        components: spec.components.iter().map(component).collect(),
        talks,
        memory: plan.memory.total,
    }
}

fn json(what: &impl serde::Serialize) -> String {
    serde_json::to_string(what).expect("plain data with string keys")
}

fn settings<A: Args>(command: &RunCommand<A>) -> Result<Settings, String> {
    let io = command.run.io_choice(std::env::var_os("SQUALL_IO").as_deref())?;
    let log = command.run.log_filter(std::env::var_os("SQUALL_LOG").as_deref())?;
    let (io_options, wait, sample) = (command.run.io_options(), command.run.wait.clone(), command.run.sample.clone());
    Ok(Settings { io, io_options, wait, pin: !command.run.no_pin, log, sample })
}

/// The components that `--log` and `--sample` name, with the flag.
fn named(settings: &Settings) -> Vec<(&'static str, String)> {
    let logged = settings.log.components().map(|name| ("--log", name.to_owned()));
    logged.chain(settings.sample.iter().map(|name| ("--sample", name.clone()))).collect()
}

/// What is wrong with the command line, if it names a component that is not in the topology.
fn unknown_component(named: &[(&'static str, String)], outline: &Outline) -> Option<String> {
    let components: Vec<&str> = outline.components.iter().map(|c| c.name.as_str()).collect();
    let (flag, name) = named.iter().find(|(_, name)| !components.contains(&name.as_str()))?;
    let remedy = match squall_components::registry::suggest(name, components.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("there are {}", components.join(", ")),
    };
    Some(format!("{flag}: the topology has no component `{name}`; {remedy}"))
}

fn fail(error: &RunError) -> ExitCode {
    complain(error);
    ExitCode::from(EXIT_FAILED)
}

fn refuse(usage: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "error: {usage}");
    ExitCode::from(EXIT_USAGE)
}

/// Makes a program of a topology function: `run` it, show its `plan`, draw its `graph`, and be a worker of its runs.
///
/// ```no_run
/// use squall::prelude::*;
///
/// fn topology(t: &mut Topology) {
///     // t.spout(…), t.bolt(…)
/// }
/// squall::main!(topology);
/// ```
///
/// With options of its own (any `clap::Args` type), which all subcommands then take:
///
/// ```no_run
/// use squall::prelude::*;
///
/// #[derive(clap::Args, Clone)]
/// struct Options {
///     /// Number of counting tasks
///     #[arg(long, default_value_t = 2)]
///     counters: u32,
/// }
///
/// fn topology(t: &mut Topology, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
///     // t.bolt(…).tasks(options.counters)
///     Ok(())
/// }
/// squall::main!(topology, Options);
/// ```
///
/// Name, version and description are the package's. [`App`] does the same with more to set.
#[macro_export]
macro_rules! main {
    ($topology:path) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__app!(|t, _: &$crate::NoArgs| $topology(t)).main()
        }
    };
    ($topology:path, $args:ty) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__app!(|t, args: &$args| $topology(t, args)).main()
        }
    };
}

/// An [`App`] with the identity of the package that expands it.
#[doc(hidden)]
#[macro_export]
macro_rules! __app {
    ($build:expr) => {
        $crate::App::new(env!("CARGO_PKG_NAME"), $build)
            .version(env!("CARGO_PKG_VERSION"))
            .about(env!("CARGO_PKG_DESCRIPTION"))
    };
}
