// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the profile `modern` answers otherwise than Consul 1.8.7, case by case with the reason: the table of decision
//! record 0060. Every other case is answered as it was recorded.

use crate::{
    cases::{Case, Count, Section},
    message::Edns,
};
use std::collections::BTreeSet;

/// The case as `modern` answers it, and why; none where it answers as Consul.
pub(crate) fn expected(case: &Case, all: &[Case]) -> Option<(Case, &'static str)> {
    let mut other = case.clone();
    let reason = change(&mut other, all)?;
    Some((other, reason))
}

fn change(case: &mut Case, all: &[Case]) -> Option<&'static str> {
    let id = case.id.clone();
    Some(match id.as_str() {
        "S18" => no_data(case, "an address is no text"),
        "S24" => no_data(case, "the domain exists"),
        "S25" => {
            let server = "consul. 0 IN NS agent-1.node.dc1.consul.";
            yes(case, &[SOA, server]);
            case.observed.additional = section(&["agent-1.node.dc1.consul. 0 IN A 127.0.0.1"]);
            "the domain exists, and this is what stands there"
        }
        "V25" | "N07" | "R06" | "R11" => no_data(case, "the name exists, the type does not"),
        "A04" => no_data(case, "an IPv4 address has no AAAA record"),
        "O09" | "O10" => no_data(case, "the domain exists and is not signed"),
        "A08" => does_not_exist(case, "no address has six digits"),
        "A12" => does_not_exist(case, "the suffix names no zone of ours"),
        "S23" | "N18" => no_data(case, "other names stand below it (RFC 8020)"),
        "V08" => no_data(case, "the name has SRV records"),
        "S05" => as_recorded(case, all, "S01", "later versions of Consul know <zone>.dc"),
        "N22" => as_recorded(case, all, "N01", "later versions of Consul know <zone>.dc"),
        "O05" => {
            no(case, "NOTIMP");
            case.observed.authority = Section::default();
            "no transfers of any kind"
        }
        "X03" | "X04" | "T11" => {
            let whole = case.observed.answer.pool.len();
            case.observed.answer.count = Count::Exactly(whole);
            "size decides, not a number of records"
        }
        "X10" => {
            yes(
                case,
                &["alias.service.consul. 0 IN CNAME web.service.consul."],
            );
            case.observed.authority = section(&[SOA]);
            "only records of the asked family"
        }
        "X13" => as_recorded(case, all, "X14", "size decides, not a number of records"),
        "U03" => {
            case.observed.answer.count = Count::Exactly(5);
            "size decides, not a number of records"
        }
        "U19" => {
            case.observed.answer.count = Count::Exactly(20);
            "the limit that is set, not 8"
        }
        _ => return change_of_protocol(case),
    })
}

/// What is about messages rather than names.
fn change_of_protocol(case: &mut Case) -> Option<&'static str> {
    let id = case.id.clone();
    Some(match id.as_str() {
        "O08" => {
            yes(case, &["ns.consul. 0 IN A 127.0.0.1"]);
            "the name in the SOA record resolves"
        }
        "R03" => {
            does_not_exist(case, "nobody else was asked that could have failed");
            flags(case, &["aa", "qr", "rd"]);
            "nobody else was asked that could have failed"
        }
        "R12" => {
            yes(
                case,
                &["1.1.0.10.in-addr.arpa. 15 IN PTR n-one.node.dc1.consul."],
            );
            "names of addresses are kept as long as nodes"
        }
        "E03" => {
            case.observed.edns.as_mut()?.r#do = true;
            "RFC 3225 3: DO is repeated"
        }
        "E06" => {
            let shown = "COOKIE [01, 02, 03, 04, 05, 06, 07, 08] with ours";
            case.observed.edns.as_mut()?.options = vec![shown.to_owned()];
            "RFC 7873: a client that shows a cookie is given ours"
        }
        "E04" => refused(case, "BADVERS", "RFC 6891 6.1.3"),
        "E08" => {
            case.observed.edns = Some(Edns {
                version: 0,
                size: 1232,
                r#do: false,
                options: Vec::new(),
            });
            "RFC 6891 7: a client that speaks EDNS is answered with it"
        }
        "D14" => refused(case, "REFUSED", "the class is not ours"),
        "D26" => {
            case.observed.authority = section(&[
                "edge.test. 0 IN SOA ns.edge.test. hostmaster.edge.test. <unixtime> 3600 600 86400 0",
            ]);
            "the domain that was asked"
        }
        "D27" => {
            yes(case, &["0a000101.addr.edge.test. 0 IN A 10.0.1.1"]);
            "the domain that was asked"
        }
        "M04" => {
            "FORMERR".clone_into(&mut case.observed.rcode);
            "a question that is not there is a malformed one"
        }
        "M09" => {
            no(case, "FORMERR");
            flags(case, &["qr", "rd"]);
            case.observed.question = Some(Vec::new());
            "a question that brings its own answer is malformed"
        }
        "Z05" => no_data(case, "the domain exists, and nobody is told who serves it"),
        _ => return None,
    })
}

/// The recorded reasons, for the table in the decision record.
pub(crate) fn changed(all: &[Case]) -> Vec<(String, &'static str)> {
    let changed = all
        .iter()
        .filter_map(|case| Some((case.id.clone(), expected(case, all)?.1)));
    changed.collect()
}

const SOA: &str = "consul. 0 IN SOA ns.consul. hostmaster.consul. <unixtime> 3600 600 86400 0";

fn section(records: &[&str]) -> Section {
    let pool: BTreeSet<String> = records.iter().map(|record| (*record).to_owned()).collect();
    Section {
        count: Count::Exactly(pool.len()),
        pool,
        order_varies: false,
    }
}

fn yes(case: &mut Case, records: &[&str]) {
    "NOERROR".clone_into(&mut case.observed.rcode);
    case.observed.answer = section(records);
    case.observed.authority = Section::default();
}

fn no(case: &mut Case, rcode: &str) {
    rcode.clone_into(&mut case.observed.rcode);
    case.observed.answer = Section::default();
    case.observed.additional = Section::default();
}

fn no_data(case: &mut Case, reason: &'static str) -> &'static str {
    no(case, "NOERROR");
    case.observed.authority = section(&[SOA]);
    reason
}

fn does_not_exist(case: &mut Case, reason: &'static str) -> &'static str {
    no_data(case, reason);
    "NXDOMAIN".clone_into(&mut case.observed.rcode);
    reason
}

fn refused(case: &mut Case, rcode: &str, reason: &'static str) -> &'static str {
    no(case, rcode);
    flags(case, &["qr", "rd"]);
    reason
}

fn flags(case: &mut Case, flags: &[&str]) {
    case.observed.flags = Some(flags.iter().map(|flag| (*flag).to_owned()).collect());
}

/// As another case, with this one's name as owner.
fn as_recorded(case: &mut Case, all: &[Case], id: &str, reason: &'static str) -> &'static str {
    let other = all.iter().find(|case| case.id == id).unwrap();
    let (own, theirs) = (case.name.clone().unwrap(), other.name.clone().unwrap());
    let rename = |section: &Section| {
        let pool = section
            .pool
            .iter()
            .map(|record| record.replace(&format!("{theirs} "), &format!("{own} ")));
        Section {
            pool: pool.collect(),
            ..section.clone()
        }
    };
    case.observed.rcode.clone_from(&other.observed.rcode);
    case.observed.answer = rename(&other.observed.answer);
    case.observed.authority = rename(&other.observed.authority);
    case.observed.additional = rename(&other.observed.additional);
    reason
}
