//! Finds the files of an input, in an order that depends on names only.
//!
//! Inputs come in the order given. A folder is walked depth first, its entries sorted by name, which
//! is the order of the paths compared part by part. Hidden files are files. Below a folder only plain
//! files are read, links to plain files included; links to folders (they may loop), sockets, pipes,
//! devices and dangling links are passed over and counted. A path that was named itself must be a file
//! or a folder.
//!
//! The walk is lazy: one folder is listed at a time, so a huge tree costs no memory and no start-up
//! time.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::error::ReadError;

/// A path to read from: a file, a folder, or a file that lists files and folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinesInput {
    /// A file, or a folder with all files below it.
    Path(PathBuf),
    /// A file that names files or folders, one a line; empty lines are passed over. Relative paths
    /// start at the working directory.
    List(PathBuf),
}

impl LinesInput {
    /// Reads a command line's word: `@FILE` is a list, anything else a path (`./@x` for a file whose
    /// name starts so).
    pub fn from_arg(arg: &str) -> LinesInput {
        match arg.strip_prefix('@') {
            Some(list) => LinesInput::List(list.into()),
            None => LinesInput::Path(arg.into()),
        }
    }
}

impl From<&str> for LinesInput {
    fn from(arg: &str) -> LinesInput {
        LinesInput::from_arg(arg)
    }
}

impl From<String> for LinesInput {
    fn from(arg: String) -> LinesInput {
        LinesInput::from_arg(&arg)
    }
}

impl From<PathBuf> for LinesInput {
    fn from(path: PathBuf) -> LinesInput {
        LinesInput::Path(path)
    }
}

/// A plain file to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Its length in bytes when it was found.
    pub(crate) len: u64,
}

/// Iterator over the files of an input.
#[derive(Debug)]
pub(crate) struct Walk {
    inputs: std::vec::IntoIter<LinesInput>,
    list: Option<List>,
    /// Folders being walked, the innermost last: their entries still to come.
    folders: Vec<std::vec::IntoIter<PathBuf>>,
    skipped_special: u64,
}

#[derive(Debug)]
struct List {
    path: PathBuf,
    lines: io::Lines<BufReader<File>>,
}

