// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any body of a Consul agent. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{
    translate::{Dictionary, PROBLEMS_MAX, Translated, ZoneFrom},
    wire::{Reading, entries, node, services},
};
use crate::{
    model::{NodeName, ServiceName},
    source::fuzz::applied,
    store::{Object, SourceId, Update},
};

/// Any body is read as instances, services or a node, or refused; an instance that cannot be read keeps what it was, and
/// what is read can be applied.
pub fn consul_answer(bytes: &[u8]) {
    let service: ServiceName = "consul/web".parse().expect("a name");
    for zone_from in [
        ZoneFrom::Datacenter,
        ZoneFrom::NodeMeta("zone".to_owned()),
        ZoneFrom::ServiceMeta("zone".to_owned()),
    ] {
        let dictionary = Dictionary {
            namespace: "consul".to_owned(),
            zone_from,
            tag: None,
        };
        if let Ok(readings) = entries(bytes) {
            instances(&dictionary, &service, readings);
        }
        if let Ok(Some(raw)) = node(bytes) {
            let name = NodeName::parse("n1").expect("a name");
            let own = dictionary.own_node(&name, &raw);
            applied(
                SourceId::Consul,
                vec![Update::Upsert(SourceId::Consul, Object::OwnNode(own))],
            );
        }
    }
    for name in services(bytes).unwrap_or_default().keys() {
        let dictionary = Dictionary {
            namespace: "consul".to_owned(),
            zone_from: ZoneFrom::Datacenter,
            tag: None,
        };
        let _ = dictionary.service(name);
    }
}

fn instances(dictionary: &Dictionary, service: &ServiceName, readings: Vec<Reading>) {
    let broken: Vec<_> = readings
        .iter()
        .filter_map(|reading| match reading {
            Reading::Broken { key, why } => Some((key.clone(), why.clone())),
            Reading::Whole(_) => None,
        })
        .collect();
    let translated = dictionary.translate(service, readings, None);
    assert!(translated.problems.len() <= PROBLEMS_MAX);
    // The same instances, none of which can be read any more.
    let unreadable = translated
        .keys()
        .map(|key| (key.clone(), String::new()))
        .chain(broken)
        .map(|(key, why)| Reading::Broken { key, why })
        .collect();
    let after = dictionary.translate(service, unreadable, Some(&translated));
    assert_eq!(after.nodes(), translated.nodes());
    assert_eq!(after.slices(service), translated.slices(service));
    applied(SourceId::Consul, updates(service, &translated));
}

fn updates(service: &ServiceName, translated: &Translated) -> Vec<Update> {
    let nodes = translated.nodes().into_values().map(Object::Node);
    let slices = translated.slices(service).into_values().map(Object::Slice);
    nodes
        .chain([Object::Service(translated.service(service))])
        .chain(slices)
        .map(|object| Update::Upsert(SourceId::Consul, object))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_consul_answers_holds() {
        run("consul_answer", consul_answer);
    }
}
