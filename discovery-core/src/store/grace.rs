// SPDX-License-Identifier: MIT OR Apache-2.0
//! What left a slice of Kubernetes while it was ready, and is in no other one: it counts for a moment longer, since the
//! control plane may be moving it.
//!
//! Slices are written one by one, so that a pod that is moved may be in none for a moment (kubernetes/kubernetes#121231). A
//! control plane that says `terminating` of pods says so, and `ready: false`, of each that ends before it takes it out: what
//! it takes out while it is ready is moved, or was deleted by force. One that does not say so (before 1.22, and Endpoints)
//! takes pods out as they end; nothing of its slices comes here. Pure: no I/O, no clock; time comes in by [`Grace::tick`].

use super::{
    SourceId,
    hold::Wait,
    packed::{EndpointRef, PackedSlice},
};
use crate::model::{ServiceName, SliceKey, Standing};
use std::time::{Duration, Instant};

/// What has become of endpoints that left a slice while they were ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GraceCounts {
    /// A slice named them in time: they were moved.
    pub moved: u64,
    /// No slice named them in time, or their node, their service or their cluster is gone.
    pub gone: u64,
    /// They were out at once, since as many others as there may be were waiting.
    pub over_limit: u64,
}

/// Everything that may be on its way from a slice into another one.
#[derive(Debug)]
pub(super) struct Grace {
    length: Duration,
    leavers: Vec<Leavers>,
    /// The number of the next ones.
    next: u64,
    counts: GraceCounts,
}

/// The endpoints that left a slice by one word of its source.
#[derive(Debug)]
pub(super) struct Leavers {
    pub(super) key: SliceKey,
    pub(super) source: SourceId,
    pub(super) number: u64,
    /// The slice as it was, with them alone.
    pub(super) part: PackedSlice,
    wait: Wait,
}

impl Grace {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            leavers: Vec::new(),
            next: 0,
            counts: GraceCounts::default(),
        }
    }

    /// Whether what leaves a slice of this source while it is ready may be on its way into another one.
    pub(super) fn covers(&self, source: SourceId, slice: &PackedSlice) -> bool {
        !self.length.is_zero() && source == SourceId::Kube && slice.announces_end
    }

    /// Begins with those that left a slice; whether there was room for them.
    pub(super) fn begin(&mut self, key: SliceKey, source: SourceId, part: PackedSlice) -> bool {
        let waiting: usize = self.leavers.iter().map(|l| l.part.len()).sum();
        if waiting + part.len() > WAITING_MAX {
            self.counts.over_limit += part.len() as u64;
            return false;
        }
        self.leavers.push(Leavers {
            key,
            source,
            number: self.next,
            part,
            wait: Wait::new(self.length),
        });
        self.next += 1;
        true
    }

    /// Those of a service, in the order in which they left.
    pub(super) fn of<'g>(&'g self, service: &'g ServiceName) -> impl Iterator<Item = &'g Leavers> {
        let leavers = self.leavers.iter();
        leavers.filter(move |leavers| leavers.part.service == *service)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Leavers> {
        self.leavers.iter()
    }

    /// Ends it for those of which the slice says something; the worst that it says, when it is anything.
    pub(super) fn end_named(&mut self, source: SourceId, slice: &PackedSlice) -> Option<Standing> {
        let is_of =
            |leavers: &Leavers| leavers.source == source && leavers.part.service == slice.service;
        let words = |leaver: &EndpointRef<'_>| {
            let words = slice.endpoints().filter(|word| speaks_of(word, leaver));
            words.map(|word| word.conditions().standing()).max()
        };
        let mut worst = None;
        for leavers in self.leavers.iter_mut().filter(|leavers| is_of(leavers)) {
            let said = leavers.part.endpoints().filter_map(|leaver| words(&leaver));
            worst = worst.max(said.max());
            let before = leavers.part.len();
            leavers.part = leavers.part.part(|leaver| words(leaver).is_none());
            self.counts.moved += (before - leavers.part.len()) as u64;
        }
        self.leavers.retain(|leavers| leavers.part.len() > 0);
        worst
    }

    /// Ends it for those that are gone for another reason; their services.
    pub(super) fn end(
        &mut self,
        is_gone: impl Fn(&Leavers, &EndpointRef<'_>) -> bool,
    ) -> Vec<ServiceName> {
        let mut services = Vec::new();
        for leavers in &mut self.leavers {
            let before = leavers.part.len();
            let left = leavers.part.part(|leaver| !is_gone(leavers, leaver));
            if left.len() < before {
                self.counts.gone += (before - left.len()) as u64;
                services.push(left.service.clone());
                leavers.part = left;
            }
        }
        self.leavers.retain(|leavers| leavers.part.len() > 0);
        services
    }

    /// Ends it for those that have waited long enough; their services. A wait begins with its first tick.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<ServiceName> {
        let over = self
            .leavers
            .extract_if(.., |leavers| leavers.wait.tick(now));
        let over = over.map(|leavers| {
            self.counts.gone += leavers.part.len() as u64;
            leavers.part.service
        });
        over.collect()
    }

    /// When [`Self::tick`] has something to do next; of waits that were ticked once.
    pub(super) fn due(&self) -> Option<Instant> {
        self.leavers.iter().filter_map(|l| l.wait.until()).min()
    }

    /// What was counted since the last call.
    pub(super) fn take_counts(&mut self) -> GraceCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Whether the statement says what has become of an endpoint that left: of the same pod under an address of the same
