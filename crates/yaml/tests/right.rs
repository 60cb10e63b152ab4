//! Right topologies: what a file says is what is declared.

use std::path::Path;

use squall_api::Topology;
use squall_components::NullRows;
use squall_components::registry::{Described, Kind, OptionSpec, OptionType, Registry};
use squall_yaml::{Declaration, Document, Refused, Severity, Variables};

/// The stock components, and a sink with an expression.
fn registry() -> Registry {
    let mut registry = Registry::standard();
    let watch = Described {
        name: "watch",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Watches for a condition.",
        options: vec![OptionSpec::required("for", OptionType::Expression, "The condition.")],
        outputs: "None.",
        example: "id: w\nclassName: watch\nconfig:\n  for: n > 1\n",
        example_fields: &["n"],
        factory: Box::new(|options, place| {
            place.expression(&options.text("for")).map_err(|error| vec![error])?;
            NullRows.declare(place)
        }),
    };
    registry.add(watch).expect("a new name");
    registry
}

fn declare(path: &Path, text: &str, vars: &Variables) -> Result<(Declaration, Topology), Box<Refused>> {
    let topology = Topology::new("");
    let declaration = Document::parse(path, text, vars).declare(&registry(), &topology)?;
    Ok((declaration, topology))
}

fn right(text: &str) -> (Declaration, squall_api::Built) {
    let declared = declare(Path::new("t.yaml"), text, &Variables::default());
    let (declaration, topology) = declared.unwrap_or_else(|refused| panic!("{refused}"));
    (declaration, topology.build().expect("right as a topology, too"))
}

const SPOUT: &str = "name: t\nspouts:\n  - { id: numbers, className: generator, config: { count: 1 } }\n";

#[test]
fn tasks_executors_groupings_and_options_are_those_of_the_file() {
    let (declaration, built) = right(
        "\
name: all-of-it
config: { topology.workers: 2, reactors: 3, batch_bytes: 32 KiB, shm: off, topology.acker.executors: 0, topology.message.timeout.secs: 7, topology.max.spout.pending: 100, ledger_bytes: 1 MiB, max_root_age_ms: 9000, executor_restarts: 0, dead_letter_after: 5 }
spouts:
  - { id: numbers, className: generator, parallelism: 2, numTasks: 4, config: { count: 1 } }
bolts:
  - { id: a, className: count, config: { by: key } }
  - { id: b, className: count, numTasks: 3, config: { by: key } }
  - { id: c, className: null }
  - { id: d, className: 'null', parallelism: 2 }
streams:
  - { name: 'numbers to a', from: numbers, to: a, grouping: { type: fields, args: [key, n] } }
  - { from: numbers, to: b, grouping: { type: PARTIAL_KEY, args: key } }
  - { from: numbers, to: c, grouping: { type: LOCAL_OR_SHUFFLE, streamId: default } }
  - { from: numbers, to: d }
",
    );
    assert!(declaration.warnings.is_empty());
    let spec = &built.spec;
    assert_eq!((spec.name.as_str(), spec.config.workers, spec.config.reactors), ("all-of-it", 2, Some(3)));
    assert_eq!((spec.config.batch_bytes, spec.config.shm.to_string()), (32 << 10, "off".to_owned()));
    let config = &spec.config;
    assert_eq!((config.ackers, config.message_timeout_ms, config.max_root_age_ms), (Some(0), 7000, Some(9000)));
    assert_eq!((config.max_spout_pending, config.ledger_bytes), (Some(100), 1 << 20));
    assert_eq!((config.executor_restarts, config.dead_letter_after), (0, 5));
    let counts: Vec<_> = spec.components.iter().map(|c| (c.name.as_str(), c.executors, c.tasks)).collect();
    assert_eq!(counts, [("numbers", 2, 4), ("a", 1, 1), ("b", 3, 3), ("c", 1, 1), ("d", 2, 2)]);
    let groupings: Vec<String> = spec.subscriptions.iter().map(|s| format!("{:?}", s.grouping)).collect();
    assert_eq!(groupings, ["Fields([1, 0])", "PartialKey([1])", "LocalOrShuffle", "Shuffle"]);
}

