// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ports we want to listen on, for which service, and who yields when two want the same.
//!
//! In: a snapshot, and what is open. Out: what to open, to close, to report. Pure.
//!
//! Ours are the NodePorts of services labelled `service.kubernetes.io/service-proxy-name: zonal`, which the API server
//! keeps distinct, and the host ports of the annotation `zonal.dev/host-port`, which nobody allocates: there the smaller
//! namespace/name wins, on every host alike.

use discovery_core::{
    model::{Protocol, Service, ServiceKind, ServiceName, ServicePort},
    store::Snapshot,
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    num::NonZeroU16,
    sync::Arc,
};

/// A port of this host, and the port of a service that it stands for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// The number on which clients connect.
    pub port: NonZeroU16,
    /// The transport; one number is a listener of its own in each.
    pub protocol: Protocol,
    /// The service.
    pub service: ServiceName,
    /// The name of the service's port; empty when it has one port without a name. Endpoints are asked for it.
    pub port_name: Arc<str>,
}

/// A number in one transport: what one listener can have.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot {
    pub(crate) port: NonZeroU16,
    pub(crate) protocol: Protocol,
}

impl Target {
    pub(crate) fn slot(&self) -> Slot {
        Slot {
            port: self.port,
            protocol: self.protocol,
        }
    }
}

/// Why a wish for a port is not granted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// Another service has it.
    Taken {
        /// That service.
        by: ServiceName,
    },
    /// Its transport is not carried.
    Unsupported {
        /// That transport.
        protocol: Protocol,
    },
}

/// A wish for a port that is not granted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Contender {
    /// What was wished for.
    pub target: Target,
    /// Why it is not granted.
    pub refusal: Refusal,
}

/// The ports that a snapshot asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    wanted: BTreeMap<Slot, Target>,
    contenders: BTreeSet<Contender>,
}

/// What has to change for the open ports to be the wanted ones.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Diff {
    pub(crate) close: Vec<Slot>,
    pub(crate) open: Vec<Target>,
}

/// The ports that the services of the snapshot ask for.
///
/// O(n log n) in the number of services and ports; the result does not depend on the order of services.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut services: Vec<_> = snapshot.services().filter_map(|view| view.spec()).collect();
    services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut plan = Plan::default();
    for service in services {
        for target in wishes(service) {
            plan.wish(target);
        }
    }
    plan
}

impl Plan {
    /// The ports to listen on, in ascending order.
    pub fn wanted(&self) -> impl Iterator<Item = &Target> {
        self.wanted.values()
    }

    /// The wishes that are not granted.
    pub fn contenders(&self) -> impl Iterator<Item = &Contender> {
        self.contenders.iter()
    }

    /// What to do where `open` is open. A port that passes to another service is closed and opened.
    pub(crate) fn diff<'o>(&self, open: impl IntoIterator<Item = (Slot, &'o Target)>) -> Diff {
        let open: BTreeMap<_, _> = open.into_iter().collect();
        let stays = |slot: &Slot, target: &Target| open.get(slot) == Some(&target);
        Diff {
            close: open
                .iter()
                .filter(|(slot, target)| self.wanted.get(slot) != Some(target))
                .map(|(slot, _)| *slot)
                .collect(),
            open: self
                .wanted
                .iter()
                .filter(|(slot, target)| !stays(slot, target))
                .map(|(_, target)| target.clone())
                .collect(),
        }
    }

    /// Takes in a wish; services come in the order of their names, so the first to come has the port.
    fn wish(&mut self, target: Target) {
        let refusal = if target.protocol == Protocol::Sctp {
            Refusal::Unsupported {
                protocol: target.protocol,
            }
        } else {
            match self.wanted.entry(target.slot()) {
                Entry::Vacant(place) => {
                    place.insert(target);
                    return;
                }
                Entry::Occupied(place) if *place.get() == target => return,
                Entry::Occupied(place) => Refusal::Taken {
                    by: place.get().service.clone(),
                },
            }
        };
        self.contenders.insert(Contender { target, refusal });
    }
}

