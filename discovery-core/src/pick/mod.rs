// SPDX-License-Identifier: MIT OR Apache-2.0
//! The act of picking: over a borrowed snapshot, without lock, allocation or I/O.
//!
//! The zone policy was applied when the snapshot was made: a [`ServiceView`](crate::store::ServiceView) has its tiers in
//! order, and the first with a usable member serves. With a key the ring of that tier decides and every caller agrees;
//! without one the less busy of two random endpoints is taken.

mod candidates;
mod guard;
mod keyed;
mod p2c;
mod picker;

pub use candidates::{Candidates, candidates};
pub use guard::{InFlight, Pick};
pub use keyed::{Bound, keyed};
pub use p2c::p2c;
pub use picker::Picker;

use crate::{
    model::{ServiceName, ZonePolicy},
    store::ZoneStatus,
};

/// Why no endpoint could be picked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// Nothing is served yet: the zone is unknown, or a list is missing.
    #[error("nothing is served yet: {zone}")]
    NotServing {
        /// What is known of the zone.
        zone: ZoneStatus,
    },
    /// The snapshot knows no such service.
    #[error("service {service} is unknown")]
    UnknownService {
        /// The service that was asked for.
        service: ServiceName,
    },
    /// The service is there, and the policy leaves no usable endpoint.
    #[error("service {service} has {listed} endpoints, none of them usable under policy {policy}")]
    NoEligibleEndpoint {
        /// The service that was asked for.
        service: ServiceName,
        /// Its endpoints, in or out.
        listed: usize,
        /// The zone policy in force.
        policy: ZonePolicy,
    },
}

impl PickError {
    /// Whether the same pick can succeed later without anybody mending a name.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::UnknownService { .. })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Views for tests, made the way the product makes them.

    use crate::{
        model::{
            Conditions, Node, NodeName, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone,
        },
        store::{
            Kind, Object, Reader, ServiceView, SourceId, StateConfig, Update, Writer, channel,
        },
    };
    use std::{net::Ipv4Addr, num::NonZeroU16, sync::Arc};

    /// The service `default/web` with `count` pods of our zone, those in `unready` not ready.
    pub(crate) fn view(count: usize, unready: &[usize]) -> Arc<ServiceView> {
        reader(count, unready)
            .load()
            .service(&"web".parse().unwrap())
            .unwrap()
            .clone()
    }

    /// A reader of a snapshot with that service.
    pub(crate) fn reader(count: usize, unready: &[usize]) -> Reader {
        let node = NodeName::parse("edge-a").unwrap();
        let (mut writer, reader) = channel(StateConfig::new(node));
        fill(&mut writer, count, unready);
        writer.publish().unwrap();
        reader
    }

    fn fill(writer: &mut Writer, count: usize, unready: &[usize]) {
        let node = Node::new(
            NodeName::parse("edge-a").unwrap(),
            Some(Zone::parse("mall-1").unwrap()),
        );
        let objects = [
            Object::OwnNode(node.clone()),
            Object::Node(node),
            Object::Slice(slice(count, unready)),
        ];
        for object in objects {
            writer.apply(Update::Upsert(SourceId::Manifest, object));
        }
        for kind in Kind::ALL {
            writer.apply(Update::Synced(SourceId::Manifest, kind));
        }
    }

    fn slice(count: usize, unready: &[usize]) -> Slice {
        let endpoint = |i: usize| SliceEndpoint {
            target: Some(TargetRef {
                name: format!("pod-{i:04}").into(),
                uid: format!("uid-{i}").into(),
            }),
            node: Some(NodeName::parse("edge-a").unwrap()),
            conditions: Conditions::from_api(Some(!unready.contains(&i)), None, None),
            ..SliceEndpoint::new(Ipv4Addr::from(0x0a00_0001 + u32::try_from(i).unwrap()).into())
        };
        let port = SlicePort {
            name: "http".into(),
            protocol: crate::model::Protocol::Tcp,
            port: NonZeroU16::new(8080).unwrap(),
        };
        Slice {
            ports: [port].into(),
            endpoints: (0..count).map(endpoint).collect(),
            ..Slice::new(
                SliceKey::new("default", "web-1").unwrap(),
                "web".parse().unwrap(),
            )
        }
    }
}
