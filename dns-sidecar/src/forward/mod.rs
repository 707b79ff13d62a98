// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of others: asked of upstream servers, within limits, and never for names of ours.
//!
//! Off unless `recursors` are set. An opaque relay, no resolver: the question goes as it came, but for its id, over a socket
//! of its own with a port that the system chooses; the first reply from the asked address with that id and question counts.
//! NOERROR and NXDOMAIN are final, any other code makes the next server be asked. A server that does not reply is out for a
//! while; one that sends our questions back to us is not asked. The same question of many clients is asked once. What is
//! open is bounded, and what is beyond the bound is dropped and counted. Nothing is kept unless memory is given for it.
//!
//! | | |
//! | --- | --- |
//! | `upstreams` | who is asked, in which order, for how long |
//! | `exchange` | one question to one server |
//! | `joined` | questions that are open |
//! | `cache` | replies that are kept |
//! | `loops` | questions of our own that come back |

mod cache;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod joined;
mod loops;
mod question;
mod relay;
mod upstreams;

pub(crate) use relay::Forwarder;
pub(crate) use upstreams::LOOP_HELP;
pub use upstreams::UpstreamState;

use crate::wire::{UpstreamRecord, WireName};

/// What other servers said of host names; a name without records could not be looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved(pub(crate) Vec<(WireName, Vec<UpstreamRecord>)>);

impl Resolved {
    /// Whether the name was asked for.
    pub(crate) fn has(&self, host: &WireName) -> bool {
        let host = host.to_lower();
        self.0.iter().any(|(known, _)| *known == host)
    }

    /// What was said of it.
    pub(crate) fn of(&self, host: &WireName) -> &[UpstreamRecord] {
        let host = host.to_lower();
        let known = self.0.iter().find(|(known, _)| *known == host);
        known.map_or(&[], |(_, records)| records)
    }
}
