// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records in the form of the wire, prepared before they are asked for.
//!
//! In: instances with their addresses and ports. Out: bytes that an answer copies. Owners are a pointer to the question, so
//! that the client's spelling stands in every record and one set serves every spelling. Pure; linear in the number of
//! records.

use crate::{
    wire::{WireName, class, rtype},
    words::WordHash,
};
use std::{collections::HashSet, net::IpAddr, ops::Range};

/// The address records of one name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Addresses {
    /// One record per distinct address, in the order given.
    pub(crate) fn new(addresses: impl IntoIterator<Item = IpAddr>, ttl_seconds: u32) -> Self {
        let mut records = Self::default();
        let mut seen = HashSet::<_, WordHash>::default();
        for address in addresses {
            if seen.insert(address) {
                let (family, bytes) = if address.is_ipv4() {
                    (&mut records.v4, A_BYTES)
                } else {
                    (&mut records.v6, AAAA_BYTES)
                };
                family.reserve(bytes);
                family.extend_from_slice(&OWNER_IS_QUESTION);
                write_address(family, address, ttl_seconds);
            }
        }
        records.v4.shrink_to_fit();
        records.v6.shrink_to_fit();
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

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
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

/// The SRV records of one name, and what each brings along.
#[derive(Debug, Default)]
pub(crate) struct SrvRecords {
    bytes: Vec<u8>,
    records: Vec<SrvRecord>,
    extras: Vec<Extra>,
    names: Vec<WireName>,
    shortest: usize,
    /// The size of everything; none when a target is a host name, whose addresses are not known beforehand.
    total: Option<usize>,
}

/// One SRV record.
#[derive(Clone, Debug)]
pub(crate) struct SrvRecord {
    range: Range<u32>,
    extras: Range<u32>,
    /// How many of the extras are addresses of the target; texts follow.
    addresses: u32,
    /// Whether the target is a name of our domain that we made, and ends in it.
    pub(crate) is_made: bool,
    /// The target's host name, when it is to be looked up.
    host: Option<u32>,
}

/// A record that accompanies an SRV record.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    /// The owner; none means the target.
    owner: Option<u32>,
    range: Range<u32>,
}

/// One instance: where it is reached, and what is said of it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// The target's name without a root.
    pub(crate) target: WireName,
    /// What the target is.
    pub(crate) kind: TargetKind,
    /// The number; 0 when the service has no port.
    pub(crate) port: u16,
    /// The share among its like.
    pub(crate) weight: u16,
    /// What is said of its node, in the form of TXT data, and the node's name.
    pub(crate) texts: Option<(WireName, Vec<Vec<u8>>)>,
}

/// What a target is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TargetKind {
    /// A name that we made, with its addresses.
    Made(Vec<IpAddr>),
    /// A host name, to be looked up.
    Host,
}

