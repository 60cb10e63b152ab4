//! The pages under `docs/`: the reference is what the code says, every link leads somewhere, every page is in the book, and what
//! the pages show works. Rust in them is tested as documentation (`src/docs.rs`).
//!
//! `SQUALL_GOLDEN=write cargo test -p squall --test docs` writes the reference and the lists of decisions anew.
#![cfg(all(feature = "yaml", feature = "http", feature = "sqlite", not(feature = "parquet")))]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(page: &Path) -> std::path::Display<'_> {
    page.strip_prefix(top()).unwrap_or(page).display()
}

fn write_anew() -> bool {
    std::env::var_os("SQUALL_GOLDEN").is_some_and(|value| value == "write")
}

/// Each decision is a page of the book and in the list of decisions, in the order of their numbers.
#[test]
fn the_lists_of_decisions_are_whole() {
    const IN_SUMMARY: &str = "- [Decisions](decisions/README.md)\n";
    const IN_README: &str = "A decision that a later one replaces says so.\n\n";
    let decisions = top().join("docs/decisions");
    let entries: Vec<(String, String)> = pages(&decisions)
        .iter()
        .filter(|page| !page.ends_with("README.md"))
        .map(|page| {
            let title = read(page).lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
            (title, page.file_name().expect("a file").to_string_lossy().into_owned())
        })
        .collect();
    let lists = [
        (top().join("docs/SUMMARY.md"), IN_SUMMARY, "  - ", "decisions/"),
        (decisions.join("README.md"), IN_README, "- ", ""),
    ];
    for (page, before, bullet, folder) in lists {
        let text = read(&page);
        let (head, _) = text.split_once(before).expect("the list's heading");
        let list: String = entries.iter().map(|(title, file)| format!("{bullet}[{title}]({folder}{file})\n")).collect();
        let whole = format!("{head}{before}{list}");
        if write_anew() {
            std::fs::write(&page, whole).expect("written");
        } else {
            assert!(
                text == whole,
                "{} lacks a decision; SQUALL_GOLDEN=write cargo test -p squall --test docs adds it",
                name(&page)
            );
        }
    }
}

#[test]
fn the_reference_is_what_the_code_says() {
    let write = write_anew();
    for (name, text) in squall::stock_reference() {
        let path = top().join("docs/reference").join(name);
        if write {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, text).expect("written");
        } else {
            let hint = "SQUALL_GOLDEN=write cargo test -p squall --test docs writes it anew";
            assert!(read(&path) == text, "docs/reference/{name} is out of date; {hint}");
        }
    }
}

#[test]
fn the_reference_has_every_counter_of_the_stock_components() {
    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { sources(&path, text) } else { text.push_str(&read(&path)) }
        }
    }
    let mut text = String::new();
    sources(&top().join("crates/components/src"), &mut text);
    text.push_str(&read(&top().join("crates/api/src/replay.rs")));
    let mut made: BTreeSet<&str> =
        text.split("ctx.counter(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    // The report has them with the roots of each spout.
    assert!(made.remove("replayed") && made.remove("given_up"), "{made:?}");
    let told: BTreeSet<&str> = squall::components::COUNTERS.iter().map(|(_, name, _)| *name).collect();
    assert!(made.len() > 10, "{made:?}");
    assert_eq!(made, told);
}

/// Lines outside of code blocks, and the blocks: language and text.
fn parts(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a code block is not closed");
    (prose, blocks)
}

/// Targets of links and pictures in prose; code in backquotes has none.
fn links(prose: &str) -> Vec<String> {
    let without_code: String = prose.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let ends = without_code.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    ends.map(str::to_owned).collect()
}