#[test]
fn how_long_a_call_may_take_is_said_of_each_component() {
    let (declaration, built) = right(
        "\
name: timeouts
spouts:
  - { id: numbers, className: generator, execute_timeout: 0, config: { count: 1 } }
bolts:
  - { id: a, className: count, execute_timeout: 2m, config: { by: key } }
  - { id: b, className: count, execute_timeout: '1500ms', config: { by: key } }
  - { id: c, className: count, execute_timeout: 0s, config: { by: key } }
  - { id: d, className: count, config: { by: key } }
  - { id: end, className: print, execute_timeout: 5s }
streams:
  - { from: numbers, to: a }
  - { from: numbers, to: b }
  - { from: numbers, to: c }
  - { from: numbers, to: d }
  - { from: numbers, to: end }
",
    );
    let timeouts: Vec<_> = built.spec.components.iter().map(|c| (c.name.as_str(), c.execute_timeout_ms)).collect();
    let wanted = [("numbers", 0), ("a", 120_000), ("b", 1500), ("c", 0), ("d", 30_000), ("end", 5000)];
    assert_eq!(timeouts, wanted);
    // What prints has a thread of its own.
    let warnings: Vec<&str> = declaration.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(warnings, ["`execute_timeout` has no effect on `end`"]);
}

#[test]
fn a_circle_is_closed_by_a_stream_that_says_so() {
    let text = format!(
        "{SPOUT}bolts:
  - {{ id: one, className: min, config: {{ field: value, by: key, as: value }} }}
  - {{ id: two, className: max, config: {{ field: value, by: key, as: value }} }}
streams:
  - {{ from: one, to: two }}
  - {{ from: two, to: one, feedback: true }}
  - {{ from: numbers, to: one }}
"
    );
    // The fields of `one` follow from the spout, whatever stands first in the file.
    let refused = declare(Path::new("t.yaml"), &text, &Variables::default()).map(|_| ()).expect_err("fields differ");
    let rendered = refused.to_string();
    assert!(rendered.contains("`one` reads rows of (n, key, value), and this stream has (key, value)"), "{rendered}");
    assert_eq!(refused.diagnostics.iter().count(), 1, "{rendered}");
}

#[test]
fn shared_definitions_and_aliases_are_taken_over() {
    let (_, built) = right(
        "\
name: shared
components:
  - { id: counter, className: count, config: { by: key, as: seen } }
spouts:
  - { id: numbers, className: generator, config: &once { count: 1 } }
  - { id: others, className: generator, config: *once }
bolts:
  - { id: a, ref: counter }
  - { id: b, ref: counter, config: { as: found } }
streams:
  - { from: numbers, to: a }
  - { from: others, to: b }
",
    );
    let fields = |component: &str| {
        let ix = built.spec.component(component).expect("declared");
        let stream = built.spec.streams.iter().find(|s| s.component == ix).expect("a stream");
        stream.schema.fields.iter().map(|f| f.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (fields("a"), fields("b")),
        (vec!["key".into(), "seen".into()], vec!["key".into(), "found".to_string()])
    );
}

#[test]
fn variables_and_includes_bring_in_what_is_elsewhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let part = "\
spouts:
  - { id: numbers, className: generator, config: { count: 1, words: ['${DIR}'] } }
bolts:
  - { id: end, className: print }
streams:
  - { from: numbers, to: end }
";
    std::fs::write(dir.path().join("part.yaml"), part).expect("written");
    let text = "\
name: ${NAME}
includes:
  - { resource: false, file: part.yaml, override: false }
bolts:
  - id: end
    className: null
    parallelism: ${TASKS:-3}
";
    let mut vars = Variables::default();
    vars.define("NAME", "joined");
    let (_, topology) = declare(&dir.path().join("t.yaml"), text, &vars).unwrap_or_else(|refused| panic!("{refused}"));
    let spec = topology.build().expect("right").spec;
    assert_eq!(spec.name, "joined");
    let end = &spec.components[spec.component("end").expect("declared") as usize];
    assert_eq!(end.tasks, 3, "what is here stays, as the include does not override");
}

