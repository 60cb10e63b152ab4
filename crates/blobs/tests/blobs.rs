//! What a store of blobs promises, on each way to write.

use std::io;
use std::path::Path;

use squall_blobs::{Begin, BlobError, BlobStore, Disk, DiskFile, Hash, Limits, PlainDisk, UploadId, best_disk};

fn small() -> Limits {
    Limits { blob: 10_000, chunk: 1000, uploads: 3 }
}

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn begin(store: &BlobStore, hash: Hash, size: u64) -> UploadId {
    match store.begin(hash, size).unwrap() {
        Begin::Send { upload, chunk: 1000 } => upload,
        other => panic!("{other:?}"),
    }
}

fn send(store: &BlobStore, bytes: &[u8]) -> Hash {
    let hash = Hash::of(bytes);
    let upload = begin(store, hash, bytes.len() as u64);
    for (at, chunk) in bytes.chunks(1000).enumerate() {
        store.chunk(upload, at as u64 * 1000, chunk.to_vec()).unwrap();
    }
    assert_eq!(store.finish(upload).unwrap(), hash);
    hash
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// What there is here: plain calls always, io_uring where the kernel and the build have it.
fn disks() -> Vec<Box<dyn Disk>> {
    let (best, why) = best_disk();
    eprintln!("best: {}, {why:?}", best.name());
    assert_eq!(best.name() == "io_uring", why.is_none());
    vec![Box::new(PlainDisk), best]
}

#[test]
fn a_blob_comes_in_chunks_and_is_read_back_and_found_again() {
    for disk in disks() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path(), small(), disk).unwrap();
        let bytes = content(1, 4321);
        let hash = send(&store, &bytes);
        assert_eq!(std::fs::read(store.path(hash).unwrap()).unwrap(), bytes);
        assert_eq!(store.read(hash, 4000, 1000).unwrap(), (bytes[4000..].to_vec(), 4321));
        assert_eq!(store.read(hash, 9000, 10).unwrap(), (Vec::new(), 4321));
        assert!(matches!(store.read(hash, 0, 1001), Err(BlobError::TooLarge { .. })));
        store.verify(hash).unwrap();
        // A blob of nothing is one, too.
        let empty = send(&store, &[]);
        drop(store);
        let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
        let mut all = vec![hash, empty];
        all.sort();
        assert_eq!(store.list().unwrap(), all);
        store.remove(hash).unwrap();
        store.remove(hash).unwrap();
        assert!(matches!(store.path(hash), Err(BlobError::Missing { .. })));
    }
}

#[test]
fn what_is_there_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
    let bytes = content(2, 100);
    let hash = Hash::of(&bytes);
    // Two at once: the second to end finds the place taken by the same bytes.
    let (a, b) = (begin(&store, hash, 100), begin(&store, hash, 100));
    for upload in [a, b] {
        store.chunk(upload, 0, bytes.clone()).unwrap();
        assert_eq!(store.finish(upload).unwrap(), hash);
    }
    assert_eq!(store.begin(hash, 100).unwrap(), Begin::Known);
    assert_eq!(store.list().unwrap(), [hash]);
}

#[test]
fn what_is_not_what_was_announced_is_thrown_away() {
    for disk in disks() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path(), small(), disk).unwrap();
        let bytes = content(3, 1500);
        let wrong = begin(&store, Hash::of(b"else"), 1500);
        store.chunk(wrong, 0, bytes[..1000].to_vec()).unwrap();
        store.chunk(wrong, 1000, bytes[1000..].to_vec()).unwrap();
        assert!(matches!(store.finish(wrong), Err(BlobError::Mismatch { .. })));
        assert!(matches!(store.finish(wrong), Err(BlobError::NoUpload(_))));
        let short = begin(&store, Hash::of(&bytes), 1500);
        store.chunk(short, 0, bytes[..1000].to_vec()).unwrap();
        let why = store.finish(short).unwrap_err().to_string();
        assert!(why.contains("1000 of 1500 bytes"), "{why}");
        let given_up = begin(&store, Hash::of(&bytes), 1500);
        store.abort(given_up);
        assert_eq!((store.list().unwrap().len(), files(&folder.path().join("partial"))), (0, 0));
    }
}

