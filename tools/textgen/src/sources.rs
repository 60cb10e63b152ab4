//! The text files of the packages that a workspace depends on.
//!
//! They are found through `cargo metadata`, so a vendored or moved registry works. The list depends
//! on the lock file only: packages come in order of name and version, the files of each in order of
//! their paths, wherever the registry lies. The workspace's own members are left out, as an edit
//! would change what is counted.
//!
//! Deliberately absent: looking into the files. Whether a file is text is judged by its name; the
//! reader's own test for NUL bytes catches what lies about it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Files of these kinds are text. `.lock` is left out: hashes are no words.
const EXTENSIONS: &[&str] = &[
    "S", "adoc", "asm", "bash", "c", "cc", "cfg", "cpp", "css", "csv", "h", "hpp", "htm", "html", "in", "inc", "ini",
    "js", "json", "md", "markdown", "mjs", "org", "pl", "proto", "ps1", "py", "rs", "rst", "s", "sh", "sql", "stderr",
    "stdout", "toml", "ts", "txt", "wat", "wit", "xml", "yaml", "yml",
];

/// Files whose names start so are text whatever follows (`LICENSE-MIT`, `README.pt-br`).
const NAME_PREFIXES: &[&str] = &[
    "AUTHORS",
    "CHANGELOG",
    "CHANGES",
    "CONTRIBUTING",
    "COPYING",
    "COPYRIGHT",
    "LICENSE",
    "Makefile",
    "NOTICE",
    "README",
    "UNLICENSE",
];

/// A source-text file and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Absolute path if `cargo metadata` gave absolute paths (it does).
    pub path: PathBuf,
    /// Size in bytes when it was listed.
    pub bytes: u64,
}

/// Why the files could not be listed.
#[derive(Debug)]
pub enum SourcesError {
    /// The text is not what `cargo metadata --format-version 1` prints; carries what is wrong.
    Metadata(String),
    /// A folder could not be read.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl std::fmt::Display for SourcesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourcesError::Metadata(what) => {
                write!(f, "{what}: give the output of `cargo metadata --format-version 1`, unchanged")
            }
            SourcesError::Folder { path, cause } => {
                write!(f, "cannot list {}: {cause}; `cargo fetch` restores packages that were removed", path.display())
            }
        }
    }
}

impl std::error::Error for SourcesError {}

/// The text files of all packages in `metadata`, until the next one would exceed `limit` bytes in
/// sum.
///
/// Packages without a source (the members of the workspace), build output and hidden files are left
/// out.
///
/// # Errors
/// When `metadata` is not the output of `cargo metadata --format-version 1`, or a package's folder
/// cannot be read.
pub fn crate_sources(metadata: &str, limit: u64) -> Result<Vec<SourceFile>, SourcesError> {
    let mut files = Vec::new();
    let mut sum = 0u64;
    for root in package_roots(metadata)?.into_values() {
        let mut of_package = Vec::new();
        list_folder(&root, &mut of_package).map_err(|cause| SourcesError::Folder { path: root, cause })?;
        for file in of_package {
            if sum + file.bytes > limit {
                return Ok(files);
            }
            sum += file.bytes;
            files.push(file);
        }
    }
    Ok(files)
}

/// The folder of each package, by (name, version, source), which does not depend on where it lies.
fn package_roots(metadata: &str) -> Result<BTreeMap<(String, String, String), PathBuf>, SourcesError> {
    let wrong = |what: &str| SourcesError::Metadata(what.to_owned());
    let metadata: serde_json::Value =
        serde_json::from_str(metadata).map_err(|e| SourcesError::Metadata(e.to_string()))?;
    let packages = metadata["packages"].as_array().ok_or_else(|| wrong("no list `packages`"))?;
    let mut roots = BTreeMap::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let name = text("name").ok_or_else(|| wrong("a package without `name`"))?;
        let version = text("version").ok_or_else(|| wrong("a package without `version`"))?;
        let manifest =
            text("manifest_path").ok_or_else(|| SourcesError::Metadata(format!("{name} has no `manifest_path`")))?;
        let root = Path::new(&manifest).parent().map(Path::to_owned).unwrap_or_default();
        if let Some(source) = text("source") {
            roots.insert((name, version, source), root);
        }
    }
    Ok(roots)
}

