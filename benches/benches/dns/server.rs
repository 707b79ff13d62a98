// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server under test: started on the servers' core, with what it spends and takes, ended with its handle.
//!
//! Servers of ours are this program in another role, which tells on its output where it serves ([`tell`]).

use crate::question::Schema;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testbed::Process;

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) schema: Schema,
    pub(crate) has_tcp: bool,
    /// What the role told, null for programs of others.
    pub(crate) told: Value,
    /// Whose time is counted, with their children.
    ids: Vec<u32>,
    /// What works for it on other cores, and is paused with it; none where nothing is done unasked.
    beside: Vec<u32>,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts a program that answers the names of Consul at this address.
    pub(crate) fn start(
        name: &'static str,
        address: SocketAddr,
        command: &Command,
        folder: TempDir,
    ) -> anyhow::Result<Self> {
        let process = Process::start(name, command, &folder.path().join("log"))?;
        Ok(Self {
            name,
            address,
            schema: Schema::Consul,
            has_tcp: true,
            told: Value::Null,
            ids: vec![process.id()],
            beside: Vec::new(),
            _process: process,
            _folder: folder,
        })
    }

    /// Starts this program in a role and waits until it tells where it serves.
    pub(crate) fn role(name: &'static str, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::role_of(&std::env::current_exe()?, name, name, arguments)
    }

    /// The same with another build of this program.
    pub(crate) fn role_of(
        program: &Path,
        name: &'static str,
        role: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut command = on_servers_core(&program.to_string_lossy());
        command.arg(role).args(arguments);
        let mut process = Process::start(name, &command, &log)?;
        let begun = Instant::now();
        let told = loop {
            let is_over = process.status()?.is_some();
            if let Some(told) = told(&log) {
                break told;
            }
            if is_over || begun.elapsed() > TOLD_WITHIN {
                bail!(
                    "{name} tells nothing: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            std::thread::park_timeout(Duration::from_millis(20));
        };
        let list = |key: &str| -> Vec<u32> {
            let ids = told[key].as_array().into_iter().flatten();
            ids.filter_map(|id| u32::try_from(id.as_u64()?).ok())
                .collect()
        };
        let ids = list("ids");
        Ok(Self {
            name,
            address: told["address"].as_str().unwrap_or(NOWHERE).parse()?,
            schema: match told["schema"].as_str() {
                Some("kubernetes") => Schema::Kubernetes,
                _ => Schema::Consul,
            },
            has_tcp: name != "echo",
            ids: if ids.is_empty() {
                vec![process.id()]
            } else {
                ids
            },
            beside: list("beside"),
            told,
            _process: process,
            _folder: folder,
        })
    }

    /// The processes that are measured.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Time on processors so far, in seconds, of all its threads and children.
    pub(crate) fn busy_seconds(&self) -> f64 {
        self.ids.iter().copied().map(busy_of_tree).sum()
    }

    /// Memory in RAM, in bytes, as the kernel calls it: `VmRSS`, or `VmHWM` for the most since [`Server::forget_peak`].
    pub(crate) fn memory(&self, what: &str) -> f64 {
        let of = |id: &u32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.unwrap_or(f64::NAN) * 1_024.0
        };
        self.ids.iter().map(of).sum()
    }

    pub(crate) fn forget_peak(&self) {
        for id in &self.ids {
            // proc(5): 5 sets VmHWM back.
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// Servers that work without being asked would take time from the others.
    pub(crate) fn pause(&self) {
        if self.has_work_of_its_own() {
            self.signal(Signal::STOP);
        }
    }

    pub(crate) fn go_on(&self) {
        if self.has_work_of_its_own() {
            self.signal(Signal::CONT);
        }
    }

    fn has_work_of_its_own(&self) -> bool {
        !self.beside.is_empty()
    }

    fn signal(&self, signal: Signal) {
        for id in self.ids.iter().chain(&self.beside) {
            let id = i32::try_from(*id).ok().and_then(Pid::from_raw);
            // One that has ended shows as one that does not answer.
            let _ = id.map(|id| kill_process(id, signal));
        }
    }
}

/// A command on the servers' core.
pub(crate) fn on_servers_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVERS_CORE, program]);
    // As many threads at once as there are cores for them.
    command.env("GOMAXPROCS", "1");
    command
}

/// The generator leaves that core to the servers.
pub(crate) fn pin_generator() -> anyhow::Result<()> {
    move_beside(std::process::id())
}

/// Moves a process with its threads to the generator's core.
pub(crate) fn move_beside(id: u32) -> anyhow::Result<()> {
    let moved = Command::new("taskset")
        .args(["-a", "-p", "-c", GENERATORS_CORE, &id.to_string()])
        .output()
        .context("taskset is not installed")?;
    ensure!(
        moved.status.success(),
        "{}",
        String::from_utf8_lossy(&moved.stderr)
    );
    Ok(())
}

/// What a role says once it serves.
pub(crate) fn tell(what: &Value) {
    println!("{TOLD}{what}");
}

fn told(log: &Path) -> Option<Value> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(TOLD))?;
    serde_json::from_str(line).ok()
}

/// proc(5) has the time of each thread in nanoseconds in `schedstat`; what ended threads spent is only in `stat`, in ticks.
fn busy_of_tree(id: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else {
        return 0.0;
    };
    let (mut of_threads, mut of_children) = (0.0, 0.0);
    for thread in threads.flatten().map(|thread| thread.path()) {
        let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let nanoseconds = text
            .split(' ')
            .next()
            .and_then(|text| text.parse::<f64>().ok());
        of_threads += nanoseconds.unwrap_or(0.0) / 1e9;
        let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        of_children += children.map(busy_of_tree).sum::<f64>();
    }
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|text| text.parse::<f64>().ok()).sum();
    of_threads.max(ticks / TICKS_PER_SECOND) + of_children
}

const SERVERS_CORE: &str = "1";
pub(crate) const GENERATORS_CORE: &str = "0";
const TICKS_PER_SECOND: f64 = 100.0;
const TOLD: &str = "said ";
const NOWHERE: &str = "127.0.0.1:9";
/// A control plane with two thousand objects or a hundred thousand services, on a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(300);