/// family, or that it is not ready, or of its address.
pub(super) fn speaks_of(word: &EndpointRef<'_>, leaver: &EndpointRef<'_>) -> bool {
    let (address, left) = (word.address(), leaver.address());
    let is_same_pod = || leaver.pod().is_some() && word.pod() == leaver.pod();
    let is_enough = || {
        // A pod of two families is in a slice of each, and is moved in each.
        address.is_ipv4() == left.is_ipv4() || word.conditions().standing() != Standing::Ready
    };
    address == left || is_same_pod() && is_enough()
}

/// More than a control plane moves within a second; 250 bytes each.
const WAITING_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Conditions, Slice, SliceEndpoint, TargetRef},
        store::places::Names,
    };

    fn endpoint(pod: &str, address: &str, is_ready: bool) -> SliceEndpoint {
        SliceEndpoint {
            target: Some(TargetRef {
                name: pod.into(),
                uid: pod.into(),
            }),
            conditions: Conditions::from_api(Some(is_ready), None, Some(false)),
            ..SliceEndpoint::new(address.parse().unwrap())
        }
    }

    fn packed(endpoints: Vec<SliceEndpoint>) -> PackedSlice {
        let slice = Slice {
            endpoints,
            announces_end: true,
            ..Slice::new(key(), "shop/web".parse().unwrap())
        };
        PackedSlice::pack(slice, SourceId::Kube, &mut Names::default(), None)
    }

    fn key() -> SliceKey {
        SliceKey::new("shop", "web-1").unwrap()
    }

    #[test]
    fn a_statement_ends_it_by_pod_and_family_or_by_address_or_by_saying_no() {
        for (pod, address, is_ready, speaks) in [
            ("web-0", "10.0.0.9", true, true),
            ("web-0", "fd00::9", true, false),
            ("web-0", "fd00::9", false, true),
            ("web-1", "10.0.0.1", true, true),
            ("web-1", "10.0.0.2", false, false),
        ] {
            let left = packed(vec![endpoint("web-0", "10.0.0.1", true)]);
            let word = packed(vec![endpoint(pod, address, is_ready)]);
            let told = speaks_of(
                &word.endpoints().next().unwrap(),
                &left.endpoints().next().unwrap(),
            );
            assert_eq!(told, speaks, "{pod} {address} {is_ready}");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_over_it_is_counted() {
        let mut grace = Grace::new(Duration::from_secs(1));
        let crowd = |count: usize| {
            let pod = |i: usize| {
                endpoint(
                    &format!("web-{i}"),
                    &format!("10.0.{}.{}", i / 256, i % 256),
                    true,
                )
            };
            packed((0..count).map(pod).collect())
        };
        assert!(grace.begin(key(), SourceId::Kube, crowd(WAITING_MAX)));
        assert!(!grace.begin(key(), SourceId::Kube, crowd(1)));
        assert_eq!(grace.take_counts().over_limit, 1);
        let now = Instant::now();
        assert!(grace.tick(now).is_empty());
        assert_eq!(grace.due(), Some(now + Duration::from_secs(1)));
        assert_eq!(grace.tick(now + Duration::from_secs(1)).len(), 1);
        assert_eq!(grace.take_counts().gone, WAITING_MAX as u64);
        assert_eq!(grace.due(), None);
    }
}
