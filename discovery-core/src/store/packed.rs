// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices as the state keeps them: everything that a later join may need, in few bytes.
//!
//! An endpoint takes 52 bytes and the letters of its pod's name; nodes, stated zones and hints are numbers of [`Names`], a
//! UID is 16 bytes. Nothing is lost: a slice that is unpacked equals the one that was packed.

use super::{
    SourceId,
    places::{Names, Number},
};
use crate::model::{
    Conditions, ServiceName, Slice, SliceEndpoint, SliceKey, SlicePort, TargetRef, Uid, Zone,
};
use std::{net::IpAddr, sync::Arc};

/// A slice without its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PackedSlice {
    pub(super) service: ServiceName,
    pub(super) ports: Arc<[SlicePort]>,
    pub(super) zone: Option<Zone>,
    pub(super) version: u64,
    /// Whether its endpoints are said to be terminating before they are taken out.
    pub(super) announces_end: bool,
    endpoints: Box<[Packed]>,
    /// The texts of all endpoints, one after the other.
    texts: Box<str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Packed {
    address: IpAddr,
    uid: [u8; 16],
    flags: u8,
    hints: Option<Number>,
    place: Option<Number>,
    zone: Option<Number>,
    /// Where its text ends; it begins where the one before ends.
    text_end: u32,
}

impl Packed {
    fn with<'s>(&self, text: &'s str) -> EndpointRef<'s> {
        EndpointRef {
            address: self.address,
            uid: self.uid,
            flags: self.flags,
            place: self.place,
            zone: self.zone,
            hints: self.hints,
            text,
        }
    }
}

/// One endpoint of a packed slice.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct EndpointRef<'s> {
    address: IpAddr,
    uid: [u8; 16],
    flags: u8,
    pub(super) place: Option<Number>,
    pub(super) zone: Option<Number>,
    pub(super) hints: Option<Number>,
    text: &'s str,
}

impl PackedSlice {
    /// Packs a slice and enters its names. `like` is the slice before, whose names are mostly the same, or else one of the
    /// same service and source, whose ports may be the same.
    pub(super) fn pack(
        slice: Slice,
        source: SourceId,
        names: &mut Names,
        like: Option<&Self>,
    ) -> Self {
        let mut texts = String::with_capacity(like.map_or(0, |like| like.texts.len()));
        let mut before = like.into_iter().flat_map(|like| &like.endpoints);
        let endpoints = slice
            .endpoints
            .iter()
            .map(|endpoint| {
                let before = before.next();
                let (node, zone, hints) = (&endpoint.node, &endpoint.zone, &endpoint.hints);
                Packed {
                    place: node.as_ref().map(|node| {
                        names.enter_place(node, source, before.and_then(|before| before.place))
                    }),
                    zone: zone
                        .as_ref()
                        .map(|zone| names.enter_zone(zone, before.and_then(|before| before.zone))),
                    hints: hints.as_ref().map(|hints| {
                        names.enter_hints(hints, before.and_then(|before| before.hints))
                    }),
                    ..pack(endpoint, &mut texts)
                }
            })
            .collect();
        let ports = match like.filter(|like| like.ports == slice.ports) {
            Some(like) => like.ports.clone(),
            None => slice.ports,
        };
        Self {
            service: slice.service,
            ports,
            zone: slice.zone,
            version: slice.version,
            announces_end: slice.announces_end,
            endpoints,
            texts: texts.into(),
        }
    }

