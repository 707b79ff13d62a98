// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ring/envoy`: the ring of Envoy's `ring_hash` and gRPC's `ring_hash_experimental` (gRFC A42) with default sizes.
//!
//! In: addresses as text with weights. Out: the circle over them. Hosts are sorted by their text, as gRPC does, and the
//! ring is built over all of them, also those that cannot serve. It agrees exactly with Envoy where weights are equal, all
//! hosts are healthy and the ring is not cut to its greatest size. It inherits their defect: the number of virtual nodes of
//! a host depends on how many hosts there are, so that 17 % of the keys move when one of ten leaves.

use super::{
    circle::{Circle, VNode},
    slots::number,
    table::Member,
};
use std::{fmt::Write, sync::Arc};
use xxhash_rust::xxh64::xxh64;

/// The sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Sizes {
    /// Envoy's smallest size. Its greatest is 8,388,608; ours is a 32nd of that, 2.6 MB, since weights that differ by the
    /// thousand would fill it.
    pub(super) const DEFAULT: Self = Self {
        min: 1_024.0,
        max: 262_144.0,
    };
}

/// The ring, over members in the caller's order.
#[derive(Clone, Debug)]
pub(super) struct EnvoyRing {
    circle: Arc<Circle>,
    members: usize,
}

impl EnvoyRing {
    pub(super) fn build(members: &[Member<'_>], sizes: Sizes) -> Self {
        Self {
            circle: Arc::new(Circle::from_sorted(&vnodes(members, sizes))),
            members: members.len(),
        }
    }

    #[inline]
    pub(super) fn circle(&self) -> &Circle {
        &self.circle
    }

    pub(super) fn members(&self) -> usize {
        self.members
    }

    #[expect(clippy::cast_precision_loss, reason = "a share is shown to people")]
    pub(super) fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.members];
        let len = self.circle.len();
        let mut previous = len
            .checked_sub(1)
            .map_or(0, |last| self.circle.vnode(last).0);
        for (position, member) in (0..len).map(|at| self.circle.vnode(at)) {
            shares[usize::from(member)] += position.wrapping_sub(previous) as f64 / 2_f64.powi(64);
            previous = position;
        }
        shares
    }
}

impl PartialEq for EnvoyRing {
    fn eq(&self, other: &Self) -> bool {
        let vnodes = |ring: &Self| -> Vec<VNode> {
            (0..ring.circle.len())
                .map(|at| ring.circle.vnode(at))
                .collect()
        };
        self.members == other.members && vnodes(self) == vnodes(other)
    }
}

impl Eq for EnvoyRing {}

