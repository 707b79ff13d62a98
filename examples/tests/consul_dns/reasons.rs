// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions around the grammar, and the reviewed table of differences: each row with when it applies.

use crate::message::Message;

/// A name and a type.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) rtype: &'static str,
}

impl Question {
    /// Mostly names that mean something, also such that nearly do.
    pub(crate) fn draw(random: &mut fastrand::Rng) -> Self {
        let mut pick = |words: &[&'static str]| words[random.usize(..words.len())];
        let service = pick(&SERVICES);
        let suffix = pick(&[
            "", "", "", "", ".dc1", ".dc1", ".dc1.dc", ".dc9", ".a.b", ".DC1",
        ]);
        let name = match pick(&[
            "service", "service", "service", "tag", "marked", "marked", "node", "other", "any",
            "reverse",
        ]) {
            "service" => format!("{service}.service{suffix}"),
            "tag" => format!("{}.{service}.service{suffix}", pick(&TAGS)),
            "marked" => format!(
                "_{service}._{}{}{suffix}",
                pick(&["tcp", "tcp", "udp", "v1", "primary", "TCP"]),
                pick(&[".service", ".service", "", ".query"])
            ),
            "node" => format!("{}.node{suffix}", pick(&NODES)),
            "other" => {
                let left = pick(&[
                    "web",
                    "onlynode",
                    "pq-web",
                    "pq.dotted",
                    "pq-empty",
                    "geo-web",
                    "x.web",
                    "edge-gw",
                    "nosuch",
                    "PQ-Passing",
                ]);
                format!(
                    "{left}.{}{suffix}",
                    pick(&["connect", "ingress", "query", "query", "addr", "virtual"])
                )
            }
            "any" => pick(&[
                "",
                "dc1",
                "service",
                "node",
                "query",
                "ns",
                "x",
                "addr",
                "dc",
                "_tcp",
                "web",
                "a.b.c",
                "0a000101.addr",
                "0A000101.ADDR",
                "0a000101.addr.dc1",
                "0a000101.addr.zz",
                "fd00000b000000000000000000000001.addr",
                "0a0001.addr",
                "0a00010g.addr",
                "x.0a000101.addr",
            ])
            .to_owned(),
            _ => pick(&[
                "1.1.0.10.in-addr.arpa",
                "2.2.0.10.in-addr.arpa",
                "1.0.3.10.in-addr.arpa",
                "9.9.9.10.in-addr.arpa",
                "10.in-addr.arpa",
                "arpa",
                "x.arpa",
            ])
            .to_owned(),
        };
        let name = match name.as_str() {
            "" => "consul.".to_owned(),
            name if name.ends_with("arpa") => format!("{name}."),
            name => format!("{name}.consul."),
        };
        Self {
            name,
            rtype: pick(&[
                "A", "A", "A", "SRV", "SRV", "AAAA", "TXT", "MX", "ANY", "PTR", "CNAME", "NS",
                "SOA", "HTTPS",
            ]),
        }
    }

    fn is_of(&self, kind: &str) -> bool {
        self.name
            .to_ascii_lowercase()
            .split('.')
            .any(|label| label == kind)
    }
}

const SERVICES: [&str; 32] = [
    "web",
    "web",
    "WEB",
    "onlynode",
    "svcaddr",
    "svcaddr6",
    "node6",
    "dual",
    "portless",
    "mixedcase",
    "under_score",
    "onupper",
    "ondotted",
    "allcrit",
    "allwarn",
    "nodecrit",
    "nodewarn",
    "nochecks",
    "maint",
    "weighted",
    "dup",
    "extnode",
    "extsvc",
    "alias",
    "tonode",
    "taggednode",
    "taggedsvc",
    "five",
    "many",
    "local",
    "nosuch",
    "web-sidecar-proxy",
];
const TAGS: [&str; 9] = [
    "v1",
    "V1",
    "v2",
    "primary",
    "edge.mall-a",
    "mall-a",
    "primary.v1",
    "a",
    "nosuch",
];
const NODES: [&str; 12] = [
    "n-one",
    "n-two",
    "N-ONE",
    "n-six",
    "n-uppercase",
    "n_under",
    "n-dot.rack.lan",
    "rack.lan",
    "n-fqdn",
    "n-tagged",
    "n-nodecrit",
    "nosuch",
];

fn is_empty(message: &Message) -> bool {
    message.sections[0].is_empty()
}

fn is_no_data(message: &Message) -> bool {
    message.rcode == "NOERROR"
        && is_empty(message)
        && message.sections[1]
            .iter()
            .any(|record| record.contains(" SOA "))
}

fn does_not_exist(message: &Message) -> bool {
    message.rcode == "NXDOMAIN"
}

fn has(message: &Message, rtype: &str) -> bool {
    message.sections[0]
        .iter()
        .any(|record| record.contains(&format!(" IN {rtype} ")))
}

/// Why ours may differ; none where it may not.
pub(crate) fn why(question: &Question, ours: &Message, theirs: &Message) -> Option<&'static str> {
    let is_no = is_no_data(ours) || does_not_exist(ours);
    let (rtype, first) = (
        question.rtype,
        question.name.split('.').next().unwrap_or_default(),
    );
    let is_arpa = question.is_of("arpa");
    let stem = [
        "consul", "service", "node", "query", "addr", "connect", "ingress", "dc", "dc1", "arpa",
        "10", "rack", "mall-a", "ns",
    ];
    Some(match () {
        () if question.is_of("virtual") && does_not_exist(ours) => {
            "virtual addresses are not of a zone"
        }
        () if rtype == "ANY"
            && ours.sections[0]
                .iter()
                .all(|record| theirs.sections[0].contains(record))
            && !is_empty(ours) =>
        {
            "ANY over UDP gives one family (RFC 8482)"
        }
        () if is_arpa && is_no && has(theirs, "PTR") && rtype != "PTR" => {
            "the name exists, the type does not"
        }
        () if is_arpa && is_no_data(ours) && does_not_exist(theirs) => {
            "names stand below it (RFC 8020)"
        }
        () if is_arpa && does_not_exist(ours) && does_not_exist(theirs) => {
            "Consul adds its SOA record twice"
        }
        () if matches!(rtype, "NS" | "SOA") && has(theirs, rtype) && !has(ours, rtype) => {
            "SOA and NS are the domain's own, not every name's"
        }
        () if question.is_of("node")
            && does_not_exist(ours)
            && is_empty(theirs)
            && !does_not_exist(theirs) =>
        {
            "a zone that is not ours has no nodes, whatever is asked of them"
        }
        () if question.is_of("query") && question.is_of("dc") && does_not_exist(theirs) => {
            "<zone>.dc follows every kind of name"
        }
        () if question.name == "consul." && does_not_exist(theirs) => "the domain exists",
        () if question.name.eq_ignore_ascii_case("ns.consul.") && does_not_exist(theirs) => {
            "the name in the SOA record resolves"
        }
        () if is_no_data(ours)
            && does_not_exist(theirs)
            && (stem.contains(&&*first.to_ascii_lowercase()) || first.starts_with('_')) =>
        {
            "names stand below it, or it has SRV records (RFC 8020)"
        }
        () if question.is_of("addr")
            && is_no
            && is_empty(theirs)
            && !theirs.sections[2].is_empty() =>
        {
            "an address of the other family is not what was asked"
        }
        () if question.is_of("addr") && does_not_exist(ours) && theirs.rcode == "NOERROR" => {
            "the suffix names no zone of ours"
        }
        () if question.is_of("node")
            && is_no_data(ours)
            && is_empty(theirs)
            && theirs.rcode == "NOERROR" =>
        {
            "the type is missing: SOA says so"
        }
        () if question.is_of("node") && has(ours, "CNAME") && is_empty(theirs) => {
            "an alias stands for every type"
        }
        () if rtype == "TXT" && is_no_data(ours) && (has(theirs, "A") || has(theirs, "AAAA")) => {
            "an address is no text"
        }
        () if has(ours, "CNAME") && has(theirs, "CNAME") && !has(ours, "A") && has(theirs, "A") => {
            "an alias leads to the asked family alone"
        }
        () if has(ours, "CNAME")
            && has(theirs, "CNAME")
            && ours.sections[1].len() == 1
            && theirs.sections[1].is_empty() =>
        {
            "an alias without the asked type: SOA says so"
        }
        () if rtype == "SOA" && question.name == "consul." => "the name server of the domain",
        () => return None,
    })
}
