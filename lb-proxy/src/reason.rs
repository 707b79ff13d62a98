// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a connection ended: what a socket error means, in the words of the one closed list.
//!
//! In: errors of the operating system. Out: a [`Reason`] or a [`ConnectFailure`]. Pure.

pub use discovery_core::telemetry::ProxyOutcome as Reason;

use discovery_core::telemetry::ConnectFailure;
use rustix::io::Errno;
use std::io;

/// Whose socket an error came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

impl Side {
    /// How a connection ended whose socket on this side failed: no answer any more, or a reset.
    pub(crate) fn failed(self, error: &io::Error) -> Reason {
        let lost = matches!(
            Errno::from_io_error(error),
            Some(Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH)
        );
        match (self, lost) {
            (Self::Client, false) => Reason::ClientReset,
            (Self::Client, true) => Reason::ClientLost,
            (Self::Upstream, false) => Reason::UpstreamReset,
            (Self::Upstream, true) => Reason::UpstreamLost,
        }
    }
}

/// What a failed connect says of the endpoint. Whatever is not known better means that there is no way to it.
pub(crate) fn connect_failure(error: &io::Error) -> ConnectFailure {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => ConnectFailure::Refused,
        Some(Errno::TIMEDOUT) => ConnectFailure::Timeout,
        Some(Errno::ADDRNOTAVAIL) => ConnectFailure::PortsExhausted,
        _ if is_exhaustion(error) => ConnectFailure::FdLimit,
        _ => ConnectFailure::Unreachable,
    }
}

/// Whether the process or the kernel has no room for another socket, so that only waiting helps.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Whether an accept failed for the one connection that it took from the queue, so that the next may succeed at once.
///
/// accept(2): Linux passes pending network errors of the new socket on to accept.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::TIMEDOUT
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_error_names_the_side_and_whether_it_was_lost() {
        let error = |errno: Errno| io::Error::from(errno);
        assert_eq!(
            Side::Client.failed(&error(Errno::CONNRESET)),
            Reason::ClientReset
        );
        assert_eq!(
            Side::Client.failed(&error(Errno::TIMEDOUT)),
            Reason::ClientLost
        );
        assert_eq!(
            Side::Upstream.failed(&error(Errno::PIPE)),
            Reason::UpstreamReset
        );
        assert_eq!(
            Side::Upstream.failed(&error(Errno::HOSTUNREACH)),
            Reason::UpstreamLost
        );
    }

    #[test]
    fn a_failed_connect_is_told_in_words() {
        for (errno, failure) in [
            (Errno::CONNREFUSED, ConnectFailure::Refused),
            (Errno::HOSTUNREACH, ConnectFailure::Unreachable),
            (Errno::AFNOSUPPORT, ConnectFailure::Unreachable),
            (Errno::PERM, ConnectFailure::Unreachable),
            (Errno::ADDRNOTAVAIL, ConnectFailure::PortsExhausted),
            (Errno::TIMEDOUT, ConnectFailure::Timeout),
            (Errno::MFILE, ConnectFailure::FdLimit),
        ] {
            assert_eq!(connect_failure(&errno.into()), failure, "{errno}");
        }
    }
}
