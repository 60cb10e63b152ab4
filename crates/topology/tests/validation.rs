//! Every fault of a topology, and the words in which it is told.

mod common;

use common::{schema, stream, subscription, word_count};
use squall_topology::{
    ComponentSpec, Grouping, Placement, StreamSpec, SubscriptionSpec, TopologyConfig, TopologyError, TopologySpec, spec,
};

/// What validation says of a word count with this change.
fn faults(change: impl FnOnce(&mut TopologySpec)) -> Vec<String> {
    let mut spec = word_count();
    change(&mut spec);
    spec.validate().err().unwrap_or_default().iter().map(TopologyError::to_string).collect()
}

/// Components: lines 0, split 1, count 2, report 3. Streams: lines.lines 0, split.words 1, count.totals 2, split.odd 3.
#[test]
fn the_word_count_of_these_tests_is_valid() {
    assert_eq!(faults(|_| {}), [""; 0]);
}

#[test]
fn names_must_be_plain() {
    let remedy = "use 1 to 128 letters, digits, `_`, `-` or `.`, not beginning with `__`";
    assert_eq!(faults(|s| s.name.clear()), [format!("the topology name `` is empty; {remedy}")]);
    assert_eq!(
        faults(|s| s.components[1].name = "a/b".into()),
        [format!("the component name `a/b` has a character that is not allowed; {remedy}")]
    );
    assert_eq!(
        faults(|s| s.streams[3].name = "x\n".into()),
        [format!("the stream name `x\\n` has a character that is not allowed; {remedy}")]
    );
    assert_eq!(
        faults(|s| s.components[1].name = "__acker".into()),
        [format!("the component name `__acker` is reserved for the system; {remedy}")]
    );
    assert_eq!(faults(|s| s.name = "..".into()), [format!("the topology name `..` would be a path; {remedy}")]);
    let long = "x".repeat(129);
    assert_eq!(faults(|s| s.name = long.clone()), [format!("the topology name `{long}` is too long; {remedy}")]);
    assert_eq!(faults(|s| s.name = "Zähler_1.b-c".into()), [""; 0]);
}

#[test]
fn names_must_differ() {
    assert_eq!(
        faults(|s| s.components[2].name = "split".into()),
        ["two components are named `split`; give each its own name"]
    );
    assert_eq!(
        faults(|s| s.streams[3].name = "words".into()),
        ["component `split` declares two streams named `words`; give each its own name"]
    );
    assert_eq!(
        faults(|s| s.streams[2].name = "words".into()),
        [""; 0],
        "streams of different components may share one"
    );
    assert_eq!(
        faults(|s| s.streams[3].schema.fields.push(("text".into(), "u64".into()))),
        ["stream `split.odd` has two fields named `text`; give each its own name"]
    );
}

#[test]
fn a_topology_needs_a_spout() {
    let empty = TopologySpec { name: "t".into(), ..TopologySpec::default() };
    assert_eq!(empty.validate(), Err(vec![TopologyError::NoSpout]));
    assert_eq!(
        TopologyError::NoSpout.to_string(),
        "the topology has no spout, so no tuple would ever enter it; add one with `spout(name, …)`"
    );
}

#[test]
fn one_schema_id_means_one_schema() {
    assert_eq!(
        faults(|s| s.streams[3].schema.id = 1),
        [
            "streams `lines.lines` and `split.odd` have different tuples but one schema id (0x0000000000000001); rename a type \
          or a field of one of them, and make sure ids come from the schema"
        ]
    );
}

#[test]
fn indices_must_point_into_their_lists() {
    assert_eq!(
        faults(|s| s.streams[1].component = 4),
        ["stream `words` names component 4, but the topology has 4 components, numbered from 0; correct the index"]
    );
    assert_eq!(
        faults(|s| s.subscriptions[0].stream = 9),
        ["subscription 0 names stream 9, but the topology has 4 streams, numbered from 0; correct the index"]
    );
    assert_eq!(
        faults(|s| s.subscriptions[1].to = u32::MAX),
        [
            "subscription 1 names component 4294967295, but the topology has 4 components, numbered from 0; correct the index"
        ]
    );
}

