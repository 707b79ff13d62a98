// SPDX-License-Identifier: MIT OR Apache-2.0
//! A panic ends one task and not the process; it is counted, and logged by the hook that was there before.

use discovery_core::{runtime::Runtime, telemetry::Metrics};
use std::sync::{Arc, Mutex, PoisonError};

/// Where panics are counted. The lock guards which runtime that is; held for a look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panics(Arc<Mutex<Option<Arc<Metrics>>>>);

/// Counts panics from now on; once in a process.
pub(crate) fn count_panics() -> Panics {
    let panics = Panics::default();
    let counted = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        counted.count();
        before(panic);
    }));
    panics
}

impl Panics {
    /// Counts them in the metrics of the runtime.
    pub(crate) fn of(&self, runtime: &Runtime) {
        let metrics = runtime.metrics().clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
    }

    fn count(&self) {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*metrics {
            metrics.panicked();
        }
    }
}
