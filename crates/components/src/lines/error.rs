//! What can go wrong while lines are read, each with the path, the cause and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// Why lines could not be read. All variants are final: the input cannot be read whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// An option is out of its range; carries the sentence that says so.
    #[error("{0}")]
    Options(String),
    /// A path that was named does not exist or may not be looked at.
    #[error("cannot find {}: {cause}; {}", path.display(), remedy(path, cause))]
    Find {
        /// The path as it was named or found.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A path that was named is neither a file nor a folder.
    #[error(
        "{} is neither a file nor a folder, and input is read in parts by several tasks; \
         write it to a file and name that", path.display()
    )]
    NoFile {
        /// The path as it was named.
        path: PathBuf,
    },
    /// A folder could not be listed.
    #[error("cannot list the folder {}: {cause}; {}", path.display(), remedy(path, cause))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file that lists the input could not be read.
    #[error("cannot read the list {}: {cause}; {}", path.display(), remedy(path, cause))]
    List {
        /// The file after the `@`.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be opened.
    #[error("cannot open {}: {cause}; {}", path.display(), remedy(path, cause))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Reading an open file failed.
    #[error("cannot read {} at byte {offset}: {cause}; {}", path.display(), remedy(path, cause))]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the system said.
        cause: io::Error,
    },
    /// A file became shorter while it was read, so its lines are of no one state of it.
    #[error(
        "{} shrank from {expected} to {found} bytes while it was read; \
         read a copy, or a file that nothing truncates", path.display()
    )]
    Shrank {
        /// The file.
        path: PathBuf,
        /// Its length when it was opened, bytes.
        expected: u64,
        /// Where it ends now, bytes.
        found: u64,
    },
    /// One word does not fit into a tuple.
    #[error(
        "the word at byte {offset} of {} is longer than {limit} bytes, the limit of a line's tuple; \
         raise the limit (`line_bytes_max` of the lines, `max_tuple_bytes` of the topology) \
         or leave the file out", path.display()
    )]
    WordTooLong {
        /// The file.
        path: PathBuf,
        /// Where the word starts; for a line that is not UTF-8, where its line starts.
        offset: u64,
        /// The limit that it exceeds, bytes.
        limit: usize,
    },
}

impl ReadError {
    /// Whether something is not there: perhaps not yet, perhaps not any more.
    pub(crate) fn is_not_found(&self) -> bool {
        use ReadError::{Find, Folder, Open};
        matches!(self, Find { cause, .. } | Folder { cause, .. } | Open { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }
}

/// What the reader of the message can do about an error of the system.
fn remedy(path: &Path, cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound if path.is_relative() => match std::env::current_dir() {
            Ok(folder) => format!("check the path, which starts at {}", folder.display()),
            Err(_) => "check the path".to_owned(),
        },
        io::ErrorKind::NotFound => "check the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "make it readable for this user (`chmod a+r`, for a folder `a+rx`) or leave it out".to_owned()
        }
        io::ErrorKind::InvalidData => "a list has one path a line and is UTF-8".to_owned(),
        _ => "leave it out, or repair what it lies on".to_owned(),
    }
}
