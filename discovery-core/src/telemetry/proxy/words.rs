// SPDX-License-Identifier: MIT OR Apache-2.0
//! The closed lists of how connections, sessions, datagrams and connects can end.

use std::fmt;

/// Declares a closed list of words: the enum, all its values, and the word of each.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word that metrics, JSON and logs use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How a proxied connection ended. Every accepted connection ends in exactly one of these.
    ProxyOutcome {
        /// Both sides finished, and every byte was delivered.
        Ok = "ok",
        /// The client left without a byte in either direction, as a TCP health probe does.
        Probe = "probe",
        /// The client reset the connection.
        ClientReset = "client-reset",
        /// The client no longer acknowledged anything.
        ClientLost = "client-lost",
        /// The endpoint reset the connection.
        UpstreamReset = "upstream-reset",
        /// The endpoint no longer acknowledged anything.
        UpstreamLost = "upstream-lost",
        /// The last endpoint that was tried refused the connection.
        ConnectRefused = "connect-refused",
        /// The last endpoint that was tried could not be reached.
        ConnectUnreachable = "connect-unreachable",
        /// The last endpoint that was tried did not answer in time.
        ConnectTimeout = "connect-timeout",
        /// No local port was left towards the last endpoint that was tried.
        PortsExhausted = "ports-exhausted",
        /// The service has no usable endpoint with that port.
        NoEndpoint = "no-endpoint",
        /// Every usable endpoint is a socket on which this process listens.
        OwnListener = "own-listener",
        /// No byte in either direction for the idle timeout.
        Idle = "idle",
        /// One side finished, and the other sent no byte for the half-close timeout.
        HalfCloseTimeout = "half-close-timeout",
        /// The listener was drained, and the connection outlived the deadline.
        DrainDeadline = "drain-deadline",
        /// The process had as many connections as it may have.
        LimitGlobal = "limit-global",
        /// The listener had as many connections as it may have.
        LimitListener = "limit-listener",
        /// The client's address had as many connections, or as many new ones a second, as it may have.
        LimitSource = "limit-source",
        /// A PROXY header was expected, and what came was none, came late, or came from a stranger.
        ProxyHeader = "proxy-header",
        /// The endpoint is gone: out of every list, and it no longer answers.
        EndpointGone = "endpoint-gone",
        /// No endpoint can be reached from this host, as it had found out before.
        Isolated = "isolated",
        /// The process was out of descriptors or the kernel of socket memory.
        FdLimit = "fd-limit",
        /// The task of the connection was dropped or panicked: a bug, or the end of the process.
        Aborted = "aborted",
    }
}

impl ProxyOutcome {
    /// Whether nothing went wrong.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Probe)
    }

    /// Whether the connection was turned away without an endpoint being tried.
    pub fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::NoEndpoint
                | Self::OwnListener
                | Self::LimitGlobal
                | Self::LimitListener
                | Self::LimitSource
                | Self::ProxyHeader
        )
    }
}

words! {
    /// Why one endpoint could not be connected to.
    ConnectFailure {
        /// It refused.
        Refused = "refused",
        /// There is no way to it, or a firewall forbids it.
        Unreachable = "unreachable",
        /// It did not answer in time.
        Timeout = "timeout",
        /// No local port was left towards it.
        PortsExhausted = "ports-exhausted",
        /// The process was out of descriptors or the kernel of socket memory.
        FdLimit = "fd-limit",
        /// It is a socket on which this process listens.
        OwnListener = "own-listener",
    }
}

impl From<ConnectFailure> for ProxyOutcome {
    /// How a connection ends whose last endpoint failed so.
    fn from(failure: ConnectFailure) -> Self {
        match failure {
            ConnectFailure::Refused => Self::ConnectRefused,
            ConnectFailure::Unreachable => Self::ConnectUnreachable,
            ConnectFailure::Timeout => Self::ConnectTimeout,
            ConnectFailure::PortsExhausted => Self::PortsExhausted,
            ConnectFailure::FdLimit => Self::FdLimit,
            ConnectFailure::OwnListener => Self::OwnListener,
        }
    }
}

words! {
    /// What became of what a host of the zone had announced to send to a port of ours.
    PeerVisit {
        /// It came out at our listener.
        Seen = "seen",
        /// It did not.
        Missed = "missed",
    }
}

words! {
    /// Why an endpoint is passed over for a while.
    EjectionCause {
        /// Connects to it failed in a row.
        Connects = "connects",
        /// It left connections in a row without an answer, while others answered.
        Silence = "silence",
    }
}

words! {
    /// How far a connection had come when it ended.
    ProxyPhase {
        /// It was accepted.
        Accept = "accept",
        /// Its PROXY header was read.
        Header = "header",
        /// An endpoint was sought.
        Dial = "dial",
        /// Bytes went both ways.
        Data = "data",
        /// One side had finished.
        Last = "last",
    }
}

words! {
    /// How a UDP session ended.
    SessionEnd {
        /// No datagram for the idle timeout.
        Idle = "idle",
        /// It was answered by as many datagrams as the service said.
        Answered = "answered",
        /// Its endpoint may no longer be used; the client's next datagram goes to another.
        EndpointGone = "endpoint-gone",
        /// Its endpoint refused datagrams and answered none.
        EndpointFailed = "endpoint-failed",
        /// The table was full, and it was the oldest without a reply.
        Evicted = "evicted",
        /// Its listener closed.
        Closed = "closed",
        /// It goes on in the process, or with the configuration, that took over.
        HandedOver = "handed-over",
    }
}

words! {
    /// Why a datagram was not passed on.
    DatagramDrop {
        /// The service has no usable endpoint with that port.
        NoEndpoint = "no-endpoint",
        /// The table was full of sessions that were answered.
        LimitGlobal = "limit-global",
        /// The client's address had as many sessions as it may have.
        LimitSource = "limit-source",
        /// It was longer than could be received whole.
        Truncated = "truncated",
        /// No socket could be made towards an endpoint.
        NoSocket = "no-socket",
        /// The endpoint refused it.
        Refused = "refused",
        /// The system did not take it at once.
        SendBlocked = "send-blocked",
        /// The system does not send it at all, as when it is too long.
        SendFailed = "send-failed",
        /// Nothing can be answered to its source: port 0, or an address of many.
        Source = "source",
    }
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteDirection {
    /// From the client to the endpoint.
    Up,
    /// From the endpoint to the client.
    Down,
}
