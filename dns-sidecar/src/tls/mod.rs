// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLS for DNS: a certificate from files, taken anew when they change, and handshakes within a time.
//!
//! What is on its way over the old certificate goes on. Files that cannot be used change nothing: two that belong together
//! are not replaced in one moment.

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, interval_at, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// Where certificate and key stand, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Shakes hands for connections. Clones share the certificate.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// The stream below TLS; an error when the client does not manage in time.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        timeout(HANDSHAKE_WITHIN, self.0.accept(stream)).await?
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// The newest certificate that could be used.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    print: u64,
}

impl Certificate {
    /// Reads the files.
    pub(crate) fn load(files: &CertificateFiles) -> io::Result<Arc<Self>> {
        let (read, print) = files.read()?;
        let key = Arc::new(certified(&read)?);
        Ok(Arc::new(Self {
            files: files.clone(),
            current: ArcSwap::from_pointee(Current { key, print }),
        }))
    }

    /// What accepts connections that are to speak this protocol.
    pub(crate) fn acceptor(self: &Arc<Self>, protocol: &[u8]) -> io::Result<Acceptor> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    /// Looks at the files three times a minute until it is told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut refused = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let certificate = self.clone();
            let looked = tokio::task::spawn_blocking(move || certificate.look(refused));
            refused = looked.await.unwrap_or(refused);
        }
    }

    /// Takes the files if they are others; what was refused is told once. Reads files.
    fn look(&self, refused: Option<u64>) -> Option<u64> {
        let (read, print) = match self.files.read() {
            Ok(read) => read,
            Err(error) => return Some(refuse(refused, 0, &error)),
        };
        if print == self.current.load().print {
            return None;
        }
        match certified(&read) {
            Ok(key) => {
                let key = Arc::new(key);
                self.current.store(Arc::new(Current { key, print }));
                tracing::info!(
                    "The certificate of DNS over TLS was taken anew: its files have changed"
                );
                None
            }
            Err(error) => Some(refuse(refused, print, &error)),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

impl CertificateFiles {
    /// Certificate and key, and a print that changes with them.
    fn read(&self) -> io::Result<([Vec<u8>; 2], u64)> {
        let named = |path: &PathBuf| {
            fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        let read = [named(&self.certificate)?, named(&self.key)?];
        let mut hasher = DefaultHasher::new();
        read.hash(&mut hasher);
        Ok((read, hasher.finish()))
    }
}

fn certified([certificate, key]: &[Vec<u8>; 2]) -> io::Result<CertifiedKey> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
    let provider = ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(io::Error::other)
}

fn refuse(before: Option<u64>, print: u64, error: &io::Error) -> u64 {
    if before != Some(print) {
        tracing::warn!(%error, "A changed certificate cannot be used; the last is kept");
    }
    print
}

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        dir: tempfile::TempDir,
        files: CertificateFiles,
    }

    impl Made {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = CertificateFiles {
                certificate: dir.path().join("tls.crt"),
                key: dir.path().join("tls.key"),
            };
            let made = Self { dir, files };
            made.write();
            made
        }

        fn write(&self) {
            let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
            fs::write(&self.files.certificate, made.cert.pem()).unwrap();
            fs::write(&self.files.key, made.signing_key.serialize_pem()).unwrap();
        }
    }

    fn chain(certificate: &Certificate) -> Vec<u8> {
        certificate.current.load().key.cert[0].to_vec()
    }

    #[test]
    fn changed_files_are_taken_and_what_cannot_be_used_changes_nothing() {
        let made = Made::new();
        let certificate = Certificate::load(&made.files).unwrap();
        let first = chain(&certificate);
        assert_eq!(certificate.look(None), None);
        assert_eq!(chain(&certificate), first);
        made.write();
        assert_eq!(certificate.look(None), None);
        let second = chain(&certificate);
        assert_ne!(second, first);
        // A key that is not the certificate's, a file that is none, one that is gone.
        let other = Made::new();
        fs::copy(&other.files.key, &made.files.key).unwrap();
        let refused = certificate.look(None);
        assert!(refused.is_some() && certificate.look(refused) == refused);
        fs::write(&made.files.certificate, "no certificate").unwrap();
        assert!(certificate.look(refused).is_some());
        fs::remove_file(&made.files.certificate).unwrap();
        assert!(certificate.look(None).is_some());
        assert_eq!(chain(&certificate), second);
        fs::copy(&other.files.certificate, &made.files.certificate).unwrap();
        assert_eq!(certificate.look(refused), None);
        assert_ne!(chain(&certificate), second);
        drop(made.dir);
    }

    #[test]
    fn without_usable_files_there_is_no_start() {
        let made = Made::new();
        let missing = CertificateFiles {
            key: made.dir.path().join("missing"),
            ..made.files.clone()
        };
        let error = Certificate::load(&missing).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
