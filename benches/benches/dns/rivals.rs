// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name servers of the distribution, each on one core with one worker and without what slows it: limits of rates, logs,
//! journals.

use crate::Server;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Every rival that is installed, running on the zone.
pub(crate) fn installed(zone: &str, ports: fn(u16) -> u16) -> anyhow::Result<Vec<Server>> {
    let mut servers = Vec::new();
    for (number, rival) in [knot as Rival, nsd, unbound, pdns].into_iter().enumerate() {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("consul.zone"), zone)?;
        let port = ports(2 + u16::try_from(number)?);
        let (name, mut command) = rival(folder.path(), port, zone)?;
        if which(&command).is_none() {
            println!("{name} is not installed");
            continue;
        }
        let command = command.current_dir(folder.path()).stdin(Stdio::null());
        let log = fs::File::create(folder.path().join("log"))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        servers.push(Server::new(name, port, child, Some(folder)));
    }
    Ok(servers)
}

type Rival = fn(&Path, u16, &str) -> anyhow::Result<(&'static str, Command)>;

fn which(command: &Command) -> Option<PathBuf> {
    let program = command.get_args().nth(2)?.to_owned();
    ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(&program))
        .find(|path| path.exists())
}

/// A program on the servers' core.
fn on_first_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", "0", program])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn knot(folder: &Path, port: u16, _: &str) -> anyhow::Result<(&'static str, Command)> {
    let path = folder.display();
    let config = format!(
        "server:\n  rundir: {path}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  tcp-reuseport: on\n\
         database:\n  storage: {path}\n\
         template:\n  - id: default\n    storage: {path}\n    zonefile-sync: -1\n    journal-content: none\n\
         zone:\n  - domain: consul\n    file: consul.zone\n"
    );
    fs::write(folder.join("knot.conf"), config)?;
    let mut command = on_first_core("knotd");
    command.args(["-c", "knot.conf"]);
    Ok(("knot", command))
}

fn nsd(folder: &Path, port: u16, _: &str) -> anyhow::Result<(&'static str, Command)> {
    let path = folder.display();
    let config = format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1\n  port: {port}\n  reuseport: yes\n  database: \"\"\n  username: \"\"\n\
         \x20 zonesdir: \"{path}\"\n  pidfile: \"{path}/nsd.pid\"\n  xfrdfile: \"{path}/xfrd.state\"\n  zonelistfile: \"{path}/zone.list\"\n\
         \x20 rrl-ratelimit: 0\n  tcp-count: 200\n  round-robin: yes\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: consul\n  zonefile: consul.zone\n"
    );
    fs::write(folder.join("nsd.conf"), config)?;
    let mut command = on_first_core("nsd");
    command.args(["-d", "-c"]).arg(folder.join("nsd.conf"));
    Ok(("nsd", command))
}

fn unbound(folder: &Path, port: u16, zone: &str) -> anyhow::Result<(&'static str, Command)> {
    let records = zone.lines().filter(|line| !line.starts_with('$'));
    let data = records.map(|line| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let name = if name == "@" {
            "consul.".to_owned()
        } else {
            format!("{name}.consul.")
        };
        let rest = rest
            .replace("SOA ns hostmaster", "SOA ns.consul. hostmaster.consul.")
            .replace("NS ns", "NS ns.consul.");
        let rest = if rest.starts_with("SRV") {
            format!("{rest}.consul.")
        } else {
            rest
        };
        let ttl = if name == "consul." && rest.starts_with('1') {
            ""
        } else {
            "5 "
        };
        format!(
            "  local-data: \"{name} {ttl}IN {}\"\n",
            rest.trim_start_matches("1 SOA")
                .replacen(" ns.consul. host", "SOA ns.consul. host", 1)
        )
    });
    let data: String = data.filter(|line| !line.contains("SOA")).collect();
    let config = format!(
        "server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  so-reuseport: yes\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n\
         \x20 directory: \"{path}\"\n  pidfile: \"\"\n  use-syslog: no\n  module-config: \"iterator\"\n  incoming-num-tcp: 200\n\
         \x20 local-zone: \"consul.\" static\n{data}",
        path = folder.display()
    );
    fs::write(folder.join("unbound.conf"), config)?;
    let mut command = on_first_core("unbound");
    command.args(["-d", "-c"]).arg(folder.join("unbound.conf"));
    Ok(("unbound", command))
}

fn pdns(folder: &Path, port: u16, _: &str) -> anyhow::Result<(&'static str, Command)> {
    let path = folder.display();
    fs::write(
        folder.join("named.conf"),
        format!("zone \"consul\" {{ type master; file \"{path}/consul.zone\"; }};\n"),
    )?;
    let config = format!(
        "launch=bind\nbind-config={path}/named.conf\nlocal-address=127.0.0.1\nlocal-port={port}\nreceiver-threads=1\n\
         distributor-threads=1\ncache-ttl=20\nsocket-dir={path}\nguardian=no\ndaemon=no\ndisable-syslog=yes\nloglevel=3\n"
    );
    fs::write(folder.join("pdns.conf"), config)?;
    let mut command = on_first_core("pdns_server");
    command.arg(format!("--config-dir={path}"));
    Ok(("pdns", command))
}