impl SrvRecords {
    /// One record for each instance, in the order given.
    pub(crate) fn new<'i>(
        instances: impl IntoIterator<Item = &'i Instance>,
        ttl_seconds: u32,
    ) -> Self {
        let instances = instances.into_iter();
        let count = instances.size_hint().0;
        let mut srv = Self {
            total: Some(0),
            records: Vec::with_capacity(count),
            extras: Vec::with_capacity(count),
            ..Self::default()
        };
        for instance in instances {
            srv.add(instance, ttl_seconds);
        }
        srv.shortest = srv
            .records
            .iter()
            .map(|record| record.range.len())
            .min()
            .unwrap_or(0);
        // They stay as they are for as long as the service does.
        srv.bytes.shrink_to_fit();
        srv.extras.shrink_to_fit();
        srv
    }

    fn add(&mut self, instance: &Instance, ttl_seconds: u32) {
        let start = self.bytes.len();
        let target = instance.target.as_bytes().len();
        self.bytes.reserve(TARGET_OFFSET + target + 1 + A_BYTES);
        write_service(&mut self.bytes, instance, ttl_seconds);
        let range = span(start, self.bytes.len());
        let first = self.extras.len();
        let mut host = None;
        match &instance.kind {
            TargetKind::Made(addresses) => {
                for address in addresses {
                    self.extra(None, |out| write_address(out, *address, ttl_seconds));
                }
            }
            TargetKind::Host => host = Some(self.name(&instance.target)),
        }
        let addresses = u32::try_from(self.extras.len() - first).unwrap_or(0);
        if let Some((owner, texts)) = &instance.texts {
            // A text of the target itself has the target's owner, which costs two bytes.
            let owner = (owner.to_lower() != instance.target.to_lower()).then(|| self.name(owner));
            for text in texts {
                self.extra(owner, |out| write_text(out, text, ttl_seconds));
            }
        }
        self.total = self
            .total
            .filter(|_| host.is_none())
            .map(|total| total + self.bytes.len() - start + self.owners(first));
        self.records.push(SrvRecord {
            range,
            extras: span(first, self.extras.len()),
            addresses,
            is_made: host.is_none(),
            host,
        });
    }

    fn extra(&mut self, owner: Option<u32>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.extras.push(Extra {
            owner,
            range: span(start, self.bytes.len()),
        });
    }

    fn name(&mut self, name: &WireName) -> u32 {
        let at = self
            .names
            .iter()
            .rposition(|known| known == name)
            .unwrap_or_else(|| {
                self.names.push(name.clone());
                self.names.len() - 1
            });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// What the owners of the extras from `first` on take.
    fn owners(&self, first: usize) -> usize {
        let owners = self.extras[first..].iter().map(|extra| self.owner(extra));
        owners
            .map(|owner| owner.map_or(2, |name| name.as_bytes().len() + 1))
            .sum()
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The size of all records with everything that they bring along; none when it is not known beforehand.
    pub(crate) fn total(&self) -> Option<usize> {
        self.total
    }

    /// A record, with a pointer to the question as owner.
    pub(crate) fn get(&self, number: usize) -> Option<(&SrvRecord, &[u8])> {
        let record = self.records.get(number)?;
        Some((record, self.slice(&record.range)))
    }

    /// The addresses of the record's target, without owners.
    pub(crate) fn addresses(&self, record: &SrvRecord) -> impl Iterator<Item = &[u8]> {
        let start = record.extras.start as usize;
        let extras = self.extras.get(start..start + record.addresses as usize);
        extras
            .unwrap_or_default()
            .iter()
            .map(|extra| self.slice(&extra.range))
    }

    /// The texts of the record's node, without owners, each with its owner unless that is the target.
    pub(crate) fn texts(
        &self,
        record: &SrvRecord,
    ) -> impl Iterator<Item = (Option<&WireName>, &[u8])> {
        let start = (record.extras.start + record.addresses) as usize;
        let extras = self.extras.get(start..record.extras.end as usize);
        let extras = extras.unwrap_or_default().iter();
        extras.map(|extra| (self.owner(extra), self.slice(&extra.range)))
    }

    /// The host name of the record's target, when it is one.
    pub(crate) fn host(&self, record: &SrvRecord) -> Option<&WireName> {
        self.names.get(record.host? as usize)
    }

    /// How many records fit into so many bytes at most.
    pub(crate) fn fitting(&self, bytes: usize) -> usize {
        bytes.checked_div(self.shortest).unwrap_or(0)
    }

    fn owner(&self, extra: &Extra) -> Option<&WireName> {
        self.names.get(extra.owner? as usize)
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }
}

/// Positions in one service's records: 4 GiB of them are refused by the number of members long before.
fn span(start: usize, end: usize) -> Range<u32> {
    u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
}

/// What follows the owner of an address record.
pub(crate) fn write_address(out: &mut Vec<u8>, address: IpAddr, ttl_seconds: u32) {
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
    let numbers = [PRIORITY, instance.weight, instance.port].map(u16::to_be_bytes);
    out.extend_from_slice(&OWNER_IS_QUESTION);
    // A name is at most 255 bytes.
    let length = u16::try_from(6 + target.len() + 1).unwrap_or(u16::MAX);
    out.extend_from_slice(&head(rtype::SRV, ttl_seconds, length));
    out.extend_from_slice(numbers.as_flattened());
    out.extend_from_slice(target);
    out.push(0);
}

/// What follows the owner of a TXT record.
pub(crate) fn write_text(out: &mut Vec<u8>, data: &[u8], ttl_seconds: u32) {
    // Cut where the data was made.
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&head(rtype::TXT, ttl_seconds, length));
    out.extend_from_slice(data);
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
/// Where the TTL stands behind the owner.
pub(crate) const TTL_OFFSET: usize = 4;
/// Where the length of the data stands in a record whose owner is a pointer.
pub(crate) const LENGTH_OFFSET: usize = 10;
/// Where the priority stands in an SRV record.
pub(crate) const PRIORITY_OFFSET: usize = 12;
/// Where the target's name stands in an SRV record: after owner, type, class, TTL, length, priority, weight and port.
pub(crate) const TARGET_OFFSET: usize = 18;
/// As Consul: every instance alike.
const PRIORITY: u16 = 1;

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
    fn a_record_brings_its_addresses_and_texts_along() {
        let owner = WireName::parse("n").unwrap();
        let instance = |target: &str, kind| Instance {
            target: WireName::parse(target).unwrap(),
            kind,
            port: 80,
            weight: 3,
            texts: Some((owner.clone(), vec![b"\x01x".to_vec()])),
        };
        let address = "10.0.0.1".parse().unwrap();
        let own = instance("n", TargetKind::Made(vec![address]));
        let srv = SrvRecords::new([&own, &own], 0);
        let (record, bytes) = srv.get(1).unwrap();
        assert_eq!(&bytes[TARGET_OFFSET..], b"\x01n\0");
        assert_eq!(srv.addresses(record).count(), 1);
        assert_eq!(
            srv.texts(record).next().unwrap().0,
            None,
            "the target is the owner"
        );
        assert_eq!(srv.total(), Some(2 * (21 + 16 + 14)));
        let host = instance("a.b", TargetKind::Host);
        let srv = SrvRecords::new([&host], 0);
        let (record, _) = srv.get(0).unwrap();
        assert_eq!(srv.host(record).unwrap().as_bytes(), b"\x01a\x01b");
        assert_eq!(srv.texts(record).next().unwrap().0, Some(&owner));
        assert_eq!((srv.total(), srv.fitting(47)), (None, 2));
    }
}
