// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded cases: their form, the request that each describes, and whether a reply agrees with it.

use crate::message::{Edns, Message, type_number, wire_name};
use serde::Deserialize;
use std::{collections::BTreeSet, net::IpAddr};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// A question and what was observed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) class: String,
    pub(crate) variant: String,
    pub(crate) name: Option<String>,
    pub(crate) r#type: Option<String>,
    pub(crate) opts: Opts,
    #[serde(rename = "observed_1.8.7")]
    pub(crate) observed: Observed,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Opts {
    pub(crate) t: Option<String>,
    pub(crate) edns: Option<u16>,
    ecs: Option<String>,
    r#do: u8,
    cd: u8,
    ad: u8,
    rd: Option<u8>,
    ednsver: u8,
    cookie: Option<String>,
    cls: Option<String>,
    opcode: Option<String>,
    raw: Option<String>,
    #[serde(rename = "reps")]
    _reps: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Observed {
    pub(crate) rcode: String,
    pub(crate) opcode: Option<String>,
    pub(crate) flags: Option<BTreeSet<String>>,
    pub(crate) question: Option<Vec<String>>,
    pub(crate) edns: Option<Edns>,
    #[serde(default)]
    pub(crate) answer: Section,
    #[serde(default)]
    pub(crate) authority: Section,
    #[serde(default)]
    pub(crate) additional: Section,
    #[serde(default)]
    size: Option<[usize; 2]>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Section {
    pub(crate) count: Count,
    pub(crate) pool: BTreeSet<String>,
    #[serde(default)]
    pub(crate) order_varies: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Count {
    Exactly(usize),
    Between([usize; 2]),
}

impl Default for Count {
    fn default() -> Self {
        Self::Exactly(0)
    }
}

impl Count {
    fn has(self, count: usize) -> bool {
        match self {
            Self::Exactly(exactly) => count == exactly,
            Self::Between([least, most]) => (least..=most).contains(&count),
        }
    }
}

/// All recorded cases.
pub(crate) fn all() -> Vec<Case> {
    let file: File = serde_json::from_str(include_str!("recorded/cases.json")).unwrap();
    file.cases
}

impl Case {
    pub(crate) fn is_tcp(&self) -> bool {
        self.opts.t.as_deref() == Some("tcp")
    }

    pub(crate) fn request(&self, id: u16) -> Vec<u8> {
        let opts = &self.opts;
        if let Some(raw) = &opts.raw {
            return unhex(raw);
        }
        let opcode = match opts.opcode.as_deref() {
            Some("STATUS") => 2_u16,
            Some("NOTIFY") => 4,
            Some("UPDATE") => 5,
            _ => 0,
        };
        let bit = |is_set: bool, bit: u16| u16::from(is_set) << bit;
        let flags =
            opcode << 11 | bit(opts.rd != Some(0), 8) | bit(opts.ad == 1, 5) | bit(opts.cd == 1, 4);
        let class: u16 = match opts.cls.as_deref() {
            Some("CH") => 3,
            Some("ANY") => 255,
            _ => 1,
        };
        let additional = u16::from(opts.edns.is_some());
        let mut request: Vec<u8> = [id, flags, 1, 0, 0, additional]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect();
        request.extend(wire_name(self.name.as_deref().unwrap()));
        let rtype = type_number(self.r#type.as_deref().unwrap());
        request.extend([rtype, class].iter().flat_map(|n| n.to_be_bytes()));
        if let Some(size) = opts.edns {
            let options = self.options();
            request.extend([0, 0, 41]);
            request.extend(size.to_be_bytes());
            request.extend([0, opts.ednsver, opts.r#do << 7, 0]);
            request.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
            request.extend(options);
        }
        request
    }

    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some((address, bits)) = self.opts.ecs.as_deref().and_then(|ecs| ecs.split_once('/'))
        {
            let bits: u8 = bits.parse().unwrap();
            let (family, octets) = match address.parse().unwrap() {
                IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                IpAddr::V6(v6) => (2, v6.octets().to_vec()),
            };
            let length = usize::from(bits).div_ceil(8);
            options.extend([
                0,
                8,
                0,
                u8::try_from(4 + length).unwrap(),
                0,
                family,
                bits,
                0,
            ]);
            options.extend(&octets[..length]);
        }
        if let Some(cookie) = &self.opts.cookie {
            let cookie = unhex(cookie);
            options.extend([0, 10, 0, u8::try_from(cookie.len()).unwrap()]);
            options.extend(cookie);
        }
        options
    }

    /// Everything in which the reply differs from what was observed.
    pub(crate) fn differences(&self, reply: &Message) -> Vec<String> {
        let observed = &self.observed;
        let mut differences = Vec::new();
        let mut check = |what: &str, is: String, was: String| {
            if is != was {
                differences.push(format!("{what} is {is}, was {was}"));
            }
        };
        check("rcode", reply.rcode.clone(), observed.rcode.clone());
        check(
            "opcode",
            reply.opcode.clone(),
            observed.opcode.clone().unwrap_or_default(),
        );
        check(
            "flags",
            format!("{:?}", reply.flags),
            format!("{:?}", observed.flags.clone().unwrap_or_default()),
        );
        check(
            "question",
            format!("{:?}", reply.question),
            format!("{:?}", observed.question.clone().unwrap_or_default()),
        );
        check(
            "edns",
            format!("{:?}", reply.edns),
            format!("{:?}", observed.edns),
        );
        let sections = [&observed.answer, &observed.authority, &observed.additional];
        for ((section, records), name) in
            sections
                .iter()
                .zip(&reply.sections)
                .zip(["answer", "authority", "additional"])
        {
            if !section.count.has(records.len()) {
                differences.push(format!(
                    "{name} has {} records, had {:?}: {records:?}",
                    records.len(),
                    section.count
                ));
            }
            for record in records
                .iter()
                .filter(|record| !section.pool.contains(*record))
            {
                differences.push(format!("{name} has {record}"));
            }
        }
        let answer = &reply.sections[0];
        let distinct: BTreeSet<_> = answer.iter().collect();
        // A loop of aliases ends with one of them repeated.
        if distinct.len() < answer.len() && !answer.iter().any(|record| record.contains(" CNAME "))
        {
            differences.push(format!("the answer repeats itself: {answer:?}"));
        }
        differences.extend(unresolved_targets(reply));
        // Sizes tell whether names are compressed, and little else.
        if let (Some([least, most]), "nocompress") = (observed.size, &*self.variant)
            && !(least..=most).contains(&reply.bytes)
        {
            differences.push(format!("{} bytes, had {least} to {most}", reply.bytes));
        }
        let limit = self.opts.edns.unwrap_or(512).max(512);
        if !self.is_tcp() && reply.bytes > usize::from(limit) {
            differences.push(format!(
                "{} bytes for a client that takes {limit}",
                reply.bytes
            ));
        }
        differences
    }

    /// Whether what is answered is a choice, so that asking often must show all of it.
    pub(crate) fn is_random(&self) -> bool {
        let answer = &self.observed.answer;
        answer.order_varies || !answer.count.has(answer.pool.len())
    }
}

/// SRV targets without an address beside them; those of others are not ours to tell.
fn unresolved_targets(reply: &Message) -> Vec<String> {
    let owns_address = |target: &str| {
        reply.sections[2].iter().any(|record| {
            let mut words = record.split(' ');
            let owner = words.next().unwrap();
            let rtype = words.nth(2).unwrap();
            owner.eq_ignore_ascii_case(target) && matches!(rtype, "A" | "AAAA" | "CNAME")
        })
    };
    let targets = reply.sections[0]
        .iter()
        .filter(|record| record.contains(" SRV "));
    let targets = targets.map(|record| record.rsplit(' ').next().unwrap());
    targets
        .filter(|target| !target.ends_with("example.test.") && !owns_address(target))
        .map(|target| format!("{target} has no address beside it"))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}
