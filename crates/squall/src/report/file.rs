//! `--report FILE`: checked before the run, written whole or not at all.
//!
//! A regular file is written beside its place and renamed, so a reader never sees half a report and a failed write
//! leaves the old one. Devices and pipes cannot be renamed over: they are opened at the start and written directly.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A place that could be written at the start.
#[derive(Debug)]
pub(crate) enum ReportFile {
    /// Written to a temporary file in the same directory, then renamed to this.
    Replace(PathBuf),
    /// A device or pipe, open.
    Direct(PathBuf, File),
}

impl ReportFile {
    /// Checks that `path` can be written, without leaving anything there.
    pub(crate) fn check(path: &Path) -> io::Result<ReportFile> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Ok(meta) if meta.is_file() => {
                // A rename would replace a file that its owner has made read-only, and a link instead of its target.
                OpenOptions::new().write(true).open(path)?;
                Self::check_directory(fs::canonicalize(path)?)
            }
            Ok(_) => Ok(ReportFile::Direct(path.to_owned(), OpenOptions::new().write(true).open(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::check_directory(path.to_owned()),
            Err(error) => Err(error),
        }
    }

    fn check_directory(path: PathBuf) -> io::Result<ReportFile> {
        let temporary = beside(&path)?;
        File::create_new(&temporary)?;
        fs::remove_file(&temporary)?;
        Ok(ReportFile::Replace(path))
    }

    /// Where the report goes.
    pub(crate) fn path(&self) -> &Path {
        match self {
            ReportFile::Replace(path) | ReportFile::Direct(path, _) => path,
        }
    }

    /// Writes the whole report. After an error a regular file is as it was.
    pub(crate) fn write(self, text: &str) -> io::Result<()> {
        match self {
            ReportFile::Direct(_, mut file) => file.write_all(text.as_bytes()),
            ReportFile::Replace(path) => {
                let temporary = beside(&path)?;
                let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
                if written.is_err() {
                    let _ = fs::remove_file(&temporary);
                }
                written
            }
        }
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    // Some file systems find out that they are full only now.
    file.sync_all()
}

/// `.NAME.PID.part` in the same directory: one process writes one report.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.part", std::process::id()));
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("it is a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("it is readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn checking_leaves_nothing_and_writing_leaves_only_the_report() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("report.json");
        let file = ReportFile::check(&path).expect("it can be written");
        assert_eq!(names(dir.path()), [""; 0]);
        file.write("{}\n").expect("there is room");
        assert_eq!(names(dir.path()), ["report.json"]);
        ReportFile::check(&path).expect("it can be replaced").write("{ }\n").expect("there is room");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "{ }\n");
    }

    #[test]
    fn an_unwritable_place_is_refused_at_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = ReportFile::check(dir.path()).expect_err("it is a directory");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = ReportFile::check(&dir.path().join("no/such.json")).expect_err("no such directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(ReportFile::check(Path::new("/proc/report.json")).is_err());
        assert!(ReportFile::check(Path::new("")).is_err());
    }

    #[test]
    fn a_full_device_is_an_error_of_the_write_and_not_of_the_check() {
        let file = ReportFile::check(Path::new("/dev/full")).expect("it opens");
        assert!(matches!(file, ReportFile::Direct(..)));
        assert_eq!(file.write("{}\n").expect_err("it is full").kind(), io::ErrorKind::StorageFull);
        ReportFile::check(Path::new("/dev/null")).expect("it opens").write("{}\n").expect("it takes all");
    }

    #[test]
    fn a_link_keeps_pointing_to_its_target() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target.json"), dir.path().join("link.json"));
        fs::write(&target, "old").expect("there is room");
        symlink(&target, &link).expect("links are allowed");
        ReportFile::check(&link).expect("it can be written").write("new").expect("there is room");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(fs::read_to_string(&target).expect("it is there"), "new");
    }
}
