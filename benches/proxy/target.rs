// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured: our proxy, `HAProxy` in three ways, nginx, address translation by nftables, and no proxy at all.

use crate::stage::{FRONT_PORT, backends};
use anyhow::{Context as _, ensure};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

/// Something that clients go through.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Target {
    Ours,
    HaProxy,
    HaProxySplice,
    HaProxyTuned,
    Nginx,
    Dnat,
    Direct,
}

impl Target {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ours,
        Self::HaProxy,
        Self::HaProxySplice,
        Self::HaProxyTuned,
        Self::Nginx,
        Self::Dnat,
        Self::Direct,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "zonal",
            Self::HaProxy => "haproxy",
            Self::HaProxySplice => "haproxy splice-auto",
            Self::HaProxyTuned => "haproxy splice-auto, pipesize 262144",
            Self::Nginx => "nginx",
            Self::Dnat => "nftables dnat",
            Self::Direct => "direct",
        }
    }

    /// Whether the suite says anything of it: splicing shows in bulk alone, `HAProxy` carries no datagrams, and only a process
    /// has memory.
    pub(crate) fn plays(self, suite: &str) -> bool {
        match self {
            Self::Dnat | Self::Direct if suite == "idle" => false,
            Self::HaProxySplice | Self::HaProxyTuned => suite.starts_with("bulk"),
            Self::HaProxy => !suite.starts_with("udp"),
            _ => true,
        }
    }

    /// Whether a process of its own accepts at the front, which can be waited for.
    pub(crate) fn is_process(self) -> bool {
        !matches!(self, Self::Dnat | Self::Direct)
    }

    /// Starts it on core 0; a rule and `direct` have no process.
    pub(crate) fn start(self, folder: &Path) -> anyhow::Result<Started> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match self {
            Self::Direct => return Ok(Started::Nothing),
            Self::Dnat => {
                let file = folder.join("dnat.nft");
                std::fs::write(&file, dnat())?;
                nft(&["-f", &file.to_string_lossy()])?;
                return Ok(Started::Rules);
            }
            Self::Ours => {
                command
                    .arg(std::env::current_exe()?)
                    .args(["--role", "ours"]);
            }
            Self::Nginx => {
                let file = folder.join("nginx.conf");
                std::fs::write(&file, nginx(folder))?;
                command.args(["nginx", "-e", "/dev/null", "-c"]).arg(file);
            }
            _ => {
                let file = folder.join("haproxy.cfg");
                std::fs::write(&file, self.haproxy())?;
                command.args(["haproxy", "-db", "-q", "-f"]).arg(file);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Started::Process(child))
    }

    fn haproxy(self) -> String {
        let splice = if self == Self::HaProxy {
            ""
        } else {
            "option splice-auto"
        };
        let tuned = if self == Self::HaProxyTuned {
            "tune.pipesize 262144"
        } else {
            ""
        };
        let maxconn = if self == Self::HaProxy { 9_900 } else { 4_000 };
        let servers: Vec<_> = backends()
            .enumerate()
            .map(|(number, address)| format!("  server s{number} {address}\n"))
            .collect();
        let servers = servers.concat();
        format!(
            "global\n  nbthread 1\n  maxconn {maxconn}\n  {tuned}\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n  {splice}\n\
             listen front\n  bind :{FRONT_PORT} backlog 8192\n  balance roundrobin\n{servers}"
        )
    }
}

/// What stands between clients and servers; dropped, it is gone.
pub(crate) enum Started {
    Process(Child),
    Rules,
    Nothing,
}

impl Started {
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(child) => Some(child.id()),
            _ => None,
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        match self {
            Self::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Rules => drop(nft(&["delete", "table", "ip", "bench"])),
            Self::Nothing => {}
        }
    }
}

fn nft(words: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("nft").args(words).status()?;
    ensure!(status.success(), "nft {words:?}: {status}");
    Ok(())
}

/// Round robin over the servers, and replies by the same way.
fn dnat() -> String {
    let servers = backends().enumerate();
    let ports: Vec<_> = servers
        .map(|(number, address)| format!("{number} : {}", address.port()))
        .collect();
    let ports = ports.join(", ");
    let rule = |protocol| {
        format!(
            "{protocol} dport {FRONT_PORT} dnat to 10.2.0.2 : numgen inc mod 8 map {{ {ports} }}\n"
        )
    };
    format!(
        "table ip bench {{\n\
         chain in {{ type nat hook prerouting priority -100;\n{}{} }}\n\
         chain out {{ type nat hook postrouting priority 100; ip daddr 10.2.0.2 masquerade\n }}\n}}\n",
        rule("tcp"),
        rule("udp"),
    )
}

fn nginx(folder: &Path) -> String {
    let servers: Vec<_> = backends()
        .map(|address| format!("server {address};"))
        .collect();
    let servers = servers.concat();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; master_process off; worker_processes 1; pid {}/nginx.pid; error_log /dev/null;\n\
         events {{ worker_connections 19990; multi_accept on; }}\n\
         stream {{\n  upstream all {{ {servers} }}\n  server {{ listen {FRONT_PORT} backlog=8192; proxy_pass all;\n\
         proxy_connect_timeout 5s; proxy_timeout 300s; tcp_nodelay on; }}\n\
         server {{ listen {FRONT_PORT} udp; proxy_pass all; proxy_timeout 60s; }}\n}}\n",
        folder.display()
    )
}
