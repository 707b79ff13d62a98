// SPDX-License-Identifier: MIT OR Apache-2.0
//! An index that was made of the one before says what one says that was made of nothing, whatever happened between them.

use crate::{
    asker::Asker,
    mall::{HTTP, Mall, node, service_name},
    packet::{A, AAAA, PTR, SRV, words},
};
use discovery_core::{
    model::{Node, NodeName, Registration, Service, ServicePort},
    store::{Object, ObjectKey, SourceId, Update},
};
use dns_sidecar::{Config, IndexBuilder};
use proptest::prelude::*;

/// What happens to the mall.
#[derive(Clone, Debug)]
enum Step {
    /// A service has these endpoints, and the name that it wishes for.
    Service {
        number: usize,
        wish: Option<usize>,
        is_at_host: bool,
        endpoints: Vec<u8>,
    },
    /// A service that may be there has other endpoints, and nothing else changed.
    Endpoints {
        number: usize,
        is_at_host: bool,
        endpoints: Vec<u8>,
    },
    Gone(usize),
    /// The second node has this address.
    Node(u8),
    /// Our own node is there no more, and with it our zone.
    NoZone,
    Zone,
    Publish,
    /// An index is made of what was published since the last one.
    Build,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wish = prop::option::weighted(0.4, 0..WISHES.len());
    let hosts = || prop::collection::vec(0_u8..4, 0..3);
    let service = (0..SERVICES.len(), wish, any::<bool>(), hosts());
    let service = service.prop_map(|(number, wish, is_at_host, endpoints)| Step::Service {
        number,
        wish,
        is_at_host,
        endpoints,
    });
    let endpoints = (0..SERVICES.len(), any::<bool>(), hosts());
    let endpoints = endpoints.prop_map(|(number, is_at_host, endpoints)| Step::Endpoints {
        number,
        is_at_host,
        endpoints,
    });
    let step = prop_oneof![
        9 => service,
        9 => endpoints,
        3 => (0..SERVICES.len()).prop_map(Step::Gone),
        1 => (2_u8..4).prop_map(Step::Node),
        1 => Just(Step::NoZone),
        2 => Just(Step::Zone),
        12 => Just(Step::Publish),
        6 => Just(Step::Build),
    ];
    prop::collection::vec(step, 1..80)
}

fn second_node(host: u8) -> Node {
    let address = format!("10.0.0.{host}");
    node("edge-b.rack.lan", "Mall.1", &[&address])
}

impl Mall {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Service {
                number,
                wish,
                is_at_host,
                endpoints,
            } => self.set(SERVICES[*number], *wish, *is_at_host, endpoints),
            Step::Endpoints {
                number,
                is_at_host,
                endpoints,
            } => self.set_endpoints(SERVICES[*number], *is_at_host, endpoints),
            Step::Gone(number) => self.upsert_gone(SERVICES[*number]),
            Step::Node(host) => self.upsert(Object::Node(second_node(*host))),
            Step::NoZone => {
                let own = ObjectKey::OwnNode(NodeName::parse("edge-a").unwrap());
                self.writer.apply(Update::Remove(SourceId::Kube, own));
                self.writer.accept();
            }
            Step::Zone => self.upsert(Object::OwnNode(node(
                "edge-a",
                "Mall.1",
                &["10.0.0.1", "fd00::1"],
            ))),
            Step::Publish => drop(self.writer.publish()),
            Step::Build => {}
        }
    }

    fn set(&mut self, name: &str, wish: Option<usize>, is_at_host: bool, endpoints: &[u8]) {
        let (port_name, protocol, port) = HTTP;
        let registration = wish.map(|wish| Registration {
            names: vec![WISHES[wish].into()],
            ..Registration::default()
        });
        self.upsert(Object::Service(Service {
            ports: [ServicePort {
                name: port_name.into(),
                protocol,
                port: port.try_into().unwrap(),
                node_port: is_at_host.then(|| 30_080.try_into().unwrap()),
            }]
            .into(),
            owns_node_ports: true,
            registration: registration.map(Into::into),
            ..Service::new(service_name(name))
        }));
        self.set_endpoints(name, is_at_host, endpoints);
    }

    fn set_endpoints(&mut self, name: &str, is_at_host: bool, endpoints: &[u8]) {
        let network = if is_at_host { "10.0.0" } else { "10.1.0" };
        let pods = endpoints.iter().map(|host| {
            let address = format!("{network}.{host}");
            (format!("pod-{host}"), address)
        });
        let pods: Vec<_> = pods.collect();
        let pods = pods
            .iter()
            .map(|(pod, address)| (&**pod, "edge-b.rack.lan", &**address));
        self.endpoints(name, "4", &[HTTP], &pods.collect::<Vec<_>>());
    }
}