#[test]
fn expressions_are_noted_with_their_place_and_way() {
    let text = format!(
        "{SPOUT}bolts:
  - id: hot
    className: watch
    config:
      for: value > 0.5 && key != 'x'
  - id: odd
    className: watch
    config: {{ for: \"size(key) > 3\" }}
streams:
  - {{ from: numbers, to: hot }}
  - {{ from: numbers, to: odd }}
"
    );
    let (declaration, _) = right(&text);
    let notes: Vec<String> = declaration
        .expressions
        .iter()
        .map(|note| {
            let (line, column) = declaration.sources.get(note.span.file).line_column(note.span.start as usize);
            format!("{line}:{column} {} {}", note.component, note.way)
        })
        .collect();
    assert_eq!(notes, ["8:12 hot lowered", "11:20 odd in the library, for the function `size`"]);
}

#[test]
fn a_fault_in_an_expression_is_shown_inside_it() {
    let text = format!(
        "{SPOUT}bolts:
  - {{ id: plain, className: watch, config: {{ for: n > 1 && vaule > 2 }} }}
  - {{ id: quoted, className: watch, config: {{ for: \"n > 1 and value > 2\" }} }}
streams:
  - {{ from: numbers, to: plain }}
  - {{ from: numbers, to: quoted }}
"
    );
    let refused = declare(Path::new("t.yaml"), &text, &Variables::default()).map(|_| ()).expect_err("wrong");
    let rendered = refused.to_string();
    assert!(rendered.contains("t.yaml:5:60") && rendered.contains("^^^^^ did you mean `value`?"), "{rendered}");
    assert!(rendered.contains("= help: and, or, not are written `&&`, `||`, `!`"), "{rendered}");
}

#[test]
fn storms_tuning_options_are_warnings_and_the_topology_runs() {
    let text = format!("{SPOUT}config:\n  topology.transfer.batch.size: 30\n");
    let (declaration, _) = right(&text);
    let warnings: Vec<_> = declaration.warnings.iter().map(|w| (w.severity, w.message.as_str())).collect();
    assert_eq!(warnings, [(Severity::Warning, "`topology.transfer.batch.size` has no effect")]);
}

#[test]
fn deep_and_multiplied_values_are_refused_before_they_cost_anything() {
    let refused = |text: &str| {
        let refused = declare(Path::new("t.yaml"), text, &Variables::default()).map(|_| ()).expect_err("refused");
        refused.to_string()
    };
    assert!(refused(&format!("name: {}", "[".repeat(100))).contains("nest more than 32 levels deep"));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for at in 1..12 {
        let below = format!("*a{}, ", at - 1).repeat(10);
        bomb.push_str(&format!("a{at}: &a{at} [{}]\n", below.trim_end_matches(", ")));
    }
    assert!(refused(&bomb).contains("more than 200000 values"));
}

#[test]
fn options_that_changed_between_two_reads_make_another_plan() {
    let plan = |text: &str| right(text).1.plan(&Default::default()).expect("it can be planned");
    let bolt = "{ id: least, className: min, config: { field: n, by: key } }";
    let text = format!("{SPOUT}bolts:\n  - {bolt}\nstreams:\n  - {{ from: numbers, to: least }}\n");
    let (one, same) = (plan(&text), plan(&format!("# moved by a line\n{text}")));
    assert_eq!(one.hash(), same.hash());
    for changed in [text.replace("by: key", "by: value"), text.replace("className: min", "className: max")] {
        let (one, other) = (one.canonical(), plan(&changed).canonical());
        let differ = one.lines().zip(other.lines()).find(|(a, b)| a != b).expect("they differ");
        assert!(differ.0.trim().starts_with("\"options\": "), "{differ:?}");
    }
}
