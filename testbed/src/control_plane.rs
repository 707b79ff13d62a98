// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Kubernetes control plane on loopback: etcd, the API server and the controller manager.
//!
//! No kubelet, no scheduler: nodes and the state of pods are the driver's. RBAC is on, because what a token may not
//! see is part of what is tested. The certificate is the one that the API server signs for itself; the kubeconfigs
//! carry it, and clients verify against it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Driver, Error, Process, apply, apply_yaml, http1,
    plan::{Plan, Programs},
    skip::{or_skip, say},
};

/// A running control plane; dropped, its servers have ended and its data is gone.
///
/// Memory: about 400 MB. With `ZONAL_TESTBED_KEEP` set in the environment, data and logs stay and their place is
/// printed.
pub struct Kube {
    // In the order in which they shall end: nobody then complains in its log about a server that is gone.
    controller_manager: Process,
    apiserver: Option<Process>,
    etcd: Process,
    admin: Client,
    plan: Plan,
    dir: Option<TempDir>,
}

/// Flags beyond the usual ones; a later flag of the same name wins.
///
/// ```
/// let quick = testbed::KubeOptions::default()
///     .controller_manager_flag("--node-monitor-grace-period=8s");
/// ```
#[derive(Clone, Debug, Default)]
pub struct KubeOptions {
    pub(crate) apiserver_flags: Vec<String>,
    pub(crate) controller_manager_flags: Vec<String>,
}

impl KubeOptions {
    /// Adds a flag for the API server.
    #[must_use]
    pub fn apiserver_flag(mut self, flag: &str) -> Self {
        self.apiserver_flags.push(flag.to_owned());
        self
    }

    /// Adds a flag for the controller manager.
    #[must_use]
    pub fn controller_manager_flag(mut self, flag: &str) -> Self {
        self.controller_manager_flags.push(flag.to_owned());
        self
    }
}

