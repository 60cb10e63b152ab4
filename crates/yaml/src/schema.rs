//! The JSON Schema of topology files, for editors: made from the tables of keys and from the registry.

use serde_json::{Map, Value, json};
use squall_components::registry::{Default, Described, Kind, OptionSpec, OptionType, Registry};

use crate::keys::{self, Keys};

/// The schema (draft 2020-12) of files whose components come from this registry.
pub fn schema(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    for described in registry.iter() {
        definitions.insert(format!("config-{}", described.name), options(described));
    }
    definitions.insert("variable".into(), json!({ "type": "string", "pattern": "\\$\\{" }));
    definitions.insert("spout".into(), component(&keys::SPOUT, registry, |kind| kind == Kind::Spout));
    definitions.insert("bolt".into(), component(&keys::BOLT, registry, |kind| kind != Kind::Spout));
    definitions.insert("component".into(), component(&keys::COMPONENT, registry, |_| true));
    definitions.insert("stream".into(), stream());
    definitions.insert("include".into(), include());
    let list = |of: &str| json!({ "type": ["array", "null"], "items": { "$ref": format!("#/$defs/{of}") } });
    let topology = object(&keys::TOPOLOGY, |key| match key {
        "name" => text(),
        "config" => config(),
        "includes" => list("include"),
        "components" => list("component"),
        "spouts" => list("spout"),
        "bolts" => list("bolt"),
        _ => list("stream"),
    });
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Squall topology".into());
    schema.extend(topology.as_object().cloned().unwrap_or_default());
    // An included file has no need of a name, so nothing is required here.
    schema.insert("$defs".into(), definitions.into());
    schema.into()
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// What is written, or a variable that stands for it.
fn or_variable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "$ref": "#/$defs/variable" }] })
}

fn count() -> Value {
    or_variable(json!({ "type": "integer", "minimum": 1 }))
}

/// An object with the known keys of a table, each described.
fn object(keys: &Keys, of: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys
        .known
        .iter()
        .map(|known| {
            let mut property = of(known.name);
            property["description"] = known.doc.into();
            (known.name.to_owned(), property)
        })
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn component(keys: &Keys, registry: &Registry, fits: impl Fn(Kind) -> bool) -> Value {
    let fitting = || registry.iter().filter(|described| fits(described.kind));
    let names: Vec<&str> = fitting()
        .flat_map(|described| std::iter::once(described.name).chain(described.aliases.iter().copied()))
        .collect();
    let mut schema = object(keys, |key| match key {
        "className" => or_variable(json!({ "enum": names })),
        "parallelism" | "numTasks" => count(),
        "config" => json!({ "type": ["object", "null"] }),
        "execute_timeout" => json!({ "anyOf": [{ "const": 0 }, text()] }),
        _ => text(),
    });
    let cases = fitting().map(|described| {
        let names: Vec<&str> = std::iter::once(described.name).chain(described.aliases.iter().copied()).collect();
        json!({
            "if": { "properties": { "className": { "enum": names } }, "required": ["className"] },
            "then": { "properties": { "config": { "$ref": format!("#/$defs/config-{}", described.name) } } },
        })
    });
    schema["required"] = json!(["id"]);
    schema["allOf"] = cases.collect();
    schema
}

fn stream() -> Value {
    let grouping = object(&keys::GROUPING, |key| match key {
        "type" => {
            json!({ "enum": keys::GROUPING_TYPES.iter().filter(|t| !matches!(**t, "DIRECT" | "CUSTOM")).collect::<Vec<_>>() })
        }
        "args" => json!({ "type": ["array", "string"], "items": text() }),
        _ => text(),
    });
    let mut schema = object(&keys::STREAM, |key| match key {
        "grouping" => {
            let mut grouping = grouping.clone();
            grouping["required"] = json!(["type"]);
            grouping
        }
        "feedback" => or_variable(json!({ "type": "boolean" })),
        _ => text(),
    });
    schema["required"] = json!(["from", "to"]);
    schema
}

fn include() -> Value {
    let mut schema = object(&keys::INCLUDE, |key| match key {
        "file" => text(),
        _ => json!({ "type": "boolean" }),
    });
    schema["required"] = json!(["file"]);
    schema
}

fn config() -> Value {
    let mut properties = Map::new();
    for key in &keys::CONFIG {
        let mut schema = match key.name {
            "shm" => or_variable(json!({ "enum": ["auto", "off", "copy"] })),
            name if name.ends_with("_bytes") => json!({ "type": ["integer", "string"] }),
            "ackers" | "executor_restarts" => or_variable(json!({ "type": "integer", "minimum": 0 })),
            _ => count(),
        };
        schema["description"] = key.doc.into();
        properties.extend(key.storm.map(|storm| (storm.to_owned(), schema.clone())));
        properties.insert(key.name.to_owned(), schema);
    }
    for key in keys::STORM_CONFIG.iter().filter(|key| !key.fatal) {
        properties.insert(key.name.to_owned(), json!({ "deprecated": true, "description": key.help }));
    }
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": properties })
}

fn options(described: &Described) -> Value {
    let properties: Map<String, Value> =
        described.options.iter().map(|option| (option.name.to_owned(), option_schema(option))).collect();
    let required: Vec<&str> =
        described.options.iter().filter(|o| o.default == Default::Required).map(|o| o.name).collect();
    json!({
        "type": if required.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "description": described.summary,
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn option_schema(option: &OptionSpec) -> Value {
    let mut schema = kind(&option.ty);
    let default = match option.default {
        Default::Is(text) => format!(" Default: {text}."),
        Default::Required | Default::None => String::new(),
    };
    schema["description"] = format!("{}{default}", option.help).into();
    schema
}

fn kind(ty: &OptionType) -> Value {
    match ty {
        OptionType::Text | OptionType::Field | OptionType::Path | OptionType::Duration { .. } => text(),
        OptionType::Expression => json!({ "type": ["string", "boolean", "number"] }),
        OptionType::Integer { min, max } => {
            let mut schema = json!({ "type": "integer" });
            if *min != i64::MIN {
                schema["minimum"] = (*min).into();
            }
            if *max != i64::MAX {
                schema["maximum"] = (*max).into();
            }
            or_variable(schema)
        }
        OptionType::Float { .. } => or_variable(json!({ "type": "number" })),
        OptionType::Bool => or_variable(json!({ "type": "boolean" })),
        OptionType::Size { .. } => json!({ "type": ["integer", "string"] }),
        OptionType::Word(words) => or_variable(json!({ "enum": words })),
        OptionType::List(of) => json!({ "anyOf": [{ "type": "array", "items": kind(of) }, kind(of)] }),
        OptionType::Map(of) => json!({ "type": "object", "additionalProperties": kind(of) }),
        OptionType::Any => json!({}),
    }
}
