//! Bolts that remember, on the harness and against plain models.

extern crate squall_api as squall;

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use squall::{Row, Value};
use support::{bolt, out, shown};

#[test]
fn count_emits_the_new_value_of_a_key_after_each_row() {
    let (mut count, fields) = bolt("count", json!({ "by": "word" }), &["word", "n"]);
    assert_eq!(fields, ["word", "count"]);
    for word in ["a", "b", "a"] {
        count.send(row![word, 0i64]);
    }
    assert_eq!(out(&mut count), [r#"["a", 1]"#, r#"["b", 1]"#, r#"["a", 2]"#]);
    assert!(count.balanced());
    count.finish();
    assert!(out(&mut count).is_empty());
}

#[test]
fn an_aggregate_may_come_at_the_end_only_however_many_keys_there_are() {
    let (mut sum, _) = bolt("sum", json!({ "by": "word", "field": "n", "emit": "end", "as": "total" }), &["word", "n"]);
    for i in 0..1000i64 {
        sum.send(row![format!("k{i}"), i]);
        sum.send(row![format!("k{i}"), 0.5]);
    }
    assert!(out(&mut sum).is_empty());
    sum.finish();
    let rows = sum.outputs::<Row>("default");
    let sums: BTreeMap<String, String> =
        rows.into_iter().map(|r| (support::show(&r.0[0]), support::show(&r.0[1]))).collect();
    assert_eq!(sums.len(), 1000);
    assert_eq!(sums["\"k7\""], "7.5");
}

#[test]
fn an_aggregate_may_come_at_a_period_for_keys_that_changed() {
    let (mut max, _) =
        bolt("max", json!({ "by": "word", "field": "n", "emit": "every", "every": "1s" }), &["word", "n"]);
    max.send(row!["a", 1i64]);
    max.send(row!["a", 3i64]);
    max.advance(Duration::from_secs(1));
    assert_eq!(out(&mut max), [r#"["a", 3]"#]);
    max.advance(Duration::from_secs(5));
    assert!(out(&mut max).is_empty(), "nothing changed");
    max.send(row!["b", 2i64]);
    max.finish();
    assert_eq!(out(&mut max), [r#"["b", 2]"#]);
}

#[test]
fn what_cannot_be_aggregated_is_bad_input_and_nulls_are_passed_over() {
    let config = json!({ "field": "n", "on_error": "dead_letters" });
    let (mut average, fields) = bolt("average", config, &["n"]);
    assert_eq!(fields, ["average"]);
    average.send(Row(vec![Value::Null]));
    average.send(row![1i64]);
    average.send(row!["three"]);
    average.send(row![2i64]);
    assert_eq!(out(&mut average), ["[null]", "[1.0]", "[1.5]"]);
    assert_eq!(shown(average.outputs("dead_letters")), [r#"["three", "`n`: the field is a text, not a number"]"#]);
}

#[test]
fn one_key_too_many_ends_the_run_with_the_remedy() {
    let (mut count, _) = bolt("count", json!({ "by": "n", "keys_max": 2 }), &["n"]);
    for n in [1i64, 2, 1] {
        count.send(row![n]);
    }
    let fault = count.try_send(row![3i64]).unwrap_err().to_string();
    assert!(fault.contains("as many as it may") && fault.contains("raise `keys_max`"), "{fault}");
}

#[test]
fn top_k_ranks_at_the_end() {
    let (mut top, fields) = bolt("top-k", json!({ "field": "word", "k": 2, "by": "group" }), &["group", "word"]);
    assert_eq!(fields, ["group", "rank", "word", "count", "error"]);
    for word in ["a", "b", "c", "b", "c", "c"] {
        top.send(row![1i64, word]);
    }
    assert!(out(&mut top).is_empty());
    top.finish();
    assert_eq!(out(&mut top), [r#"[1, 1, "c", 3, 0]"#, r#"[1, 2, "b", 2, 0]"#]);
}

#[test]
fn tumbling_windows_by_time_close_with_the_clock_and_at_the_end() {
    let config = json!({ "type": "tumbling", "size": "10s", "by": "key", "aggregate": "sum", "field": "n" });
    let (mut window, fields) = bolt("window", config, &["key", "n"]);
    assert_eq!(fields, ["key", "start", "end", "sum"]);
    window.send(row!["a", 1i64]);
    window.send(row!["a", 2i64]);
    window.advance(Duration::from_secs(11));
    let rows = window.outputs::<Row>("default");
    assert_eq!(rows.len(), 1);
    let Row(values) = &rows[0];
    assert_eq!((&values[0], &values[3]), (&"a".into(), &Value::I64(3)));
    let (Value::I64(start), Value::I64(end)) = (&values[1], &values[2]) else { panic!("{values:?}") };
    assert_eq!(end - start, 10_000);
    window.send(row!["b", 5i64]);
    window.finish();
    let last = window.outputs::<Row>("default");
    assert_eq!((last.len(), &last[0].0[3]), (1, &Value::I64(5)));
}

#[test]
fn sliding_windows_by_time_hold_a_row_in_each_window_that_it_falls_into() {
    let config = json!({ "type": "sliding", "size": "3s", "slide": "1s" });
    let (mut window, _) = bolt("window", config, &["n"]);
    window.advance(Duration::from_millis(3500));
    window.send(row![1i64]);
    window.advance(Duration::from_secs(1));
    window.send(row![2i64]);
    window.finish();
    let counts: Vec<Value> = window.outputs::<Row>("default").into_iter().map(|r| r.0[2].clone()).collect();
    // The clock begins at 1 s: rows at 4.5 and 5.5 s, windows that begin at 2, 3, 4 and 5 s.
    assert_eq!(counts, [1, 2, 2, 1].map(Value::I64));
}

#[test]
fn a_session_ends_with_a_pause() {
    let (mut window, _) = bolt("window", json!({ "type": "session", "gap": "5s", "by": "key" }), &["key"]);
    for wait in [0, 2, 4] {
        window.advance(Duration::from_secs(wait));
        window.send(row!["a"]);
    }
    window.advance(Duration::from_secs(6));
    let rows = window.outputs::<Row>("default");
    let (Value::I64(start), Value::I64(end)) = (&rows[0].0[1], &rows[0].0[2]) else { panic!("{rows:?}") };
    assert_eq!((rows.len(), end - start, &rows[0].0[3]), (1, 6000, &Value::I64(3)));
    window.send(row!["a"]);
    window.finish();
    assert_eq!(window.outputs::<Row>("default")[0].0[3], Value::I64(1));
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let refused = |config| {
        let topology = squall::Topology::new("wrong");
        support::declare(&topology, "w", "window", config, &["n"]).err().unwrap()[0].to_string()
    };
    let sliding = json!({ "type": "sliding", "size": "10s", "slide": "3s" });
    assert!(refused(sliding).starts_with("`slide` does not divide `size`"));
    assert!(refused(json!({ "type": "session" })).starts_with("a session window needs `gap`"));
    assert!(refused(json!({ "type": "tumbling", "size": "1s", "rows": 3 })).contains("both `size` and `rows`"));
    let sum = json!({ "type": "tumbling", "rows": 3, "aggregate": "sum" });
    assert!(refused(sum).starts_with("`aggregate: sum` needs a `field`"));
}

#[test]
fn a_batch_goes_on_when_it_is_full_or_old_or_the_run_ends_and_carries_its_rows_anchors() {
    let (mut batch, fields) = bolt("batch", json!({ "rows": 2, "within": "1s" }), &["n"]);
    assert_eq!(fields, ["rows", "count"]);
    let first = batch.send(row![1i64]);
    assert!(batch.acked().is_empty() && out(&mut batch).is_empty());
    let second = batch.send(row![2i64]);
    let full = batch.emitted::<Row>("default");
    assert_eq!(shown(vec![full[0].tuple.clone()]), ["[[{n: 1}, {n: 2}], 2]"]);
    let mut roots = full[0].roots.clone();
    roots.sort();
    assert_eq!((roots, batch.acked().len()), (vec![first, second], 2));
    assert!(batch.balanced());
    batch.send(row![3i64]);
    batch.advance(Duration::from_millis(1300));
    assert_eq!(out(&mut batch), ["[[{n: 3}], 1]"]);
    batch.send(row![4i64]);
    batch.finish();
    assert_eq!(out(&mut batch), ["[[{n: 4}], 1]"]);
    assert!(batch.balanced() && batch.failed().is_empty());
}

#[test]
fn batches_that_overlap_share_rows_and_none_is_made_of_shared_rows_alone() {
    let (mut batch, _) = bolt("batch", json!({ "rows": 3, "overlap": 1 }), &["n"]);
    for n in 1..=6i64 {
        batch.send(row![n]);
    }
    assert_eq!(out(&mut batch), ["[[{n: 1}, {n: 2}, {n: 3}], 3]", "[[{n: 3}, {n: 4}, {n: 5}], 3]"]);
    batch.finish();
    assert_eq!(out(&mut batch), ["[[{n: 5}, {n: 6}], 2]"]);
    assert!(batch.balanced() && batch.failed().is_empty() && batch.acked().len() == 6);
    let (mut batch, _) = bolt("batch", json!({ "rows": 2, "overlap": 1 }), &["n"]);
    batch.send(row![1i64]);
    batch.send(row![2i64]);
    batch.finish();
    assert_eq!(out(&mut batch), ["[[{n: 1}, {n: 2}], 2]"]);
    let refused =
        support::declare(&squall::Topology::new("t"), "b", "batch", json!({ "rows": 2, "overlap": 2 }), &["n"]);
    assert!(refused.err().unwrap()[0].to_string().contains("make `overlap` less than `rows`"));
}

#[test]
fn duplicates_are_dropped_and_counted_until_their_key_is_forgotten() {
    let (mut dedup, _) = bolt("dedup", json!({ "by": "id", "within": "10s" }), &["id", "n"]);
    for (id, n) in [("a", 1i64), ("b", 2), ("a", 3)] {
        dedup.send(row![id, n]);
    }
    assert_eq!(out(&mut dedup), [r#"["a", 1]"#, r#"["b", 2]"#]);
    assert_eq!(dedup.counter("duplicates"), 1);
    dedup.advance(Duration::from_secs(10));
    dedup.send(row!["a", 4i64]);
    assert_eq!(out(&mut dedup), [r#"["a", 4]"#]);
    dedup.finish();
    assert!(dedup.balanced());
}

#[test]
fn rows_beyond_the_rate_are_dropped_and_counted_or_wait() {
    let config = json!({ "rate": 10, "burst": 3, "beyond": "drop" });
    let (mut limit, _) = bolt("rate-limit", config, &["n"]);
    for n in 0..10i64 {
        limit.send(row![n]);
    }
    assert_eq!(out(&mut limit), ["[0]", "[1]", "[2]"]);
    assert_eq!(limit.counter("over_rate"), 7);
    limit.advance(Duration::from_millis(150));
    limit.send(row![10i64]);
    assert_eq!(out(&mut limit), ["[10]"]);

    let (mut limit, _) = bolt("rate-limit", json!({ "rate": 5000, "burst": 1 }), &["n"]);
    for n in 0..20i64 {
        limit.send(row![n]);
    }
    assert_eq!(out(&mut limit).len(), 20);
    assert_eq!(limit.counter("over_rate"), 0);
}

/// Runs an aggregate over rows, by key, to its end; its results by key.
fn aggregated(component: &str, extra: serde_json::Value, rows: &[(u8, i64)]) -> BTreeMap<u8, Vec<Value>> {
    let mut config = json!({ "by": "key", "field": "n", "emit": "end" });
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (mut bolt, _) = bolt(component, config, &["key", "n"]);
    for (key, n) in rows {
        bolt.send(row![i64::from(*key), *n]);
    }
    bolt.finish();
    let rows = bolt.outputs::<Row>("default").into_iter();
    rows.map(|Row(values)| {
        let Value::I64(key) = values[0] else { panic!("{values:?}") };
        (key as u8, values[1..].to_vec())
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn aggregates_by_key_are_those_of_a_plain_loop(
        rows in proptest::collection::vec((0u8..6, -1000i64..1000), 1..120),
    ) {
        let mut model: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for (key, n) in &rows {
            model.entry(*key).or_default().push(*n);
        }
        let whole = |f: fn(&[i64]) -> i64| model.iter().map(|(k, v)| (*k, vec![Value::I64(f(v))])).collect();
        let expect: [(&str, BTreeMap<u8, Vec<Value>>); 4] = [
            ("sum", whole(|v| v.iter().sum())),
            ("min", whole(|v| *v.iter().min().unwrap())),
            ("max", whole(|v| *v.iter().max().unwrap())),
            ("distinct", whole(|v| v.iter().collect::<std::collections::HashSet<_>>().len() as i64)),
        ];
        for (component, model) in expect {
            prop_assert_eq!(aggregated(component, json!({}), &rows), model, "{}", component);
        }
        for (key, values) in aggregated("average", json!({}), &rows) {
            let plain = &model[&key];
            let mean = plain.iter().sum::<i64>() as f64 / plain.len() as f64;
            let Value::F64(x) = values[0] else { panic!("{values:?}") };
            prop_assert!((x - mean).abs() < 1e-9);
        }
    }

    #[test]
    fn quantiles_are_within_their_error_of_the_sorted_values(
        rows in proptest::collection::vec((0u8..3, 1i64..1_000_000), 1..200),
    ) {
        let quantiles = [0.0, 0.5, 0.9, 1.0];
        let mut model: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for (key, n) in &rows {
            model.entry(*key).or_default().push(*n);
        }
        for (key, values) in aggregated("quantiles", json!({ "quantiles": quantiles, "accuracy": 0.02 }), &rows) {
            let sorted = model.get_mut(&key).unwrap();
            sorted.sort();
            for (q, found) in quantiles.iter().zip(values) {
                let Value::F64(found) = found else { panic!("{found:?}") };
                let rank = q * (sorted.len() - 1) as f64;
                let (low, high) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
                prop_assert!(found >= low * 0.98 - 1e-9 && found <= high * 1.02 + 1e-9, "p{q}: {found} not in {low}..{high}");
            }
        }
    }

    #[test]
    fn windows_by_count_hold_what_a_plain_loop_puts_into_them(
        rows in proptest::collection::vec((0u8..3, -50i64..50), 0..120),
        size in 1usize..8,
        slide in 1usize..8,
    ) {
        let slide = slide.min(size);
        let config = json!({
            "type": "sliding", "rows": size, "slide_rows": slide, "by": "key", "aggregate": "sum", "field": "n",
        });
        let (mut window, _) = bolt("window", config, &["key", "n"]);
        let mut model: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for (key, n) in &rows {
            model.entry(*key).or_default().push(*n);
            window.send(row![i64::from(*key), *n]);
        }
        window.finish();
        let mut found: Vec<String> = shown(window.outputs("default"));
        let mut expect = Vec::new();
        for (key, values) in model {
            for start in (0..values.len()).step_by(slide) {
                let end = (start + size).min(values.len());
                // Windows cut short by the end: only the first, and only with a row that no full one has.
                let first = start == 0 || start - slide + size < values.len();
                if end - start == size || first
                {
                    let sum: i64 = values[start..end].iter().sum();
                    expect.push(format!("[{key}, {start}, {end}, {sum}]"));
                }
            }
        }
        found.sort();
        expect.sort();
        prop_assert_eq!(found, expect);
    }
}
