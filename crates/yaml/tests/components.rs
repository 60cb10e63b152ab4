//! The example of every registered component stands in a topology as it is shown.

use squall_api::Topology;
use squall_components::registry::{Described, Kind, Registry};
use squall_yaml::{Document, Variables, schema};

fn topology(described: &Described) -> String {
    let example = described.example.trim_end().replace('\n', "\n    ");
    if described.kind == Kind::Spout {
        return format!("name: example\nspouts:\n  - {example}\n");
    }
    let id = described.example.lines().find_map(|line| line.strip_prefix("id: ")).expect("an example has an id");
    let fields = described.example_fields.join(", ");
    format!(
        "\
name: example
spouts:
  - id: input
    className: csv-lines
    config: {{ paths: input.csv, columns: [{fields}] }}
bolts:
  - {example}
streams:
  - {{ from: input, to: {id} }}
"
    )
}

#[test]
fn the_example_of_every_component_is_right() {
    let registry = Registry::standard();
    for described in registry.iter() {
        let text = topology(described);
        let document = Document::parse("example.yaml", &text, &Variables::default());
        let topology = Topology::new("");
        if let Err(refused) = document.declare(&registry, &topology) {
            panic!("{}:\n{text}\n{refused}", described.name);
        }
        topology.build().unwrap_or_else(|error| panic!("{}: {error}", described.name));
    }
}

#[test]
fn every_alias_stands_for_its_component_in_the_schema() {
    let registry = Registry::standard();
    let schema = schema(&registry);
    for described in registry.iter() {
        let definition = if described.kind == Kind::Spout { "spout" } else { "bolt" };
        let names = schema["$defs"][definition]["properties"]["className"]["anyOf"][0]["enum"].as_array();
        let names = names.expect("a list of names");
        for word in described.aliases.iter().chain([&described.name]) {
            assert!(names.iter().any(|name| name == word), "{word}");
        }
    }
}
