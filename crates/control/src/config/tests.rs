use super::*;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

fn of(file: PathBuf) -> Sources {
    Sources { file: Some(file), ..Sources::default() }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn the_table_is_in_order_and_its_defaults_are_valid() {
    assert!(KEYS.is_sorted_by_key(|key| key.name));
    for key in KEYS {
        assert!(key.default.is_empty() || check(key, key.default).is_ok(), "{}", key.name);
        assert!(!key.default.is_empty() || matches!(key.kind, Kind::Text | Kind::List), "{}", key.name);
        assert_eq!(find(key.name).unwrap().name, key.name);
    }
    let mut variables: Vec<String> = KEYS.iter().map(|key| variable(key.name)).collect();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), KEYS.len(), "each variable sets one key");
}

#[test]
fn later_sources_count_more_and_each_value_knows_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        write(folder.path(), "squall.yaml", "# a cluster\nsupervisor:\n  slots: 8\n  id: a\nnimbus.kill-wait: 5s\n");
    write(folder.path(), "conf.d/20.yaml", "supervisor.id: c\n");
    write(folder.path(), "conf.d/10.yaml", "supervisor: {id: b, memory: 2GiB}\nzookeeper:\n  servers: [x:1, y:2]\n");
    write(folder.path(), "conf.d/readme", "not: read\n");
    let mut sources = of(file.clone());
    sources.folder = Some(folder.path().join("conf.d"));
    sources.environment = owned(&[("SQUALL_CONFIG_SUPERVISOR_SLOTS", "9"), ("SQUALL_IO", "epoll"), ("PATH", "/bin")]);
    sources.flags = vec![("log.level".into(), "debug".into(), "--log-level".into())];
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.integer("supervisor.slots"), config.text("supervisor.id")), (9, Some("c")));
    assert_eq!(config.duration("nimbus.kill-wait"), Duration::from_secs(5));
    assert_eq!(config.bytes("supervisor.memory"), 2 << 30);
    assert_eq!(config.list("zookeeper.servers"), ["x:1", "y:2"]);
    assert_eq!((config.text("log.level"), config.text("api.token-file")), (Some("debug"), None));
    assert!(!config.flag("api.insecure"));
    assert_eq!(*config.origin("nimbus.kill-wait"), Origin::File(file.clone(), 5));
    assert_eq!(*config.origin("supervisor.slots"), Origin::Environment("SQUALL_CONFIG_SUPERVISOR_SLOTS".into()));
    assert_eq!(*config.origin("log.level"), Origin::Flag("--log-level".into()));
    assert_eq!(*config.origin("data-dir"), Origin::Default);
    let shown = config.show(true);
    assert!(shown.contains(&format!("# {}:5", file.display())) && shown.contains("20.yaml:1"), "{shown}");
    assert_eq!(shown.lines().count(), KEYS.len());
}

#[test]
fn unknown_keys_and_bad_values_are_all_reported_with_their_line_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let text = "supervisor:\n  slot: 4\n  cores: many\nnimbus.schedular: even\nlog.level: inof\nnothing.like.it: 1\nslots: 3\n\
                nimbus.grace: 5\nnimbus.grace: 5s\n";
    let mut sources = of(write(folder.path(), "squall.yaml", text));
    sources.environment = owned(&[("SQUALL_CONFIG_SUPERVISOR_SLOT", "4")]);
    let errors = Config::load(&sources).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let has = |line: &str, what: &str| {
        assert!(texts.iter().any(|t| t.contains(line) && t.contains(what)), "{line} {what}: {texts:#?}")
    };
    has("squall.yaml:2", "did you mean supervisor.slots?");
    has("squall.yaml:3", "whole number from 0 to 4096");
    has("squall.yaml:4", "did you mean nimbus.scheduler?");
    has("squall.yaml:5", "did you mean info?");
    has("squall.yaml:6", "`squall config show` lists all");
    has("squall.yaml:7", "did you mean supervisor.slots?");
    has("squall.yaml:8", "write 500ms");
    has("squall.yaml:9", "was set in line 8 already");
    has("$SQUALL_CONFIG_SUPERVISOR_SLOT", "did you mean SQUALL_CONFIG_SUPERVISOR_SLOTS?");
    assert_eq!(errors.len(), 9);
}

#[test]
fn what_is_no_map_is_refused_and_an_empty_file_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (text, what) in [
        ("- a\n", "map of keys"),
        ("a: [b\n", "not YAML"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("a: 1\n---\nb: 2\n", "second document"),
    ] {
        let errors = Config::load(&of(write(folder.path(), "bad.yaml", text))).unwrap_err();
        assert!(errors.iter().any(|e| e.what.contains(what)), "{text}: {errors:?}");
    }
    for text in ["", "# nothing\n", "---\n"] {
        Config::load(&of(write(folder.path(), "empty.yaml", text))).unwrap();
    }
    assert!(Config::load(&of(folder.path().join("none.yaml"))).is_err(), "a file that was named must exist");
    Config::load(&Sources { folder: Some(folder.path().join("none.d")), ..Sources::default() }).unwrap();
}

#[test]
fn secrets_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let sources = of(write(folder.path(), "squall.yaml", "zookeeper.digest: user:canary\n"));
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.text("zookeeper.digest"), Some("user:canary"));
    assert!(!config.show(true).contains("canary") && config.show(false).contains("zookeeper.digest: (set)"));
}

#[test]
fn times_and_sizes_have_units() {
    assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
    assert_eq!(parse_duration("1h"), parse_duration("60m"));
    for bad in ["", "5", "s", "1.5s", "-1s", "5 years", "99999999999999999999s"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
    assert_eq!((parse_bytes("4096"), parse_bytes("1KiB")), (Some(4096), Some(1024)));
    for bad in ["", "KB", "1KB", "-1", "99999999TiB"] {
        assert_eq!(parse_bytes(bad), None, "{bad}");
    }
}