#[test]
fn tasks_and_executors_must_be_at_least_one_and_every_executor_needs_a_task() {
    assert_eq!(
        faults(|s| s.components[1].tasks = 0),
        ["component `split` has 0 tasks, so it would never run; set `tasks` to at least 1 or remove it"]
    );
    assert_eq!(
        faults(|s| s.components[1].executors = 0),
        ["component `split` has 0 executors, so nothing would run its tasks; set `executors` to 1 … tasks"]
    );
    assert_eq!(
        faults(|s| s.components[1].executors = 3),
        [
            "component `split` has 3 executors for 2 tasks, so some would have no task; lower `executors` or raise `tasks`"
        ]
    );
}

#[test]
fn the_number_of_tasks_is_bounded_even_where_the_sum_exceeds_32_bits() {
    assert_eq!(
        faults(|s| {
            s.components[1].tasks = u32::MAX;
            s.components[3].tasks = u32::MAX;
        }),
        ["the topology has 8589934595 tasks in all; the limit is 1048576, so lower `tasks` of the largest components"]
    );
}

#[test]
fn every_worker_needs_an_executor() {
    assert_eq!(
        faults(|s| s.config.workers = 7),
        [
            "7 workers for 6 executors: some worker would have nothing to run; set `workers` to at most 6 or raise `executors`"
        ]
    );
    assert_eq!(faults(|s| s.config.workers = 6), [""; 0]);
}

#[test]
fn spouts_take_no_input_and_bolts_need_one() {
    assert_eq!(
        faults(|s| s.subscriptions.push(SubscriptionSpec { feedback: true, ..subscription(3, 0, Grouping::Shuffle) })),
        [
            "spout `lines` subscribes to `split.odd`, but a spout takes no input; make it a bolt or remove the subscription"
        ]
    );
    assert_eq!(
        faults(|s| s.components.push(ComponentSpec::bolt("idle"))),
        ["bolt `idle` reads no stream, so it would never run; subscribe it to one, or remove it"]
    );
}

#[test]
fn a_component_reads_a_stream_once() {
    assert_eq!(
        faults(|s| s.subscriptions.push(SubscriptionSpec { port: 5, ..subscription(1, 2, Grouping::All) })),
        [
            "`count` subscribes to `split.words` twice, but a delivered tuple names only its stream and task, so the two could \
          not be told apart; remove one, or emit a second stream"
        ]
    );
}

#[test]
fn streams_on_one_port_carry_the_same_tuples() {
    assert_eq!(
        faults(|s| s.subscriptions[3].port = 0),
        [
            "`report` reads `count.totals` and `split.words` on one input port (0), but their tuples differ (`Total`, `Word`); \
          give each its own port"
        ]
    );
    let same = |s: &mut TopologySpec| {
        s.streams[2].schema = s.streams[1].schema.clone();
        s.subscriptions[3].port = 0;
    };
    assert_eq!(faults(same), [""; 0]);
    let rows = |s: &mut TopologySpec| {
        s.streams[1].schema.dynamic = true;
        s.streams[2].schema.dynamic = true;
        s.subscriptions[3].port = 0;
    };
    assert_eq!(faults(rows), [""; 0], "rows of any fields share a port");
    let row_and_typed = |s: &mut TopologySpec| {
        s.streams[2].schema.dynamic = true;
        s.subscriptions[3].port = 0;
    };
    assert_eq!(faults(row_and_typed).len(), 1, "a row is no typed tuple");
}

#[test]
fn groupings_by_fields_name_fields_of_the_stream_once() {
    assert_eq!(
        faults(|s| s.subscriptions[1].grouping = Grouping::Fields(vec![])),
        [
            "the fields grouping of `split.words` to `count` names no field; name at least one, or use the global grouping to \
          send everything to one task"
        ]
    );
    assert_eq!(
        faults(|s| s.subscriptions[1].grouping = Grouping::PartialKey(vec![0, 2])),
        [
            "the partial key grouping of `split.words` to `count` names field 2, but the stream has fields 0 `word`, 1 `n`; \
          correct the field"
        ]
    );
    assert_eq!(
        faults(|s| {
            s.streams[1].schema = schema("Empty", &[], 9);
        }),
        [
            "the fields grouping of `split.words` to `count` names field 0, but the stream has no fields; correct the field"
        ]
    );
    assert_eq!(
        faults(|s| s.subscriptions[1].grouping = Grouping::Fields(vec![1, 0, 1])),
        ["the fields grouping of `split.words` to `count` names field `n` twice; name it once"]
    );
}

