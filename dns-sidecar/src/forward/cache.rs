// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replies of other servers, kept for as long as they allow, within a bound of memory. Off by default.
//!
//! Kept are whole replies with an answer or a "no" that says how long it holds (RFC 2308 5); never one that was cut, and
//! never a failure. What is told from here has its TTLs reduced by its age (RFC 1035 3.2.1), and is no larger than the
//! client takes: the key has its EDNS. When there is no room, any others make it: what is asked often soon stands here
//! again. Time is handed in.

use super::question::Key;
use crate::wire::{Header, rtype, ttl_places};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The replies that are kept.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    /// Guards the table alone: taken for a look-up and to keep a reply, never over an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// The keys in any order, to take one away by chance.
    keys: Vec<Key>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    reply: Arc<[u8]>,
    since: Instant,
    until: Instant,
    /// Where its key stands.
    at: usize,
}

impl Cache {
    /// With no bytes nothing is kept.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    /// Whether anything is kept.
    pub(super) fn keeps(&self) -> bool {
        self.bytes_max > 0
    }

    /// The reply that holds now, with what is left of its TTLs.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        if self.bytes_max == 0 {
            return None;
        }
        let entry = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.entries
                .get(key)
                .filter(|entry| entry.until > now)?
                .clone()
        };
        let mut reply = entry.reply.to_vec();
        let age = u32::try_from((now - entry.since).as_secs()).unwrap_or(u32::MAX);
        for place in ttl_places(&entry.reply)? {
            let ttl = reply.get_mut(place.at..place.at + 4)?;
            ttl.copy_from_slice(&place.seconds.saturating_sub(age).to_be_bytes());
        }
        Some(reply)
    }

    /// Keeps the reply, if it is one to keep.
    pub(super) fn put(&self, key: &Key, reply: &[u8], now: Instant) {
        let Some(seconds) = lifetime(reply).filter(|seconds| *seconds > 0) else {
            return;
        };
        let cost = cost(key, reply.len());
        if cost > self.bytes_max / 16 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(key);
        while kept.bytes + cost > self.bytes_max {
            let any = fastrand::usize(..kept.keys.len().max(1));
            let Some(gone) = kept.keys.get(any).cloned() else {
                return;
            };
            kept.remove(&gone);
        }
        let entry = Entry {
            reply: reply.into(),
            since: now,
            until: now + Duration::from_secs(seconds.into()),
            at: kept.keys.len(),
        };
        kept.keys.push(key.clone());
        kept.entries.insert(key.clone(), entry);
        kept.bytes += cost;
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        self.bytes -= cost(key, entry.reply.len());
        self.keys.swap_remove(entry.at);
        if let Some(moved) = self.keys.get(entry.at)
            && let Some(moved) = self.entries.get_mut(moved)
        {
            moved.at = entry.at;
        }
    }
}

/// What a reply takes, with its key twice and the table around it.
fn cost(key: &Key, reply_bytes: usize) -> usize {
    reply_bytes + 2 * key.bytes() + ENTRY_BYTES
}

/// For how long a reply may be kept; none for what is not to be kept.
fn lifetime(reply: &[u8]) -> Option<u32> {
    let header = Header::read(reply)?;
    if header.is_truncated() || !matches!(header.rcode(), NO_ERROR | NX_DOMAIN) {
        return None;
    }
    let places = ttl_places(reply)?;
    let is_positive = header.rcode() == NO_ERROR && header.answers() > 0;
    if is_positive {
        let least = places.iter().map(|place| place.seconds).min();
        return least.map(|seconds| seconds.min(TTL_SECONDS_MAX));
    }
    // RFC 2308 5: the SOA's TTL or its last field, whichever is less; without SOA it is not kept.
    let soa = places.iter().find(|place| place.rtype == rtype::SOA)?;
    let minimum = reply.get(soa.data_end.checked_sub(4)?..soa.data_end)?;
    let minimum = u32::from_be_bytes(minimum.try_into().ok()?);
    Some(soa.seconds.min(minimum).min(NEGATIVE_TTL_SECONDS_MAX))
}

