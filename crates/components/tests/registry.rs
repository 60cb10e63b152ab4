//! The registry as a user of it meets it: every component described, every example declared, every mistake told at once.

extern crate squall_api as squall;

use std::collections::HashSet;

use squall::Topology;
use squall_components::registry::{Config, ConfigError, Default, Kind, Place, Registry, Span};

fn config(json: serde_json::Value) -> Config {
    Config::from(&json)
}

fn errors(component: &str, json: serde_json::Value) -> Vec<String> {
    let registry = Registry::standard();
    let topology = Topology::new("wrong");
    let place = Place::new(&topology, "it").reads(&["word", "n"]);
    let declared = registry.get(component).unwrap().declare(&config(json), Span(7), place);
    declared.err().unwrap_or_default().iter().map(ConfigError::to_string).collect()
}

#[test]
fn every_component_has_a_name_of_its_own_and_is_described() {
    let registry = Registry::standard();
    let mut names = HashSet::new();
    for component in registry.iter() {
        for name in [component.name].iter().chain(component.aliases) {
            assert!(names.insert(*name), "{name} twice");
        }
        assert!(component.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        assert!(component.summary.ends_with('.'), "{}", component.name);
        assert!(component.example.contains(&format!("className: {}", component.name)) || component.name == "null");
        let mut options = HashSet::new();
        for option in &component.options {
            assert!(options.insert(option.name), "{} of {} twice", option.name, component.name);
            assert!(option.help.ends_with('.'), "{} of {}: {}", option.name, component.name, option.help);
        }
        assert_eq!(component.kind == Kind::Spout, component.example_fields.is_empty(), "{}", component.name);
    }
}

#[test]
fn every_default_is_a_value_that_may_be_written() {
    for component in Registry::standard().iter() {
        for option in component.options.iter().filter(|o| o.default != Default::Required) {
            let specs = [option.clone()];
            let checked = squall_components::registry::check(&specs, &Config::empty(), Span::NONE);
            assert!(checked.is_ok(), "{} of {}: {checked:?}", option.name, component.name);
        }
    }
}

#[test]
fn a_component_is_found_by_the_class_of_its_storm_cousin() {
    let registry = Registry::standard();
    assert_eq!(registry.get("org.apache.storm.flux.wrappers.bolts.LogInfoBolt").unwrap().name, "log");
    assert!(registry.get("org.example.Unknown").is_none());
    assert_eq!(registry.suggest("cuont"), Some("count"));
    assert_eq!(registry.suggest("com.example.AverageBolt"), Some("average"));
    assert_eq!(registry.suggest("xyzzy"), None);
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once_with_remedies() {
    let all = errors("average", serde_json::json!({ "emmit": "end", "every": 10, "keys_max": 0, "as": 5 }));
    assert_eq!(
        all,
        [
            "`as` is an integer, not a text; write it in quotes: \"5\"",
            "unknown option `emmit`; did you mean `emit`?",
            "`every` is 10 without a unit; add the unit, for example 10ms or 10s",
            "`keys_max` is 0, out of its range; write an integer, 1 to 4294967296",
            "option `field` is missing; give it a field: the field that is aggregated; nulls are passed over",
        ]
    );
}

#[test]
fn a_field_that_the_input_lacks_is_told_with_the_one_that_was_meant() {
    let all = errors("sum", serde_json::json!({ "field": "N", "by": ["wrod"] }));
    assert_eq!(
        all,
        ["the input has no field `wrod`; did you mean `word`?", "the input has no field `N`; did you mean `n`?"]
    );
}

#[test]
fn a_name_that_would_occur_twice_in_the_output_is_refused() {
    let all = errors("count", serde_json::json!({ "by": ["word"], "as": "word" }));
    assert!(all[0].starts_with("the output would have two fields named `word`"), "{all:?}");
}

#[test]
fn a_value_out_of_its_words_names_them() {
    assert_eq!(
        errors("count", serde_json::json!({ "emit": "ends" })),
        ["`emit` cannot be `ends`; did you mean `end`?"]
    );
    let all = errors("count", serde_json::json!({ "emit": "sometimes" }));
    assert_eq!(all, ["`emit` cannot be `sometimes`; the words for it are each, every, end"]);
}

/// A YAML value as JSON.
fn json(yaml: &saphyr::Yaml<'_>) -> serde_json::Value {
    use serde_json::Value;
    if let Some(map) = yaml.as_mapping() {
        return map.iter().map(|(k, v)| (k.as_str().expect("keys are text").to_owned(), json(v))).collect();
    }
    if let Some(items) = yaml.as_sequence() {
        return items.iter().map(json).collect();
    }
    let number = || yaml.as_integer().map(Value::from).or(yaml.as_floating_point().map(Value::from));
    let scalar = yaml.as_bool().map(Value::from).or_else(number).or(yaml.as_str().map(Value::from));
    scalar.unwrap_or(Value::Null)
}

#[test]
fn every_example_declares_its_component() {
    use saphyr::LoadableYamlNode;
    let registry = Registry::standard();
    assert!(registry.iter().count() >= 30);
    for component in registry.iter() {
        let name = component.name;
        let yaml = saphyr::Yaml::load_from_str(component.example).unwrap_or_else(|e| panic!("{name}: {e}"));
        let entry = json(&yaml[0]);
        assert_eq!(entry["className"], name, "{name}");
        assert!(entry["id"].is_string(), "{name}");
        let topology = Topology::new("example");
        let place = Place::new(&topology, "example").reads(component.example_fields);
        let declared = component.declare(&config(entry["config"].clone()), Span::NONE, place);
        let declared = declared.unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert_eq!(declared.is_bolt(), component.kind != Kind::Spout, "{name}");
        assert_eq!(component.kind == Kind::Sink, declared.stream("default").is_none(), "{name}");
    }
}