#[test]
fn a_custom_grouping_has_a_name() {
    assert_eq!(
        faults(|s| s.subscriptions[1].grouping = Grouping::Custom(String::new())),
        ["the custom grouping of `split.words` to `count` has an empty name; give the name it is registered under"]
    );
}

#[test]
fn direct_streams_and_the_direct_grouping_belong_together() {
    assert_eq!(
        faults(|s| s.streams[0].direct = true),
        [
            "`split` reads the direct stream `lines.lines` with the shuffle grouping, but its emitter names the tasks itself; \
          use the direct grouping, or declare the stream without `direct`"
        ]
    );
    assert_eq!(
        faults(|s| s.subscriptions[0].grouping = Grouping::Direct),
        [
            "`split` reads `lines.lines` with the direct grouping, but the stream is not direct, so nobody would name a task; \
          declare it as a direct stream, or use another grouping"
        ]
    );
    let both = |s: &mut TopologySpec| {
        s.streams[0].direct = true;
        s.subscriptions[0].grouping = Grouping::Direct;
    };
    assert_eq!(faults(both), [""; 0]);
}

#[test]
fn a_cycle_is_named_and_must_be_closed_by_feedback() {
    let remedy = "which could wait for itself for ever; break it, or mark the subscription that closes it as feedback (it \
                  then fails tuples rather than block)";
    let back = |s: &mut TopologySpec, feedback| {
        s.streams.push(StreamSpec { schema: schema("Odd", &[("text", "String")], 3), ..stream(3, "again", false) });
        s.subscriptions.push(SubscriptionSpec { port: 1, feedback, ..subscription(4, 1, Grouping::Shuffle) });
    };
    // Report reads split also directly; of several cycles one is named.
    assert_eq!(faults(|s| back(s, false)), [format!("the components form a cycle, split → report → split, {remedy}")]);
    assert_eq!(
        faults(|s| {
            s.subscriptions.pop();
            back(s, false);
        }),
        [format!("the components form a cycle, split → count → report → split, {remedy}")]
    );
    assert_eq!(faults(|s| back(s, true)), [""; 0]);
    assert_eq!(
        faults(|s| s.subscriptions.push(SubscriptionSpec { port: 1, ..subscription(3, 1, Grouping::Shuffle) })),
        [format!("the components form a cycle, split → split, {remedy}")]
    );
}

#[test]
fn feedback_must_close_a_cycle() {
    assert_eq!(
        faults(|s| s.subscriptions[3].feedback = true),
        [
            "`report` reads `split.words` as feedback, but that closes no cycle; remove the feedback mark, which would lose \
          tuples"
        ]
    );
    assert_eq!(
        faults(|s| {
            s.components.push(ComponentSpec::bolt("echo"));
            s.streams.push(stream(4, "echoes", false));
            s.subscriptions.push(SubscriptionSpec { feedback: true, ..subscription(4, 4, Grouping::Shuffle) });
        }),
        [
            "bolt `echo` reads only feedback, so no tuple could ever reach it; subscribe it to a stream that starts at a spout"
        ]
    );
}

#[test]
fn fields_grouped_tasks_each_need_a_key_group() {
    assert_eq!(
        faults(|s| s.config.key_groups = 3),
        [
            "`count` groups `split.words` by fields over 4 tasks, but there are only 3 key groups, so some tasks would get \
          nothing; raise `key_groups` or lower `tasks`"
        ]
    );
    assert_eq!(faults(|s| s.config.key_groups = 4), [""; 0]);
}

