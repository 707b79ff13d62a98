// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to a Consul agent: over TCP, TLS or a Unix socket, ended when it is dropped.

use super::{
    address::{ConsulAddress, Place},
    failure::Failure,
};
use crate::source::{FailureReason, error_chain};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

/// An open connection; requests go through it one after the other.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ended with it, so that nothing is left of a request that was given up.
    driver: JoinHandle<()>,
}

impl Connection {
    /// Whether another request can go through.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.driver.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens connections to one agent.
pub(super) struct Dialer {
    pub(super) address: ConsulAddress,
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// A dialer; for TLS with the certificate authorities of the file.
    pub(super) fn new(address: ConsulAddress, authorities: Option<&Path>) -> Result<Self, String> {
        let tls = match (address.is_tls(), authorities) {
            (false, _) => None,
            (true, None) => {
                return Err("https needs the file of Consul's certificate authority".into());
            }
            (true, Some(path)) => Some(connector(path)?),
        };
        Ok(Self { address, tls })
    }

    /// Opens a connection.
    pub(super) async fn dial(&self) -> Result<Connection, Failure> {
        match self.address.place() {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                speak(stream.map_err(|error| Failure::connection(&error))?).await
            }
            Place::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|error| Failure::connection(&error))?;
                // A request is one small write; Nagle's delay would only add to it.
                let _ = stream.set_nodelay(true);
                match &self.tls {
                    None => speak(stream).await,
                    Some(tls) => {
                        let name = ServerName::try_from(host.clone())
                            .map_err(|error| Failure::connection(&error))?;
                        let stream = tls.connect(name, stream).await;
                        speak(stream.map_err(|error| Failure::connection(&error))?).await
                    }
                }
            }
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Connection, Failure> {
    let shaken = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| Failure::connection(&error))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = error_chain(&error), "Connection to Consul ended");
        }
    });
    Ok(Connection { sender, driver })
}

fn connector(authorities: &Path) -> Result<TlsConnector, String> {
    let fail = |why: &dyn std::fmt::Display| {
        format!(
            "the certificate authority {} cannot be used: {why}",
            authorities.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).map_err(|error| fail(&error))? {
        let certificate = certificate.map_err(|error| fail(&error))?;
        roots.add(certificate).map_err(|error| fail(&error))?;
    }
    if roots.is_empty() {
        return Err(fail(&"it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection that was idle broke under the request: nothing was answered, another one may do.
pub(super) fn is_worn(failure: &Failure) -> bool {
    failure.reason == FailureReason::Connection
}
