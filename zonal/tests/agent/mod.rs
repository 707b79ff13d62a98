// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent with both faces on a manifest, on ports that are free.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running agent; it is killed when dropped.
pub(crate) struct Agent {
    process: Child,
    log: BufReader<ChildStderr>,
    logged: String,
    admin: String,
    metrics: String,
    dns: String,
    _folder: tempfile::TempDir,
}

impl Agent {
    /// Starts one on the manifest, in which PORT is a port that is free.
    pub(crate) fn start(manifest: &str) -> Self {
        Self::start_with(manifest, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(manifest: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mall.yaml");
        let [port, dns] = testbed::free_ports::<2>()
            .unwrap()
            .map(|port| port.to_string());
        let dns = format!("127.0.0.1:{dns}");
        fs::write(&path, manifest.replace("PORT", &port)).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_zonal"))
            .args([
                "agent",
                "--node-name",
                "edge-a",
                "--allow-loopback-endpoints",
            ])
            .arg("--static")
            .arg(&path)
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(["--metrics-listen", "127.0.0.1:0"])
            .args(["--dns-listen", &dns])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut agent = Self {
            log: BufReader::new(process.stderr.take().unwrap()),
            process,
            logged: String::new(),
            admin: String::new(),
            metrics: String::new(),
            dns,
            _folder: folder,
        };
        let mut is_fronted = !manifest.contains("PORT");
        while agent.metrics.is_empty() || !is_fronted {
            let event = agent.event();
            if let (Some(admin), Some(metrics)) =
                (event["admin"].as_str(), event["metrics"].as_str())
            {
                (agent.admin, agent.metrics) = (admin.to_owned(), metrics.to_owned());
            }
            is_fronted |= event["message"] == "Listener changed" && event["state"] == "serving";
        }
        agent
    }

    fn event(&mut self) -> serde_json::Value {
        let mut line = String::new();
        let read = self.log.read_line(&mut line).unwrap();
        assert!(read > 0, "the agent runs: {}", self.logged);
        self.logged.push_str(&line);
        serde_json::from_str(&line).unwrap()
    }

    /// What it exposes.
    pub(crate) fn metrics(&self) -> String {
        get(&self.metrics, "/metrics")
    }

    /// Where its admin listener is.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Where its metrics and probes are.
    pub(crate) fn metrics_address(&self) -> &str {
        &self.metrics
    }

    /// Where it answers DNS.
    pub(crate) fn dns(&self) -> &str {
        &self.dns
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What its admin listener answers.
    pub(crate) fn get(&self, path: &str) -> String {
        get(&self.admin, path)
    }

    /// What the command prints about it, on both streams.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_zonal"))
            .args(arguments)
            .args(["--admin", &self.admin])
            .output()
            .unwrap();
        let streams = [output.stdout, output.stderr];
        streams
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .concat()
    }

    /// Ends it; all that it logged.
    pub(crate) fn end(&mut self) -> String {
        let _ = self.process.kill();
        self.log.read_to_string(&mut self.logged).unwrap();
        self.logged.clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The answer, once there is one: an agent that has read nothing yet says 503.
fn get(address: &str, path: &str) -> String {
    let began = Instant::now();
    loop {
        let (head, body) = try_get(address, path);
        if head.starts_with("HTTP/1.1 200") {
            return body;
        }
        let is_early = head.starts_with("HTTP/1.1 503") && began.elapsed() < PATIENCE;
        assert!(is_early, "{head}");
        thread::yield_now();
    }
}

fn try_get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Far more than reading a file takes.
const PATIENCE: Duration = Duration::from_secs(10);
