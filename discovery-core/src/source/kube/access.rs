// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to the API server: one client, made again when what it was made of has changed.
//!
//! In: the kubeconfig, the authority's and the client's certificate files as they are now. Out: the client of the newest
//! of them that could be used. They are looked at again three times a minute, and before the next request when a connection
//! failed by its certificate or the server refused our credentials: authorities are rotated and client certificates
//! expire while we run, and neither may need a restart. What is on its way over the old client's connections goes on.

use super::{
    client::Clients,
    config::{KubeConfig, KubeSourceError, Token},
};
use crate::source::error_chain;
use arc_swap::ArcSwap;
use kube::Config;
use std::{
    fmt, fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use xxhash_rust::xxh3::Xxh3;

/// The clients, and the token that goes with them.
pub(super) struct Line {
    pub(super) clients: Clients,
    /// Where the token stands, when the clients do not know it.
    pub(super) token: Token,
    print: u64,
}

/// The newest client that could be made, shared by the feeds of a source.
pub(super) struct Access {
    config: KubeConfig,
    line: ArcSwap<Line>,
    // Guards when the files were last looked at; held for a comparison, never across an await.
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    /// Something spoke against the certificates since.
    is_doubted: bool,
    /// What could not be used, so that it is told once.
    refused: Option<u64>,
}

impl Access {
    /// The first client, with the name of the cluster.
    pub(super) async fn open(
        config: &KubeConfig,
        now: Instant,
    ) -> Result<(Self, String), KubeSourceError> {
        let (kube, token) = config.load().await?;
        let cluster = cluster(&kube);
        let print = print(&kube, token.as_deref());
        let line = Line::new(kube, token, print).map_err(|error| KubeSourceError::Client {
            cluster: cluster.clone(),
            source: Box::new(error),
        })?;
        let access = Self {
            config: config.clone(),
            line: ArcSwap::from_pointee(line),
            looked: Mutex::new(Looked {
                at: now,
                is_doubted: false,
                refused: None,
            }),
        };
        Ok((access, cluster))
    }

    /// The client for a request that is sent now.
    pub(super) async fn line(&self, now: Instant) -> Arc<Line> {
        if self.is_due(now) {
            self.look().await;
        }
        self.line.load_full()
    }

    /// A connection failed by a certificate, or the server does not accept who we are: the files may say something else by
    /// now.
    pub(super) fn doubt(&self) {
        if let Some(token) = &self.line.load().token {
            token.refused();
        }
        self.looked().is_doubted = true;
    }

    /// Whether to look now; whoever is told so looks, and no other.
    fn is_due(&self, now: Instant) -> bool {
        if self.config.needs_no_files() {
            return false;
        }
        let mut looked = self.looked();
        let age = now.saturating_duration_since(looked.at);
        let pause = if looked.is_doubted {
            LOOK_PAUSE_MIN
        } else {
            LOOK_PAUSE
        };
        let is_due = age >= pause;
        if is_due {
            (looked.at, looked.is_doubted) = (now, false);
        }
        is_due
    }

    /// Reads the files, and makes a client of them when they are others. What cannot be used changes nothing.
    async fn look(&self) {
        let (kube, token) = match self.config.load().await {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(0, &error),
        };
        let print = print(&kube, token.as_deref());
        if print == self.line.load().print {
            self.looked().refused = None;
            return;
        }
        if kube.root_cert.as_ref().is_some_and(Vec::is_empty) {
            return self.refuse(print, &NoCertificate);
        }
        match Line::new(kube, token, print) {
            Ok(line) => {
                self.line.store(Arc::new(line));
                self.looked().refused = None;
                tracing::info!("The API server's client was made anew: its files have changed");
            }
            // Two files that belong together are not replaced in one moment.
            Err(error) => self.refuse(print, &error),
        }
    }

    fn refuse(&self, print: u64, error: &(dyn std::error::Error + 'static)) {
        if self.looked().refused.replace(print) != Some(print) {
            let error = error_chain(error);
            tracing::warn!(
                error,
                "Changed credentials cannot be used; the last are kept"
            );
        }
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(config: Config, token: Token, print: u64) -> Result<Self, kube::Error> {
        let clients = Clients::new(config)?;
        Ok(Self {
            clients,
            token,
            print,
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why a changed authority was not taken.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authority's file holds no certificate")]
struct NoCertificate;

/// Whether a connection failed by a certificate, the server's or ours.
pub(super) fn is_of_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(speaks_of_certificates) {
            return true;
        }
        // An I/O error gives the source of what it wraps, and not what it wraps.
        cause = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn speaks_of_certificates(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => true,
        Error::AlertReceived(alert) => matches!(
            alert,
            Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::CertificateRequired
        ),
        _ => false,
    }
}

/// The addresses of API servers inside clusters are all alike, so that the authority is asked first.
fn cluster(config: &Config) -> String {
    match &config.root_cert {
        Some(certificates) if !certificates.is_empty() => {
            let authority = xxhash_rust::xxh3::xxh3_64(&certificates.concat());
            format!("ca:{authority:016x}")
        }
        _ => config.cluster_url.to_string(),
    }
}

/// Tells whether a client would be made of the same. A file that cannot be read counts as empty.
fn print(config: &Config, token: Option<&super::token::TokenFile>) -> u64 {
    let auth = &config.auth_info;
    let file = |path: &Option<String>| {
        let path = path.as_ref().map(Path::new);
        path.and_then(|path| fs::read(path).ok())
            .unwrap_or_default()
    };
    let parts = [
        config.cluster_url.to_string().into_bytes(),
        config.root_cert.clone().unwrap_or_default().concat(),
        // What stands in the kubeconfig itself; it has a JSON form, as it was read from one.
        serde_json::to_vec(auth).unwrap_or_default(),
        file(&auth.client_certificate),
        file(&auth.client_key),
        token
            .map(|token| token.path().as_os_str().as_encoded_bytes().to_vec())
            .unwrap_or_default(),
        format!(
            "{:?} {:?} {}",
            config.tls_server_name, config.proxy_url, config.accept_invalid_certs
        )
        .into_bytes(),
    ];
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&part.len().to_le_bytes());
        hash.update(&part);
    }
    hash.digest()
}

/// A replaced file has to be in use within a minute, and a watch that began just before lasts 35 s.
const LOOK_PAUSE: Duration = Duration::from_secs(20);
/// A few small files are read once in that time, however often connections fail.
const LOOK_PAUSE_MIN: Duration = Duration::from_secs(1);
