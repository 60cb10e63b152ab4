//! What the fields of the JSON report mean: the words of the reference, which the stock program writes, and the names that an app's sections cannot
//! have.

/// A name and what it is.
pub(crate) type Field = (&'static str, &'static str);

/// The runner's fields of the report.
pub(crate) const REPORT: &[Field] = &[
    ("report_version", "version of this shape: a field that goes or changes its meaning raises it, a new one does not"),
    ("topology", "name of the topology"),
    ("workers", "number of worker processes"),
    ("end", "`finished`, `interrupted` (a signal) or `failed`"),
    ("error", "the first thing that was wrong, cause and remedy; `null` if nothing was"),
    ("processing_ms", "from the begin to the first result row, or to the end where there are none"),
    ("elapsed_ms", "from the begin until every worker had done its part"),
    ("components", "by component, what its tasks counted, and of a spout its `roots`; see below"),
    (
        "latency_ns",
        "end-to-end latency (spout's emit to the execution at a component without subscribers), as percentiles",
    ),
    ("rate", "tuples executed by all components a second"),
    ("cores", "CPU time of all processes over the processing time"),
    ("rss_bytes", "largest resident size of each worker, by number, and of the `parent`"),
    ("startup_ms", "from the start of the process to the first tuple at an end of the topology"),
    ("io", "I/O driver in use: `io_uring` or `epoll`"),
    ("wait", "wait strategy in use"),
    ("verified", "whether the results were compared and right; `null` if nothing was compared"),
    ("warnings", "what was off, each once"),
    ("back_pressure", "who waited for whom (`waiting`, `on`), and for what `share` of the time, most first"),
    ("counters", "the components' own counters (`Context::counter`), by component and name, summed over tasks"),
    ("gauges", "the components' own gauges (`Context::gauge`), by component and name, summed over tasks"),
    ("histograms_ns", "the components' own histograms (`Context::histogram`), merged over tasks, as percentiles"),
    ("links", "sums over all links and reactors; see below"),
    ("by_link", "one entry for each pair of reactors that exchanged anything; see below"),
    ("per_tuple", "`serializations`, `copies_send`, `copies_receive` and `syscalls` per emitted tuple"),
    ("worker_links", "links between workers: how many through `shm` and `sockets`, and what `pages` the memory has"),
    ("left_over", "by component, tuples that were sent to it and not executed, where a run was cut short"),
];

/// What is counted for each component.
#[cfg(any(test, feature = "yaml"))]
pub(crate) const COMPONENT: &[Field] = &[
    ("tasks", "number of tasks"),
    ("emitted", "tuples emitted, once per emit, however many tasks receive it"),
    ("executed", "tuples executed, once per task that received one"),
    ("acked", "input tuples acknowledged; of a spout, its roots"),
    ("failed", "input tuples failed; of a spout, its roots"),
    ("dropped", "tuples that could not be delivered, by reason"),
    ("moved_bytes", "bytes set aside in memory while the component was paused"),
    ("lost", "failed tuples that belonged to no root, so that nobody emits them again"),
    ("dead_letters", "tuples that ended its executor too often, sent to its dead letters"),
    ("restarts", "times an executor was restarted"),
    ("restart_ns_max", "longest time from a fault to the restart after it, in nanoseconds"),
    ("long_calls", "calls that held their reactor for longer than is right"),
    ("long_call_ns_max", "the longest of them, in nanoseconds"),
];

/// What `roots` has, of a spout that emits with ids.
#[cfg(any(test, feature = "yaml"))]
pub(crate) const ROOTS: &[Field] = &[
    ("begun", "emits with an id"),
    ("acked", "of those: whole trees acknowledged"),
    ("failed", "of those: failed, by reason"),
    ("pending", "of those: neither"),
    ("replayed", "emits of a reliable spout for a tuple that had failed"),
    ("given_up", "tuples that it does not emit again"),
    ("late_acks", "acks and fails that came for roots that had failed already"),
];

/// What is counted for each link.
#[cfg(any(test, feature = "yaml"))]
pub(crate) const LINK: &[Field] = &[
    ("from", "sending reactor, as `plan` numbers them"),
    ("to", "receiving reactor; the sender itself for the local link"),
    ("kind", "`local`, `ring` (same worker), `shm` (same host) or `socket`"),
    ("batches", "batches of tuples that left the sender"),
    ("tuples", "archived tuples in them; one stands for all its tasks on the receiving reactor"),
    ("bytes", "bytes of the batches, headers included"),
    ("copies_send", "tuples copied once more in user space on the way out"),
    ("copies_receive", "tuples copied in user space on the way in"),
    ("serializations", "archives written for the link"),
    ("credit_stalls", "times a component was paused because the link had no room"),
    ("stalled_ns", "nanoseconds those pauses took"),
    ("wakeups_sent", "times the sender rang the receiver's doorbell"),
    ("batch_sizes", "tuples per batch: percentiles, `mean`, and `bins` of `[largest size, batches]`"),
    ("ack_batches", "batches of acks"),
    ("acks", "acks and fails in them, folded"),
];

/// What `links` has beside the sums of [`LINK`].
#[cfg(any(test, feature = "yaml"))]
pub(crate) const LINKS: &[Field] = &[
    ("sleeps", "times a reactor slept in the kernel"),
    ("syscalls", "system calls of the I/O drivers, sleeps included"),
    ("bytes_in", "bytes received from sockets"),
    ("bytes_out", "bytes sent to sockets"),
    ("sends", "send operations on sockets; several batches leave in one"),
    ("zc_sent", "of those: asked the kernel not to copy"),
    ("zc_copied", "of those: copied by the kernel after all"),
    ("refused_batches", "batches of a worker's earlier life that were refused"),
];

/// What a set of percentiles has. Values that too few samples support are `null`.
#[cfg(any(test, feature = "yaml"))]
pub(crate) const PERCENTILES: &[Field] = &[
    ("p50", "median"),
    ("p90", "90 %"),
    ("p99", "99 %"),
    ("p999", "99.9 %"),
    ("p9999", "99.99 %"),
    ("max", "largest sample, rounded up to three digits"),
    ("count", "number of samples"),
];

/// Whether the report has a field of this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    REPORT.iter().any(|(field, _)| *field == name)
}