/// The entries in the order of the ring. The sums are `f64` in exactly this order of operations: so they are in the peers.
fn vnodes(members: &[Member<'_>], sizes: Sizes) -> Vec<VNode> {
    let total: f64 = members
        .iter()
        .map(|m| f64::from(m.weight.hundredths()))
        .sum();
    let mut hosts: Vec<(&str, u16, f64)> = (0..)
        .zip(members)
        .map(|(at, m)| {
            (
                m.identity,
                number(at),
                f64::from(m.weight.hundredths()) / total,
            )
        })
        .filter(|(_, _, weight)| *weight > 0.0)
        .collect();
    hosts.sort_unstable_by_key(|(key, member, _)| (*key, *member));
    let least = hosts
        .iter()
        .fold(1.0_f64, |least, (_, _, weight)| least.min(*weight));
    let scale = ((least * sizes.min).ceil() / least).min(sizes.max);
    let (mut current, mut target) = (0.0, 0.0);
    let mut entries: Vec<(u64, usize, u16)> = Vec::new();
    let mut text = String::new();
    for (order, (key, member, weight)) in hosts.iter().enumerate() {
        target += scale * weight;
        let mut count = 0_u32;
        while current < target {
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{key}_{count}");
            entries.push((xxh64(text.as_bytes(), 0), order, *member));
            count += 1;
            current += 1.0;
        }
    }
    entries.sort_unstable();
    let vnodes = entries.into_iter();
    vnodes
        .map(|(position, _, member)| (position, member))
        .collect()
}

#[cfg(test)]
mod tests {
    //! The vectors of Envoy's own unit tests (`ring_hash_lb_test.cc`).

    use super::*;
    use crate::model::Weight;

    fn ring(hosts: &[(&str, u32)], min: f64, max: f64) -> Vec<(u64, String)> {
        let members: Vec<_> = hosts
            .iter()
            .map(|&(identity, weight)| Member {
                identity,
                weight: Weight::new(weight).unwrap(),
            })
            .collect();
        let last = |host: &str| host[host.len() - 2..].to_owned();
        vnodes(&members, Sizes { min, max })
            .into_iter()
            .map(|(position, member)| (position, last(hosts[usize::from(member)].0)))
            .collect()
    }

    fn expect(text: &str) -> Vec<(u64, String)> {
        text.split(',')
            .map(|entry| {
                let (host, position) = entry.trim().split_once(' ').unwrap();
                (position.parse().unwrap(), host.to_owned())
            })
            .collect()
    }

    const ADDRESSES: [(&str, u32); 6] = [
        ("127.0.0.1:90", 100),
        ("127.0.0.1:91", 100),
        ("127.0.0.1:92", 100),
        ("127.0.0.1:93", 100),
        ("127.0.0.1:94", 100),
        ("127.0.0.1:95", 100),
    ];

    #[test]
    fn six_hosts_give_the_published_ring() {
        let expected = expect(
            "94 833437586790550860, 92 928266305478181108, 90 1033482794131418490, 95 3551244743356806947, \
             93 3851675632748031481, 91 5583722120771150861, 91 6311230543546372928, 93 7700377290971790572, \
             95 13144177310400110813, 92 13444792449719432967, 94 15516499411664133160, 90 16117243373044804889",
        );
        assert_eq!(ring(&ADDRESSES, 12.0, 8_388_608.0), expected);
    }

    #[test]
    fn six_names_give_the_published_ring() {
        let names = ADDRESSES.map(|(address, weight)| (&address[10..], weight));
        let expected = expect(
            "95 1975508444536362413, 95 2376063919839173711, 93 2386806903309390596, 94 6749904478991551885, \
             93 6803900775736438537, 92 7225015537174310577, 90 8787465352164086522, 92 11282020843382717940, \
             91 13723418369486627818, 90 13776502110861797421, 91 14338313586354474791, 94 15364271037087512980",
        );
        assert_eq!(ring(&names, 12.0, 8_388_608.0), expected);
    }

    #[test]
    fn an_uneven_least_size_is_rounded_up() {
        let expected = expect(
            "80 5454692015285649509, 81 7859399908942313493, 80 13838424394637650569, 81 16064866803292627174",
        );
        let hosts = [("127.0.0.1:80", 100), ("127.0.0.1:81", 100)];
        assert_eq!(ring(&hosts, 3.0, 8_388_608.0), expected);
    }

    #[test]
    fn weights_one_two_three_give_the_published_ring() {
        let expected = expect(
            "92 928266305478181108, 92 4443673547860492590, 91 5583722120771150861, 91 6311230543546372928, \
             92 13444792449719432967, 90 16117243373044804889",
        );
        let hosts = [
            ("127.0.0.1:90", 1),
            ("127.0.0.1:91", 2),
            ("127.0.0.1:92", 3),
        ];
        assert_eq!(ring(&hosts, 6.0, 6.0), expected);
    }

    #[test]
    fn picks_are_the_published_ones_and_the_order_of_hosts_says_nothing() {
        let members = ADDRESSES.map(|(address, _)| Member::ordinary(address));
        let sizes = Sizes {
            min: 12.0,
            max: 8_388_608.0,
        };
        let ring = EnvoyRing::build(&members, sizes);
        let pick = |hash| ring.circle.vnode(ring.circle.first_at_or_after(hash)).1;
        let picks = [
            0,
            u64::MAX,
            3_551_244_743_356_806_947,
            3_551_244_743_356_806_948,
        ];
        assert_eq!(picks.map(pick), [4, 4, 5, 3]);
        // Four virtual nodes for three hosts: the one over goes to the first by its text.
        let cut = |hosts: &[(&str, u32)]| self::ring(hosts, 3.0, 4.0);
        let turned: Vec<_> = ADDRESSES[..3].iter().rev().copied().collect();
        assert_eq!(cut(&ADDRESSES[..3]), cut(&turned));
    }
}
