// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a name can ask for, as it was read: nothing is looked up yet.

use super::Reversed;
use std::net::IpAddr;

/// What a name asks for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Asked<'n> {
    /// The domain itself.
    Apex,
    /// `ns.<domain>`.
    NameServer,
    /// Nothing but that other names stand below it: it exists and has no records.
    Stem,
    /// A service.
    Service(AskedService<'n>),
    /// The mesh proxies of a service.
    Connect(&'n [u8]),
    /// The fronts of a service.
    Ingress(&'n [u8]),
    /// A prepared query, by the labels of its name.
    Query(&'n [u8]),
    /// A node, by the labels of its name.
    Node(&'n [u8]),
    /// An address that is written in the name itself.
    Address(IpAddr),
    /// What Consul 1.8.7 takes for an address of no family.
    NoAddress,
    /// The name of an address.
    Reverse(Reversed),
    /// No form of ours, or another zone's name. Whether a zone exists elsewhere is not told.
    Nothing,
}

/// A service, and which of its endpoints.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct AskedService<'n> {
    pub(crate) service: &'n [u8],
    pub(crate) choice: Choice<'n>,
    /// Another zone's label that was named; whether its endpoints may be told is the policy's affair.
    pub(crate) zone: Option<&'n [u8]>,
    /// Without the label `service` the form has SRV records only, as in Consul.
    pub(crate) is_srv_only: bool,
}

/// Which endpoints of a service.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Choice<'n> {
    /// All.
    All,
    /// Those with the tag, by its labels.
    Tag(&'n [u8]),
    /// All, in the order of the ring for the key, by its labels.
    Key(&'n [u8]),
    /// Those of a zone, or none.
    Pin(&'n [u8]),
    /// Those of a zone while it has some, else all.
    Prefer(&'n [u8]),
    /// None, but what is known of them.
    Info,
    /// None: other choices stand below this name.
    Stem,
}
