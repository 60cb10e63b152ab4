//! Every key there is: name, kind, default, bounds, and what it is for. The reference is made from this table.

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A number from and to, both included.
    Integer(u64, u64),
    /// `500ms`, `2s`, `5m`, `1h`.
    Duration,
    /// `64KiB`, `512MiB`, `2GiB`, or bytes.
    Bytes,
    /// Texts with commas between, or a YAML list.
    List,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// With dots.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// As it would be written. Empty: there is none.
    pub default: &'static str,
    /// For `squall config show` and the reference.
    pub what: &'static str,
    /// Never shown.
    pub secret: bool,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, what: &'static str) -> Key {
    Key { name, kind, default, what, secret: false }
}

const fn secret(name: &'static str, what: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: "", what, secret: true }
}

/// All keys, ascending.
pub const KEYS: &[Key] = &[
    key("api.bind", Kind::Text, "127.0.0.1:8080", "address of nimbus's HTTP interface"),
    key("api.insecure", Kind::Flag, "false", "serves beyond this machine without a token"),
    secret("api.token", "token that requests from other machines carry"),
    key("api.token-file", Kind::Text, "", "file with that token; on one machine it is made with mode 0600"),
    key(
        "coordinator.kind",
        Kind::Choice(&["embedded", "zookeeper"]),
        "embedded",
        "who keeps what the cluster agrees on",
    ),
    key("coordinator.path", Kind::Text, "coordinator.redb", "file of the embedded one, below `data-dir`"),
    key("coordinator.session-timeout", Kind::Duration, "2s", "silence after which a node or a leader counts as lost"),
    key("data-dir", Kind::Text, "/var/lib/squall", "folder of everything that outlives a process"),
    key("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info", "what daemons log"),
    key(
        "nimbus.advertise",
        Kind::Text,
        "",
        "host that others are told for `api.bind` and `nimbus.bind`, where it is not theirs",
    ),
    key("nimbus.bind", Kind::Text, "127.0.0.1:6627", "address where supervisors and clients reach nimbus"),
    key("nimbus.grace", Kind::Duration, "3s", "how long a missing node is waited for after a change of leader"),
    key("nimbus.id", Kind::Text, "", "name of this nimbus; the host's name if empty"),
    key("nimbus.isolated", Kind::List, "", "topologies with nodes of their own, as NAME=COUNT"),
    key("nimbus.kill-wait", Kind::Duration, "30s", "how long kill and rebalance wait for pending work"),
    key("nimbus.scheduler", Kind::Choice(&["even", "isolation"]), "even", "how executors are placed"),
    key("nimbus.servers", Kind::List, "127.0.0.1:6627", "where clients look for nimbus"),
    key(
        "supervisor.advertise",
        Kind::Text,
        "",
        "address that other nodes are told, where it is not the one of `supervisor.bind`",
    ),
    key(
        "supervisor.bind",
        Kind::Text,
        "127.0.0.1:0",
        "address where supervisors of other nodes reach this one; port 0: a free one",
    ),
    key("supervisor.cores", Kind::Integer(0, 4096), "0", "cores that workers may use; 0: all"),
    key("supervisor.id", Kind::Text, "", "name of this node; the host's name if empty"),
    key("supervisor.memory", Kind::Bytes, "0", "memory that workers may use; 0: all"),
    key("supervisor.slots", Kind::Integer(1, 1024), "4", "workers that may run here"),
    key(
        "supervisor.stop-grace",
        Kind::Duration,
        "1s",
        "how long a worker that is to stop may take before it is killed",
    ),
    key("zookeeper.chroot", Kind::Text, "/squall", "node below which everything of this cluster lies"),
    key("zookeeper.create-chroot", Kind::Flag, "true", "makes that node where it is missing"),
    secret("zookeeper.digest", "USER:PASSWORD of ZooKeeper's digest scheme"),
    key("zookeeper.servers", Kind::List, "127.0.0.1:2181", "the ensemble, as HOST:PORT"),
    key(
        "zookeeper.tls-ca",
        Kind::Text,
        "",
        "file with the authorities that signed the servers' certificates; empty: no TLS",
    ),
];

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &KEYS[at])
}

/// The variable that sets a key: `SQUALL_CONFIG_SUPERVISOR_SLOTS`.
pub fn variable(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{}{}", super::ENV_PREFIX, name.chars().map(upper).collect::<String>())
}

/// The name that was probably meant: within a third of its letters.
pub fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.into_iter().map(|name| (distance(word, name), name));
    // A last part alone is meant as often as a slip of a finger.
    let part = |name: &str| name.rsplit('.').next() == Some(word);
    let (away, name) = near.min_by_key(|(away, name)| if part(name) { 0 } else { *away })?;
    (part(name) || away <= word.len().max(3) / 3).then_some(name)
}

/// Insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
