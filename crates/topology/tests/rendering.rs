//! What people and programs see of a plan.

mod common;

use proptest::prelude::*;
use squall_topology::{ComponentSpec, Grouping, Machine, Plan, SubscriptionSpec, TopologySpec, render};

fn word_count() -> Plan {
    Plan::new(common::word_count(), &common::machine(4)).unwrap()
}

#[test]
fn the_table_of_a_word_count_reads_like_this() {
    assert_eq!(render::text(&word_count()), include_str!("word_count.plan.txt"));
}

#[test]
fn the_json_of_a_word_count_names_what_the_table_shows() {
    let plan = word_count();
    let json: serde_json::Value = serde_json::from_str(&render::json(&plan)).unwrap();
    assert_eq!(json["topology"], "word-count");
    assert_eq!(json["hash"], format!("{:016x}", plan.hash()));
    assert_eq!(json["components"][2]["name"], "count");
    assert_eq!(json["components"][2]["first_task"], 3);
    assert_eq!(json["components"][2]["tick_ms"], 1000);
    assert_eq!(json["streams"][1]["read_by"][0]["component"], "count");
    assert_eq!(json["streams"][1]["read_by"][0]["grouping"], "fields(word)");
    assert_eq!(json["streams"][1]["fields"][1]["type"], "u64");
    assert_eq!(json["workers"][0]["reactors"][1]["core"], 1);
    assert_eq!(json["workers"][1]["reactors"][2]["side"], true);
    assert_eq!(json["workers"][1]["reactors"][2]["executors"][0]["component"], "lines");
    assert_eq!(json["links"].as_array().unwrap().len(), plan.links.len());
    assert_eq!(json["memory_bytes"]["total"], plan.memory.total);
    assert_eq!(json["memory_bytes"]["workers"][1]["bursts"], plan.memory.workers[1].bursts);
}

#[test]
fn many_workers_show_the_largest_and_the_sum() {
    let mut spec = common::word_count();
    spec.config.workers = 6;
    let text = render::text(&Plan::new(spec, &common::machine(8)).unwrap());
    assert!(text.contains("  USE           WORKER 5 (LARGEST)"), "{text}");
}

#[test]
fn component_settings_are_not_shown() {
    let mut spec = common::word_count();
    spec.components[0].config.insert("password".into(), "hunter2".into());
    let plan = Plan::new(spec, &common::machine(4)).unwrap();
    for text in [render::text(&plan), render::json(&plan), render::dot(&plan.spec), render::mermaid(&plan.spec)] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// A spec no validation would pass: names full of syntax.
fn hostile() -> TopologySpec {
    let mut spec = common::word_count();
    spec.name = "a \"b\" \\ c".into();
    spec.components[1] = ComponentSpec::bolt("end\"]; --> |x| <b> `c` #35; \\");
    spec.subscriptions[0].grouping = Grouping::Custom("say \"hi\"\nnow".into());
    spec.subscriptions
        .push(SubscriptionSpec { feedback: true, ..common::subscription(3, 1, Grouping::Fields(vec![7])) });
    spec.subscriptions.push(common::subscription(99, 1, Grouping::All));
    spec
}

#[test]
fn dot_quotes_every_name() {
    assert_eq!(
        render::dot(&hostile()),
        r#"digraph "a \"b\" \\ c" {
  rankdir=LR;
  c0 [shape=ellipse, label="lines\n1 task"];
  c1 [shape=box, label="end\"]; --> |x| <b> `c` #35; \\\n1 task"];
  c2 [shape=box, label="count\n4 tasks"];
  c3 [shape=box, label="report\n1 task"];
  c0 -> c1 [label="lines\ncustom(say \"hi\" now)"];
  c1 -> c2 [label="words\nfields(word)"];
  c2 -> c3 [label="totals\nglobal"];
  c1 -> c3 [label="words\nall"];
  c1 -> c1 [label="odd\nfields(#7), feedback", style=dashed, constraint=false];
}
"#
    );
}

#[test]
fn mermaid_escapes_every_name() {
    assert_eq!(
        render::mermaid(&hostile()),
        r##"flowchart LR
  c0(["lines<br/>1 task"])
  c1["end#quot;]#59; --#62; #124;x#124; #60;b#62; #96;c#96; #35;35#59; #92;<br/>1 task"]
  c2["count<br/>4 tasks"]
  c3["report<br/>1 task"]
  c0 -->|"lines<br/>custom(say #quot;hi#quot; now)"| c1
  c1 -->|"words<br/>fields(word)"| c2
  c2 -->|"totals<br/>global"| c3
  c1 -->|"words<br/>all"| c3
  c1 -.->|"odd<br/>fields(#35;7), feedback"| c1
"##
    );
}

proptest! {
    #![proptest_config(common::cases(100))]

    #[test]
    fn tables_are_aligned_and_complete_for_any_plan((spec, machine) in common::topology()) {
        let plan = Plan::new(spec, &machine).unwrap();
        let text = render::text(&plan);
        prop_assert!(text.ends_with('\n') && !text.contains(" \n"), "{}", text);
        let section = |title: &str| -> Vec<String> {
            text.lines().skip_while(|line| *line != title).skip(1).take_while(|line| !line.is_empty()).map(String::from).collect()
        };
        prop_assert_eq!(section("Components").len(), 1 + plan.spec.components.len());
        prop_assert_eq!(section("Placement").len(), 1 + plan.executors.len());
        // In every row the cell of the last column begins where its header does, after blanks.
        for (title, last) in [("Components", "TICK"), ("Placement", "TASKS"), ("Links", "CARRIES"), ("Streams", "GROUPING")] {
            let rows = section(title);
            let header = rows[0].find(last).unwrap();
            for row in &rows {
                let cells: Vec<char> = row.chars().collect();
                prop_assert!(cells[header - 2..header] == [' ', ' '] && cells[header] != ' ', "{}", text);
            }
        }
        prop_assert_eq!(&text, &render::text(&plan));
        let json: serde_json::Value = serde_json::from_str(&render::json(&plan)).unwrap();
        prop_assert_eq!(json["workers"].as_array().unwrap().len(), plan.workers.len());
        let unpinned = Plan::new(plan.spec.clone(), &Machine::default()).unwrap();
        prop_assert!(render::text(&unpinned).contains("any"));
    }
}
