// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts of a zone visit one another's ports, since a connection to oneself does not pass what stands in front of a host: the input
//! of a firewall, a rule for what comes from outside.
//!
//! In: the zone's nodes, the ports that we listen on. Out: per port, what the hosts that came say of it. A visitor says from which
//! port it will come and then connects; the visited host sees by itself whether that comes out at its acceptor. Who announces
//! nothing says nothing, so a host without peers, or with dead ones, is judged by its own proof alone (decision 0078).

mod circle;
mod host;
mod visitor;
mod visits;
mod witness;

pub(crate) use visitor::Visitor;
use visits::Visits;
pub(crate) use witness::Watched;
pub use witness::Witness;

use std::time::Duration;

/// How this host visits its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerVisits {
    /// The port of their probes and metrics, where visits are announced.
    pub(crate) announce_port: u16,
    /// Between two visits of one port.
    pub(crate) every: Duration,
}

impl PeerVisits {
    /// Nobody means more, and no time is reckoned with that there is not.
    pub(crate) const EVERY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// How long a visit counts: three times what one that is missed and the pause after it take.
    pub(crate) fn fresh(self) -> Duration {
        3 * (self.every + COMES_WITHIN)
    }
}

/// How long a connection may take that was announced: a lost SYN is sent again after 1 s.
const COMES_WITHIN: Duration = Duration::from_secs(3);

/// Where a visit is announced.
const PATH: &str = "/proxy/visit";
