//! The published JSON Schema of everything that this program writes as JSON, and a validator for as much of the language as it uses: `type`,
//! `properties`, `required`, `additionalProperties`, `items`, `enum`, `const`, `oneOf`, `$ref` into `$defs`.

use serde_json::{Value, json};

use super::run::RUN_SCHEMA;

/// Names of the forms beside [`RUN_SCHEMA`].
pub const KNEE_SCHEMA: &str = "squall-tuplegen-knee-1";
/// See [`KNEE_SCHEMA`].
pub const COMPARE_SCHEMA: &str = "squall-tuplegen-compare-1";
/// See [`KNEE_SCHEMA`].
pub const JITTER_SCHEMA: &str = "squall-tuplegen-jitter-1";
/// See [`KNEE_SCHEMA`].
pub const SWEEP_SCHEMA: &str = "squall-tuplegen-sweep-1";

/// An object of exactly these properties; those whose names end with `?` may be left out.
fn object(properties: &[(&str, Value)]) -> Value {
    let plain = |name: &str| name.trim_end_matches('?').to_owned();
    let of: serde_json::Map<String, Value> = properties.iter().map(|(n, v)| (plain(n), v.clone())).collect();
    let required: Vec<&str> = properties.iter().map(|(n, _)| *n).filter(|n| !n.ends_with('?')).collect();
    json!({ "type": "object", "properties": of, "required": required, "additionalProperties": false })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn at(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The schema.
pub fn schema() -> Value {
    let (int, num, text, truth) = (
        json!({ "type": "integer" }),
        json!({ "type": "number" }),
        json!({ "type": "string" }),
        json!({ "type": "boolean" }),
    );
    let maybe = |ty: &str| json!({ "type": [ty, "null"] });
    let (maybe_int, maybe_num, maybe_text) = (maybe("integer"), maybe("number"), maybe("string"));
    let figures = object(&[
        ("p50", maybe_int.clone()),
        ("p90", maybe_int.clone()),
        ("p99", maybe_int.clone()),
        ("p999", maybe_int.clone()),
        ("p9999", maybe_int.clone()),
        ("max", maybe_int.clone()),
        ("mean", maybe_num.clone()),
        ("count", int.clone()),
        ("spectrum?", list(list(num.clone()))),
    ]);
    let verdict = object(&[
        ("word", json!({ "enum": ["PASS", "FAIL", "INVALID", "ERROR"] })),
        ("exit_code", json!({ "enum": [0, 1, 3, 4, 5] })),
        ("reasons", list(text.clone())),
        ("grade", json!({ "enum": ["A", "B", "C", "D", "E", "F"] })),
        ("grade_reasons", list(text.clone())),
    ]);
    let counts = object(
        &["sent", "returned", "complete", "lost", "duplicates", "reordered", "corrupt", "unknown"]
            .map(|n| (n, int.clone())),
    );
    let point = object(&[
        ("from_s", num.clone()),
        ("to_s", num.clone()),
        ("sent_rate", num.clone()),
        ("complete_rate", num.clone()),
        ("p50_ns", maybe_int.clone()),
        ("p99_ns", maybe_int.clone()),
        ("max_ns", maybe_int.clone()),
        ("late_p99_ns", maybe_int.clone()),
    ]);
    let hop = object(&[
        ("name", text.clone()),
        ("p50_ns", maybe_int.clone()),
        ("p99_ns", maybe_int.clone()),
        ("count", int.clone()),
    ]);
    let machine = object(&[
        ("cpu", text.clone()),
        ("cores", list(int.clone())),
        ("kernel", text.clone()),
        ("commit", text.clone()),
        ("command", text.clone()),
        ("governor", maybe_text.clone()),
        ("clock_source", maybe_text.clone()),
        ("virtual_machine", truth.clone()),
        ("isolated", text.clone()),
        ("memlock_bytes", maybe_int.clone()),
        ("nofile", maybe_int.clone()),
        ("quota_cores", maybe_num.clone()),
    ]);
    let job = object(&[
        ("target", text.clone()),
        ("loop_kind", json!({ "enum": ["open", "closed", "max"] })),
        ("rate", maybe_num.clone()),
        ("arrival", text.clone()),
        ("closed", maybe_int.clone()),
        ("duration_s", maybe_num.clone()),
        ("count", maybe_int.clone()),
        ("warmup_s", num.clone()),
        ("drain_s", num.clone()),
        ("seed", int.clone()),
        ("body", text.clone()),
        ("size", text.clone()),
        ("acks", truth.clone()),
        ("slos", list(text.clone())),
    ]);
    let checked = object(&[("slo", text.clone()), ("value", maybe_num.clone()), ("holds", maybe("boolean"))]);
    let hiccup = object(&[("core", int.clone()), ("late", at("figures"))]);
    let stolen = object(&["steal_ms", "throttled_periods", "throttled_ms"].map(|n| (n, int.clone())));
    let run = object(&[
        ("schema", json!({ "const": RUN_SCHEMA })),
        ("version", text.clone()),
        ("started_unix_ms", int.clone()),
        ("job", at("job")),
        ("verdict", at("verdict")),
        ("slos", list(at("checked"))),
        ("intended", at("figures")),
        ("actual", at("figures")),
        ("late", at("figures")),
        ("hops", list(at("hop"))),
        ("due", int.clone()),
        ("counts", at("counts")),
        ("sent_rate", num.clone()),
        ("complete_rate", num.clone()),
        ("blocked_share", num.clone()),
        ("outstanding_max", int.clone()),
        ("drain_ran_out", truth.clone()),
        ("interrupted", truth.clone()),
        ("took_s", num.clone()),
        ("cpu_cores", num.clone()),
        ("resident_bytes?", maybe_int.clone()),
        ("timeline", list(at("point"))),
        ("hiccups", list(at("hiccup"))),
        ("gaps", at("figures")),
        ("stolen", at("stolen")),
        ("generator_core", maybe_int.clone()),
        ("generator_spins", truth.clone()),
        ("io", text.clone()),
        ("wait", text.clone()),
        ("notes", list(text.clone())),
        ("machine", at("machine")),
    ]);
    let limiter =
        object(&[("limiter", json!({ "enum": ["slo", "loss", "backlog", "generator"] })), ("what", text.clone())]);
    let trial = object(&[
        ("rate", num.clone()),
        ("exit_code", int.clone()),
        ("limiter", json!({ "oneOf": [at("limiter"), { "type": "null" }] })),
        ("p50_ns", maybe_int.clone()),
        ("p99_ns", maybe_int.clone()),
    ]);
    let knee = object(&[
        ("schema", json!({ "const": KNEE_SCHEMA })),
        ("target", text.clone()),
        ("slos", list(text.clone())),
        ("rate", maybe_num.clone()),
        ("at_least", truth.clone()),
        ("failing_rate", maybe_num.clone()),
        ("limiter", json!({ "oneOf": [at("limiter"), { "type": "null" }] })),
        ("trials", list(at("trial"))),
        ("machine", at("machine")),
    ]);
    let compared = object(&[
        ("figure", text.clone()),
        ("a", num.clone()),
        ("b", num.clone()),
        ("change", num.clone()),
        ("low", num.clone()),
        ("high", num.clone()),
        ("finding", json!({ "enum": ["lower", "higher", "none", "too_few"] })),
    ]);
    let compare = object(&[
        ("schema", json!({ "const": COMPARE_SCHEMA })),
        ("a", text.clone()),
        ("b", text.clone()),
        ("pairs", int.clone()),
        ("figures", list(at("compared"))),
        ("differs", truth.clone()),
        ("warnings", list(text.clone())),
        ("machine", at("machine")),
    ]);
    let core = object(&[("core", int.clone()), ("gaps", at("figures")), ("lost_share", num.clone())]);
    let jitter = object(&[
        ("schema", json!({ "const": JITTER_SCHEMA })),
        ("seconds", num.clone()),
        ("cores", list(at("core"))),
        ("probe_ns", maybe_int),
        ("machine", at("machine")),
    ]);
    let sweep = object(&[
        ("schema", json!({ "const": SWEEP_SCHEMA })),
        ("varied", list(text.clone())),
        ("runs", list(text)),
        ("failed", int),
        ("machine", at("machine")),
    ]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What tuplegen writes as JSON",
        "oneOf": [at("run"), at("knee"), at("compare"), at("jitter"), at("sweep")],
        "$defs": {
            "figures": figures, "verdict": verdict, "counts": counts, "point": point, "hop": hop, "machine": machine, "job": job,
            "checked": checked, "hiccup": hiccup, "stolen": stolen, "run": run, "limiter": limiter, "trial": trial, "knee": knee,
            "compared": compared, "compare": compare, "core": core, "jitter": jitter, "sweep": sweep,
        },
    })
}

/// Holds a value against the schema: everything that is wrong, with its place.
pub fn validate(value: &Value) -> Vec<String> {
    let whole = schema();
    // By its name: what is wrong with it is said, rather than that it is none of five.
    let form = match value.get("schema").and_then(Value::as_str) {
        Some(RUN_SCHEMA) => "run",
        Some(KNEE_SCHEMA) => "knee",
        Some(COMPARE_SCHEMA) => "compare",
        Some(JITTER_SCHEMA) => "jitter",
        Some(SWEEP_SCHEMA) => "sweep",
        other => return vec![format!("/schema: {other:?} is no form of this program")],
    };
    let mut wrong = Vec::new();
    check(&whole, &at(form), value, "", &mut wrong);
    wrong
}

fn check(whole: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let mut say = |what: String| wrong.push(format!("{}: {what}", if place.is_empty() { "/" } else { place }));
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        match whole.pointer(path.trim_start_matches('#')) {
            Some(target) => check(whole, target, value, place, wrong),
            None => say(format!("the schema has no {path}")),
        }
        return;
    }
    if let Some(due) = schema.get("const")
        && due != value
    {
        say(format!("{value} where {due} is due"));
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array)
        && !all.contains(value)
    {
        say(format!("{value} is none of {}", Value::Array(all.clone())));
    }
    if let Some(some) = schema.get("oneOf").and_then(Value::as_array) {
        let fits = |s: &&Value| {
            let mut none = Vec::new();
            check(whole, s, value, place, &mut none);
            none.is_empty()
        };
        if some.iter().filter(fits).count() != 1 {
            say("fits not exactly one of the forms".to_owned());
        }
    }
    let is = |ty: &str| match ty {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    let fits = match schema.get("type") {
        Some(Value::String(ty)) => is(ty),
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        say(format!("{value} is no {}", schema["type"]));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values.iter().enumerate().for_each(|(i, v)| check(whole, items, v, &format!("{place}/{i}"), wrong));
    }
    let (Some(properties), Some(map)) = (schema.get("properties").and_then(Value::as_object), value.as_object()) else {
        return;
    };
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            wrong.push(format!("{place}/{name}: missing"));
        }
    }
    for (name, v) in map {
        match properties.get(name) {
            Some(schema) => check(whole, schema, v, &format!("{place}/{name}"), wrong),
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                wrong.push(format!("{place}/{name}: not in the schema"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_file_is_what_the_program_prints() {
        // `tuplegen schema > tools/tuplegen/schema.json` writes it anew.
        assert!(
            include_str!("../../schema.json") == format!("{:#}\n", schema()),
            "tools/tuplegen/schema.json is another"
        );
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let core = |gaps: Value| json!({ "core": 0, "gaps": gaps, "lost_share": 0.5 });
        let figures = json!({ "p50": 1, "p90": null, "p99": null, "p999": null, "p9999": null, "max": 3, "mean": 1.5, "count": 2 });
        let machine = json!({
            "cpu": "c", "cores": [0], "kernel": "k", "commit": "c", "command": "x", "governor": null, "clock_source": "tsc",
            "virtual_machine": true, "isolated": "", "memlock_bytes": null, "nofile": 5, "quota_cores": null,
        });
        let jitter = |core: Value| json!({ "schema": JITTER_SCHEMA, "seconds": 1, "cores": [core], "probe_ns": 60, "machine": machine });
        assert_eq!(validate(&jitter(core(figures.clone()))), Vec::<String>::new());
        let mut short = figures.clone();
        short["p50"] = json!("fast");
        if let Some(map) = short.as_object_mut() {
            map.remove("max");
            map.insert("min".to_owned(), json!(1));
        }
        let wrong = validate(&jitter(core(short)));
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        for place in ["/cores/0/gaps/p50: ", "/cores/0/gaps/max: missing", "/cores/0/gaps/min: not in"] {
            assert!(wrong.iter().any(|w| w.starts_with(place)), "{place}: {wrong:?}");
        }
        assert!(validate(&json!({ "schema": "other" }))[0].contains("no form"));
    }
}
