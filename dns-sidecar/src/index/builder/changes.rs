// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who wants which name, followed from snapshot to snapshot. A name is touched when one who wants it came, went or changed.

use super::{IndexBuilder, place};
use crate::catalog::kube;
use discovery_core::{
    model::ServiceName,
    store::{ServiceView, Snapshot},
};
use std::{collections::BTreeSet, sync::Arc};

/// A service of the last snapshot, and the names that it wanted.
#[derive(Debug)]
pub(super) struct Known {
    view: Arc<ServiceView>,
    labels: Vec<Arc<str>>,
}

impl IndexBuilder {
    /// Every label whose holders may have changed.
    pub(super) fn changed_labels(&mut self, snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
        let mut touched = BTreeSet::new();
        for name in self.changed_services(snapshot) {
            let view = snapshot.service(&name);
            let before = self.known.get(&name).map(|known| &known.view);
            if before.map(place) == view.map(place) {
                continue;
            }
            self.forget(&name, &mut touched);
            if let Some(view) = view {
                self.note(view, &mut touched);
            }
        }
        self.mark = Some(snapshot.mark());
        touched
    }

    /// The services that may be others than before: those that the snapshot tells, all where it cannot tell.
    fn changed_services(&self, snapshot: &Snapshot) -> Vec<ServiceName> {
        let mark = self.mark.as_ref();
        if let Some(told) = mark.and_then(|mark| snapshot.changed_since(mark)) {
            return told.cloned().collect();
        }
        let gone = self.known.keys();
        let gone = gone.filter(|name| snapshot.service(name).is_none());
        let live = snapshot.services().map(|view| view.name());
        gone.chain(live).cloned().collect()
    }

    /// The view wants its names from now on.
    fn note(&mut self, view: &Arc<ServiceView>, touched: &mut BTreeSet<Arc<str>>) {
        let labels = kube::labels(view, &self.config).into_iter();
        let labels: Vec<Arc<str>> = labels.map(Into::into).collect();
        for label in &labels {
            let wanting = self.wanted.entry(label.clone()).or_default();
            wanting.push(view.clone());
            touched.insert(label.clone());
        }
        let view = view.clone();
        self.known
            .insert(view.name().clone(), Known { view, labels });
    }

    /// The service wants no name any more.
    fn forget(&mut self, gone: &ServiceName, touched: &mut BTreeSet<Arc<str>>) {
        let Some(known) = self.known.remove(gone) else {
            return;
        };
        for label in known.labels {
            if let Some(wanting) = self.wanted.get_mut(&label) {
                wanting.retain(|view| place(view) != place(&known.view));
            }
            self.forget_pointers(&label, &known.view);
            touched.insert(label);
        }
    }
}
