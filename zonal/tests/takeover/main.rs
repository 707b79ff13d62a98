// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent that takes over from another: with another configuration, in another process, in another pod, on sockets of
//! systemd.

mod agents;
#[path = "../host/mod.rs"]
mod host;
mod load;
mod pods;

use agents::{Agents, METRICS, SPARE, TCP, UDP, write_config};
use host::{echo, exchange};
use load::{Load, UdpClients, udp_echo};
use rustix::process::{Pid, Signal};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use testbed::Consul;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_f57_processes_that_replace_one_another_under_load_fail_nobody() {
    let upgrades = if std::env::var_os("ZONAL_LONG").is_some() {
        20
    } else {
        5
    };
    let endpoints = [echo(), udp_echo().await];
    let agents = Agents::start(endpoints, "drain_seconds: 60", |_, _| {}).await;
    let front = agents.at(TCP);
    let mut old = tokio::net::TcpStream::connect(front).await.unwrap();
    exchange(&mut old).await.unwrap();
    let load = Load::start(front);
    let clients = UdpClients::start(agents.at(UDP)).await;
    for _ in 0..upgrades {
        agents.upgrade().await;
        clients.each_is_answered_from_its_port().await;
    }
    let (served, failed) = load.stop().await;
    println!("{served} connections during {upgrades} upgrades, failed: {failed:?}");
    assert!(failed.is_empty(), "{failed:?}\n{}", agents.log());
    assert!(served > 100);
    exchange(&mut old).await.unwrap();
    drop(old);
    assert_eq!(agents.pids().len(), upgrades + 1);
    let newest = *agents.pids().last().unwrap();
    let ended = async || {
        let left = agents.pids().into_iter().filter(|pid| is_running(*pid));
        (left.collect::<Vec<_>>() == [newest]).then_some(())
    };
    let waited = testbed::wait_for("the older ones end", Duration::from_secs(60), ended).await;
    assert!(waited.is_ok(), "{}", agents.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_process_that_does_not_come_up_changes_nothing() {
    let endpoints = [echo(), udp_echo().await];
    let agents = Agents::start(endpoints, "drain_seconds: 60", |_, _| {}).await;
    let clients = UdpClients::start(agents.at(UDP)).await;
    fs::write(agents.folder.path().join("zonal.yaml"), "{proxy: [}").unwrap();
    agents.signal(Signal::USR2);
    agents
        .until("the process gives up", |log| {
            log.contains("No other process took over")
        })
        .await;
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(agents.at(TCP))
            .await
            .unwrap();
        exchange(&mut stream).await.unwrap();
    }
    clients.each_is_answered_from_its_port().await;
    write_config(agents.folder.path(), &agents.ports, "drain_seconds: 60");
    agents.upgrade().await;
    clients.each_is_answered_from_its_port().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f58_a_configuration_that_is_not_valid_is_refused_with_its_place_and_the_old_one_holds() {
    let endpoints = [echo(), udp_echo().await];
    let agents = Agents::start(endpoints, "drain_seconds: 60", |_, _| {}).await;
    let successful = "zonal_config_last_reload_successful";
    assert_eq!(agents.metric(METRICS, successful), Some(1.0));
    let load = Load::start(agents.at(TCP));
    let clients = UdpClients::start(agents.at(UDP)).await;
    for (broken, place) in [
        ("drain_secondz: 3", "drain_secondz"),
        ("drain_seconds: soon", "zonal.yaml:"),
        ("register: {consul: 'ftp://x'}", "ftp"),
    ] {
        let from = agents.log().len();
        write_config(agents.folder.path(), &agents.ports, broken);
        agents.reload().await;
        let said = agents.log()[from..].to_owned();
        assert!(
            said.contains("Configuration refused") && said.contains(place),
            "{said}"
        );
        assert_eq!(agents.metric(METRICS, successful), Some(0.0), "{broken}");
    }
    // Half a file, as an editor or a full disk leaves it.
    fs::write(
        agents.folder.path().join("zonal.yaml"),
        "{node_name: edge-a, prox",
    )
    .unwrap();
    agents.reload().await;
    assert_eq!(agents.metric(METRICS, successful), Some(0.0));
    // What is valid comes into force, wherever it acts.
    let mut moved = agents.ports;
    moved.swap(METRICS, SPARE);
    write_config(agents.folder.path(), &moved, "drain_seconds: 60");
    agents.reload().await;
    assert_eq!(agents.metric(SPARE, successful), Some(1.0));
    assert!(TcpStream::connect(agents.at(METRICS)).is_err());
    clients.each_is_answered_from_its_port().await;
    for _ in 0..5 {
        agents.reload().await;
        clients.each_is_answered_from_its_port().await;
    }
    let (served, failed) = load.stop().await;
    println!("{served} connections during 10 reloads, failed: {failed:?}");
    assert!(failed.is_empty(), "{failed:?}\n{}", agents.log());
    assert_eq!(agents.pids().len(), 1, "a reload is no other process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_sockets_that_systemd_has_opened_are_used() {
    let endpoints = [echo(), udp_echo().await];
    let mut held = None;
    let agents = Agents::start(endpoints, "drain_seconds: 1", |command, ports| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[TCP])).unwrap();
        // The shell makes the socket descriptor 3, and its own id that of the agent, as systemd does.
        let mut shell = Command::new("/bin/sh");
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
        shell.args(["-c", script, "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
        *command = shell;
        held = Some(listener);
    })
    .await;
    // Nobody else could have bound it: this process holds it, too.
    let mut stream = tokio::net::TcpStream::connect(agents.at(TCP))
        .await
        .unwrap();
    exchange(&mut stream).await.unwrap();
    drop((stream, held));
    agents.signal(Signal::TERM);
    let refuses = async || TcpStream::connect(agents.at(TCP)).is_err().then_some(());
    testbed::wait_for("the port closes", Duration::from_secs(20), refuses)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_consul_never_misses_the_instance_of_a_host_whose_agents_replace_one_another() {
    let test = "x12_consul_never_misses_the_instance_of_a_host_whose_agents_replace_one_another";
    let Some(consul) = Consul::start_or_skip(test).await else {
        return;
    };
    let endpoints = [echo(), udp_echo().await];
    let register = format!(
        "{{drain_seconds: 60, register: {{consul: '{}', address: 127.0.0.1, ttl_seconds: 6}}}}",
        consul.http_addr()
    );
    let proxy = register.trim_matches(['{', '}']).to_owned() + "}";
    let agents = Agents::start(endpoints, &proxy, |_, _| {}).await;
    let passing = async || {
        let path = "/v1/health/service/web?passing";
        let instances = consul.get(path).await.unwrap();
        instances.as_array().map_or(0, Vec::len)
    };
    let both = async || (passing().await == 2).then_some(());
    testbed::wait_for("both ports pass", Duration::from_secs(30), both)
        .await
        .unwrap();
    let (stop, lacking) = (AtomicBool::new(false), AtomicU64::new(0));
    let watch = async {
        while !stop.load(Relaxed) {
            if passing().await != 2 {
                lacking.fetch_add(1, Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let replace = async {
        for _ in 0..3 {
            agents.upgrade().await;
            agents.reload().await;
        }
        // Those before may have been replaced before they had proved their ports.
        let reported = |log: &str| {
            let newest = log.rsplit("Configuration came into force").next();
            newest.is_some_and(|log| log.matches("Passing: serving").count() >= 2)
        };
        agents.until("the newest agent reports", reported).await;
        stop.store(true, Relaxed);
    };
    tokio::join!(watch, replace);
    assert_eq!(lacking.load(Relaxed), 0, "{}", agents.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_listed_and_a_drain_shows_its_steps_until_the_agent_has_ended() {
    let endpoints = [echo(), udp_echo().await];
    let agents = Agents::start(endpoints, "drain_seconds: 60", |command, _| {
        command.arg("--admin-write");
    })
    .await;
    let mut old = tokio::net::TcpStream::connect(agents.at(TCP))
        .await
        .unwrap();
    exchange(&mut old).await.unwrap();
    let listed = agents
        .zonal(&["connections", "-o", "json"])
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let line = &listed["connections"][0];
    assert_eq!(listed["total"], 1, "{listed}");
    assert_eq!(line["service"], "default/web");
    assert_eq!(line["client"], old.local_addr().unwrap().to_string());
    assert_eq!(line["address"], endpoints[TCP].to_string());
    assert_eq!(
        (&line["up_bytes"], &line["down_bytes"]),
        (&5.into(), &5.into())
    );
    let clients = UdpClients::start(agents.at(UDP)).await;
    let both = agents
        .zonal(&["connections", "-o", "json", "--limit", "50"])
        .output()
        .unwrap();
    let both: serde_json::Value = serde_json::from_slice(&both.stdout).unwrap();
    let lines = both["connections"].as_array().unwrap();
    let of_udp = lines.iter().filter(|line| line["protocol"] == "UDP");
    let of_udp: Vec<_> = of_udp.collect();
    assert_eq!(of_udp.len(), clients.0.len(), "{both}");
    for (client, port) in &clients.0 {
        let address = client.local_addr().unwrap().to_string();
        let line = of_udp.iter().find(|line| line["client"] == address);
        let line = line.unwrap_or_else(|| panic!("{address} in {both}"));
        assert_eq!(line["address"], endpoints[UDP].to_string());
        assert_eq!(line["state"], "answered");
        let (up, down) = (&line["up_bytes"], &line["down_bytes"]);
        assert_eq!((up, down), (&6.into(), &port.len().into()), "{line}");
    }
    let none = ["connections", "--client", "192.0.2.1"];
    let none = agents.zonal(&none).output().unwrap();
    assert!(String::from_utf8_lossy(&none.stdout).ends_with("\n0 connections\n"));
    let dry = agents.zonal(&["drain", "--dry-run"]).output().unwrap();
    assert_eq!(dry.stdout, b"serving: 2 ports, 1 connections\n");
    let mut drain = agents
        .zonal(&["drain"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(drain.stdout.take().unwrap()).lines();
    let mut steps = Vec::new();
    while !steps
        .last()
        .is_some_and(|step: &String| step.starts_with("draining"))
    {
        let step = said.next().unwrap_or_else(|| panic!("{steps:?}"));
        steps.push(step.unwrap());
    }
    let draining = "draining: the ports are closed, 1 connections go on";
    assert_eq!(steps.last().unwrap(), draining, "{steps:?}");
    assert!(TcpStream::connect(agents.at(TCP)).is_err());
    exchange(&mut old).await.unwrap();
    drop(old);
    assert_eq!(said.last().unwrap().unwrap(), "ended");
    assert!(drain.wait().unwrap().success());
}

fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // proc(5): a process that nobody has waited for says Z.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