impl Kube {
    /// Starts a control plane and returns when it answers: `/readyz` of the API server, `/healthz` of the controller
    /// manager, and the namespaces that the API server makes for itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when a program can neither be found nor built; any other when a server fails.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(KubeOptions::default()).await
    }

    /// [`Kube::start`] with flags of one's own.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn start_with(options: KubeOptions) -> Result<Self, Error> {
        let programs = Programs::find().await?;
        for _ in 1..STARTS_MAX {
            match Self::start_once(&programs, &options).await {
                // The port was free when it was chosen; another process was faster.
                Err(Error::Ended { log, .. }) if log.contains("address already in use") => {}
                outcome => return outcome,
            }
        }
        Self::start_once(&programs, &options).await
    }

    /// [`Kube::start`], or `None` after [`skip`](crate::skip) where it is unavailable.
    ///
    /// # Panics
    ///
    /// When it is available and does not start, and under `CI=true` instead of skipping.
    pub async fn start_or_skip(test: &str) -> Option<Self> {
        or_skip(test, Self::start().await)
    }

    /// [`Kube::start_with`], or `None` after [`skip`](crate::skip) where it is unavailable.
    ///
    /// # Panics
    ///
    /// As [`Kube::start_or_skip`].
    pub async fn start_with_or_skip(test: &str, options: KubeOptions) -> Option<Self> {
        or_skip(test, Self::start_with(options).await)
    }

    /// `https://127.0.0.1:<port>`, the same over all restarts.
    pub fn url(&self) -> String {
        self.plan.url()
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// The kubeconfig of [`Kube::admin`].
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.plan.kubeconfig_path("admin")
    }

    /// A driver with the rights of [`Kube::admin`].
    pub fn driver(&self) -> Driver {
        Driver::new(self.admin())
    }

    /// The token of a user whom no role names: authenticated, and forbidden nearly everything.
    pub fn unprivileged_token(&self) -> &str {
        &self.plan.unprivileged_token
    }

    /// Writes a kubeconfig for a bearer token; `name` names the user and the file. A token that nobody issued is fine:
    /// the server will answer 401.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub fn kubeconfig_for_token(&self, token: &str, name: &str) -> Result<PathBuf, Error> {
        self.plan.write_kubeconfig(token, name)
    }

    /// Writes a kubeconfig for a service account, which is made if it is absent, with a token of one hour that the API
    /// server issues as it does for pods. The namespace must exist.
    ///
    /// # Errors
    ///
    /// [`Error::Kube`] when the server refuses; [`Error::Io`] when the file cannot be written.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, Error> {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": namespace },
        });
        apply(&self.admin, &account).await?;
        let token = self.request_token(namespace, name).await?;
        self.plan
            .write_kubeconfig(&token, &format!("{namespace}-{name}"))
    }

    /// Applies every document of a YAML text, see [`apply_yaml`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<(), Error> {
        apply_yaml(&self.admin, yaml).await
    }

    /// Kills the API server: connections are reset, new ones refused. Its data stays in etcd.
    pub fn kill_apiserver(&mut self) {
        if let Some(apiserver) = self.apiserver.take() {
            apiserver.kill();
        }
    }

    /// Starts the API server again, at the same address with the same data and certificate, and returns when it
    /// answers; one that runs is killed before.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] or [`Error::NotReady`].
    pub async fn start_apiserver(&mut self) -> Result<(), Error> {
        self.kill_apiserver();
        let mut apiserver = self.plan.start(&self.plan.apiserver())?;
        let admin = &self.admin;
        apiserver
            .wait_ready(READY_WITHIN, async || answers(admin, "/readyz").await)
            .await?;
        self.apiserver = Some(apiserver);
        Ok(())
    }

    /// Stops the API server (SIGSTOP): connections stay open and nothing is answered, as behind a dead link.
    ///
    /// # Errors
    ///
    /// [`Error::Killed`] or [`Error::Ended`] when it does not run.
    pub fn stop_apiserver(&mut self) -> Result<(), Error> {
        self.running_apiserver()?.stop()
    }

    /// Lets a stopped API server go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`Error::Killed`] or [`Error::Ended`] when it does not run.
    pub fn cont_apiserver(&mut self) -> Result<(), Error> {
        self.running_apiserver()?.signal(Signal::CONT)
    }

    /// The process ids of API server (`None` while killed), controller manager and etcd.
    pub fn ids(&self) -> (Option<u32>, u32, u32) {
        let apiserver = self.apiserver.as_ref().map(Process::id);
        (apiserver, self.controller_manager.id(), self.etcd.id())
    }

    /// The client address of etcd, for tests that compact or wipe it.
    pub fn etcd_addr(&self) -> SocketAddr {
        self.plan.etcd_addr()
    }

    fn running_apiserver(&mut self) -> Result<&mut Process, Error> {
        self.apiserver.as_mut().ok_or_else(|| Error::Killed {
            what: "kube-apiserver".to_owned(),
        })
    }

    async fn request_token(&self, namespace: &str, name: &str) -> Result<String, Error> {
        let what = format!("requesting a token for {namespace}/{name}");
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600 },
        });
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| Error::manifest(&what, error))?;
        let answer: Value = self
            .admin
            .request(request)
            .await
            .map_err(Error::kube(&what))?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token
            .map(ToOwned::to_owned)
            .ok_or_else(|| Error::manifest(what, "no token in the answer"))
    }

    async fn start_once(programs: &Programs, options: &KubeOptions) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("zonal-testbed-")
            .tempdir()
            .map_err(Error::io("making a directory for a control plane"))?;
        let plan = Plan::new(dir.path(), programs.clone(), options.clone())?;
        let etcd = start_etcd(&plan).await?;
        let (apiserver, admin) = start_apiserver(&plan).await?;
        let controller_manager = start_controller_manager(&plan).await?;
        let apiserver = Some(apiserver);
        Ok(Self {
            controller_manager,
            apiserver,
            etcd,
            admin,
            plan,
            dir: Some(dir),
        })
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        if std::env::var_os("ZONAL_TESTBED_KEEP").is_some()
            && let Some(dir) = self.dir.take()
        {
            say(&format!("testbed: kept {}", dir.keep().display()));
        }
    }
}