const NO_ERROR: u16 = 0;
const NX_DOMAIN: u16 = 3;
/// An hour: nobody wants to wait longer for a change.
const TTL_SECONDS_MAX: u32 = 3_600;
/// A name that was missing is asked for again soon.
const NEGATIVE_TTL_SECONDS_MAX: u32 = 60;
/// Pointers, times and the share of two tables that are half full.
const ENTRY_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use discovery_core::telemetry::DnsTransport;

    fn request(name: u16) -> Vec<u8> {
        let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4];
        let label = format!("{name:04}");
        [&head[..], label.as_bytes(), &[0, 0, 1, 0, 1]].concat()
    }

    fn key(name: u16) -> Key {
        Key::of(&request(name), DnsTransport::Udp)
    }

    /// With two addresses.
    fn positive(ttls: [u32; 2]) -> Vec<u8> {
        let mut reply = request(1);
        reply[2] = 0x81;
        reply[7] = 2;
        for ttl in ttls {
            reply.extend([0xc0, 12, 0, 1, 0, 1]);
            reply.extend(ttl.to_be_bytes());
            reply.extend([0, 4, 192, 0, 2, 1]);
        }
        reply
    }

    /// With a SOA record.
    fn negative(ttl: u32, minimum: u32) -> Vec<u8> {
        let mut reply = request(1);
        reply[2..4].copy_from_slice(&[0x81, 3]);
        reply[9] = 1;
        reply.extend([0xc0, 12, 0, 6, 0, 1]);
        reply.extend(ttl.to_be_bytes());
        reply.extend([0, 22, 0, 0]);
        for field in [1, 2, 3, 4, minimum] {
            reply.extend(u32::to_be_bytes(field));
        }
        reply
    }

    #[test]
    fn lifetimes_are_those_of_the_rfcs_within_bounds() {
        for (reply, seconds) in [
            (positive([60, 5]), Some(5)),
            (positive([90_000, 80_000]), Some(3_600)),
            (negative(30, 900), Some(30)),
            (negative(900, 20), Some(20)),
            (negative(900, 900), Some(60)),
        ] {
            assert_eq!(lifetime(&reply), seconds);
        }
        let mut cut = positive([60, 60]);
        cut[2] |= 2;
        let mut failure = positive([60, 60]);
        failure[3] = 2;
        let mut without_soa = request(1);
        without_soa[2..4].copy_from_slice(&[0x81, 3]);
        let malformed = positive([60, 60])[..40].to_vec();
        for reply in [cut, failure, without_soa, malformed, vec![0; 5]] {
            assert_eq!(lifetime(&reply), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_ages_and_ends() {
        let (cache, now) = (Cache::new(1 << 20), Instant::now());
        cache.put(&key(1), &positive([60, 5]), now);
        let told = cache.get(&key(1), now + Duration::from_secs(3)).unwrap();
        assert_eq!(told, positive([57, 2]));
        assert_eq!(cache.get(&key(2), now), None);
        assert_eq!(cache.get(&key(1), now + Duration::from_secs(5)), None);
        let off = Cache::new(0);
        off.put(&key(1), &positive([60, 5]), now);
        assert_eq!(off.get(&key(1), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_stays_within_its_bound_and_what_is_kept_is_found() {
        let (cache, now) = (
            Cache::new(100 * cost(&key(1), positive([1, 1]).len())),
            Instant::now(),
        );
        for name in 0..1_000 {
            cache.put(&key(name), &positive([60, 60]), now);
            cache.put(&key(name / 2), &positive([60, 60]), now);
            let kept = cache.kept.lock().unwrap();
            assert!(kept.bytes <= cache.bytes_max);
            assert_eq!(kept.keys.len(), kept.entries.len());
            for (at, key) in kept.keys.iter().enumerate() {
                assert_eq!(kept.entries[key].at, at);
            }
        }
        let found = (0..1_000).filter(|name| cache.get(&key(*name), now).is_some());
        assert_eq!(found.count(), 100);
    }
}
