//! Programs that must not compile, and what the compiler then says.
//!
//! Each file in `tests/compile_fail` is checked as a program of its own, in a crate that depends on ours by path, as an
//! author's crate would. It must fail, and every phrase in a `//~ phrase` comment must appear in what the compiler
//! prints: phrases, not whole outputs, so that another compiler's wording elsewhere changes nothing. Programs in
//! `tests/compile_pass` must compile without a warning; they show that the crate itself is sound, so that a failure
//! above is the file's own.
//!
//! Nothing is downloaded: the crate takes the workspace's lock file and `--offline`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Case {
    name: String,
    phrases: Vec<String>,
}

fn cases(kind: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind);
    let mut cases: Vec<Case> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .map(|path| Case {
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            phrases: phrases(&fs::read_to_string(&path).expect("a readable file")),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    cases
}

fn phrases(source: &str) -> Vec<String> {
    source
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("//~ "))
        .map(|phrase| phrase.trim().to_owned())
        .collect()
}

/// The crate that holds all cases as binaries: its dependencies are checked once.
struct Fixture {
    manifest: PathBuf,
    target: PathBuf,
}

impl Fixture {
    fn write(name: &str, cases: &[(&str, &Case)]) -> Fixture {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/");
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail").join(name);
        fs::create_dir_all(&home).expect("a writable target folder");
        let mut manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\nautobins = false\n\n\
             [workspace]\n\n[dependencies]\nsquall = {{ package = \"squall-api\", path = {:?} }}\n",
            crates.join("api")
        );
        for (kind, case) in cases {
            let source =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind).join(&case.name).with_extension("rs");
            manifest += &format!("\n[[bin]]\nname = {:?}\npath = {source:?}\n", case.name);
        }
        fs::write(home.join("Cargo.toml"), manifest).expect("a writable target folder");
        let lock = crates.parent().expect("the workspace").join("Cargo.lock");
        fs::copy(&lock, home.join("Cargo.lock")).expect("the workspace's lock file");
        Fixture {
            manifest: home.join("Cargo.toml"),
            target: Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail").join("target"),
        }
    }

    /// Checks one case; gives the exit status and everything the compiler printed.
    fn check(&self, case: &Case) -> (bool, String) {
        let output = Command::new(env!("CARGO"))
            // From the workspace, so that its cargo configuration (vendored sources, say) holds here as well.
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["check", "--offline", "--quiet", "--color=never", "--bin", &case.name])
            .arg("--manifest-path")
            .arg(&self.manifest)
            .arg("--target-dir")
            .arg(&self.target)
            .output()
            .expect("cargo runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn programs_that_misuse_the_derives_fail_with_a_message_that_says_why() {
    let passing = cases("compile_pass");
    let failing = cases("compile_fail");
    let all: Vec<(&str, &Case)> = passing
        .iter()
        .map(|case| ("compile_pass", case))
        .chain(failing.iter().map(|case| ("compile_fail", case)))
        .collect();
    let fixture = Fixture::write("cases", &all);

    let mut wrong = Vec::new();
    for case in &passing {
        let (compiled, said) = fixture.check(case);
        // Whatever the compiler says of the file names it; warnings of the crates it depends on do not.
        if !compiled || said.contains(&format!("compile_pass/{}.rs", case.name)) {
            wrong.push(format!(
                "compile_pass/{}.rs must compile without a warning; the compiler said:\n{said}",
                case.name
            ));
        }
    }
    // While the crate itself does not compile, every case fails for a reason that is not its own.
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for case in &failing {
        if case.phrases.is_empty() {
            wrong.push(format!("compile_fail/{}.rs has no `//~ phrase` comment", case.name));
            continue;
        }
        let (compiled, said) = fixture.check(case);
        if compiled {
            wrong.push(format!("compile_fail/{}.rs compiled", case.name));
        }
        for phrase in case.phrases.iter().filter(|phrase| !said.contains(phrase.as_str())) {
            wrong.push(format!("compile_fail/{}.rs: the compiler did not say `{phrase}` but:\n{said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
