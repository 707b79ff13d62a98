// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handle that picks endpoints of one service from the newest snapshot.

use super::{Bound, Candidates, Pick, PickError, candidates, keyed, p2c};
use crate::{
    hash::HashKey,
    model::ServiceName,
    store::{Generation, Reader, ServiceView, Snapshot},
};
use std::sync::Arc;

/// Picks endpoints of one service. Clone one for each task.
///
/// A pick compares the snapshot with the one of the pick before and looks the service up by name only when it is another;
/// so it costs no lookup, no lock and no allocation.
#[derive(Clone, Debug)]
pub struct Picker {
    reader: Reader,
    service: ServiceName,
    bound: Option<Bound>,
    seen: Option<(Generation, Option<Arc<ServiceView>>)>,
}

impl Picker {
    /// A picker of the service over the snapshots of the reader.
    pub fn new(reader: Reader, service: ServiceName) -> Self {
        Self {
            reader,
            service,
            bound: None,
            seen: None,
        }
    }

    /// Bounds the load of keyed picks.
    #[must_use]
    pub fn bound(mut self, bound: Option<Bound>) -> Self {
        self.bound = bound;
        self
    }

    /// The service that it picks for.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Picks for the key: every caller with the same snapshot picks the same endpoint, load bound aside.
    #[inline]
    pub fn keyed(&mut self, key: HashKey) -> Result<Pick<'_>, PickError> {
        let bound = self.bound;
        let (service, reader) = (&self.service, &mut self.reader);
        let view = newest(reader, service, &mut self.seen)?;
        keyed(view, key, bound).ok_or_else(|| none_eligible(view))
    }

    /// Picks the less busy of two.
    #[inline]
    pub fn any(&mut self) -> Result<Pick<'_>, PickError> {
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        p2c(view).ok_or_else(|| none_eligible(view))
    }

    /// The endpoints to try for the key, the owner first; at least one.
    pub fn candidates(&mut self, key: HashKey) -> Result<Candidates<'_>, PickError> {
        let view = newest(&mut self.reader, &self.service, &mut self.seen)?;
        match view.serving_tier() {
            Some(_) => Ok(candidates(view, key)),
            None => Err(none_eligible(view)),
        }
    }

    /// The service in the newest snapshot.
    pub fn view(&mut self) -> Result<&Arc<ServiceView>, PickError> {
        newest(&mut self.reader, &self.service, &mut self.seen)
    }
}

#[inline]
fn newest<'s>(
    reader: &mut Reader,
    service: &ServiceName,
    seen: &'s mut Option<(Generation, Option<Arc<ServiceView>>)>,
) -> Result<&'s Arc<ServiceView>, PickError> {
    let snapshot = reader.snapshot();
    if !matches!(seen, Some((generation, _)) if *generation == snapshot.generation()) {
        *seen = Some((snapshot.generation(), snapshot.service(service).cloned()));
    }
    match seen {
        Some((_, Some(view))) => Ok(view),
        _ => Err(unknown(snapshot, service)),
    }
}

#[cold]
fn unknown(snapshot: &Snapshot, service: &ServiceName) -> PickError {
    if snapshot.is_authoritative() {
        PickError::UnknownService {
            service: service.clone(),
        }
    } else {
        PickError::NotServing {
            zone: snapshot.zone().clone(),
        }
    }
}

#[cold]
fn none_eligible(view: &ServiceView) -> PickError {
    view.load().found_none();
    PickError::NoEligibleEndpoint {
        service: view.name().clone(),
        listed: view.listed(),
        policy: view.policy(),
    }
}
