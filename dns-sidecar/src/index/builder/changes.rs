// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who wants which name, followed from snapshot to snapshot. A name is touched when one who wants it came, went or changed.

use super::{IndexBuilder, place, pointers};
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
            match (before, view) {
                (Some(before), Some(view)) if place(before) == place(view) => {}
                (Some(before), Some(view)) if has_same_spec(before, view) => {
                    self.renew(view, &mut touched);
                }
                _ => {
                    self.forget(&name, &mut touched);
                    if let Some(view) = view {
                        self.note(view, &mut touched);
                    }
                }
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

    /// The service wants the names that it wanted, and has other endpoints.
    fn renew(&mut self, view: &Arc<ServiceView>, touched: &mut BTreeSet<Arc<str>>) {
        let Some(known) = self.known.get_mut(view.name()) else {
            return;
        };
        let before = std::mem::replace(&mut known.view, view.clone());
        let labels = known.labels.clone();
        let mut kept = pointers::own_addresses(view, &self.hosts);
        kept.sort_unstable();
        let mut gone = pointers::own_addresses(&before, &self.hosts);
        gone.retain(|address| kept.binary_search(address).is_err());
        for label in labels {
            let wanting = self.wanted.get_mut(&label).into_iter().flatten();
            for wanting in wanting.filter(|wanting| place(wanting) == place(&before)) {
                *wanting = view.clone();
            }
            self.forget_pointers(&label, &gone);
            touched.insert(label);
        }
    }

    /// The service wants no name any more.
    fn forget(&mut self, gone: &ServiceName, touched: &mut BTreeSet<Arc<str>>) {
        let Some(known) = self.known.remove(gone) else {
            return;
        };
        let addresses = pointers::own_addresses(&known.view, &self.hosts);
        for label in known.labels {
            if let Some(wanting) = self.wanted.get_mut(&label) {
                wanting.retain(|view| place(view) != place(&known.view));
            }
            self.forget_pointers(&label, &addresses);
            touched.insert(label);
        }
    }
}

/// Whether both were made from one object: they want the same names then.
fn has_same_spec(a: &ServiceView, b: &ServiceView) -> bool {
    a.spec().map(Arc::as_ptr) == b.spec().map(Arc::as_ptr)
}
