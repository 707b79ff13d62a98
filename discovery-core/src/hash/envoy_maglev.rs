// SPDX-License-Identifier: MIT OR Apache-2.0
//! `maglev/envoy`: the table of Envoy's `maglev` with its default size.
//!
//! In: addresses as text with weights. Out: the member of each of 65,537 slots. Hosts are sorted by their text and take
//! turns as in `maglev/v1`; other are the functions (XXH64 with the seeds 0 and 1, scaled by a modulo) and the weights, which
//! are shares of their sum. The table is built over all hosts, also those that cannot serve: it agrees with Envoy while all
//! are healthy.

use super::{
    key::HashKey,
    maglev::{Maglev, Turn},
    slots::number,
    table::Member,
};
use xxhash_rust::xxh64::xxh64;

/// The table over members in the caller's order.
pub(super) fn build(members: &[Member<'_>]) -> Maglev {
    Maglev::filled(turns(members, Maglev::SLOTS), Maglev::SLOTS, members.len())
}

/// The slot of a key that was hashed as Envoy does.
#[inline]
pub(super) fn slot(key: HashKey) -> usize {
    usize::try_from(key.0 % Maglev::SLOTS).unwrap_or(0)
}

/// Whose turn comes after whose, in a table of so many slots.
fn turns(members: &[Member<'_>], slots: u64) -> Vec<Turn> {
    let weight = |member: &Member<'_>| f64::from(member.weight.hundredths());
    let total: f64 = members.iter().map(weight).sum();
    let mut hosts: Vec<_> = (0..members.len()).collect();
    hosts.sort_unstable_by_key(|at| (members[*at].identity, *at));
    let turn = |at: usize| {
        let key = members[at].identity.as_bytes();
        Turn::new(
            number(at),
            xxh64(key, 0) % slots,
            xxh64(key, 1) % (slots - 1) + 1,
            weight(&members[at]) / total,
        )
    };
    hosts.into_iter().map(turn).collect()
}

#[cfg(test)]
mod tests {
    //! The vectors of Envoy's own unit tests (`maglev_lb_test.cc`).

    use super::*;
    use crate::model::Weight;

    /// The last two characters of the host of each slot.
    fn table(hosts: &[(&str, u32)], slots: u64) -> String {
        let members: Vec<_> = hosts
            .iter()
            .map(|&(identity, weight)| Member {
                identity,
                weight: Weight::new(weight).unwrap(),
            })
            .collect();
        let maglev = Maglev::filled(turns(&members, slots), slots, members.len());
        let host = |member: &u16| hosts[usize::from(*member)].0;
        let hosts: Vec<_> = maglev.slots().iter().map(host).collect();
        let last = hosts.iter().map(|host| &host[host.len() - 2..]);
        last.collect::<Vec<_>>().join(" ")
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
    fn six_hosts_give_the_published_table_in_whatever_order_they_come() {
        let expected = "92 94 90 91 95 90 93";
        assert_eq!(table(&ADDRESSES, 7), expected);
        let mut turned = ADDRESSES;
        turned.reverse();
        assert_eq!(table(&turned, 7), expected);
    }

    #[test]
    fn six_names_give_the_published_table() {
        let names = ADDRESSES.map(|(address, weight)| (&address[10..], weight));
        assert_eq!(table(&names, 7), "92 95 90 93 94 91 90");
    }

    #[test]
    fn weights_of_one_and_two_give_the_published_table() {
        let hosts = [("127.0.0.1:90", 100), ("127.0.0.1:91", 200)];
        assert_eq!(
            table(&hosts, 17),
            "91 90 90 91 90 91 91 90 91 91 91 91 91 90 91 90 91"
        );
    }

    #[test]
    fn weights_of_eight_and_two_give_the_table_published_for_localities_of_those() {
        let hosts = [
            ("127.0.0.1:90", 80),
            ("127.0.0.1:91", 20),
            ("127.0.0.1:92", 0),
        ];
        assert_eq!(
            table(&hosts, 17),
            "91 90 90 90 90 90 91 90 90 91 90 91 90 90 90 90 90"
        );
    }

    #[test]
    fn a_key_belongs_to_the_slot_of_its_remainder() {
        assert_eq!(
            [0, 65_536, 65_537, u64::MAX].map(|key| slot(HashKey(key))),
            [0, 65_536, 0, 0]
        );
    }
}
