// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder of an agent under a steady load for as long as a shift: every question is answered or counted, soon, in little
//! memory, on one core.
//!
//! CI asks for seconds and binds the sums alone. The promise is for what is shipped, and for ten minutes:
//! `ZONAL_LONG=1 ZONAL_RESULTS=1 ZONAL_PROGRAM=target/release/zonal cargo test -p examples --test dns_load` asks for those, and
//! writes the row that the scoreboard takes.

mod agent;
#[allow(dead_code, reason = "shared with the other tests")]
mod results;

use agent::is_long;
use anyhow::{Context as _, ensure};
use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::ask;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use testbed::Process;

const SERVICES: usize = 200;
const CLIENTS: usize = 4;

/// One client: what it has sent, by id, and what has come back.
struct Client {
    socket: UdpSocket,
    /// When each id was sent, in nanoseconds from the start; 0 when nothing is awaited.
    sent_at: Vec<AtomicU64>,
    sent: AtomicU64,
    answered: AtomicU64,
    strange: AtomicU64,
    /// How many answers took so many times 10 µs; the last also stands for longer.
    took: Vec<AtomicU64>,
}

impl Client {
    fn new(server: SocketAddr) -> anyhow::Result<Arc<Self>> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Self {
            socket,
            sent_at: zeros(1 << 16),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            took: zeros(BUCKETS),
        }))
    }

    fn send(&self, question: &mut [u8], began: Instant) -> anyhow::Result<()> {
        let id = u16::try_from(self.sent.fetch_add(1, Relaxed) & 0xffff)?;
        question[..2].copy_from_slice(&id.to_be_bytes());
        self.sent_at[usize::from(id)].store(nanos(began).max(1), Relaxed);
        self.socket.send(question)?;
        Ok(())
    }

    fn receive(self: Arc<Self>, began: Instant, is_over: Arc<AtomicBool>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            leave_the_agents_core();
            let mut reply = [0; 1_500];
            loop {
                let Ok(length) = self.socket.recv(&mut reply) else {
                    if is_over.load(Relaxed) {
                        return;
                    }
                    continue;
                };
                let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
                let sent_at = self.sent_at[id].swap(0, Relaxed);
                // An answer: no error, with records, and not asked for twice.
                let is_answer =
                    length > 12 && reply[3].trailing_zeros() >= 4 && reply[7] > 0 && sent_at != 0;
                self.strange.fetch_add(u64::from(!is_answer), Relaxed);
                let bucket = nanos(began).saturating_sub(sent_at) / BUCKET_NANOS;
                let bucket = usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1);
                self.took[bucket].fetch_add(1, Relaxed);
                self.answered.fetch_add(1, Relaxed);
            }
        })
    }
}

fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The agent on one core, with a manifest of some services.
struct Loaded {
    agent: Process,
    dns: SocketAddr,
    metrics: SocketAddr,
    folder: tempfile::TempDir,
}

impl Loaded {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let manifest = folder.path().join("mall.yaml");
        fs::write(&manifest, mall())?;
        let [dns, metrics, admin] =
            testbed::free_ports()?.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let program =
            std::env::var_os("ZONAL_PROGRAM").map_or_else(agent::zonal, |path| Ok(path.into()));
        let program: PathBuf = program?.canonicalize().context("the program is there")?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        command
            .args([
                "agent",
                "--no-proxy",
                "--node-name",
                "edge-a",
                "--allow-loopback-endpoints",
            ])
            .arg("--static")
            .arg(&manifest)
            .args(["--dns-listen", &dns.to_string()])
            .args(["--metrics-listen", &metrics.to_string()])
            .args(["--admin-listen", &admin.to_string()]);
        let agent = Process::start("zonal agent", &command, &folder.path().join("log"))?;
        Ok(Self {
            agent,
            dns,
            metrics,
            folder,
        })
    }

    /// Waits until it answers with records: over TCP, which is counted apart.
    async fn ready(&self) -> anyhow::Result<()> {
        let ready = async || {
            let name = "s0.service.consul";
            let asked = ask(
                self.dns,
                name,
                "A",
                DnsTransport::Tcp,
                Duration::from_secs(2),
            );
            let answers = asked.await.ok()?.answers;
            (!answers.is_empty()).then_some(())
        };
        let waited = testbed::wait_for("the agent answers", Duration::from_secs(20), ready).await;
        let log = self.folder.path().join("log");
        waited.with_context(|| fs::read_to_string(log).unwrap_or_default())
    }

    /// What its metrics say of datagrams: asked, answered, left out by rule or for lack of room, dropped by the system.
    async fn totals(&self) -> anyhow::Result<[u64; 5]> {
        let page = agent::page(self.metrics, "/metrics").await?;
        let sum = |name: &str| -> u64 {
            let of_udp = |line: &&str| {
                let labels = line.strip_prefix(name).unwrap_or("-");
                labels.starts_with(' ') || labels.contains(r#"transport="udp""#)
            };
            let values = page.lines().filter(of_udp);
            values
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
                .sum()
        };
        Ok(["requests", "responses", "dropped", "shed", "overflows"]
            .map(|what| sum(&format!("zonal_dns_{what}_total"))))
    }

    fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("a process has memory")? * 1_024)
    }
}

/// Moves the thread to the core beside the agent's, so that what an answer waits for is the agent and not who asks.
fn leave_the_agents_core() {
    let mut cores = CpuSet::new();
    cores.set(1);
    // There is no other core on a machine of one.
    let _ = sched_setaffinity(None, &cores);
}

