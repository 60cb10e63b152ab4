//! A ZooKeeper server of one's own, from the classes of an installation; it listens on the loopback only and is gone with the value.
//!
//! `SQUALL_ZOOKEEPER_CLASSPATH` says where the classes are; the default is Debian's.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    config: PathBuf,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = folder.path().join("zoo.cfg");
        let data = folder.path().display();
        let text = format!(
            "tickTime=500\nminSessionTimeout=1000\ndataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Server { process: Self::launch(&config, folder.path()), port, config, folder };
        server.wait();
        server
    }

    fn launch(config: &Path, folder: &Path) -> Child {
        let classes = std::env::var("SQUALL_ZOOKEEPER_CLASSPATH")
            .unwrap_or_else(|_| "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar".into());
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        Command::new("java")
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dzookeeper.log.dir=/dev/null", "-cp", &classes])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(config)
            .current_dir(folder)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("java starts")
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "ZooKeeper ended: {}", log());
            assert!(Instant::now() < until, "ZooKeeper does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.process = Self::launch(&self.config, self.folder.path());
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead where a test killed it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
