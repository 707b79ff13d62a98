// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured: our proxy, `HAProxy` in three ways, nginx, and no proxy at all.

use crate::stage::{FRONT_PORT, backends};
use anyhow::Context as _;
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
    Direct,
}

impl Target {
    pub(crate) const ALL: [Self; 6] = [
        Self::Ours,
        Self::HaProxy,
        Self::HaProxySplice,
        Self::HaProxyTuned,
        Self::Nginx,
        Self::Direct,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "zonal",
            Self::HaProxy => "haproxy",
            Self::HaProxySplice => "haproxy splice-auto",
            Self::HaProxyTuned => "haproxy splice-auto, pipesize 262144",
            Self::Nginx => "nginx",
            Self::Direct => "direct",
        }
    }

    /// Whether the suite says anything of it: splicing shows in bulk alone.
    pub(crate) fn plays(self, suite: &str) -> bool {
        suite.starts_with("bulk") || !matches!(self, Self::HaProxySplice | Self::HaProxyTuned)
    }

    /// Starts it on core 0; nothing for `direct`.
    pub(crate) fn start(self, folder: &Path) -> anyhow::Result<Option<Child>> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match self {
            Self::Direct => return Ok(None),
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
        Ok(Some(child))
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
         proxy_connect_timeout 5s; proxy_timeout 300s; tcp_nodelay on; }}\n}}\n",
        folder.display()
    )
}
