// SPDX-License-Identifier: MIT OR Apache-2.0
//! Endpoints outside of every tier: all are counted, some of each reason are kept for people.

use super::{Refused, ServiceView};
use crate::model::Reason;
use std::collections::BTreeMap;

/// What was refused while a view is built.
#[derive(Default)]
pub(super) struct Refusals {
    kept: Vec<Refused>,
    counts: BTreeMap<Reason, usize>,
}

impl Refusals {
    /// Counts an endpoint that is out, and asks for its particulars while there is room for them.
    pub(super) fn add(&mut self, reason: Reason, particulars: impl FnOnce() -> Refused) {
        let count = self.counts.entry(reason).or_default();
        if *count < KEPT_MAX {
            self.kept.push(particulars());
        }
        *count += 1;
    }

    /// Takes those of one reason as the view before has them.
    pub(super) fn take_over(&mut self, reason: Reason, before: &ServiceView) {
        let count = before.out().iter().find(|(of, _)| *of == reason);
        if let Some((_, count)) = count {
            self.counts.insert(reason, *count);
            let kept = before
                .refused()
                .iter()
                .filter(|refused| refused.reason == reason);
            self.kept.extend(kept.cloned());
        }
    }

    /// The count of all by reason.
    pub(super) fn counts(&self) -> Box<[(Reason, usize)]> {
        self.counts
            .iter()
            .map(|(reason, count)| (*reason, *count))
            .collect()
    }

    /// Those that are kept, in the order of identity and address.
    pub(super) fn kept(&mut self) -> Box<[Refused]> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by(|a, b| {
            (&a.identity, a.address, a.reason).cmp(&(&b.identity, b.address, b.reason))
        });
        kept.into()
    }
}

/// Kept of each reason, for a service: what a person reads, and not what a mall next door runs.
const KEPT_MAX: usize = 32;
