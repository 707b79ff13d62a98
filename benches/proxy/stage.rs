// SPDX-License-Identifier: MIT OR Apache-2.0
//! The namespaces, the processes in them, and the order of the measurements.

use crate::{
    figures::{Figure, Report},
    load::{IDLE, MEASURED},
    target::Target,
};
use anyhow::{Context as _, ensure};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) const FRONT_PORT: u16 = 30_080;
const SUITES: [&str; 6] = [
    "connections",
    "ping-pong",
    "bulk-1",
    "bulk-16",
    "udp",
    "idle",
];
const ROUNDS: usize = 3;
const START_MAX: Duration = Duration::from_secs(10);

/// Where the servers are.
pub(crate) fn backends() -> impl Iterator<Item = SocketAddr> {
    (9_001..=9_008).map(|port| SocketAddr::from(([10, 2, 0, 2], port)))
}

/// Measures everything and writes the report.
pub(crate) fn run() -> anyhow::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    // Ports that one target leaves in TIME_WAIT would make the connects of the next one search for free ones.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "1000")?;
    let mut servers = Player::new(&["--role", "servers"], "net", "10.2.0")?;
    servers.go()?;
    ensure!(said(&mut servers.output()?)? == "ready");
    let folder = tempfile::tempdir()?;
    let mut report = Report::default();
    for round in 0..ROUNDS {
        for (place, suite) in SUITES.iter().enumerate() {
            let mut targets = Target::ALL.to_vec();
            let first = (round * 2 + place) % targets.len();
            targets.rotate_left(first);
            for target in targets.into_iter().filter(|target| target.plays(suite)) {
                let figure = measure(target, suite, folder.path())
                    .with_context(|| format!("{suite} of {}", target.name()))?;
                report.add(target, suite, figure);
            }
        }
    }
    println!("{report}");
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results"));
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("proxy.jsonl"), report.json_lines())?)
}

fn measure(target: Target, suite: &str, folder: &std::path::Path) -> anyhow::Result<Figure> {
    let proxy = target.start(folder)?;
    let address = match target {
        Target::Direct => backends().next().context("a server")?,
        _ => SocketAddr::from(([10, 1, 0, 1], FRONT_PORT)),
    };
    let started = Instant::now();
    // Over loopback: the address that clients ask comes with their cable.
    while target.is_process() && TcpStream::connect(("127.0.0.1", FRONT_PORT)).is_err() {
        ensure!(started.elapsed() < START_MAX, "it does not accept");
        std::thread::yield_now();
    }
    let empty = proxy.pid().map_or(0, own_kib);
    let mut clients = Player::new(
        &["--role", "load", suite, &address.to_string()],
        "net",
        "10.1.0",
    )?;
    let mut output = clients.output()?;
    clients.go()?;
    ensure!(said(&mut output)? == "begin");
    if suite == "idle" {
        let grown = proxy.pid().map_or(0, own_kib).saturating_sub(empty);
        #[allow(clippy::cast_precision_loss, reason = "some megabytes")]
        let rate = grown as f64 / IDLE as f64;
        return Ok(Figure { rate, cpu: 0.0 });
    }
    let busy = || proxy.pid().map_or(0.0, cpu_seconds);
    let before = busy();
    let rate: f64 = said(&mut output)?.parse()?;
    let cpu = (busy() - before) / MEASURED.as_secs_f64();
    Ok(Figure { rate, cpu })
}

/// A child that ends with its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User and system time so far: fields 14 and 15 of proc(5) stat, in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Memory of its own, in KiB: what other processes do not share, and a share of the rest.
fn own_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default()
}

/// This program on core 1 in a namespace of its own, joined to the stage by a veth pair: the stage's end has `.1`.
struct Player(Ended);

impl Player {
    fn new(role: &[&str], link: &str, network: &str) -> anyhow::Result<Self> {
        let setup = format!(
            "read go; ip link set lo up; ip addr add {network}.2/24 dev {link}; ip link set {link} up; \
             ip route add default via {network}.1; exec taskset -c 1 \"$0\" \"$@\""
        );
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", &setup])
            .arg(std::env::current_exe()?)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        while namespace("self") == namespace(&pid.to_string()) {
            std::thread::yield_now();
        }
        let player = Self(Ended(child));
        let end = format!("s{pid}");
        for command in [
            format!("ip link add {end} type veth peer name {link} netns {pid}"),
            format!("ip addr add {network}.1/24 dev {end}"),
            format!("ip link set {end} up"),
        ] {
            let status = Command::new("sh").args(["-c", &command]).status()?;
            ensure!(status.success(), "{command}");
        }
        Ok(player)
    }

    fn go(&mut self) -> anyhow::Result<()> {
        let input = self.0.0.stdin.as_mut().context("an input")?;
        Ok(writeln!(input, "go")?)
    }

    fn output(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(self.0.0.stdout.take().context("an output")?))
    }
}

/// What the process says next.
fn said(output: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    let word = line.trim().strip_prefix("said ");
    Ok(word
        .context("the process ended before it said anything")?
        .to_owned())
}
