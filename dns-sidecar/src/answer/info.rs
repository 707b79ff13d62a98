// SPDX-License-Identifier: MIT OR Apache-2.0
//! `_info.<service>`: what is known of a service, as one TXT record, so that a person with `dig` sees why an answer is what
//! it is.

use super::{
    Asker,
    reply::{OwnerAt, Reply},
};
use crate::{
    index::PreparedService,
    prepare::text_data,
    records::write_text,
    wire::{Section, rtype},
};
use discovery_core::store::{ServiceView, Tier};
use std::collections::BTreeMap;

impl Asker<'_> {
    /// The text; whether it was asked for.
    pub(super) fn push_info(&self, reply: &mut Reply<'_>, service: &PreparedService) -> bool {
        if !matches!(self.request.qtype, rtype::TXT | rtype::ANY) {
            return false;
        }
        let index = self.index;
        let mut strings = vec![
            format!("generation={}", index.generation()),
            format!("source={}", index.freshness.word(index.is_from_disk())),
            format!("age_seconds={}", index.freshness.age_seconds()),
        ];
        if service.views.is_empty() {
            strings.push(format!("instances={}", service.sets.all.srv.len()));
        }
        strings.extend(service.views.iter().flat_map(|view| words(view)));
        let mut data = Vec::new();
        for string in strings.iter().map(|string| text_data(string.as_bytes())) {
            if data.len() + string.len() <= TEXT_BYTES_MAX {
                data.extend(string);
            }
        }
        let mut rest = Vec::new();
        write_text(&mut rest, &data, 0);
        reply.push_at(Section::Answer, OwnerAt::QUESTION, &rest, None)
    }
}

/// Name, policy, and how many endpoints are in and out for which reason.
fn words(view: &ServiceView) -> Vec<String> {
    let members = view.tiers().iter().flat_map(Tier::members);
    let mut reasons: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for member in members {
        let reason = member.reason();
        *reasons
            .entry((!reason.is_in(), reason.as_str()))
            .or_default() += 1;
    }
    for (reason, count) in view.out() {
        *reasons.entry((true, reason.as_str())).or_default() += count;
    }
    let head = [
        format!("service={}", view.name()),
        format!("policy={}", view.policy()),
        format!("usable={}", view.usable().count()),
    ];
    let reasons = reasons.into_iter().map(|((is_out, reason), count)| {
        let side = if is_out { "out" } else { "in" };
        format!("{side}:{reason}={count}")
    });
    head.into_iter().chain(reasons).collect()
}

/// Fits a datagram of 512 bytes beside the longest name.
const TEXT_BYTES_MAX: usize = 200;
