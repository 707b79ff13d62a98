// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a setting is refused.

use super::{domain::DOMAIN_BYTES_MAX, limits::UDP_PAYLOAD_BYTES_MAX, ttl::TTL_SECONDS_MAX};

/// Why a setting is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The domain is no name, or too long to hold the names of services.
    #[error(
        "domain {domain:?} is refused: it must be a DNS name of at most {DOMAIN_BYTES_MAX} bytes"
    )]
    Domain {
        /// What was given.
        domain: String,
    },
    /// The size is outside of what a datagram may be.
    #[error("max_udp_payload {bytes} is refused: it must be 512 to {UDP_PAYLOAD_BYTES_MAX} bytes")]
    UdpPayload {
        /// What was given.
        bytes: u16,
    },
    /// There is nothing to listen on.
    #[error("the list of addresses to listen on is empty")]
    NoListener,
    /// The block of Consul's configuration cannot be used.
    #[error("dns_config is refused: {reason}")]
    Block {
        /// What is wrong with it, and the nearest key that is known.
        reason: String,
    },
    /// The text is no address of a server.
    #[error("recursor {text:?} is refused: it is no IP address with or without a port")]
    Recursor {
        /// What was given.
        text: String,
    },
    /// The duration is longer than a TTL may be.
    #[error("{name} of {seconds} s is refused: a TTL is at most {TTL_SECONDS_MAX} s")]
    Ttl {
        /// The setting.
        name: &'static str,
        /// What was given.
        seconds: u64,
    },
}
