// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service account of a pod: the API server of the cluster that we run in, its authority, and where our token stands.
//!
//! In: the folder that the kubelet keeps up to date, and the environment of the pod. Out: the client's configuration. `kube`
//! reads the same, from a folder that is written in it; here it is handed in.

use kube::Config;
use rustls::pki_types::{CertificateDer, pem, pem::PemObject};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where the service account stands.
#[derive(Clone, Debug)]
pub(super) struct ServiceAccount {
    folder: PathBuf,
    /// Host and port of the API server; none for what the environment says.
    server: Option<String>,
}

impl Default for ServiceAccount {
    /// That of every pod, unless it was told to have none.
    fn default() -> Self {
        Self::new(FOLDER.into(), None)
    }
}

impl ServiceAccount {
    pub(super) fn new(folder: PathBuf, server: Option<String>) -> Self {
        Self { folder, server }
    }

    /// Reads the authority; the token is read by whoever sends it.
    pub(super) fn load(&self) -> Result<Config, AccountError> {
        let server = match &self.server {
            Some(server) => server.clone(),
            None => server_of_environment()?,
        };
        let address = format!("https://{server}");
        let address = address.parse();
        let mut config = Config::new(address.map_err(|_| AccountError::Address { server })?);
        config.root_cert = Some(certificates(&self.folder.join("ca.crt"))?);
        let token = self.folder.join("token");
        config.auth_info.token_file = Some(token.to_string_lossy().into_owned());
        Ok(config)
    }
}

/// What every pod is told of the API server.
fn server_of_environment() -> Result<String, AccountError> {
    let [host, port] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].map(env::var);
    let (Ok(host), Ok(port)) = (host, port) else {
        return Err(AccountError::NoPod);
    };
    let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    Ok(if is_v6 {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, AccountError> {
    let fail = |source| AccountError::Authority {
        path: path.to_owned(),
        source,
    };
    let text = fs::read(path).map_err(|error| fail(pem::Error::Io(error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(fail)?;
    if certificates.is_empty() {
        return Err(fail(pem::Error::NoItemsFound));
    }
    Ok(certificates.iter().map(|one| one.to_vec()).collect())
}

/// Why there is no service account.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    /// The environment is not that of a pod.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set")]
    NoPod,
    #[error("{server:?} is no address of an API server")]
    Address { server: String },
    #[error("the certificate authority in {} cannot be used", path.display())]
    Authority { path: PathBuf, source: pem::Error },
}

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
