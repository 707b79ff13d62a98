// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the shipped agent costs a small device: the size of the `dist` binary, and the memory of an idle agent with both
//! faces on a manifest.
//!
//! Builds the binary first, which takes minutes once. Ends with an error when a bound is not held.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let binary = build();
    let size = fs::metadata(&binary).expect("it was just built").len();
    let agent = Agent::start(&binary);
    agent.wait_until_ready();
    let memory = agent.settled_memory();
    let held = [
        report("binary of profile dist", size, BINARY_BYTES_MAX),
        report("idle agent, both faces (RSS)", memory, MEMORY_BYTES_MAX),
    ];
    ExitCode::from(u8::from(held.contains(&false)))
}

fn report(what: &str, bytes: u64, bound: u64) -> bool {
    let held = bytes <= bound;
    let word = if held { "held" } else { "NOT HELD" };
    println!(
        "{what:<30} {:>6.1} MB   bound {:>5.1} MB   {word}",
        mega(bytes),
        mega(bound)
    );
    held
}

fn mega(bytes: u64) -> f64 {
    // Up to 2^53 bytes are exact.
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// Builds what is shipped and gives its path.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a member");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--profile", "dist", "-p", "zonal"])
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "zonal does not build");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("dist/zonal")
}

/// A running agent, ended with the bench.
struct Agent {
    process: Child,
    probes: SocketAddr,
}

impl Agent {
    fn start(binary: &Path) -> Self {
        let [dns, admin, probes] = [(); 3].map(|()| free_address());
        let manifest = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../examples/examples/mall.yaml"
        );
        let process = Command::new(binary)
            .args([
                "agent",
                "--node-name",
                "edge-a",
                "--allow-loopback-endpoints",
            ])
            .args(["--static", manifest])
            .args(["--dns-listen", &dns.to_string()])
            .args(["--admin-listen", &admin.to_string()])
            .args(["--metrics-listen", &probes.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the agent starts");
        Self { process, probes }
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_ready(self.probes) {
            assert!(Instant::now() < deadline, "the agent is not ready in 10 s");
            thread::yield_now();
        }
    }

    /// The resident memory once it has been the same for three seconds.
    fn settled_memory(&self) -> u64 {
        let (mut last, mut same) = (0, 0);
        for _ in 0..30 {
            let now = self.memory();
            same = if now == last { same + 1 } else { 0 };
            if same == 3 {
                break;
            }
            last = now;
            thread::park_timeout(Duration::from_secs(1));
        }
        last
    }

    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(status).expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.expect("Linux says how much") * 1024
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound")
}

fn is_ready(probes: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(probes)?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

const BINARY_BYTES_MAX: u64 = 12_000_000;
const MEMORY_BYTES_MAX: u64 = 15_000_000;