/// Anchors of a page's headings, as mdBook and others make them.
fn anchors(prose: &str) -> BTreeSet<String> {
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

/// What is wrong with the links of a page. Those of the book stay in the book: it is read without the repository.
fn wrong_links(page: &Path, in_book: bool) -> Vec<String> {
    let (prose, _) = parts(&read(page));
    let mut wrong = Vec::new();
    for link in links(&prose) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
        let target = if path.is_empty() { page.to_owned() } else { plain(&page.with_file_name("").join(path)) };
        if !target.exists() {
            wrong.push(format!("{}: `{link}` leads nowhere", name(page)));
        } else if in_book && !target.starts_with(top().join("docs")) {
            wrong.push(format!("{}: `{link}` leads out of the book", name(page)));
        } else if let Some(anchor) = anchor
            && !anchors(&parts(&read(&target)).0).contains(anchor)
        {
            wrong.push(format!("{}: `{link}` has no such heading", name(page)));
        }
    }
    wrong
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong: Vec<String> = pages(&top().join("docs")).iter().flat_map(|page| wrong_links(page, true)).collect();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        wrong.extend(wrong_links(&top().join(page), false));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_book() {
    let summary = top().join("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        links(&read(&summary)).iter().map(|link| plain(&summary.with_file_name("").join(link))).collect();
    let there: BTreeSet<PathBuf> = pages(&top().join("docs")).into_iter().filter(|page| *page != summary).collect();
    assert_eq!(there.difference(&listed).collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "not in docs/SUMMARY.md");
    assert_eq!(listed.difference(&there).collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "in docs/SUMMARY.md only");
}

/// Runs a page's console blocks in one folder, in order, and compares what they print. A line `…` stands for any lines. Blocks
/// of YAML whose first comment is `# file: NAME` are that file from there on.
struct Walk {
    folder: tempfile::TempDir,
    at: PathBuf,
}

impl Walk {
    fn new() -> Walk {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().to_owned();
        Walk { folder, at }
    }

    fn block(&mut self, language: &str, block: &str, page: &str) {
        match language {
            "console" => self.console(block, page),
            "yaml" => {
                let first = block.lines().next().unwrap_or_default();
                if let Some(name) = first.strip_prefix("# file: ") {
                    std::fs::write(self.at.join(name), block).expect("written");
                }
            }
            _ => {}
        }
    }

    fn console(&mut self, block: &str, page: &str) {
        let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, Vec::new())),
                (None, Some((_, shown))) => shown.push(line),
                (None, None) => panic!("{page}: a console block begins with a command"),
            }
        }
        for (command, shown) in commands {
            if let Some(folder) = command.strip_prefix("cd ") {
                self.at.push(folder);
                continue;
            }
            let bin = Path::new(env!("CARGO_BIN_EXE_squall")).parent().expect("a folder");
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
            // As on a terminal, where both are one.
            let out = Command::new("sh")
                .args(["-c", &format!("{{ {command}\n}} 2>&1")])
                .current_dir(&self.at)
                .env("PATH", path)
                .env_remove("SQUALL_IO")
                .stdin(Stdio::null())
                .output()
                .expect("there is a shell");
            let printed = String::from_utf8_lossy(&out.stdout);
            let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
            let here = self.folder.path().display();
            assert!(fits(&shown, &printed), "{page}: in {here}, `{command}` prints\n{}", printed.join("\n"));
        }
    }
}

/// Whether lines are as shown, where `…` is any number of lines, and within a line any text.
fn fits(shown: &[&str], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=printed.len()).any(|skip| fits(rest, &printed[skip..])),
        Some((first, rest)) => printed.split_first().is_some_and(|(line, more)| alike(first, line) && fits(rest, more)),
    }
}

fn alike(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| alike(rest, &line[at..]))
        }),
    }
}

/// The pages whose commands are run: all but the one that needs a compiler, whose crate `stock.rs` builds and runs.
#[test]
fn what_the_pages_show_is_what_happens() {
    for page in ["tutorial/yaml.md", "how-to/read-a-folder.md", "how-to/size-the-buffers.md", "how-to/wait-strategy.md"]
    {
        let mut walk = Walk::new();
        let (_, blocks) = parts(&read(&top().join("docs").join(page)));
        assert!(blocks.iter().any(|(language, _)| language == "console"), "{page} shows no command");
        for (language, block) in blocks {
            walk.block(&language, &block, page);
        }
    }
}

/// Whole topologies in YAML on any page are right; parts of one are parts of a right one by the test of their component.
#[test]
fn topologies_on_the_pages_are_right() {
    let mut checked = 0;
    for page in pages(&top().join("docs")) {
        for (language, block) in parts(&read(&page)).1 {
            if language != "yaml" || !block.contains("\nspouts:") {
                continue;
            }
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("t.yaml");
            std::fs::write(&file, &block).expect("written");
            let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
            let out = squall.args(["validate", "t.yaml"]).current_dir(folder.path()).output().expect("it starts");
            assert!(out.status.success(), "{}: {}", name(&page), String::from_utf8_lossy(&out.stderr));
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn pictures_are_well_formed_and_stand_by_themselves() {
    for entry in std::fs::read_dir(top().join("docs/images")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = read(&path);
        let mut open = Vec::new();
        for tag in text.split('<').skip(1) {
            let tag = tag.split('>').next().expect("a tag ends");
            let word =
                tag.trim_start_matches('/').split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
            match tag {
                _ if tag.starts_with(['?', '!']) || tag.ends_with('/') => {}
                _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(word), "{}", name(&path)),
                _ => open.push(word),
            }
        }
        assert!(open.is_empty() && text.contains("<svg "), "{}", name(&path));
        assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("http"), "{}", name(&path));
    }
}

#[test]
fn shown_lines_stand_for_what_is_printed() {
    assert!(fits(&["a … c", "…", "z"], &["a b c", "x", "y", "z"]) && fits(&["…"], &[]));
    assert!(!fits(&["a"], &["a", "b"]) && !fits(&["a … c"], &["a b d"]) && !fits(&["a"], &[]));
}
