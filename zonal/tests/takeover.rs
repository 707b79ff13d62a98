// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent that takes over from another: with another configuration, in another process, on sockets of systemd.

mod host;

use host::{Listens, Port, echo, exchange};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use testbed::Consul;
use tokio::{
    net::{TcpSocket, UdpSocket},
    task::JoinSet,
};

/// An agent of this binary and every process that took over from it; dropped, all have ended.
struct Agents {
    folder: tempfile::TempDir,
    ports: [u16; 6],
    first: Child,
}

const TCP: usize = 0;
const UDP: usize = 1;
const DNS: usize = 2;
const ADMIN: usize = 3;
const METRICS: usize = 4;
const SPARE: usize = 5;

impl Agents {
    /// Starts one in front of the endpoints, and returns when it serves. The command may be made another.
    async fn start(
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

    fn at(&self, port: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[port]).into()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let ask = async || holds(&self.log()).then_some(());
        let waited = testbed::wait_for(what, Duration::from_secs(60), ask).await;
        assert!(waited.is_ok(), "{what}\n{}", self.log());
    }

    /// Our processes by age: each is named in the log by the one before.
    fn pids(&self) -> Vec<Pid> {
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

    fn signal(&self, signal: Signal) {
        kill_process(*self.pids().last().unwrap(), signal).unwrap();
    }

    /// Has the newest process replaced, and returns when that is done.
    async fn upgrade(&self) {
        let before = self.pids().len();
        self.signal(Signal::USR2);
        self.until("another process has taken over", |_| {
            self.pids().len() > before
        })
        .await;
    }

    /// Has the newest process read its configuration anew, and returns when it has taken or refused it.
    async fn reload(&self) {
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
    fn zonal(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
        command
            .args(words)
            .env("ZONAL_ADMIN", self.at(ADMIN).to_string());
        command
    }

    fn metric(&self, port: usize, name: &str) -> Option<f64> {
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
        // The newest one has reported by then, or its instances are gone.
        let reported = |log: &str| log.matches("Consul was told").count() >= 2 * 7;
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

/// Clients that connect, say a word, hear it and close, all the time.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    failed: Arc<Mutex<BTreeMap<String, u32>>>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(front: SocketAddr) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            served: Arc::default(),
            failed: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..16 {
            let (stop, served, failed) =
                (load.stop.clone(), load.served.clone(), load.failed.clone());
            load.clients.spawn(async move {
                let mut last = 0_u8;
                while !stop.load(Relaxed) {
                    last = last % 250 + 1;
                    // Many sources, since each may have so many connections a second.
                    let source = Ipv4Addr::new(127, 0, number + 1, last);
                    match connect_once(source.into(), front).await {
                        Ok(()) => drop(served.fetch_add(1, Relaxed)),
                        Err(error) => {
                            *failed.lock().unwrap().entry(error.to_string()).or_default() += 1;
                        }
                    }
                }
            });
        }
        load
    }

    async fn stop(mut self) -> (u64, BTreeMap<String, u32>) {
        self.stop.store(true, Relaxed);
        while self.clients.join_next().await.is_some() {}
        (
            self.served.load(Relaxed),
            self.failed.lock().unwrap().clone(),
        )
    }
}

async fn connect_once(source: IpAddr, front: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    exchange(&mut socket.connect(front).await?).await
}

/// Clients with a session each, and the port from which the endpoint saw them come at first.
struct UdpClients(Vec<(UdpSocket, String)>);

impl UdpClients {
    async fn start(front: SocketAddr) -> Self {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            client.connect(front).await.unwrap();
            let port = port_seen(&client).await;
            clients.push((client, port));
        }
        Self(clients)
    }

    async fn each_is_answered_from_its_port(&self) {
        for (client, port) in &self.0 {
            assert_eq!(port_seen(client).await, *port, "the session goes on");
        }
    }
}

async fn port_seen(client: &UdpSocket) -> String {
    client.send(b"which?").await.unwrap();
    let mut answer = [0; 16];
    let answered = tokio::time::timeout(Duration::from_secs(10), client.recv(&mut answer));
    let read = answered.await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Answers with the port from which it was asked.
async fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket
                .send_to(from.port().to_string().as_bytes(), from)
                .await;
        }
    });
    address
}

fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // proc(5): a process that nobody has waited for says Z.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn write_config(folder: &Path, ports: &[u16; 6], proxy: &str) {
    let listens = Listens {
        dns: Some(ports[DNS]),
        admin: ports[ADMIN],
        metrics: ports[METRICS],
    };
    host::write_config(folder, listens, &format!("listen: [127.0.0.1], {proxy}"));
}
