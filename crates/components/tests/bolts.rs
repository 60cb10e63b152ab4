//! Bolts that take each row by itself, by the registry and by their builders: good path, bad input, end.

extern crate squall_api as squall;

#[macro_use]
mod support;

use serde_json::json;
use squall::{Row, Value};
use squall_components::expression::{test, value};
use squall_components::{Filter, FlatMap, Map, Route};
use support::{bolt, out, shown, typed};

#[test]
fn map_keeps_sets_and_replaces_fields() {
    let config = json!({ "keep": ["word", "n"], "set": { "amount": "n", "word": "other" } });
    let (mut map, fields) = bolt("map", config, &["word", "n", "other"]);
    assert_eq!(fields, ["word", "n", "amount"]);
    map.send(row!["a", 1i64, "b"]);
    assert_eq!(out(&mut map), [r#"["b", 1, 1]"#]);
    let (mut map, fields) = bolt("map", json!({ "keep_none": true, "set": { "x": "n" } }), &["word", "n"]);
    assert_eq!(fields, ["x"]);
    map.send(Row(vec!["a".into(), Value::List(vec![1i64.into()])]));
    assert_eq!(out(&mut map), ["[[1]]"]);
}

#[test]
fn map_takes_closures() {
    let double = value(|row| row[0].as_i64().map_or(Value::Null, |n| Value::I64(2 * n)));
    let mut map = typed(|place| Map::new().set("double", double).declare(place), &["n"]);
    map.send(row![21i64]);
    assert_eq!(out(&mut map), ["[21, 42]"]);
}

#[test]
fn filter_passes_what_is_true_and_does_with_what_has_no_answer_as_it_is_told() {
    let mut filter = typed(|p| Filter::new(test(|row| row[0].as_i64() > Some(1))).declare(p), &["n"]);
    for n in 0..4i64 {
        filter.send(row![n]);
    }
    assert_eq!(out(&mut filter), ["[2]", "[3]"]);
    assert!(filter.balanced() && filter.failed().is_empty());

    let (mut filter, _) = bolt("filter", json!({ "where": "flag" }), &["flag"]);
    let root = filter.send(row!["yes"]);
    assert_eq!(filter.failed(), [root]);

    let (mut filter, _) = bolt("filter", json!({ "where": "flag", "on_error": "dead_letters" }), &["flag"]);
    filter.send(row!["yes"]);
    filter.send(row![true]);
    assert_eq!(out(&mut filter), ["[true]"]);
    let dead = shown(filter.outputs("dead_letters"));
    assert_eq!(dead, [r#"["yes", "the expression is a text, not true or false"]"#]);
    assert_eq!(filter.counter("bad_input"), 1);
    assert!(filter.failed().is_empty() && filter.balanced());
}

#[test]
fn route_sends_to_the_first_condition_that_is_true_or_to_all_and_the_rest_to_default() {
    let route = || {
        let above = |least: i64| test(move |row| row[0].as_i64() >= Some(least));
        Route::new().to("high", above(10)).to("some", above(5))
    };
    let mut first = typed(|p| route().declare(p), &["n"]);
    let mut all = typed(|p| route().all().declare(p), &["n"]);
    for n in [1i64, 5, 10] {
        first.send(row![n]);
        all.send(row![n]);
    }
    let mut get = |stream: &str| (shown(first.outputs(stream)), shown(all.outputs(stream)));
    let one = |n: &str| vec![n.to_owned()];
    assert_eq!(get("default"), (one("[1]"), one("[1]")));
    assert_eq!(get("some"), (one("[5]"), vec!["[5]".into(), "[10]".into()]));
    assert_eq!(get("high"), (one("[10]"), one("[10]")));
    assert!(first.balanced() && all.balanced());
}

#[test]
fn flat_map_emits_a_row_for_each_item_and_refuses_what_is_no_list() {
    let (mut flat, fields) = bolt("flat-map", json!({ "each": "list", "on_error": "skip" }), &["id", "list"]);
    assert_eq!(fields, ["id", "list", "item"]);
    flat.send(Row(vec![1i64.into(), Value::List(vec!["a".into(), Value::Null])]));
    flat.send(Row(vec![2i64.into(), Value::Null]));
    flat.send(row![3i64, "no list"]);
    assert_eq!(out(&mut flat), [r#"[1, ["a", null], "a"]"#, r#"[1, ["a", null], null]"#]);
    assert_eq!(flat.counter("bad_input"), 1);
    let items = value(|_| Value::List(vec![7i64.into()]));
    let mut flat = typed(|p| FlatMap::new(items).name("id").declare(p), &["id"]);
    flat.send(row![1i64]);
    assert_eq!(out(&mut flat), ["[7]"]);
}

#[test]
fn split_gives_words_or_the_parts_between_separators() {
    let (mut words, fields) = bolt("split", json!({ "field": "text" }), &["id", "text"]);
    assert_eq!(fields, ["word"]);
    words.send(row![1i64, "  to be\tor\n not "]);
    words.send(Row(vec![2i64.into(), Value::Null]));
    assert_eq!(out(&mut words), [r#"["to"]"#, r#"["be"]"#, r#"["or"]"#, r#"["not"]"#]);
    let root = words.send(row![3i64, 4i64]);
    assert_eq!(words.failed(), [root]);

    let config = json!({ "field": "text", "separator": ", ", "keep": true, "as": "part" });
    let (mut parts, fields) = bolt("split", config, &["id", "text"]);
    assert_eq!(fields, ["id", "text", "part"]);
    parts.send(row![1i64, "a, , b"]);
    assert_eq!(out(&mut parts), [r#"[1, "a, , b", "a"]"#, r#"[1, "a, , b", ""]"#, r#"[1, "a, , b", "b"]"#]);
}

#[test]
fn json_is_parsed_and_what_is_none_goes_to_the_dead_letters() {
    let config = json!({ "fields": ["user", "tags"], "keep": true, "on_error": "dead_letters" });
    let (mut parse, fields) = bolt("parse-json", config, &["id", "text"]);
    assert_eq!(fields, ["id", "user", "tags"]);
    parse.send(row![1i64, r#"{"user":"ann","tags":[1,2.5],"x":0}"#]);
    parse.send(row![2i64, r#"{"user":"bob"}"#]);
    parse.send(row![3i64, "{oops"]);
    parse.send(row![4i64, 5i64]);
    assert_eq!(out(&mut parse), [r#"[1, "ann", [1, 2.5]]"#, r#"[2, "bob", null]"#]);
    let dead = shown(parse.outputs("dead_letters"));
    assert_eq!(dead.len(), 2);
    assert!(dead[0].starts_with(r#"[3, "{oops", "no JSON: key must be a string"#), "{dead:?}");
    assert!(dead[1].contains("the field to parse is an integer, not a text"));
}

#[test]
fn csv_is_parsed_by_its_columns_and_kinds() {
    let config =
        json!({ "columns": ["name", "age", "ok"], "types": { "age": "integer", "ok": "bool" }, "on_error": "skip" });
    let (mut parse, fields) = bolt("parse-csv", config, &["text"]);
    assert_eq!(fields, ["name", "age", "ok"]);
    for text in [r#""Lee, A",41,true"#, "Bo,,false", "too,few", "x,old,true", "a,1,true\nb,2,true"] {
        parse.send(row![text]);
    }
    assert_eq!(out(&mut parse), [r#"["Lee, A", 41, true]"#, r#"["Bo", null, false]"#]);
    assert_eq!(parse.counter("bad_input"), 3);
}

#[test]
fn a_pattern_takes_a_text_apart() {
    let pattern = r"^(?<level>[A-Z]+)(?: (?<code>\d+))?";
    let config = json!({ "pattern": pattern, "types": { "code": "integer" }, "on_error": "skip" });
    let (mut parse, fields) = bolt("parse-regex", config, &["text"]);
    assert_eq!(fields, ["level", "code"]);
    for text in ["WARN 17 x", "INFO", "no"] {
        parse.send(row![text]);
    }
    assert_eq!(out(&mut parse), [r#"["WARN", 17]"#, r#"["INFO", null]"#]);
    assert_eq!(parse.counter("bad_input"), 1);
}

#[test]
fn rows_are_formatted_as_json_csv_and_by_template() {
    let tuple = || Row(vec!["a \"b\"".into(), 2i64.into(), Value::List(vec![1i64.into()])]);
    let fields = ["word", "n", "list"];
    let (mut json, _) = bolt("format-json", json!({}), &fields);
    json.send(tuple());
    assert_eq!(json.outputs::<Row>("default"), [row![r#"{"word":"a \"b\"","n":2,"list":[1]}"#]]);
    let (mut csv, _) = bolt("format-csv", json!({ "delimiter": ";" }), &fields);
    csv.send(tuple());
    assert_eq!(csv.outputs::<Row>("default"), [row![r#""a ""b""";2;[1]"#]]);
    let (mut text, _) = bolt("format-text", json!({ "template": "{{{word}}} × {n}", "keep": true }), &fields);
    text.send(tuple());
    let mut kept = tuple();
    kept.0.push(r#"{a "b"} × 2"#.into());
    assert_eq!(text.outputs::<Row>("default"), [kept]);
}

#[test]
fn enrich_adds_columns_of_a_table_and_reads_it_again_when_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms.csv");
    std::fs::write(&path, "floor,id,name\n0,1,hall\n1,2,\"bed, room\"\n").unwrap();
    let config = json!({
        "file": path, "field": "room", "key": "id", "columns": ["name", "floor"], "types": { "id": "integer", "floor": "integer" },
    });
    let (mut enrich, fields) = bolt("enrich", config, &["room"]);
    assert_eq!(fields, ["room", "name", "floor"]);
    for room in [2i64, 3] {
        enrich.send(row![room]);
    }
    assert_eq!(out(&mut enrich), [r#"[2, "bed, room", 1]"#, "[3, null, null]"]);
    assert_eq!(enrich.counter("missing"), 1);

    let replace = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    let second = std::time::Duration::from_secs(1);
    replace("floor,id,name\n2,3,attic\n");
    enrich.advance(second);
    enrich.send(row![3i64]);
    assert_eq!(out(&mut enrich), [r#"[3, "attic", 2]"#]);
    replace("floor,id,name\nhigh,3,attic\n");
    enrich.advance(2 * second);
    enrich.send(row![3i64]);
    assert_eq!(out(&mut enrich), [r#"[3, "attic", 2]"#], "a table that cannot be read leaves the last one");
    assert_eq!((enrich.counter("reloads"), enrich.counter("reloads_failed")), (1, 1));
}

#[test]
fn enrich_drops_or_refuses_what_the_table_lacks_as_told_and_names_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    std::fs::write(&path, "{\"word\":\"a\",\"x\":[1]}\n").unwrap();
    let config = |missing: &str| json!({ "file": path, "field": "word", "columns": "x", "missing": missing, "on_error": "dead_letters" });
    let (mut drop, _) = bolt("enrich", config("drop"), &["word"]);
    drop.send(row!["b"]);
    drop.send(row!["a"]);
    assert_eq!(out(&mut drop), [r#"["a", [1]]"#]);
    let (mut bad, _) = bolt("enrich", config("bad"), &["word"]);
    bad.send(row!["b"]);
    assert_eq!(shown(bad.outputs("dead_letters")), [r#"["b", "the table has no row for this `word`"]"#]);

    std::fs::write(&path, "{\"word\":\"a\"}\n{oops\n").unwrap();
    let topology = squall::Topology::new("harness");
    support::declare(&topology, "bolt", "enrich", config("null"), &["word"]).unwrap();
    let fault = squall::testing::BoltHarness::<support::Any>::declared(topology, |c| c).err().unwrap().to_string();
    assert!(fault.contains("line 2 of the table") && fault.contains("correct it"), "{fault}");
}