#[test]
fn settings_have_ranges() {
    assert_eq!(
        faults(|s| s.config.workers = 0),
        ["`workers` is 0, but must be 1 to 1024: each worker is a process of this topology"]
    );
    assert_eq!(
        faults(|s| s.config.reactors = Some(0)),
        ["`reactors` is 0, but must be 1 to 1024: each reactor is a thread that wants a core of its own"]
    );
    assert_eq!(
        faults(|s| s.config.key_groups = spec::MAX_KEY_GROUPS + 1),
        [
            "`key_groups` is 65537, but must be 1 to 65536: tables by key group stay small, and each task of a fields grouping \
          needs one"
        ]
    );
    assert_eq!(
        faults(|s| s.config.batch_bytes = 127),
        [
            "`batch_bytes` is 127, but must be 128 to 16777216: smaller ones are mostly header, larger ones only add latency"
        ]
    );
    assert_eq!(
        faults(|s| s.config.socket_batch_bytes = 0),
        [
            "`socket_batch_bytes` is 0, but must be 128 to 16777216: smaller ones are mostly header, larger ones only add latency"
        ]
    );
    assert_eq!(
        faults(|s| s.config.max_tuple_bytes = u32::MAX),
        [
            "`max_tuple_bytes` is 4294967295, but must be 64 to 1073741824: positions within one batch are 32 bits, and one \
          tuple must not take all memory"
        ]
    );
    assert_eq!(
        faults(|s| s.config.credit_bytes = u64::MAX),
        [
            "`credit_bytes` is 18446744073709551615, but must be 0 to 1099511627776: it is memory that each link may fill"
        ]
    );
    assert_eq!(
        faults(|s| s.config.ring_bytes = (1 << 30) + 1),
        ["`ring_bytes` is 1073741825, but must be 0 to 1073741824: a ring that large only hides a slow bolt"]
    );
    assert_eq!(
        faults(|s| s.components[2].tick_ms = Some(0)),
        [
            "`tick_ms` is 0 for component `count`, but must be 1 to 86400000: a tick needs a period, and one beyond a day is a \
          schedule; leave it out for no ticks"
        ]
    );
    assert_eq!(
        faults(|s| s.components[2].burst_bytes = u64::MAX),
        [
            "`burst_bytes` is 18446744073709551615 for component `count`, but must be 0 to 1099511627776: it is memory one \
          executor may take in one call; emit less per call"
        ]
    );
}

#[test]
fn buffers_hold_at_least_a_batch() {
    assert_eq!(
        faults(|s| s.config.credit_bytes = 65535),
        [
            "`credit_bytes` is 65535, but must be at least 65536 (one batch): with less, a link could not send even one full \
          batch; raise it, or lower the batch size"
        ]
    );
    assert_eq!(
        faults(|s| s.config.ring_bytes = 65535),
        [
            "`ring_bytes` is 65535, but must be at least 65536 (four times `batch_bytes`): a batch needs room beside the one \
          being read, also at the ring's end; raise it, or lower the batch size"
        ]
    );
    assert_eq!(
        faults(|s| s.components[2].burst_bytes = 0),
        [
            "`burst_bytes` is 0 for component `count`, but must be at least 65536 (one batch): what a call emits beyond its room \
          is kept by the batch; raise it, or lower the batch size"
        ]
    );
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_spec() {
    let faults = faults(|s| {
        s.name = "a b".into();
        s.components[1].tasks = 0;
        s.components[2].placement = Placement::SideThread;
        s.config.key_groups = 0;
        s.subscriptions[0].grouping = Grouping::Direct;
    });
    let begins: Vec<&str> = faults.iter().map(|fault| &fault[..16]).collect();
    assert_eq!(
        begins,
        ["the topology nam", "component `split", "`key_groups` is ", "`split` reads `l", "`count` groups `"]
    );
}

#[test]
fn limits_of_acking_are_checked_and_have_defaults_that_agree() {
    let config = TopologyConfig::default();
    assert_eq!((config.acking(), config.max_pending(), config.max_root_age()), (true, 65_536, 300_000));
    let off = TopologyConfig { ackers: Some(0), ledger_bytes: 640, ..TopologyConfig::default() };
    assert_eq!((off.acking(), off.max_pending()), (false, 10));
    let found = faults(|s| {
        s.config.message_timeout_ms = 0;
        s.config.max_spout_pending = Some(0);
        s.config.ledger_bytes = 63;
    });
    assert_eq!(found.len(), 3, "{found:?}");
    for (fault, setting) in found.iter().zip(["message_timeout_ms", "max_spout_pending", "ledger_bytes"]) {
        assert!(fault.contains(setting), "{fault}");
    }
    let found = faults(|s| (s.config.message_timeout_ms, s.config.max_root_age_ms) = (2_000, Some(1_999)));
    let why = "a root that comes of age first never times out; leave it out for ten times as long";
    assert_eq!(found, [format!("`max_root_age_ms` is 1999, but must be 2000 to 8640000000: {why}")]);
}