    /// The slice as it was stated, with those of its endpoints that are wanted.
    pub(super) fn unpack(
        &self,
        key: &SliceKey,
        names: &Names,
        is_wanted: impl Fn(&EndpointRef<'_>) -> bool,
    ) -> Slice {
        let wanted = self.endpoints().filter(is_wanted);
        Slice {
            ports: self.ports.clone(),
            endpoints: wanted.map(|endpoint| endpoint.unpack(names)).collect(),
            zone: self.zone.clone(),
            version: self.version,
            announces_end: self.announces_end,
            ..Slice::new(key.clone(), self.service.clone())
        }
    }

    /// The slice with those of its endpoints that are wanted.
    pub(super) fn part(&self, is_wanted: impl Fn(&EndpointRef<'_>) -> bool) -> Self {
        let mut texts = String::new();
        let wanted = self
            .endpoints()
            .zip(&self.endpoints)
            .filter(|(endpoint, _)| is_wanted(endpoint));
        let endpoints = wanted.map(|(endpoint, packed)| {
            texts.push_str(endpoint.text);
            Packed {
                text_end: text_end(&texts),
                ..*packed
            }
        });
        Self {
            endpoints: endpoints.collect(),
            texts: texts.into(),
            service: self.service.clone(),
            ports: self.ports.clone(),
            zone: self.zone.clone(),
            ..*self
        }
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = EndpointRef<'_>> {
        let mut start = 0;
        self.endpoints.iter().map(move |packed| {
            let end = packed.text_end as usize;
            let text = &self.texts[std::mem::replace(&mut start, end)..end];
            packed.with(text)
        })
    }

    /// The endpoint at a position.
    pub(super) fn at(&self, position: u32) -> Option<EndpointRef<'_>> {
        let position = position as usize;
        let packed = self.endpoints.get(position)?;
        let before = position
            .checked_sub(1)
            .map(|before| self.endpoints[before].text_end);
        let text = before.unwrap_or_default() as usize..packed.text_end as usize;
        Some(packed.with(&self.texts[text]))
    }

    /// Whether nothing but what the control plane says of the condition of its endpoints differs.
    pub(super) fn is_same_but_for_conditions(&self, other: &Self) -> bool {
        self.ports == other.ports
            && self.service == other.service
            && self.zone == other.zone
            && self.len() == other.len()
            && (self.endpoints().zip(other.endpoints()))
                .all(|(a, b)| a.is_same_but_for_conditions(&b))
    }

    /// How many endpoints it has.
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The numbers of nodes, for a sweep.
    pub(super) fn places(&self) -> impl Iterator<Item = Number> {
        self.endpoints.iter().filter_map(|packed| packed.place)
    }

    /// The numbers of hints, for a sweep.
    pub(super) fn hints(&self) -> impl Iterator<Item = Number> {
        self.endpoints.iter().filter_map(|packed| packed.hints)
    }

    /// The numbers of stated zones, for a sweep.
    pub(super) fn zones(&self) -> impl Iterator<Item = Number> {
        self.endpoints.iter().filter_map(|packed| packed.zone)
    }
}

/// The endpoint without its names.
fn pack(endpoint: &SliceEndpoint, texts: &mut String) -> Packed {
    let mut flags = 0;
    let mut flag = |bit: u8, is_set: bool| {
        flags |= if is_set { bit } else { 0 };
        is_set
    };
    let Conditions {
        ready,
        serving,
        terminating,
    } = endpoint.conditions;
    flag(READY, ready);
    flag(SERVING, serving);
    flag(TERMINATING, terminating);
    let (target, hostname) = (endpoint.target.as_ref(), endpoint.hostname.as_deref());
    let name = target.map_or("", |target| &target.name);
    let uid = target.and_then(|target| target.uid.bytes());
    push_plain(texts, name);
    flag(HAS_TARGET, target.is_some());
    flag(HAS_UID_BYTES, uid.is_some());
    if let Some(target) = target.filter(|target| uid.is_none() && !target.uid.is_empty()) {
        flag(HAS_UID_TEXT, true);
        texts.push(SEPARATOR);
        push_plain(texts, &target.uid.to_string());
    }
    if let Some(hostname) = hostname
        && !flag(HOSTNAME_IS_NAME, target.is_some() && hostname == name)
    {
        flag(HAS_HOSTNAME, true);
        texts.push(SEPARATOR);
        push_plain(texts, hostname);
    }
    Packed {
        address: endpoint.address,
        uid: uid.copied().unwrap_or_default(),
        flags,
        hints: None,
        place: None,
        zone: None,
        text_end: text_end(texts),
    }
}

/// Where the text ends that was added last.
fn text_end(texts: &str) -> u32 {
    // A slice of 4 GiB of names is refused long before.
    u32::try_from(texts.len()).unwrap_or(u32::MAX)
}

/// Adds the text without the separator, which stands in no name.
fn push_plain(texts: &mut String, text: &str) {
    if text.bytes().any(|byte| byte == SEPARATOR_BYTE) {
        text.split(SEPARATOR).for_each(|part| texts.push_str(part));
    } else {
        texts.push_str(text);
    }
}

impl<'s> EndpointRef<'s> {
    /// The address, an IPv4 one mapped into IPv6 as what it is.
    pub(super) fn address(&self) -> IpAddr {
        self.address.to_canonical()
    }

    /// Whether nothing but what the control plane says of its condition differs.
    pub(super) fn is_same_but_for_conditions(&self, other: &Self) -> bool {
        let fixed = !(READY | SERVING | TERMINATING);
        let plain = |endpoint: &Self| Self {
            flags: endpoint.flags & fixed,
            ..*endpoint
        };
        plain(self) == plain(other)
    }

    pub(super) fn conditions(&self) -> Conditions {
        Conditions {
            ready: self.has(READY),
            serving: self.has(SERVING),
            terminating: self.has(TERMINATING),
        }
    }