/// A client for a kubeconfig file, with the TLS provider that this workspace uses.
///
/// # Errors
///
/// [`Error::Manifest`] when the file is no kubeconfig; [`Error::Kube`] when no client can be made of it.
pub async fn client(kubeconfig: &Path) -> Result<Client, Error> {
    let what = || format!("reading {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| Error::manifest(what(), error))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| Error::manifest(what(), error))?;
    client_for(config)
}

fn client_for(config: Config) -> Result<Client, Error> {
    // Already installed is fine, and so is another one: the program around us chose it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).map_err(Error::kube("making a client"))
}

async fn start_etcd(plan: &Plan) -> Result<Process, Error> {
    let mut etcd = plan.start(&plan.etcd())?;
    let ready = async || {
        let asked = http1::exchange(Method::GET, plan.etcd_addr(), "/readyz", Bytes::new()).await;
        asked.is_ok_and(|(status, _)| status == StatusCode::OK)
    };
    etcd.wait_ready(READY_WITHIN, ready).await?;
    Ok(etcd)
}

async fn start_apiserver(plan: &Plan) -> Result<(Process, Client), Error> {
    let mut apiserver = plan.start(&plan.apiserver())?;
    let cert = plan.certificate();
    apiserver
        .wait_ready(READY_WITHIN, async || cert.exists() && plan.key().exists())
        .await?;
    let kubeconfig = plan.write_kubeconfig(&plan.admin_token, "admin")?;
    // The file may exist before it is complete, hence a client per question until one is answered.
    let ready = async || match client(&kubeconfig).await {
        Ok(admin) => answers(&admin, "/readyz").await,
        Err(_) => false,
    };
    apiserver.wait_ready(READY_WITHIN, ready).await?;
    let admin = client(&kubeconfig).await?;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let made = async || {
        for name in ["default", "kube-node-lease"] {
            if !matches!(namespaces.get_opt(name).await, Ok(Some(_))) {
                return false;
            }
        }
        true
    };
    apiserver.wait_ready(READY_WITHIN, made).await?;
    Ok((apiserver, admin))
}

async fn start_controller_manager(plan: &Plan) -> Result<Process, Error> {
    let mut manager = plan.start(&plan.controller_manager())?;
    let url = format!("https://127.0.0.1:{}", plan.controller_manager_port);
    let url = url.parse().map_err(|error| Error::manifest(url, error))?;
    let mut config = Config::new(url);
    // Its certificate is its own and signed by nobody; the question is only whether it lives.
    config.accept_invalid_certs = true;
    let client = client_for(config)?;
    manager
        .wait_ready(READY_WITHIN, async || answers(&client, "/healthz").await)
        .await?;
    Ok(manager)
}

async fn answers(client: &Client, path: &str) -> bool {
    let Ok(request) = Request::get(path).body(Vec::new()) else {
        return false;
    };
    // A question that hangs is asked again: the server may have been taking connections before it could answer them.
    let asked = tokio::time::timeout(QUESTION_WITHIN, client.request_text(request)).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

/// Four seconds on an idle machine; a loaded one with several control planes starting at once needs patience.
const READY_WITHIN: Duration = Duration::from_secs(120);
const QUESTION_WITHIN: Duration = Duration::from_secs(2);
const STARTS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests spawn what starts servers; a future that is not `Send` would show only there.
    #[test]
    fn starting_can_be_spawned() {
        fn spawnable<T: Send>(_: &T) {}
        spawnable(&Kube::start());
        spawnable(&crate::Consul::start());
    }
}
