// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words for what a listener does, and for who is in its way.

use crate::sockets::Process;
use discovery_core::model::{Protocol, ServiceName};
use std::{fmt, sync::Arc};

/// What a listener does.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListenerState {
    /// Wanted, and about to be opened.
    Opening,
    /// Wanted, and closed because the service has no usable endpoint: clients are refused.
    NoEndpoint,
    /// Open, and not yet proved to be reached, or no endpoint was reached yet: connections that come are carried.
    Bound,
    /// Open, and connections are carried.
    Serving,
    /// Open, and connections do not come out here: another owner of the port is in front.
    Hijacked {
        /// What became of a connection of our own.
        cause: Arc<str>,
    },
    /// Open without a usable endpoint: connections are reset, and the port closes soon.
    Holding,
    /// No endpoint can be reached from this host: connections are reset, and the port closes soon.
    Isolated {
        /// What became of the last attempt.
        cause: Arc<str>,
    },
    /// Wanted, and somebody else has the port.
    Conflict {
        /// Who has it.
        holder: Holder,
    },
    /// Wanted, and the system refuses to open it.
    Failed {
        /// What the system said.
        error: Arc<str>,
    },
    /// The transport is not carried.
    Unsupported {
        /// The transport.
        protocol: Protocol,
    },
    /// Open, and no longer wanted: it closes once nobody is sent here.
    Leaving,
    /// Closed, and its last connections go on until the deadline.
    Draining,
}

impl ListenerState {
    /// Whether it does not pass by itself, as far as we know.
    pub(crate) fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::Failed { .. }
                | Self::Hijacked { .. }
                | Self::Isolated { .. }
        )
    }
}

impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("opening"),
            Self::NoEndpoint => f.write_str("no-endpoint"),
            Self::Bound => f.write_str("bound"),
            Self::Serving => f.write_str("serving"),
            Self::Hijacked { cause } => write!(f, "hijacked: {cause}"),
            Self::Holding => f.write_str("holding"),
            Self::Isolated { cause } => write!(f, "isolated: {cause}"),
            Self::Conflict { holder } => write!(f, "conflict: held by {holder}"),
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Unsupported { protocol } => write!(f, "unsupported: {protocol}"),
            Self::Leaving => f.write_str("leaving"),
            Self::Draining => f.write_str("draining"),
        }
    }
}

/// Who has a port that we want.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Holder {
    /// Another service, whose name is smaller.
    Service(ServiceName),
    /// A process of this host.
    Process {
        /// Its process id.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// Somebody whom we may not see: a process of another user or container.
    Unknown,
}

impl From<Option<Process>> for Holder {
    fn from(process: Option<Process>) -> Self {
        match process {
            Some(Process { pid, name }) => Self::Process { pid, name },
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "service {service}"),
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Unknown => f.write_str("a process that cannot be seen"),
        }
    }
}
