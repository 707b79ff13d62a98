// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with a certificate of its own, and a client that trusts that one alone.

use crate::mall::Mall;
use discovery_core::telemetry::DnsMetrics;
use dns_sidecar::{Config, DnsServer};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Site {
    pub(crate) mall: Mall,
    pub(crate) dot: SocketAddr,
    pub(crate) doh: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) metrics: Arc<DnsMetrics>,
    trusted: Mutex<CertificateDer<'static>>,
    pub(crate) dir: TempDir,
    _stop: DropGuard,
}

impl Site {
    pub(crate) fn start(change: impl FnOnce(Config) -> Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trusted = write_certificate(&dir);
        let any = || vec!["127.0.0.1:0".parse().unwrap()];
        let config = Config::default().listen(any()).unwrap();
        let config = config.dot_listen(any()).doh_listen(any());
        let config =
            change(config.certificate(dir.path().join("tls.crt"), dir.path().join("tls.key")));
        let (mall, metrics) = (Mall::open(), Arc::new(DnsMetrics::default()));
        let server = DnsServer::bind(config, mall.reader.clone(), metrics.clone()).unwrap();
        let (dot, doh, dns) = (
            server.dot_addrs()[0],
            server.doh_addrs()[0],
            server.local_addrs()[0],
        );
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        Self {
            mall,
            dot,
            doh,
            dns,
            metrics,
            trusted: Mutex::new(trusted),
            dir,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("tls.crt")
    }

    /// Another certificate in the files, which is the only one that is trusted from now on.
    pub(crate) fn rotate(&self) {
        *self.trusted.lock().unwrap() = write_certificate(&self.dir);
    }

    pub(crate) async fn tls(
        &self,
        server: SocketAddr,
        protocols: &[&str],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.lock().unwrap().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let stream = TcpStream::connect(server).await?;
        let name = ServerName::try_from("dns.test").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        timeout(PATIENCE, connector.connect(name, stream)).await?
    }

    /// The reply over plain TCP.
    pub(crate) async fn plain(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.dns).await.unwrap();
        stream.write_all(&framed(request)).await.unwrap();
        read_frame(&mut stream).await
    }
}

fn write_certificate(dir: &TempDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
    fs::write(dir.path().join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

pub(crate) fn framed(request: &[u8]) -> Vec<u8> {
    let length = u16::try_from(request.len()).unwrap();
    [&length.to_be_bytes()[..], request].concat()
}

pub(crate) async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}
