// SPDX-License-Identifier: MIT OR Apache-2.0
//! A slice of endpoints as a source states it, and the rule for addresses.

use super::{
    Conditions, ModelError, NodeName, Protocol, ServiceName, TargetRef, Zone, is_object_name,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

/// Namespace and name of an EndpointSlice, or of an Endpoints object read as one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SliceKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl SliceKey {
    /// Checks both parts against the rule for object names.
    pub fn new(namespace: &str, name: &str) -> Result<Self, ModelError> {
        for (what, text) in [("namespace", namespace), ("slice name", name)] {
            if !is_object_name(text) {
                return Err(ModelError::new(
                    what,
                    text,
                    "it is not a lower-case DNS name of at most 253 bytes",
                ));
            }
        }
        Ok(Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// A key beside this one that no source states: no object has such a name.
    pub(crate) fn beside(&self, number: u64) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: format!("{}#{number}", self.name).into(),
        }
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One port of all endpoints of a slice.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SlicePort {
    /// The name of the service's port that it stands for; may be empty.
    pub name: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// The number on which the endpoints listen.
    pub port: NonZeroU16,
}

/// One endpoint of a slice, its address not yet checked against the [`AddressRules`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// The first address of the API's list, which is the one that callers use.
    pub address: IpAddr,
    /// The pod behind it.
    pub target: Option<TargetRef>,
    /// The node that hosts it; it decides the zone.
    pub node: Option<NodeName>,
    /// What the control plane says of it.
    pub conditions: Conditions,
    /// The zone that the slice states for it. Not rewritten when the node's label changes, so that it counts only where
    /// nodes cannot be read at all.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// Where the control plane would like it to be used; a preference, never a boundary.
    #[serde(default)]
    pub hints: Option<Arc<Hints>>,
    /// The host name of the pod, which StatefulSets and people set.
    #[serde(default)]
    pub hostname: Option<Arc<str>>,
}

impl SliceEndpoint {
    /// A ready endpoint of which no more is known than its address.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            target: None,
            node: None,
            conditions: Conditions::from_api(None, None, None),
            zone: None,
            hints: None,
            hostname: None,
        }
    }
}

/// Where the control plane would like an endpoint to be used (`hints` of a slice).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Hints {
    /// By callers in these zones, under the standard key.
    pub zones: Vec<Zone>,
    /// By callers on these nodes.
    pub nodes: Vec<NodeName>,
}

impl Hints {
    /// How many zones, and how many nodes, one endpoint may be meant for; the API allows as many.
    pub const MAX: usize = 8;
}

/// Some endpoints of one service, as one source object states them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Its own name.
    pub key: SliceKey,
    /// The service that it belongs to.
    pub service: ServiceName,
    /// The ports of all its endpoints.
    pub ports: Arc<[SlicePort]>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// The zone of its endpoints without a node, by the label or annotation `zonal.dev/zone`.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// Its resourceVersion as a number; 0 where there is none. Of two slices that state the same endpoint differently the
    /// higher one was written later.
    #[serde(default)]
    pub version: u64,
    /// Whether whoever writes it says `terminating` of its endpoints, and thus of each that ends before it is taken out. A
    /// control plane before 1.22 says nothing, and takes them out at once.
    #[serde(default)]
    pub announces_end: bool,
}

impl Slice {
    /// A slice without endpoints.
    pub fn new(key: SliceKey, service: ServiceName) -> Self {
        Self {
            key,
            service,
            ports: [].into(),
            endpoints: Vec::new(),
            zone: None,
            version: 0,
            announces_end: false,
        }
    }
}

/// The classes of addresses that no endpoint may have.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AddressClass {
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// 0.0.0.0, ::, and the broadcast address.
    Unspecified,
    /// A socket on which this process listens: a loop.
    OwnListener,
}

impl AddressClass {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Loopback => "bad-address:loopback",
            Self::LinkLocal => "bad-address:link-local",
            Self::Multicast => "bad-address:multicast",
            Self::Unspecified => "bad-address:unspecified",
            Self::OwnListener => "bad-address:own-listener",
        }
    }
}

/// Which addresses endpoints may have.
///
/// A hostile or mistaken slice must not point callers at this host's own services (CVE-2021-25737 was such a hole), so
/// loopback, link-local, multicast and unspecified addresses are refused, and so are our own listeners. IPv4-mapped IPv6
/// addresses are judged as the IPv4 address that they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AddressRules {
    allow_loopback: bool,
    own_listeners: BTreeSet<SocketAddr>,
}

impl AddressRules {
    /// Rules with the given exception for loopback, and the sockets on which this process listens.
    pub fn new(allow_loopback: bool, own_listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            allow_loopback,
            own_listeners: own_listeners.into_iter().collect(),
        }
    }

    /// The class for which the address is refused, or none when an endpoint may have it.
    pub fn refusal(&self, address: IpAddr, port: Option<NonZeroU16>) -> Option<AddressClass> {
        let address = address.to_canonical();
        if address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Some(AddressClass::Unspecified);
        }
        if address.is_multicast() {
            return Some(AddressClass::Multicast);
        }
        if is_link_local(address) {
            return Some(AddressClass::LinkLocal);
        }
        if address.is_loopback() && !self.allow_loopback {
            return Some(AddressClass::Loopback);
        }
        port.filter(|port| {
            self.own_listeners
                .contains(&SocketAddr::new(address, port.get()))
        })
        .map(|_| AddressClass::OwnListener)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(rules: &AddressRules, address: &str) -> Option<AddressClass> {
        rules.refusal(address.parse().unwrap(), NonZeroU16::new(80))
    }

    #[test]
    fn addresses_that_no_endpoint_may_have_are_refused_by_class() {
        let rules = AddressRules::default();
        for (address, class) in [
            ("127.0.0.1", AddressClass::Loopback),
            ("127.9.9.9", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::Loopback),
            ("169.254.169.254", AddressClass::LinkLocal),
            ("fe80::1", AddressClass::LinkLocal),
            ("224.0.0.1", AddressClass::Multicast),
            ("ff02::1", AddressClass::Multicast),
            ("0.0.0.0", AddressClass::Unspecified),
            ("::", AddressClass::Unspecified),
            ("255.255.255.255", AddressClass::Unspecified),
        ] {
            assert_eq!(refusal(&rules, address), Some(class), "{address}");
        }
        for good in [
            "10.0.0.1",
            "192.168.1.1",
            "fd00::1",
            "2001:db8::1",
            "8.8.8.8",
        ] {
            assert_eq!(refusal(&rules, good), None, "{good}");
        }
    }

    #[test]
    fn the_flag_allows_loopback_and_nothing_else() {
        let rules = AddressRules::new(true, []);
        assert_eq!(refusal(&rules, "127.0.0.1"), None);
        assert_eq!(
            refusal(&rules, "169.254.0.1"),
            Some(AddressClass::LinkLocal)
        );
    }

    #[test]
    fn our_own_listener_is_refused_also_as_a_mapped_address() {
        let rules = AddressRules::new(true, ["10.0.0.1:80".parse().unwrap()]);
        assert_eq!(
            refusal(&rules, "::ffff:10.0.0.1"),
            Some(AddressClass::OwnListener)
        );
        assert_eq!(refusal(&rules, "10.0.0.2"), None);
    }
}
