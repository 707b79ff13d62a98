// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records in the form of the wire, prepared before they are asked for.
//!
//! In: addresses and ports. Out: bytes that an answer copies. Owners are a pointer to the question, so that the client's
//! spelling stands in every record and one set serves every spelling. Pure; linear in the number of records.

use crate::wire::{WireName, class, rtype};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::Range,
};

/// The address records of one name.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Addresses {
    /// One record per distinct address, in the order given.
    pub(crate) fn new(addresses: impl IntoIterator<Item = IpAddr>, ttl_seconds: u32) -> Self {
        let mut records = Self::default();
        let mut seen = HashSet::new();
        for address in addresses {
            if seen.insert(address) {
                let family = if address.is_ipv4() {
                    &mut records.v4
                } else {
                    &mut records.v6
                };
                family.extend_from_slice(&OWNER_IS_QUESTION);
                write_address(family, address, ttl_seconds);
            }
        }
        records
    }

    /// The IPv4 records, [`A_BYTES`] each.
    pub(crate) fn v4(&self) -> &[u8] {
        &self.v4
    }

    /// The IPv6 records, [`AAAA_BYTES`] each.
    pub(crate) fn v6(&self) -> &[u8] {
        &self.v6
    }

    /// All records without their owners.
    pub(crate) fn without_owners(&self) -> impl Iterator<Item = &[u8]> {
        let families = self
            .v4
            .chunks_exact(A_BYTES)
            .chain(self.v6.chunks_exact(AAAA_BYTES));
        families.map(|record| &record[OWNER_IS_QUESTION.len()..])
    }
}

/// The SRV records of one name, and the addresses of their targets.
#[derive(Debug, Default)]
pub(crate) struct SrvRecords {
    bytes: Vec<u8>,
    records: Vec<(Range<usize>, TargetId)>,
    targets: Vec<Addresses>,
    shortest: usize,
}

/// The number of a target within one set.
pub(crate) type TargetId = usize;

/// One instance: where it is reached.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Instance {
    /// The target's whole name, root included.
    pub(crate) target: WireName,
    /// The number; 0 when the service has no port.
    pub(crate) port: u16,
}

impl SrvRecords {
    /// One record per distinct instance, in the order given; `addresses_of` tells a target's addresses.
    pub(crate) fn new(
        instances: impl IntoIterator<Item = Instance>,
        ttl_seconds: u32,
        mut addresses_of: impl FnMut(&WireName) -> Addresses,
    ) -> Self {
        let mut srv = Self::default();
        let (mut seen, mut numbers) = (HashSet::new(), HashMap::new());
        for instance in instances {
            if !seen.insert(instance.clone()) {
                continue;
            }
            let number = *numbers.entry(instance.target.clone()).or_insert_with(|| {
                srv.targets.push(addresses_of(&instance.target));
                srv.targets.len() - 1
            });
            let start = srv.bytes.len();
            write_service(&mut srv.bytes, &instance, ttl_seconds);
            srv.records.push((start..srv.bytes.len(), number));
        }
        srv.shortest = srv
            .records
            .iter()
            .map(|(range, _)| range.len())
            .min()
            .unwrap_or(0);
        srv
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many targets there are.
    pub(crate) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// A record and the number of its target.
    pub(crate) fn record(&self, number: usize) -> Option<(&[u8], TargetId)> {
        let (range, target) = self.records.get(number)?;
        Some((self.bytes.get(range.clone())?, *target))
    }

    /// The addresses of a target.
    pub(crate) fn addresses(&self, target: TargetId) -> Option<&Addresses> {
        self.targets.get(target)
    }

    /// How many records fit into so many bytes at most.
    pub(crate) fn fitting(&self, bytes: usize) -> usize {
        bytes.checked_div(self.shortest).unwrap_or(0)
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr, ttl_seconds: u32) {
    match address {
        IpAddr::V4(v4) => {
            out.extend_from_slice(&head(rtype::A, ttl_seconds, 4));
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.extend_from_slice(&head(rtype::AAAA, ttl_seconds, 16));
            out.extend_from_slice(&v6.octets());
        }
    }
}

/// RFC 2782; the target is not compressed.
fn write_service(out: &mut Vec<u8>, instance: &Instance, ttl_seconds: u32) {
    let target = instance.target.as_bytes();
    let numbers = [PRIORITY, WEIGHT, instance.port].map(u16::to_be_bytes);
    out.extend_from_slice(&OWNER_IS_QUESTION);
    // A name is at most 255 bytes.
    let length = u16::try_from(6 + target.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&head(rtype::SRV, ttl_seconds, length));
    out.extend_from_slice(numbers.as_flattened());
    out.extend_from_slice(target);
}

/// What stands between the owner and the data of a record: type, class, TTL and length.
pub(crate) fn head(rtype: u16, ttl_seconds: u32, length: u16) -> [u8; 10] {
    let mut head = [0; 10];
    head[..2].copy_from_slice(&rtype.to_be_bytes());
    head[2..4].copy_from_slice(&class::IN.to_be_bytes());
    head[4..8].copy_from_slice(&ttl_seconds.to_be_bytes());
    head[8..].copy_from_slice(&length.to_be_bytes());
    head
}

/// A pointer to the first name of the message.
pub(crate) const OWNER_IS_QUESTION: [u8; 2] = [0xc0, 0x0c];
/// The size of an A record.
pub(crate) const A_BYTES: usize = 16;
/// The size of an AAAA record.
pub(crate) const AAAA_BYTES: usize = 28;
/// Where the target's name stands in an SRV record: after owner, type, class, TTL, length, priority, weight and port.
pub(crate) const TARGET_OFFSET: usize = 18;
/// As Consul: every instance alike.
const PRIORITY: u16 = 1;
/// As Consul's default.
const WEIGHT: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_addresses_are_one_record() {
        let addresses = ["10.0.0.1", "fd00::1", "10.0.0.1"].map(|text| text.parse().unwrap());
        let records = Addresses::new(addresses, 5);
        assert_eq!(
            (records.v4().len(), records.v6().len()),
            (A_BYTES, AAAA_BYTES)
        );
        assert_eq!(
            records.v4(),
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x01"
        );
        assert_eq!(
            records
                .without_owners()
                .map(<[u8]>::len)
                .collect::<Vec<_>>(),
            [14, 26]
        );
    }

    #[test]
    fn equal_instances_are_one_record_and_equal_targets_one_set_of_addresses() {
        let instance = |host: &str, port| Instance {
            target: WireName::parse(host).unwrap(),
            port,
        };
        let instances = [
            instance("a", 1),
            instance("b", 1),
            instance("a", 2),
            instance("a", 1),
        ];
        let srv = SrvRecords::new(instances, 0, |_| Addresses::default());
        assert_eq!((srv.len(), srv.targets()), (3, 2));
        let (record, target) = srv.record(2).unwrap();
        assert_eq!((&record[TARGET_OFFSET..], target), (&b"\x01a"[..], 0));
        assert_eq!(srv.fitting(2 * record.len() + 1), 2);
    }
}