/// The ports that a service wishes for: its NodePorts when they are ours, and the host port for its first TCP port.
///
/// One that is being deleted wishes for nothing: it drains. An external name has nothing to carry to.
fn wishes(service: &Service) -> impl Iterator<Item = Target> {
    let is_fronted =
        !service.front.is_deleting && !matches!(service.kind, ServiceKind::ExternalName(_));
    let ports = if is_fronted { &service.ports[..] } else { &[] };
    let target = |number, port: &ServicePort| Target {
        port: number,
        protocol: port.protocol,
        service: service.name.clone(),
        port_name: port.name.clone(),
    };
    let node_ports = ports
        .iter()
        .filter(|_| service.owns_node_ports)
        .filter_map(move |port| Some(target(port.node_port?, port)));
    let first_tcp = ports.iter().find(|port| port.protocol == Protocol::Tcp);
    let host_port = service
        .host_port
        .zip(first_tcp)
        .map(move |(host_port, port)| target(host_port.0, port));
    node_ports.chain(host_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use discovery_core::{
        model::{HostPort, Node, NodeName, ServicePort, Zone},
        store::{Kind, Object, SourceId, StateConfig, Update, channel},
    };

    fn number(port: u16) -> NonZeroU16 {
        NonZeroU16::new(port).unwrap()
    }

    fn service(name: &str, ports: &[(&str, Protocol, u16)], host_port: Option<u16>) -> Service {
        Service {
            ports: ports
                .iter()
                .map(|(name, protocol, node_port)| ServicePort {
                    name: (*name).into(),
                    protocol: *protocol,
                    port: number(80),
                    node_port: NonZeroU16::new(*node_port),
                })
                .collect(),
            owns_node_ports: true,
            host_port: host_port.map(|port| HostPort(number(port))),
            ..Service::new(name.parse().unwrap())
        }
    }

    fn planned(services: Vec<Service>) -> Plan {
        let name = NodeName::parse("edge-a").unwrap();
        let (mut writer, mut reader) = channel(StateConfig::new(name.clone()));
        let node = Node::new(name, Some(Zone::parse("mall-1").unwrap()));
        let objects = services.into_iter().map(Object::Service);
        for object in [Object::OwnNode(node)].into_iter().chain(objects) {
            writer.apply(Update::Upsert(SourceId::Manifest, object));
        }
        for kind in Kind::ALL {
            writer.apply(Update::Synced(SourceId::Manifest, kind));
        }
        writer.publish();
        plan(reader.snapshot())
    }

    fn wanted(plan: &Plan) -> Vec<(u16, String)> {
        let tell = |target: &Target| (target.port.get(), target.service.to_string());
        plan.wanted().map(tell).collect()
    }

    #[test]
    fn node_ports_are_wanted_only_where_they_are_ours() {
        let ours = service("shop/web", &[("http", Protocol::Tcp, 30_080)], None);
        let mut theirs = service("shop/db", &[("sql", Protocol::Tcp, 30_432)], None);
        theirs.owns_node_ports = false;
        assert_eq!(
            wanted(&planned(vec![ours, theirs])),
            [(30_080, "shop/web".into())]
        );
    }

    #[test]
    fn a_host_port_stands_for_the_first_tcp_port() {
        let ports = [("dns", Protocol::Udp, 0), ("http", Protocol::Tcp, 0)];
        let plan = planned(vec![service("shop/web", &ports, Some(8_080))]);
        let only = plan.wanted().next().unwrap();
        assert_eq!((only.port.get(), &*only.port_name), (8_080, "http"));
    }

    #[test]
    fn the_smaller_name_wins_a_port_whatever_the_order() {
        let (a, b) = (service("a/z", &[("", Protocol::Tcp, 0)], Some(80)), {
            service("b/a", &[("", Protocol::Tcp, 80)], None)
        });
        for services in [vec![a.clone(), b.clone()], vec![b, a]] {
            let plan = planned(services);
            assert_eq!(wanted(&plan), [(80, "a/z".into())]);
            let loser = plan.contenders().next().unwrap();
            assert_eq!(loser.target.service.to_string(), "b/a");
            assert_eq!(
                loser.refusal,
                Refusal::Taken {
                    by: "a/z".parse().unwrap()
                }
            );
        }
    }

    #[test]
    fn each_transport_has_the_number_for_itself_and_sctp_is_reported() {
        let ports = [
            ("dns", Protocol::Udp, 30_053),
            ("dns-tcp", Protocol::Tcp, 30_053),
            ("dns-sctp", Protocol::Sctp, 30_053),
        ];
        let plan = planned(vec![service("shop/dns", &ports, None)]);
        let wanted: Vec<_> = plan
            .wanted()
            .map(|target| (target.protocol, &*target.port_name))
            .collect();
        assert_eq!(wanted, [(Protocol::Tcp, "dns-tcp"), (Protocol::Udp, "dns")]);
        let refusals: Vec<_> = plan
            .contenders()
            .map(|contender| &contender.refusal)
            .collect();
        assert_eq!(
            refusals,
            [&Refusal::Unsupported {
                protocol: Protocol::Sctp
            }]
        );
    }

    #[test]
    fn a_service_that_is_being_deleted_or_is_another_name_wants_nothing() {
        let mut leaving = service("shop/web", &[("http", Protocol::Tcp, 30_080)], Some(8_080));
        leaving.front.is_deleting = true;
        let mut alias = service("shop/db", &[("sql", Protocol::Tcp, 30_432)], None);
        alias.kind = ServiceKind::ExternalName("db.example".into());
        assert_eq!(wanted(&planned(vec![leaving, alias])), []);
    }

    #[test]
    fn the_difference_closes_what_went_and_what_changed_hands() {
        let tcp = |name, port| service(name, &[("", Protocol::Tcp, port)], None);
        let before = planned(vec![
            tcp("a/keeps", 1),
            tcp("a/leaves", 2),
            tcp("a/yields", 3),
        ]);
        let after = planned(vec![
            tcp("a/keeps", 1),
            tcp("a/takes", 3),
            tcp("a/comes", 4),
        ]);
        let diff = after.diff(before.wanted().map(|target| (target.slot(), target)));
        let closed: Vec<_> = diff.close.iter().map(|slot| slot.port.get()).collect();
        assert_eq!(closed, [2, 3]);
        let open: Vec<_> = diff
            .open
            .iter()
            .map(|target| target.service.name())
            .collect();
        assert_eq!(open, ["takes", "comes"]);
        let none = after.diff(after.wanted().map(|target| (target.slot(), target)));
        assert_eq!(none, Diff::default());
    }
}