impl Walk {
    /// A walk that has not begun.
    ///
    /// # Errors
    /// When one of the inputs does not exist or is no file, so that a typing error shows before anything
    /// runs. The paths in a list show when their turn comes.
    pub(crate) fn new(inputs: Vec<LinesInput>) -> Result<Walk, ReadError> {
        for LinesInput::Path(path) | LinesInput::List(path) in &inputs {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() || metadata.is_dir() => {}
                Ok(_) => return Err(ReadError::NoFile { path: path.clone() }),
                Err(cause) => return Err(ReadError::Find { path: path.clone(), cause }),
            }
        }
        Ok(Walk { inputs: inputs.into_iter(), list: None, folders: Vec::new(), skipped_special: 0 })
    }

    /// Entries of folders passed over so far because they are no plain files.
    pub(crate) fn skipped_special(&self) -> u64 {
        self.skipped_special
    }

    /// The next file; `None` after the last.
    pub(crate) fn next_file(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            let found = if let Some(path) = self.next_in_folders() {
                self.visit_entry(path)?
            } else if let Some(path) = self.next_named()? {
                self.visit_named(path)?
            } else {
                return Ok(None);
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn next_in_folders(&mut self) -> Option<PathBuf> {
        loop {
            match self.folders.last_mut()?.next() {
                Some(path) => return Some(path),
                None => self.folders.pop(),
            };
        }
    }

    /// The next path that the user named, in a list or directly.
    fn next_named(&mut self) -> Result<Option<PathBuf>, ReadError> {
        loop {
            if let Some(list) = &mut self.list {
                match list.lines.next() {
                    Some(Ok(line)) if line.is_empty() => continue,
                    Some(Ok(line)) => return Ok(Some(line.into())),
                    Some(Err(cause)) => {
                        return Err(ReadError::List { path: list.path.clone(), cause });
                    }
                    None => self.list = None,
                }
            }
            match self.inputs.next() {
                Some(LinesInput::Path(path)) => return Ok(Some(path)),
                Some(LinesInput::List(path)) => match File::open(&path) {
                    Ok(file) => self.list = Some(List { path, lines: BufReader::new(file).lines() }),
                    Err(cause) => return Err(ReadError::List { path, cause }),
                },
                None => return Ok(None),
            }
        }
    }

    fn visit_named(&mut self, path: PathBuf) -> Result<Option<Found>, ReadError> {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(cause) => return Err(ReadError::Find { path, cause }),
        };
        if metadata.is_dir() {
            self.enter(&path)?;
            return Ok(None);
        }
        if !metadata.is_file() {
            return Err(ReadError::NoFile { path });
        }
        Ok(Some(Found { path, len: metadata.len() }))
    }

    fn visit_entry(&mut self, path: PathBuf) -> Result<Option<Found>, ReadError> {
        let link = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(cause) => return Err(ReadError::Find { path, cause }),
        };
        if link.is_dir() {
            self.enter(&path)?;
            return Ok(None);
        }
        let metadata = if link.is_symlink() { fs::metadata(&path).ok() } else { Some(link) };
        match metadata.filter(fs::Metadata::is_file) {
            Some(metadata) => Ok(Some(Found { path, len: metadata.len() })),
            None => {
                self.skipped_special += 1;
                Ok(None)
            }
        }
    }

    fn enter(&mut self, folder: &Path) -> Result<(), ReadError> {
        let entries = fs::read_dir(folder)
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>());
        let mut entries = entries.map_err(|cause| ReadError::Folder { path: folder.to_owned(), cause })?;
        entries.sort_unstable();
        self.folders.push(entries.into_iter());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn walked(root: &Path, inputs: Vec<LinesInput>) -> Vec<String> {
        let mut walk = Walk::new(inputs).unwrap();
        let mut names = Vec::new();
        while let Some(found) = walk.next_file().unwrap() {
            assert_eq!(found.len, fs::metadata(&found.path).unwrap().len());
            names.push(found.path.strip_prefix(root).unwrap().display().to_string());
        }
        names
    }

    #[test]
    fn a_folder_is_walked_in_the_order_of_its_paths() {
        let root = tree(&["b", "a.txt", "a/z", "a/b/c", ".hidden", "c/empty/x"]);
        fs::create_dir(root.path().join("nothing")).unwrap();
        let names = walked(root.path(), vec![root.path().to_owned().into()]);
        assert_eq!(names, [".hidden", "a/b/c", "a/z", "a.txt", "b", "c/empty/x"]);
        let mut sorted: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        sorted.sort();
        assert!(sorted.iter().map(|path| path.display().to_string()).eq(names));
    }

    #[test]
    fn inputs_keep_the_order_given_and_a_list_stands_for_its_lines() {
        let root = tree(&["x", "y", "d/1", "d/2"]);
        let at = |name: &str| root.path().join(name).display().to_string();
        let list = tempfile::NamedTempFile::new().unwrap();
        fs::write(list.path(), format!("{}\n\n{}", at("y"), at("d"))).unwrap();
        let inputs = vec![at("d/2").into(), format!("@{}", list.path().display()).into(), at("x").into()];
        assert_eq!(walked(root.path(), inputs), ["d/2", "y", "d/1", "d/2", "x"]);
    }

    #[test]
    fn links_to_files_are_read_and_what_is_no_file_is_passed_over_and_counted() {
        let root = tree(&["real", "sub/x"]);
        symlink(root.path().join("real"), root.path().join("link")).unwrap();
        symlink(root.path(), root.path().join("sub/loop")).unwrap();
        symlink("nowhere", root.path().join("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        let mut walk = Walk::new(vec![root.path().to_owned().into()]).unwrap();
        let mut names = Vec::new();
        while let Some(found) = walk.next_file().unwrap() {
            names.push(found.path.strip_prefix(root.path()).unwrap().display().to_string());
        }
        assert_eq!(names, ["link", "real", "sub/x"]);
        assert_eq!(walk.skipped_special(), 3);
    }

    #[test]
    fn a_missing_input_is_told_before_the_walk_begins() {
        let error = Walk::new(vec!["no/such/file".into()]).unwrap_err().to_string();
        assert!(error.contains("cannot find no/such/file"), "{error}");
        assert!(error.contains("check the path, which starts at /"), "{error}");
    }

    #[test]
    fn a_device_is_refused_with_the_remedy_named_directly_or_in_a_list() {
        let list = tempfile::NamedTempFile::new().unwrap();
        fs::write(list.path(), "/dev/null\n").unwrap();
        let direct = Walk::new(vec!["/dev/null".into()]).unwrap_err();
        let listed = Walk::new(vec![LinesInput::List(list.path().to_owned())]).unwrap().next_file().unwrap_err();
        for error in [direct.to_string(), listed.to_string()] {
            assert!(error.starts_with("/dev/null is neither"), "{error}");
            assert!(error.contains("write it to a file"), "{error}");
        }
    }

    #[test]
    fn a_list_that_is_no_text_is_refused_with_its_name() {
        let list = tempfile::NamedTempFile::new().unwrap();
        fs::write(list.path(), b"\xff\xfe").unwrap();
        let mut walk = Walk::new(vec![LinesInput::List(list.path().to_owned())]).unwrap();
        let error = walk.next_file().unwrap_err().to_string();
        assert!(error.contains(&list.path().display().to_string()), "{error}");
        assert!(error.contains("one path a line"), "{error}");
    }
}
