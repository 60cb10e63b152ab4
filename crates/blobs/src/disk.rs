//! How bytes get to a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A file that is being written.
pub trait DiskFile: Send {
    /// Writes all of it at an offset.
    ///
    /// # Errors
    /// The disk's.
    fn write_at(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()>;

    /// All that was written is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's: then nothing is known of what was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// Makes files to write to.
pub trait Disk: Send + Sync {
    /// Makes a file that must not exist, readable by its owner only.
    ///
    /// # Errors
    /// The disk's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// For reports: `io_uring` or `plain`.
    fn name(&self) -> &'static str;
}

/// Plain blocking calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDisk;

impl Disk for PlainDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
        Ok(Box::new(PlainFile(file)))
    }

    fn name(&self) -> &'static str {
        "plain"
    }
}

struct PlainFile(File);

impl DiskFile for PlainFile {
    fn write_at(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.0.write_all_at(&bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The best there is, and if that is not io_uring, why.
pub fn best_disk() -> (Box<dyn Disk>, Option<String>) {
    #[cfg(feature = "uring")]
    return match crate::UringDisk::start() {
        Ok(disk) => (Box::new(disk), None),
        Err(error) => (Box::new(PlainDisk), Some(format!("io_uring cannot be used here: {error}"))),
    };
    #[cfg(not(feature = "uring"))]
    (Box::new(PlainDisk), Some("this program was built without io_uring for files".into()))
}
