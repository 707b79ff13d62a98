// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent of this binary, and every process that took over from it.

use crate::host::{self, Listens, Port};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// An agent of this binary and every process that took over from it; dropped, all have ended.
pub(crate) struct Agents {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ports: [u16; 6],
    pub(crate) first: Child,
}

pub(crate) const TCP: usize = 0;
pub(crate) const UDP: usize = 1;
const DNS: usize = 2;
const ADMIN: usize = 3;
pub(crate) const METRICS: usize = 4;
pub(crate) const SPARE: usize = 5;

impl Agents {
    /// Starts one in front of the endpoints, and returns when it serves. The command may be made another.
    pub(crate) async fn start(
        endpoints: [SocketAddr; 2],
        proxy: &str,
        change: impl FnOnce(&mut Command, &[u16; 6]),
    ) -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), testbed::free_ports().unwrap());
        let [tcp, udp] = endpoints;
        let fronted = [Port::tcp(ports[TCP], tcp), Port::udp(ports[UDP], udp)];
        host::write_manifest(folder.path(), host::ZONE, &fronted);
        let mut command = host::agent(folder.path());
        change(&mut command, &ports);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        write_config(folder.path(), &ports, proxy);
        command.stdout(Stdio::null()).stderr(log);
        let first = command.spawn().unwrap();
        let agents = Self {
            folder,
            ports,
            first,
        };
        agents
            .until("both ports serve", |log| {
                log.matches("\"serving\"").count() >= 2
            })
            .await;
        agents
    }

    pub(crate) fn at(&self, port: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[port]).into()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let ask = async || holds(&self.log()).then_some(());
        let waited = testbed::wait_for(what, Duration::from_secs(60), ask).await;
        assert!(waited.is_ok(), "{what}\n{}", self.log());
    }

    /// Our processes by age: each is named in the log by the one before.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let log = self.log();
        let named = log
            .lines()
            .filter(|line| line.contains("Another process has taken over"));
        let named = named.filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            i32::try_from(event["pid"].as_i64()?).ok()
        });
        let first = i32::try_from(self.first.id()).unwrap();
        [first]
            .into_iter()
            .chain(named)
            .filter_map(Pid::from_raw)
            .collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(*self.pids().last().unwrap(), signal).unwrap();
    }

    /// Has the newest process replaced, and returns when that is done.
    pub(crate) async fn upgrade(&self) {
        let before = self.pids().len();
        self.signal(Signal::USR2);
        self.until("another process has taken over", |_| {
            self.pids().len() > before
        })
        .await;
    }

    /// Has the newest process read its configuration anew, and returns when it has taken or refused it.
    pub(crate) async fn reload(&self) {
        let told = |log: &str| {
            log.matches("Configuration came into force").count()
                + log.matches("Configuration refused").count()
        };
        let before = told(&self.log());
        self.signal(Signal::HUP);
        self.until("the configuration is read", |log| told(log) > before)
            .await;
    }

    /// A command that asks our agent.
    pub(crate) fn zonal(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
        command
            .args(words)
            .env("ZONAL_ADMIN", self.at(ADMIN).to_string());
        command
    }

    pub(crate) fn metric(&self, port: usize, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.at(port)).ok()?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for pid in self.pids().into_iter().skip(1) {
            // Only what still is our binary: the others have ended, and their ids may be a stranger's.
            let exe = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
            if exe.is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_zonal"))) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

pub(crate) fn write_config(folder: &Path, ports: &[u16; 6], proxy: &str) {
    let listens = Listens {
        dns: Some(ports[DNS]),
        admin: ports[ADMIN],
        metrics: ports[METRICS],
    };
    host::write_config(folder, listens, &format!("listen: [127.0.0.1], {proxy}"));
}