    /// The UID of the pod, where it has Kubernetes' form.
    pub(super) fn uid_bytes(&self) -> Option<[u8; 16]> {
        self.has(HAS_UID_BYTES).then_some(self.uid)
    }

    /// The name of the pod.
    pub(super) fn pod(&self) -> Option<&'s str> {
        let is_alone = !self.has(HAS_UID_TEXT) && !self.has(HAS_HOSTNAME);
        let name = if is_alone {
            Some(self.text)
        } else {
            self.text.split(SEPARATOR).next()
        };
        name.filter(|_| self.has(HAS_TARGET))
    }

    pub(super) fn target(&self) -> Option<TargetRef> {
        let name = self.pod()?;
        let uid = if self.has(HAS_UID_BYTES) {
            self.uid.into()
        } else if self.has(HAS_UID_TEXT) {
            self.text.split(SEPARATOR).nth(1).unwrap_or_default().into()
        } else {
            Uid::default()
        };
        Some(TargetRef {
            name: name.into(),
            uid,
        })
    }

    fn hostname(&self) -> Option<&'s str> {
        if self.has(HOSTNAME_IS_NAME) {
            return self.pod();
        }
        let mut parts = self.text.rsplit(SEPARATOR);
        parts.next().filter(|_| self.has(HAS_HOSTNAME))
    }

    fn unpack(&self, names: &Names) -> SliceEndpoint {
        let place = self.place.and_then(|place| names.place(place));
        let zone = self.zone.and_then(|zone| names.zone(zone));
        SliceEndpoint {
            address: self.address,
            target: self.target(),
            node: place.map(|place| place.node.clone()),
            conditions: self.conditions(),
            zone: zone.cloned(),
            hints: self.hints.and_then(|hints| names.hints(hints)).cloned(),
            hostname: self.hostname().map(Into::into),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

const READY: u8 = 1;
const SERVING: u8 = 1 << 1;
const TERMINATING: u8 = 1 << 2;
const HAS_TARGET: u8 = 1 << 3;
const HAS_UID_BYTES: u8 = 1 << 4;
const HAS_UID_TEXT: u8 = 1 << 5;
const HAS_HOSTNAME: u8 = 1 << 6;
const HOSTNAME_IS_NAME: u8 = 1 << 7;
const SEPARATOR: char = '\0';
const SEPARATOR_BYTE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeName;

    #[test]
    fn an_endpoint_is_small() {
        assert_eq!(size_of::<Packed>(), 52);
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let zone = |text| Some(Zone::parse(text).unwrap());
        let node = |text| Some(NodeName::parse(text).unwrap());
        let target = |name: &str, uid: &str| {
            Some(TargetRef {
                name: name.into(),
                uid: uid.into(),
            })
        };
        let hints = Some(Arc::new(crate::model::Hints {
            zones: vec![Zone::parse("mall-1").unwrap()],
            nodes: vec![],
        }));
        let bare = || SliceEndpoint::new("10.0.0.1".parse().unwrap());
        let uid = "7f4d0101-93a1-4c2e-8d5b-0123456789ab";
        let mut slice = Slice::new(
            SliceKey::new("shop", "web-1").unwrap(),
            "shop/web".parse().unwrap(),
        );
        slice.version = 7;
        slice.announces_end = true;
        slice.zone = zone("mall-9");
        for (target, hostname) in [
            (None, None),
            (None, Some("host-a")),
            (target("web-0", ""), None),
            (target("web-0", uid), Some("web-0")),
            (target("web-0", "by-hand"), Some("web-0")),
            (target("web-0", "by-hand"), Some("other")),
            (target("web-0", uid), Some("other")),
        ] {
            slice.endpoints.push(SliceEndpoint {
                target: target.clone(),
                hostname: hostname.map(Into::into),
                ..bare()
            });
            slice.endpoints.push(SliceEndpoint {
                target,
                hostname: hostname.map(Into::into),
                node: node("n1"),
                zone: zone("mall-1"),
                hints: hints.clone(),
                conditions: Conditions::from_api(Some(false), Some(true), Some(true)),
                ..SliceEndpoint::new("::ffff:10.0.0.1".parse().unwrap())
            });
        }
        let mut names = Names::default();
        let packed = PackedSlice::pack(slice.clone(), SourceId::Kube, &mut names, None);
        assert_eq!(packed.unpack(&slice.key, &names, |_| true), slice);
        assert_eq!(names.len(), 3, "one node, one zone, one hint");
        let part = packed.part(|endpoint| endpoint.pod().is_some());
        slice.endpoints.retain(|endpoint| endpoint.target.is_some());
        assert_eq!(part.unpack(&slice.key, &names, |_| true), slice);
    }
}
