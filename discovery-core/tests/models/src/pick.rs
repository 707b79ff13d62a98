// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guards and ejection.

#[path = "../../../src/pick/eject.rs"]
mod eject;
#[path = "../../../src/pick/guard.rs"]
mod guard;
#[path = "../../../src/pick/latency.rs"]
mod latency;
#[path = "../../../src/pick/window.rs"]
mod window;

pub use eject::{EjectRule, Outcome, Verdict, report};
pub(crate) use guard::{InFlight, Pick};

pub(crate) fn claims_trial(load: &crate::store::Load, now: crate::clock::Tick) -> bool {
    eject::claims_trial(load, now)
}