/// Every name that anything may have, with its answer in words.
fn told(asker: &mut Asker) -> Vec<(String, String)> {
    let plain = SERVICES.iter().map(|name| name.split_once('/').unwrap());
    let labels = plain.flat_map(|(namespace, name)| [format!("{name}-{namespace}"), name.into()]);
    let labels = labels.chain(WISHES.map(str::to_owned));
    let mut asked: Vec<(String, u16)> = Vec::new();
    for label in labels {
        asked.extend([A, AAAA, SRV].map(|qtype| (format!("{label}.service.consul"), qtype)));
        asked.push((format!("http.{label}.service.mall-1.consul"), SRV));
        asked.push((format!("{label}.ingress.consul"), A));
    }
    for host in 0..4 {
        asked.push((format!("{host}.0.1.10.in-addr.arpa"), PTR));
        asked.push((format!("{host}.0.0.10.in-addr.arpa"), PTR));
    }
    asked.push(("edge-b.rack.lan.node.consul".to_owned(), A));
    let answers = asked.into_iter().map(|(name, qtype)| {
        let message = asker.ask(&name, qtype);
        let records = words(&message.answers);
        (
            format!("{name} {qtype}"),
            format!("{} {records:?}", message.metadata.response_code),
        )
    });
    answers.collect()
}

/// One service in the namespace whose services have short names, others beside it, and two of one name.
const SERVICES: [&str; 5] = [
    "default/web",
    "shop/web",
    "shop/cart",
    "infra/cart",
    "a/web-shop",
];
const WISHES: [&str; 3] = ["front", "web-shop", "cart-shop"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_index_made_of_the_one_before_says_what_one_made_of_nothing_says(steps in steps()) {
        let mut mall = Mall::empty();
        let mut grown = Asker::new(&mut mall);
        for step in steps.iter().chain([&Step::Publish, &Step::Build]) {
            mall.take(step);
            if !matches!(step, Step::Build) {
                continue;
            }
            grown.follow(&mut mall);
            let mut anew = Asker::new(&mut mall);
            prop_assert_eq!(told(&mut grown), told(&mut anew));
            prop_assert_eq!(grown.index.unnamed(), anew.index.unnamed());
            prop_assert_eq!(grown.index.service_names(), anew.index.service_names());
        }
    }
}

#[test]
fn snapshots_of_another_writer_are_no_continuation() {
    let (mut first, mut other) = (Mall::empty(), Mall::empty());
    first.service("shop/first", &[HTTP]);
    other.service("shop/other", &[HTTP]);
    other.service("shop/second", &[HTTP]);
    let [first, other] = [&mut first, &mut other].map(|mall| mall.writer.publish().unwrap());
    assert_eq!(first.generation(), other.generation());
    let mut builder = IndexBuilder::new(&Config::default());
    assert_eq!(builder.build(&first).service_names(), 1);
    assert_eq!(builder.build(&other).service_names(), 2);
    assert_eq!(builder.build(&first).service_names(), 1);
}
