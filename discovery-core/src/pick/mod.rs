// SPDX-License-Identifier: MIT OR Apache-2.0
//! The act of picking: over a borrowed snapshot, without lock, allocation or I/O. One key is no such pick: the first that is asked
//! of a view for whose service nobody has made a [`Picker`] builds the table of that view.
//!
//! The zone policy was applied when the snapshot was made: a [`ServiceView`](crate::store::ServiceView) has its tiers in
//! order, and the first with a usable member serves. With a key the ring of that tier decides and every caller agrees;
//! without one the less busy of two random endpoints is taken.

mod candidates;
mod eject;
#[cfg(test)]
mod flaps;
mod guard;
mod keyed;
mod latency;
mod owner;
mod p2c;
mod picker;
mod skip;
mod turns;
mod walk;
mod window;

pub use candidates::{Candidates, candidates, candidates_at, first};
pub use eject::{EjectRule, Outcome, Verdict, report};
pub use guard::{InFlight, Pick};
pub use keyed::{Bound, keyed};
pub use owner::{OwnerChange, OwnerChangeCause, OwnerWatch, owner, owner_change};
pub use p2c::{p2c, p2c_ewma, p2c_with};
pub use picker::Picker;
pub use skip::{Skip, left_out};
pub use turns::{RoundRobin, weighted_random};
pub use walk::{Forgiven, PassedOver, Step, Steps, walk};

use crate::{
    model::{ServiceName, ZonePolicy},
    store::ZoneStatus,
};
use std::sync::Arc;

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
    /// The service asks for a placement that this version does not know: a guess would send keys elsewhere than other callers.
    #[error("service {service} asks for placement {tag:?}, which this version does not know")]
    UnknownPlacement {
        /// The service that was asked for.
        service: ServiceName,
        /// The placement that it asks for.
        tag: Arc<str>,
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
        !matches!(
            self,
            Self::UnknownService { .. } | Self::UnknownPlacement { .. }
        )
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! Views for tests, made the way the product makes them.

    use crate::{
        model::{
            Balancing, Conditions, Node, NodeName, Service, Slice, SliceEndpoint, SliceKey,
            SlicePort, TargetRef, Zone, ZonePolicy,
        },
        store::{
            Kind, Object, Reader, ServiceView, SourceId, StateConfig, Update, Writer, channel,
        },
    };
    use std::{net::Ipv4Addr, num::NonZeroU16, sync::Arc};

    /// The service `default/web` with `count` pods of our zone, those in `unready` not ready.
    pub(crate) fn view(count: usize, unready: &[usize]) -> Arc<ServiceView> {
        View::of(count).unready(unready).build()
    }

    /// A reader of a snapshot with that service.
    #[cfg(feature = "tower")]
    pub(crate) fn reader(count: usize, unready: &[usize]) -> Reader {
        View::of(count).unready(unready).publish().1
    }

    /// The service `default/web`, under construction.
    #[derive(Clone)]
    pub(crate) struct View {
        near: usize,
        far: usize,
        unready: Vec<usize>,
        service: Service,
    }

    impl View {
        /// With `count` pods of our zone.
        pub(crate) fn of(count: usize) -> Self {
            Self {
                near: count,
                far: 0,
                unready: Vec::new(),
                service: Service::new("web".parse().unwrap()),
            }
        }

        /// And as many pods of another zone after them, under policy `prefer`.
        pub(crate) fn far(mut self, count: usize) -> Self {
            self.far = count;
            self.service.zone_policy = Some(ZonePolicy::Prefer);
            self
        }

        pub(crate) fn unready(mut self, unready: &[usize]) -> Self {
            self.unready = unready.into();
            self
        }

        pub(crate) fn set_policy(&mut self, policy: ZonePolicy) {
            self.service.zone_policy = Some(policy);
        }

        pub(crate) fn weights(self, text: &str) -> Self {
            let weights = text.parse().unwrap();
            self.asks(|asked| asked.weights = weights)
        }

        /// What the service asks for.
        pub(crate) fn asks(mut self, change: impl FnOnce(&mut Balancing)) -> Self {
            change(&mut self.service.balancing);
            self
        }

        pub(crate) fn build(self) -> Arc<ServiceView> {
            let reader = self.publish().1;
            web(&reader)
        }

        pub(crate) fn publish(self) -> (Writer, Reader) {
            let (mut writer, reader) =
                channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
            self.state(&mut writer);
            for kind in Kind::ALL {
                writer.apply(Update::Synced(SourceId::Manifest, kind));
            }
            writer.publish().unwrap();
            (writer, reader)
        }

        /// States it to a writer that may have another one.
        pub(crate) fn state(self, writer: &mut Writer) {
            let node = |name: &str, zone: &str| {
                Node::new(
                    NodeName::parse(name).unwrap(),
                    Some(Zone::parse(zone).unwrap()),
                )
            };
            let slice = self.slice();
            for object in [
                Object::OwnNode(node("edge-a", "mall-1")),
                Object::Node(node("edge-a", "mall-1")),
                Object::Node(node("edge-b", "mall-2")),
                Object::Service(self.service),
                Object::Slice(slice),
            ] {
                writer.apply(Update::Upsert(SourceId::Manifest, object));
            }
        }

        fn slice(&self) -> Slice {
            let endpoint = |i: usize| SliceEndpoint {
                target: Some(TargetRef {
                    name: format!("pod-{i:04}").into(),
                    uid: format!("uid-{i}").as_str().into(),
                }),
                node: Some(
                    NodeName::parse(if i < self.near { "edge-a" } else { "edge-b" }).unwrap(),
                ),
                conditions: Conditions::from_api(Some(!self.unready.contains(&i)), None, None),
                ..SliceEndpoint::new(Ipv4Addr::from(0x0a00_0001 + u32::try_from(i).unwrap()).into())
            };
            let port = SlicePort {
                name: "http".into(),
                protocol: crate::model::Protocol::Tcp,
                port: NonZeroU16::new(8080).unwrap(),
            };
            Slice {
                ports: [port].into(),
                endpoints: (0..self.near + self.far).map(endpoint).collect(),
                ..Slice::new(
                    SliceKey::new("default", "web-1").unwrap(),
                    "web".parse().unwrap(),
                )
            }
        }
    }

    pub(crate) fn web(reader: &Reader) -> Arc<ServiceView> {
        let snapshot = reader.load();
        snapshot.service(&"web".parse().unwrap()).unwrap().clone()
    }
}