/// A zone with services of five endpoints each.
fn mall() -> String {
    let mut text = "apiVersion: v1\nkind: Node\n\
                    metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}\n"
        .to_owned();
    for service in 0..SERVICES {
        let endpoints: Vec<_> = (1..=5)
            .map(|pod| {
                format!(
                    "{{addresses: [10.1.{service}.{pod}], nodeName: edge-a, \
                     targetRef: {{kind: Pod, name: s{service}-{pod}, uid: u{service}-{pod}}}}}"
                )
            })
            .collect();
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}}}\n\
             spec: {{ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{service}-1, labels: {{kubernetes.io/service-name: s{service}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{}]\n",
            endpoints.join(", ")
        );
    }
    text
}

/// The question for a service: A and SRV in turn.
fn question(number: usize) -> Vec<u8> {
    let name = format!("s{}", number % SERVICES);
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name.as_str(), "service", "consul"] {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.bytes());
    }
    let qtype = if number.is_multiple_of(2) { 1 } else { 33 };
    bytes.extend([0, 0, qtype, 0, 1]);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_of_a_steady_load_is_answered_or_counted() -> anyhow::Result<()> {
    let (rate, time) = if is_long() {
        (30_000_u64, 600)
    } else {
        (2_000, 2)
    };
    let time = Duration::from_secs(time);
    let loaded = Loaded::start()?;
    loaded.ready().await?;
    let (began, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::new(loaded.dns))
        .collect::<Result<_, _>>()?;
    let receiving: Vec<_> = clients
        .iter()
        .map(|client| client.clone().receive(began, is_over.clone()))
        .collect();
    let sending = clients.clone();
    let sent = tokio::task::spawn_blocking(move || -> anyhow::Result<u64> {
        leave_the_agents_core();
        let mut questions: Vec<_> = (0..2 * SERVICES).map(question).collect();
        let mut sent = 0_u64;
        while began.elapsed() < time {
            let passed = u64::try_from(began.elapsed().as_micros())?;
            let due = passed * rate / 1_000_000;
            while sent < due {
                let number = usize::try_from(sent).unwrap_or(0);
                let question = &mut questions[number % (2 * SERVICES)];
                sending[number % CLIENTS].send(question, began)?;
                sent += 1;
            }
            std::thread::park_timeout(Duration::from_micros(500));
        }
        Ok(sent)
    })
    .await??;
    // What the system dropped is read every five seconds.
    let accounted = async || {
        let [asked, answered, dropped, shed, overflows] = loaded.totals().await.ok()?;
        (asked + overflows >= sent).then_some([asked, answered, dropped, shed, overflows])
    };
    let totals = testbed::wait_for(
        "every question is accounted for",
        Duration::from_secs(20),
        accounted,
    )
    .await?;
    is_over.store(true, Relaxed);
    for one in receiving {
        one.join().ok().context("a receiver ends")?;
    }
    let [asked, answered, dropped, shed, overflows] = totals;
    let sum = |of: fn(&Client) -> &AtomicU64| -> u64 {
        clients.iter().map(|client| of(client).load(Relaxed)).sum()
    };
    let (received, strange) = (
        sum(|client| &client.answered),
        sum(|client| &client.strange),
    );
    let p99 = percentile(&clients, 990);
    let (memory, slowest) = (loaded.resident_bytes()?, percentile(&clients, 1_000));
    println!(
        "L2: {sent} questions in {time:?}: {answered} answered, {received} received, {dropped} dropped, {shed} shed, {overflows} \
         not taken by the system; p99 {p99:?}, slowest {slowest:?}, {} MiB",
        memory >> 20,
    );
    ensure!(
        asked + overflows == sent,
        "{asked} and {overflows} of {sent}"
    );
    ensure!(
        asked == answered + dropped + shed,
        "each asked question is answered or counted"
    );
    ensure!(
        received == answered && strange == 0,
        "{received} answers came, {strange} of them strange"
    );
    if is_long() {
        let is_within = p99 < P99_MAX && memory < MEMORY_MAX;
        results::record_row(
            "dns-load.jsonl",
            "L2",
            &serde_json::json!({
                "value": p99.as_secs_f64() * 1_000.0, "limit": 5, "unit": "milliseconds, p99",
                "questions": sent, "answered": answered, "not_taken": overflows + shed + dropped,
                "memory_mib": memory >> 20, "seconds": time.as_secs(), "pass": is_within,
            }),
        )?;
        ensure!(is_within, "p99 {p99:?}, {memory} bytes");
    }
    Ok(())
}

/// The time within which so many of a thousand answers came.
fn percentile(clients: &[Arc<Client>], of_thousand: u64) -> Duration {
    let at = |bucket: usize| -> u64 {
        clients
            .iter()
            .map(|client| client.took[bucket].load(Relaxed))
            .sum()
    };
    let wanted = (0..BUCKETS).map(at).sum::<u64>() * of_thousand / 1_000;
    let (mut seen, mut took) = (0, Duration::ZERO);
    for bucket in 0..BUCKETS {
        seen += at(bucket);
        took += Duration::from_nanos(BUCKET_NANOS);
        if seen >= wanted {
            break;
        }
    }
    took
}

const P99_MAX: Duration = Duration::from_millis(5);
const MEMORY_MAX: u64 = 64 << 20;
const BUCKET_NANOS: u64 = 10_000;
/// Up to a second.
const BUCKETS: usize = 100_000;