#[test]
fn a_chunk_out_of_order_or_beyond_a_limit_is_refused_and_the_upload_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
    let bytes = content(4, 1200);
    let upload = begin(&store, Hash::of(&bytes), 1200);
    assert!(matches!(store.chunk(upload, 5, vec![0; 5]), Err(BlobError::Offset { has: 0, at: 5 })));
    assert!(matches!(store.chunk(upload, 0, vec![0; 1001]), Err(BlobError::TooLarge { .. })));
    assert_eq!(store.chunk(upload, 0, bytes[..1000].to_vec()).unwrap(), 1000);
    // A repeated chunk says where to go on.
    assert!(matches!(store.chunk(upload, 0, bytes[..1000].to_vec()), Err(BlobError::Offset { has: 1000, at: 0 })));
    assert!(matches!(store.chunk(upload, 1000, vec![0; 201]), Err(BlobError::TooLarge { .. })));
    assert_eq!(store.chunk(upload, 1000, bytes[1000..].to_vec()).unwrap(), 1200);
    store.finish(upload).unwrap();
    assert!(matches!(store.begin(Hash::of(b"x"), 10_001), Err(BlobError::TooLarge { limit: 10_000, .. })));
    let more: Vec<UploadId> = (0..3).map(|n| begin(&store, Hash::of(&[n]), 1)).collect();
    assert!(matches!(store.begin(Hash::of(b"x"), 1), Err(BlobError::Busy(3))));
    store.abort(more[0]);
    begin(&store, Hash::of(b"x"), 1);
}

#[test]
fn a_crash_leaves_no_half_blob() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(5, 2000);
    {
        let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
        let upload = begin(&store, Hash::of(&bytes), 2000);
        store.chunk(upload, 0, bytes[..1000].to_vec()).unwrap();
    }
    assert_eq!(files(&folder.path().join("partial")), 1);
    let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
    assert_eq!((store.list().unwrap().len(), files(&folder.path().join("partial"))), (0, 0));
    send(&store, &bytes);
}

#[test]
fn a_blob_that_rots_is_put_aside_and_can_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), small(), Box::new(PlainDisk)).unwrap();
    let bytes = content(6, 3000);
    let hash = send(&store, &bytes);
    let mut rotten = bytes.clone();
    rotten[2999] ^= 1;
    std::fs::write(store.path(hash).unwrap(), &rotten).unwrap();
    let Err(BlobError::Damaged { aside, .. }) = store.verify(hash) else { panic!("it was not noticed") };
    assert_eq!(std::fs::read(aside).unwrap(), rotten);
    assert!(!store.has(hash));
    send(&store, &bytes);
    store.verify(hash).unwrap();
}

#[test]
fn a_full_disk_ends_the_upload_with_the_cause_and_keeps_what_is_there() {
    struct Full;
    struct FullFile(u64);
    impl Disk for Full {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            std::fs::write(path, "")?;
            Ok(Box::new(FullFile(0)))
        }
        fn name(&self) -> &'static str {
            "full"
        }
    }
    impl DiskFile for FullFile {
        fn write_at(&mut self, _: u64, bytes: Vec<u8>) -> io::Result<()> {
            self.0 += bytes.len() as u64;
            if self.0 > 1500 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), small(), Box::new(Full)).unwrap();
    let upload = begin(&store, Hash::of(b"x"), 2000);
    store.chunk(upload, 0, vec![0; 1000]).unwrap();
    let why = store.chunk(upload, 1000, vec![0; 1000]).unwrap_err().to_string();
    assert!(why.contains("free some space"), "{why}");
    assert!(matches!(store.finish(upload), Err(BlobError::NoUpload(_))));
    assert_eq!(files(&folder.path().join("partial")), 0);
}

#[test]
fn names_from_outside_are_hashes_and_nothing_else() {
    let good = Hash::of(b"a").to_string();
    assert_eq!(good.parse::<Hash>().unwrap(), Hash::of(b"a"));
    assert_eq!(good, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
    let upper = good.to_uppercase();
    for bad in
        ["", "../../etc/passwd", &good[1..], &upper, &format!("{good}/"), &format!("+{}", &good[1..]), &"é".repeat(32)]
    {
        assert!(matches!(bad.parse::<Hash>(), Err(BlobError::BadName { .. })), "{bad}");
    }
}