/// Appends the text files of a folder and of those below it, in order of their paths. Symbolic links
/// are not followed: a package has none that matter, and a loop would never end.
fn list_folder(folder: &Path, files: &mut Vec<SourceFile>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() && name != "target" {
            list_folder(&entry.path(), files)?;
        } else if kind.is_file() && is_text_name(&name) {
            files.push(SourceFile { path: entry.path(), bytes: entry.metadata()?.len() });
        }
    }
    Ok(())
}

fn is_text_name(name: &OsStr) -> bool {
    // A list of paths has one path a line and is UTF-8.
    let Some(name) = name.to_str().filter(|n| !n.contains('\n')) else {
        return false;
    };
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS.contains(&extension) || NAME_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        /// Two packages whose folders lie in the opposite order of their names, and a member.
        fn with_two_packages(test: &str) -> Folder {
            let root = std::env::temp_dir().join(format!("textgen-{test}-{}", std::process::id()));
            for (file, bytes) in [
                ("1/Cargo.toml", 10),
                ("1/src/lib.rs", 100),
                ("1/src/art.png", 1000),
                ("1/target/debug/x.rs", 1000),
                ("1/.hidden/x.rs", 1000),
                ("2/Cargo.toml", 20),
                ("2/LICENSE-MIT", 200),
                ("2/a.txt", 2),
                ("2/a/b.md", 3),
                ("member/src/main.rs", 5),
            ] {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, vec![b'x'; bytes]).unwrap();
            }
            Folder(root)
        }

        fn metadata(&self) -> String {
            let package = |name: &str, folder: &str, source: Option<&str>| {
                serde_json::json!({ "name": name, "version": "1.0.0", "source": source,
                    "manifest_path": self.0.join(folder).join("Cargo.toml") })
            };
            serde_json::json!({ "packages": [
                package("zebra", "1", Some("registry+x")), package("ant", "2", Some("git+y")),
                package("member", "member", None)] })
            .to_string()
        }

        fn list(&self, limit: u64) -> Vec<(String, u64)> {
            let files = crate_sources(&self.metadata(), limit).unwrap();
            let name = |file: &SourceFile| file.path.strip_prefix(&self.0).unwrap().display().to_string();
            files.iter().map(|f| (name(f), f.bytes)).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn text_files_come_by_package_name_then_path() {
        let folder = Folder::with_two_packages("order");
        let list = folder.list(u64::MAX);
        let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["2/Cargo.toml", "2/LICENSE-MIT", "2/a/b.md", "2/a.txt", "1/Cargo.toml", "1/src/lib.rs"];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_list_ends_before_the_file_that_would_exceed_the_limit() {
        let folder = Folder::with_two_packages("limit");
        assert_eq!(folder.list(225).len(), 4);
        assert_eq!(folder.list(224).len(), 3);
        assert_eq!(folder.list(0).len(), 0);
    }

    #[test]
    fn text_that_is_no_metadata_is_refused_with_the_command_that_makes_it() {
        for text in ["", "{}", "{\"packages\": [{}]}"] {
            let error = crate_sources(text, 1).unwrap_err().to_string();
            assert!(error.contains("cargo metadata --format-version 1"), "{error}");
        }
    }

    #[test]
    fn a_package_that_is_gone_is_named() {
        let folder = Folder::with_two_packages("gone");
        let metadata = folder.metadata();
        std::fs::remove_dir_all(folder.0.join("2")).unwrap();
        let error = crate_sources(&metadata, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("2: ") && error.contains("cargo fetch"), "{error}");
    }
}
