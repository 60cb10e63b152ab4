//! What lets a nimbus that stands by lead as well: it keeps the artifacts that the leader has.
//!
//! A standby asks the leader again and again for what there is, fetches what it lacks, and says with the next question how far it got. So a leader
//! knows the standbys that keep up, and answers a submission when they have its artifact too: what was accepted can be run by whoever leads next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use squall_blobs::BlobStore;
use squall_control::Role;

use super::Log;
use super::client::{Client, download};
use super::nimbus::Handle;

/// Between two questions of a standby.
const EVERY: Duration = Duration::from_millis(250);
/// A standby that was not heard of for so long is not waited for.
const SILENT: Duration = Duration::from_secs(2);
/// How long a submission waits for standbys, at most.
const WAIT: Duration = Duration::from_secs(5);
/// Artifacts that are listed before their topology is.
const RECENT: usize = 64;

/// The standbys of a leader.
#[derive(Clone, Default)]
pub(crate) struct Standbys(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// How many artifacts were announced.
    announced: u64,
    recent: VecDeque<String>,
    /// By instance: when it asked last, and how many it had then.
    standbys: BTreeMap<String, (Instant, u64)>,
}

impl Standbys {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A standby asks. How many were announced so far, and the last of them.
    pub(crate) fn asked(&self, instance: &str, has: u64, now: Instant) -> (u64, BTreeSet<String>) {
        let mut known = self.lock();
        known.standbys.retain(|_, (at, _)| now.saturating_duration_since(*at) < SILENT);
        known.standbys.insert(instance.to_owned(), (now, has));
        (known.announced, known.recent.iter().cloned().collect())
    }

    /// Announces artifacts.
    fn announce(&self, blobs: &[String]) {
        let mut known = self.lock();
        for blob in blobs {
            known.announced += 1;
            known.recent.push_back(blob.clone());
        }
        let over = known.recent.len().saturating_sub(RECENT);
        known.recent.drain(..over);
    }

    /// Whether a standby that is there lacks something.
    fn behind(&self, now: Instant) -> bool {
        let known = self.lock();
        let there = |at: &Instant| now.saturating_duration_since(*at) < SILENT;
        known.standbys.values().any(|(at, has)| there(at) && *has < known.announced)
    }

    /// Announces artifacts and waits until the standbys that are there have them. Whether they do: one that is slow or hangs is not waited for
    /// for ever.
    pub(crate) async fn have(&self, blobs: &[String]) -> bool {
        self.announce(blobs);
        let until = Instant::now() + WAIT;
        while self.behind(Instant::now()) {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

/// Keeps up with whoever leads, for as long as somebody polls it.
pub(crate) async fn keep_up(nimbus: Handle, store: Arc<BlobStore>, token: String, instance: String, log: Log) {
    let (mut has, mut of, mut said) = (0, String::new(), String::new());
    loop {
        tokio::time::sleep(EVERY).await;
        let Role::Following(leader) = nimbus.standing().role else { continue };
        if leader.instance != of {
            (has, of) = (0, leader.instance.clone());
        }
        let (store, token, instance) = (store.clone(), token.clone(), instance.clone());
        let address = leader.address.clone();
        let round = tokio::task::spawn_blocking(move || round(&address, &token, &store, &instance, has));
        match round.await {
            Ok(Ok(count)) => {
                has = count;
                said.clear();
            }
            Ok(Err(why)) if why != said => {
                log(&format!("artifacts of {}, which leads, cannot be kept: {why}; trying on", leader.address));
                said = why;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Asks once and fetches what is missing. How many of the announced ones are here then.
fn round(address: &str, token: &str, store: &BlobStore, instance: &str, has: u64) -> Result<u64, String> {
    let client = Client::at(address, token);
    let list = client.get(&format!("/api/v2/blobs?standby={instance}&has={has}"));
    let list = list.map_err(|error| error.to_string())?;
    for hash in list["blobs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        download(address, token, store, hash)?;
    }
    list["announced"].as_u64().ok_or_else(|| "it does not say how many there are".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_waits_for_standbys_that_are_there_and_lack_its_artifact() {
        let (standbys, start) = (Standbys::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!standbys.behind(at(0)), "there is none");
        standbys.asked("a", 0, at(0));
        standbys.announce(&["x".into()]);
        assert!(standbys.behind(at(1)));
        let (announced, blobs) = standbys.asked("a", 0, at(100));
        assert_eq!((announced, blobs), (1, BTreeSet::from(["x".to_owned()])));
        standbys.asked("a", announced, at(200));
        assert!(!standbys.behind(at(200)), "it has it");
        standbys.announce(&["y".into()]);
        assert!(standbys.behind(at(2199)));
        assert!(!standbys.behind(at(2200)), "it is gone");
        (0..100).for_each(|n| standbys.announce(&[n.to_string()]));
        assert_eq!(standbys.asked("b", 0, at(3000)).1.len(), RECENT);
    }
}
