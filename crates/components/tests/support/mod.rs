//! What the tests of stock components share: bolts on the harness and whole topologies, by the registry.
#![allow(missing_docs, dead_code)]

use std::time::Duration;

use squall::testing::{BoltHarness, Outcome, run_live};
use squall::{Bolt, BoltError, Context, Finish, Input, Results, Row, RowStreams, Topology, Value};
use squall_components::registry::{Config, ConfigError, Declared, Place, Registry, Span};

/// Stands for whatever bolt the registry declared.
pub(crate) struct Any;

impl Bolt for Any {
    type In = Row;
    type Out = RowStreams;

    fn execute(&mut self, _: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        unreachable!("only its types are used")
    }
}

pub(crate) fn declare(
    topology: &Topology,
    id: &str,
    component: &str,
    config: serde_json::Value,
    fields: &[&str],
) -> Result<Declared, Vec<ConfigError>> {
    let registry = Registry::standard();
    let described = registry.get(component).unwrap_or_else(|| panic!("no {component}"));
    described.declare(&Config::from(&config), Span::NONE, Place::new(topology, id).reads(fields))
}

/// One task of a bolt, and the fields of its usual stream.
pub(crate) fn bolt(component: &str, config: serde_json::Value, fields: &[&str]) -> (BoltHarness<Any>, Vec<String>) {
    let topology = Topology::new("harness");
    let declared = declare(&topology, "bolt", component, config, fields).unwrap_or_else(|e| panic!("{e:?}"));
    let fields = declared.stream("default").map(|s| s.fields.clone()).unwrap_or_default();
    (BoltHarness::declared(topology, |c| c).unwrap_or_else(|f| panic!("{f}")), fields)
}

/// As [`bolt`], of one that was declared in Rust.
pub(crate) fn typed(
    declare: impl FnOnce(Place<'_>) -> Result<Declared, Vec<ConfigError>>,
    fields: &[&str],
) -> BoltHarness<Any> {
    let topology = Topology::new("harness");
    declare(Place::new(&topology, "bolt").reads(fields)).unwrap_or_else(|e| panic!("{e:?}"));
    BoltHarness::declared(topology, |c| c).unwrap_or_else(|f| panic!("{f}"))
}

pub(crate) fn row(values: impl IntoIterator<Item = impl Into<Value>>) -> Row {
    Row(values.into_iter().map(Into::into).collect())
}

#[macro_export]
macro_rules! row {
    ($($value:expr),* $(,)?) => { squall::Row(vec![$(squall::Value::from($value)),*]) };
}

/// Rows as JSON, for comparing.
pub(crate) fn shown(rows: Vec<Row>) -> Vec<String> {
    rows.iter().map(|row| show(&Value::List(row.0.clone()))).collect()
}

pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::I64(n) => n.to_string(),
        Value::F64(x) => format!("{x:?}"),
        Value::Str(s) => format!("{s:?}"),
        Value::Bytes(b) => format!("{b:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(pairs) => {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}: {}", show(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

pub(crate) fn out(harness: &mut BoltHarness<Any>) -> Vec<String> {
    shown(harness.outputs("default"))
}

/// Keeps rows, and hands them to the test at the end.
#[derive(Default)]
struct Collect {
    rows: Vec<String>,
    results: Option<Results>,
}

impl Bolt for Collect {
    type In = Row;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.results = Some(ctx.results());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut ()) -> Result<(), BoltError> {
        self.rows.push(show(&Value::List(input.view().to_owned().0)));
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let row = self.rows.join("\n").into_bytes();
        self.results.as_ref().expect("prepared").try_push("rows", row).map_err(|_| BoltError::fatal("no room"))?;
        Ok(Finish::Done)
    }
}

/// Adds a bolt that collects a stream; its rows are in the outcome.
pub(crate) fn collect(topology: &Topology, declared: &Declared, stream: &str) {
    let rows = declared.stream(stream).unwrap_or_else(|| panic!("no stream {stream}"));
    topology.bolt(&format!("collect-{stream}"), Collect::default).on(rows.handle.global());
}

/// Runs a topology whose sources may be fed by threads.
pub(crate) fn run(topology: Topology) -> Result<Outcome, String> {
    run_live(topology, Duration::from_secs(20)).map_err(|e| e.to_string())
}

/// The rows that one collecting bolt got.
pub(crate) fn collected(outcome: &Outcome) -> Vec<String> {
    let text: Vec<String> =
        outcome.results.iter().map(|(_, row)| String::from_utf8(row.clone()).expect("text")).collect();
    text.iter().flat_map(|t| t.lines()).map(str::to_owned).collect()
}

/// Runs one spout to its end; its rows.
pub(crate) fn spout(component: &str, config: serde_json::Value) -> Result<(Vec<String>, Outcome), String> {
    let topology = Topology::new("spout");
    let declared = declare(&topology, "spout", component, config, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    collect(&topology, &declared, "default");
    let outcome = run(topology)?;
    Ok((collected(&outcome), outcome))
}

pub(crate) fn counter(outcome: &Outcome, component: &str, name: &str) -> u64 {
    outcome.counters.get(&(component.to_owned(), name.to_owned())).copied().unwrap_or(0)
}

pub(crate) type Declaration = Result<Declared, Vec<ConfigError>>;
