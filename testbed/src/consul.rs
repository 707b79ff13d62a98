// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Consul agent in development mode on loopback, and a thin client for its HTTP API.
//!
//! One agent that is server and client, all in memory. It is asked over HTTP as any user would; DNS is the test's own
//! affair, the address is given.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Binary, Error, Process, free_ports, http1, skip::or_skip};

/// A running agent; dropped, it has ended.
#[derive(Debug)]
pub struct Consul {
    process: Process,
    http: SocketAddr,
    dns: SocketAddr,
    command: Command,
    dir: TempDir,
}

impl Consul {
    /// Starts an agent named `testbed` and returns when it leads its cluster and lists itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the program can neither be found nor built; any other when it fails.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(&json!({})).await
    }

    /// [`Consul::start`] with configuration of one's own, as in a configuration file; ports and addresses are set on
    /// the command line and win.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn start_with(config: &Value) -> Result<Self, Error> {
        let program = Binary::Consul.find().await?;
        for _ in 1..STARTS_MAX {
            match Self::start_once(&program, config).await {
                // The port was free when it was chosen; another process was faster.
                Err(Error::Ended { log, .. }) if log.contains("address already in use") => {}
                outcome => return outcome,
            }
        }
        Self::start_once(&program, config).await
    }

    /// [`Consul::start`], or `None` after [`skip`](crate::skip) where it is unavailable.
    ///
    /// # Panics
    ///
    /// When it is available and does not start, and under `CI=true` instead of skipping.
    pub async fn start_or_skip(test: &str) -> Option<Self> {
        or_skip(test, Self::start().await)
    }

    /// Where its HTTP API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where it answers DNS, over UDP and TCP.
    pub fn dns_addr(&self) -> SocketAddr {
        self.dns
    }

    /// The process, to stop it and to let it go on.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the agent and starts it again at the same addresses, with nothing in its memory; returns when it leads.
    ///
    /// # Errors
    ///
    /// As [`Consul::start`].
    pub async fn restart(self) -> Result<Self, Error> {
        let Self {
            process,
            http,
            dns,
            command,
            dir,
        } = self;
        process.kill();
        let mut process = Process::start("consul", &command, &dir.path().join("consul-2.log"))?;
        process
            .wait_ready(READY_WITHIN, async || leads(http).await)
            .await?;
        Ok(Self {
            process,
            http,
            dns,
            command,
            dir,
        })
    }

    /// PUTs `body`, nothing if it is null; the answer is parsed, and an empty one is null.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] for every status but success; [`Error::Io`] or [`Error::Exchange`] when it is away.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        ask(Method::PUT, self.http, path, body).await
    }

    /// POSTs `body`; the answer is parsed, and an empty one is null.
    ///
    /// # Errors
    ///
    /// As [`Consul::put`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        ask(Method::POST, self.http, path, body.to_string().into()).await
    }

    /// GETs `path`; the answer is parsed, and an empty one is null.
    ///
    /// # Errors
    ///
    /// As [`Consul::put`].
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        ask(Method::GET, self.http, path, Bytes::new()).await
    }

    async fn start_once(program: &Path, config: &Value) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("zonal-testbed-")
            .tempdir()
            .map_err(Error::io("making a directory for Consul"))?;
        let file = dir.path().join("config.json");
        fs::write(&file, config.to_string())
            .map_err(Error::io("writing Consul's configuration"))?;
        let [http, dns, server, serf] = free_ports()?;
        let command = agent(program, &file, [http, dns, server, serf]);
        let mut process = Process::start("consul", &command, &dir.path().join("consul.log"))?;
        let http = (Ipv4Addr::LOCALHOST, http).into();
        process
            .wait_ready(READY_WITHIN, async || leads(http).await)
            .await?;
        Ok(Self {
            process,
            http,
            dns: (Ipv4Addr::LOCALHOST, dns).into(),
            command,
            dir,
        })
    }
}

fn agent(program: &Path, config: &Path, [http, dns, server, serf]: [u16; 4]) -> Command {
    let mut agent = Command::new(program);
    agent
        .args([
            "agent",
            "-dev",
            "-node=testbed",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
        ])
        .arg(format!("-config-file={}", config.display()))
        .arg(format!("-http-port={http}"))
        .arg(format!("-dns-port={dns}"))
        .arg(format!("-server-port={server}"))
        .arg(format!("-serf-lan-port={serf}"))
        .args([
            "-serf-wan-port=-1",
            "-grpc-port=-1",
            "-grpc-tls-port=-1",
            "-https-port=-1",
        ])
        // Else it asks a public host whether there is a newer version.
        .args(["-hcl", "disable_update_check = true"]);
    agent
}

/// Whether it leads, and its own service is in the catalog: before that, registrations are refused or lost.
async fn leads(http: SocketAddr) -> bool {
    let leader = ask(Method::GET, http, "/v1/status/leader", Bytes::new()).await;
    let itself = ask(
        Method::GET,
        http,
        "/v1/catalog/service/consul",
        Bytes::new(),
    )
    .await;
    leader.is_ok_and(|addr| addr.as_str().is_some_and(|addr| !addr.is_empty()))
        && itself.is_ok_and(|list| list.as_array().is_some_and(|list| !list.is_empty()))
}

async fn ask(method: Method, addr: SocketAddr, path: &str, body: Bytes) -> Result<Value, Error> {
    let what = format!("{method} {path}");
    let (status, answer) = http1::exchange(method, addr, path, body).await?;
    if !status.is_success() {
        let body = String::from_utf8_lossy(&answer).into_owned();
        return Err(Error::Answer {
            what,
            status: status.as_u16(),
            body,
        });
    }
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer).map_err(|error| Error::manifest(what, error))
}

const READY_WITHIN: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 3;
