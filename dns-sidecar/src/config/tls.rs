// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where DNS is answered over TLS and HTTPS, and by which certificate.

use super::Config;
use crate::tls::CertificateFiles;
use std::{net::SocketAddr, path::PathBuf};

/// The settings of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFaces {
    #[cfg(feature = "dot")]
    pub(crate) dot_listen: Vec<SocketAddr>,
    #[cfg(feature = "doh")]
    pub(crate) doh_listen: Vec<SocketAddr>,
    pub(crate) files: Option<CertificateFiles>,
}

impl Config {
    /// Where to answer DNS over TLS (RFC 7858); nowhere by default. Its own port is 853.
    ///
    /// Connections have the bounds of those of TCP, counted apart, and may be idle three times as long.
    #[cfg(feature = "dot")]
    #[must_use]
    pub fn dot_listen(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.tls.dot_listen = addresses;
        self
    }

    /// Where to answer DNS over HTTPS (RFC 8484), at `/dns-query` and over HTTP/1.1; nowhere by default.
    ///
    /// Connections have the bounds of those of TCP, counted apart.
    #[cfg(feature = "doh")]
    #[must_use]
    pub fn doh_listen(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.tls.doh_listen = addresses;
        self
    }

    /// The files of the chain of certificates and of the key, in PEM. Both are looked at three times a minute, and taken
    /// anew when they have changed and can be used.
    #[must_use]
    pub fn certificate(mut self, certificate: PathBuf, key: PathBuf) -> Self {
        self.tls.files = Some(CertificateFiles { certificate, key });
        self
    }
}
