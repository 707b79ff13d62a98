// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name servers of the distribution, each on one core with one worker and without what slows it: limits of rates, logs,
//! journals.

use crate::server::{Server, on_servers_core};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use testbed::free_ports;

/// Every rival that is installed, running on the zone; and what is not, with the reason.
pub(crate) fn installed(zone: &str) -> anyhow::Result<(Vec<Server>, Vec<String>)> {
    let (mut servers, mut skipped) = (Vec::new(), Vec::new());
    let rivals: [(&str, &str, Rival); 4] = [
        ("knot", "knotd", knot),
        ("nsd", "nsd", nsd),
        ("unbound", "unbound", unbound),
        ("pdns", "pdns_server", pdns),
    ];
    for (name, program, configure) in rivals {
        let Some(program) = which(program) else {
            skipped.push(format!("{name}: {program} is not installed"));
            continue;
        };
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("consul.zone"), zone)?;
        let [port] = free_ports()?;
        let mut command = on_servers_core(&program.to_string_lossy());
        command.args(configure(folder.path(), port, zone)?);
        command.current_dir(folder.path());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        servers.push(Server::start(name, address, &command, folder)?);
    }
    Ok((servers, skipped))
}

/// Writes the configuration and says with which arguments the program finds it.
type Rival = fn(&Path, u16, &str) -> anyhow::Result<Vec<String>>;

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}

fn knot(folder: &Path, port: u16, _: &str) -> anyhow::Result<Vec<String>> {
    let path = folder.display();
    let config = format!(
        "server:\n  rundir: {path}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  tcp-reuseport: on\n\
         database:\n  storage: {path}\n\
         template:\n  - id: default\n    storage: {path}\n    zonefile-sync: -1\n    journal-content: none\n\
         zone:\n  - domain: consul\n    file: consul.zone\n"
    );
    fs::write(folder.join("knot.conf"), config)?;
    Ok(vec!["-c".into(), "knot.conf".into()])
}

fn nsd(folder: &Path, port: u16, _: &str) -> anyhow::Result<Vec<String>> {
    let path = folder.display();
    let config = format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1\n  port: {port}\n  reuseport: yes\n  database: \"\"\n  username: \"\"\n\
         \x20 zonesdir: \"{path}\"\n  pidfile: \"{path}/nsd.pid\"\n  xfrdfile: \"{path}/xfrd.state\"\n  zonelistfile: \"{path}/zone.list\"\n\
         \x20 rrl-ratelimit: 0\n  tcp-count: 200\n  round-robin: yes\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: consul\n  zonefile: consul.zone\n"
    );
    fs::write(folder.join("nsd.conf"), config)?;
    Ok(vec!["-d".into(), "-c".into(), format!("{path}/nsd.conf")])
}

fn unbound(folder: &Path, port: u16, zone: &str) -> anyhow::Result<Vec<String>> {
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
    Ok(vec!["-d".into(), "-c".into(), "unbound.conf".into()])
}

fn pdns(folder: &Path, port: u16, _: &str) -> anyhow::Result<Vec<String>> {
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
    Ok(vec![format!("--config-dir={path}")])
}
