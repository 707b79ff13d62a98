// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides the command lines of a control plane: which program, which port, which file, which token.
//!
//! In: a directory, programs, flags of the test. Out: commands, and the kubeconfigs that reach what they start.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{Binary, Error, KubeOptions, Process, free_ports};

/// The program files of the three.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: PathBuf,
}

impl Programs {
    pub(crate) async fn find() -> Result<Self, Error> {
        Ok(Self {
            apiserver: Binary::KubeApiserver.find().await?,
            controller_manager: Binary::KubeControllerManager.find().await?,
            etcd: Binary::Etcd.find().await?,
        })
    }
}

/// Where everything lies and listens; decides the command lines.
#[derive(Debug)]
pub(crate) struct Plan {
    dir: PathBuf,
    programs: Programs,
    options: KubeOptions,
    etcd_port: u16,
    etcd_peer_port: u16,
    apiserver_port: u16,
    pub(crate) controller_manager_port: u16,
    pub(crate) admin_token: String,
    pub(crate) unprivileged_token: String,
}

impl Plan {
    pub(crate) fn new(dir: &Path, programs: Programs, options: KubeOptions) -> Result<Self, Error> {
        let [
            etcd_port,
            etcd_peer_port,
            apiserver_port,
            controller_manager_port,
        ] = free_ports()?;
        let plan = Self {
            dir: dir.to_owned(),
            programs,
            options,
            etcd_port,
            etcd_peer_port,
            apiserver_port,
            controller_manager_port,
            admin_token: token(),
            unprivileged_token: token(),
        };
        plan.write("tokens.csv", &plan.tokens())?;
        Ok(plan)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.apiserver_port)
    }

    pub(crate) fn etcd_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.etcd_port).into()
    }

    /// The chain of the leaf and of the authority that the API server made to sign it.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("certs/apiserver.crt")
    }

    /// The RSA key of that leaf, which also signs the tokens of service accounts: it exists before it is needed there,
    /// and spares us a tool that makes keys.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("certs/apiserver.key")
    }

    fn tokens(&self) -> String {
        format!(
            "{},admin,admin,\"system:masters\"\n{},nobody,nobody\n",
            self.admin_token, self.unprivileged_token
        )
    }

    pub(crate) fn etcd(&self) -> Command {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        let mut etcd = Command::new(&self.programs.etcd);
        etcd.arg("--name=etcd")
            .arg(format!("--data-dir={}", self.dir.join("data").display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=etcd={peer}"))
            // Data lives as long as the test; only a power cut would tell the difference.
            .args(["--unsafe-no-fsync", "--log-level=warn"]);
        etcd
    }

    pub(crate) fn apiserver(&self) -> Command {
        let key = self.key();
        let mut apiserver = Command::new(&self.programs.apiserver);
        apiserver
            .arg(format!("--etcd-servers=http://{}", self.etcd_addr()))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.apiserver_port))
            .arg(format!("--cert-dir={}", self.dir.join("certs").display()))
            .arg(format!(
                "--token-auth-file={}",
                self.dir.join("tokens.csv").display()
            ))
            .arg("--authorization-mode=RBAC")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!(
                "--service-account-signing-key-file={}",
                key.display()
            ))
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            // Without its controller no namespace has a default account, and pods would be refused.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg("--endpoint-reconciler-type=none")
            .arg("--allow-privileged=true")
            .args(&self.options.apiserver_flags);
        apiserver
    }

    pub(crate) fn controller_manager(&self) -> Command {
        let kubeconfig = self.kubeconfig_path("admin");
        let mut manager = Command::new(&self.programs.controller_manager);
        for flag in [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ] {
            manager.arg(format!("--{flag}={}", kubeconfig.display()));
        }
        manager
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.controller_manager_port))
            .arg(format!(
                "--cert-dir={}",
                self.dir.join("manager-certs").display()
            ))
            .arg("--controllers=endpoint,endpointslice,nodelifecycle,podgc")
            .args(&self.options.controller_manager_flags);
        manager
    }

    /// Starts a program of the plan; its log is `<program>.log` in the directory.
    pub(crate) fn start(&self, command: &Command) -> Result<Process, Error> {
        let program = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default();
        let what = program.to_string_lossy();
        Process::start(&what, command, &self.dir.join(format!("{what}.log")))
    }

    pub(crate) fn kubeconfig_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.kubeconfig"))
    }

    pub(crate) fn write_kubeconfig(&self, token: &str, name: &str) -> Result<PathBuf, Error> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": {
                "server": self.url(),
                "certificate-authority": self.certificate(),
            }}],
            "users": [{ "name": name, "user": { "token": token }}],
            "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": name }}],
            "current-context": "testbed",
        });
        self.write(&format!("{name}.kubeconfig"), &config.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

/// Nothing that anybody must not guess: the server behind it holds made-up objects for seconds.
fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}
