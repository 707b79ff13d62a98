// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library and an agent under churn: 1,000 services of 50 endpoints, ten of them in our zone, 100 changes of slices a second,
//! two threads that pick all the while in a process of their own, and a client of DNS. What they were given is compared with
//! what the API server said.
//!
//! CI runs seconds of it. The promise is for ten minutes of an optimized build, also of the memory:
//! `ZONAL_LONG=1 ZONAL_RESULTS=1 cargo test --release --workspace --test library_load`.

#[path = "../agent/mod.rs"]
mod agent;
mod history;
#[path = "../results/mod.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod results;

use agent::Agent;
use anyhow::{Context as _, bail, ensure};
use discovery_core::{
    client::Discovery, hash::HashKey, model::ServiceName, pick::Picker, telemetry::DnsTransport,
};
use dns_sidecar::client::ask;
use fastrand::Rng;
use history::{Endpoint, Micros, Seen, State, What, age};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    future::ready,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use testbed::api_server::{self, ApiServer, Options, Resource, generate::Cluster};
use tokio::time::{MissedTickBehavior, interval};

const CLUSTER: Cluster = Cluster {
    zones: 5,
    nodes_per_zone: OWN,
    services: 1_000,
    is_wordy: false,
    ..Cluster::LARGE
};
/// Endpoints of a service in our zone.
const OWN: usize = 10;
const CHANGES_PER_SECOND: u64 = 100;
const THREADS: usize = 2;
/// One pick in so many is logged; all are looked at.
const LOGGED_ONE_IN: u64 = 5_000;
/// What a change may take from the server's store to a pick.
const AGE_MAX: Duration = Duration::from_secs(5);
const AGENT_READY_WITHIN: Duration = Duration::from_secs(60);
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
const GROWTH_KIB_MAX: u64 = 1_024;
/// The kubeconfig and the folder for the logs.
const CHILD: &str = "ZONAL_TEST_LIBRARY_LOAD";

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(Micros::MAX)
}

fn service_name(nth: usize) -> ServiceName {
    let name = format!("shop/{}", Cluster::service(nth));
    name.parse().expect("the names of a cluster are names")
}

/// The cluster as the test changes it, with every state that our zone has been in.
struct Truth {
    random: Rng,
    services: Vec<Vec<State>>,
    replaced: u64,
}

impl Truth {
    fn of(server: &ApiServer) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let first = |service| {
            let slice = server
                .store()
                .get(Resource::EndpointSlices, "shop", &slice_name(service));
            let all = slice.unwrap_or_default()["endpoints"].take();
            let all = all.as_array().cloned().unwrap_or_default().into_iter();
            let own = all.filter(|one| one["zone"] == Cluster::zone(0).as_str());
            let endpoint = |one: Value| Endpoint {
                name: text(&one["targetRef"]["name"]),
                address: text(&one["addresses"][0]),
                is_ready: true,
            };
            vec![State::new(0, own.map(endpoint).collect())]
        };
        Self {
            random: Rng::with_seed(11),
            services: (0..CLUSTER.services).map(first).collect(),
            replaced: 0,
        }
    }

    /// One endpoint of a service, mostly of our zone, turns ready or not or is replaced by another pod; now and then all of our
    /// zone do at once.
    fn change(&mut self, server: &ApiServer) -> anyhow::Result<()> {
        let service = self.random.usize(..CLUSTER.services);
        let (zone, nth) = (self.random.usize(..5) / 4, self.random.usize(..OWN));
        let states = &mut self.services[service];
        let mut endpoints = states.last().context("a first state")?.endpoints.clone();
        let since = now();
        // Each endpoint of the slice that fits.
        let edit = |fits: &dyn Fn(&Value) -> bool, change: &dyn Fn(&mut Value)| {
            let name = slice_name(service);
            let store = server.store();
            store.edit(Resource::EndpointSlices, "shop", &name, |slice| {
                let all = slice["endpoints"].as_array_mut().into_iter().flatten();
                all.filter(|one| fits(one)).for_each(change);
            })
        };
        let is_at = |one: &Value, address: &str| one["addresses"][0] == address;
        if zone > 0 {
            let (far, is_ready) = (CLUSTER.pod(service, zone, nth), self.random.bool());
            edit(&|one| one["targetRef"]["name"] == far.as_str(), &|one| {
                set_ready(one, is_ready);
            })?;
            return Ok(());
        }
        let is_dark = endpoints.iter().all(|endpoint| !endpoint.is_ready);
        let endpoint = &mut endpoints[nth];
        match self.random.u32(..100) {
            number if is_dark || number == 0 => {
                let own: Vec<_> = endpoints.iter().map(|one| one.address.clone()).collect();
                let is_own = |one: &Value| own.iter().any(|own| is_at(one, own));
                edit(&is_own, &|one| set_ready(one, is_dark))?;
                for one in &mut endpoints {
                    one.is_ready = is_dark;
                }
            }
            1..10 => {
                self.replaced += 1;
                endpoint.name = format!("{}-new-{}", Cluster::service(service), self.replaced);
                endpoint.is_ready = true;
                edit(&|one| is_at(one, &endpoint.address), &|one| {
                    one["targetRef"]["name"] = endpoint.name.clone().into();
                    one["targetRef"]["uid"] = endpoint.name.clone().into();
                    set_ready(one, true);
                })?;
            }
            _ => {
                endpoint.is_ready = !endpoint.is_ready;
                let is_ready = endpoint.is_ready;
                edit(&|one| is_at(one, &endpoint.address), &|one| {
                    set_ready(one, is_ready);
                })?;
            }
        }
        states.push(State::new(since, endpoints));
        Ok(())
    }

    /// The endpoints of each service that may be picked now.
    fn last(&self) -> impl Iterator<Item = Vec<&str>> {
        self.services.iter().map(|states| {
            let ready = states.last().into_iter().flat_map(State::ready);
            ready.map(|endpoint| endpoint.name.as_str()).collect()
        })
    }
}

fn set_ready(endpoint: &mut Value, is_ready: bool) {
    endpoint["conditions"] =
        json!({ "ready": is_ready, "serving": is_ready, "terminating": false });
}

fn slice_name(service: usize) -> String {
    format!("{}-00000", Cluster::service(service))
}

/// The process that picks.
struct Picking {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Picking {
    fn spawn(server: &ApiServer, folder: &Path) -> anyhow::Result<Self> {
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, api_server::kubeconfig(&server.url()))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "the_child_that_picks",
            ])
            .env(CHILD, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("stdin is piped")?;
        let answers = child.stdout.take().context("stdout is piped")?;
        Ok(Self {
            child,
            orders,
            answers: BufReader::new(answers),
        })
    }

    fn order(&mut self, order: &str) -> anyhow::Result<String> {
        writeln!(self.orders, "{order}")?;
        self.said()
    }

    fn said(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.answers.read_line(&mut line)? > 0, "it ended");
            if let Some((_, said)) = line.split_once("said ") {
                return Ok(said.trim().to_owned());
            }
        }
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.context("a process has memory")
    }
}

impl Drop for Picking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "another test starts it"]
async fn the_child_that_picks() {
    if let Some(folder) = std::env::var_os(CHILD) {
        pick(Path::new(&folder)).await.unwrap();
    }
}

async fn pick(folder: &Path) -> anyhow::Result<()> {
    let builder = Discovery::builder().node(&Cluster::node(0, 0));
    let discovery = builder
        .kubeconfig(folder.join("kubeconfig"))
        .start()
        .await?;
    discovery.ready().await;
    let pickers = || -> Vec<_> {
        let services = (0..CLUSTER.services).map(service_name);
        services.map(|name| discovery.picker(name)).collect()
    };
    let is_over = Arc::<AtomicBool>::default();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let log = File::create(folder.join(format!("picks-{number}")));
            let (pickers, is_over) = (pickers(), is_over.clone());
            thread::spawn(move || pick_all_the_while(pickers, BufWriter::new(log?), &is_over))
        })
        .collect();
    println!("said picking");
    let (orders, mut taken) = tokio::sync::mpsc::channel(1);
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = orders.blocking_send(line);
        }
    });
    while let Some(order) = taken.recv().await {
        if order == "end" {
            break;
        }
        // Who may be picked now, service by service.
        let snapshot = discovery.runtime().reader().load();
        let usable: Vec<Vec<_>> = (0..CLUSTER.services)
            .map(|nth| {
                let view = snapshot.service(&service_name(nth));
                let usable = view.into_iter().flat_map(|view| view.usable());
                usable.map(|one| one.identity().to_string()).collect()
            })
            .collect();
        println!("said {}", serde_json::to_string(&usable)?);
    }
    is_over.store(true, Relaxed);
    let mut picks = 0;
    for thread in threads {
        let ended = thread.join().ok().context("a thread that picks ends")?;
        picks += ended?;
    }
    println!("said {picks}");
    Ok(())
}

/// Picks for random keys of random services, looks at each pick, and writes one of many down.
fn pick_all_the_while(
    mut pickers: Vec<Picker>,
    mut log: BufWriter<File>,
    is_over: &AtomicBool,
) -> anyhow::Result<u64> {
    let (mut random, mut picks) = (Rng::new(), 0_u64);
    let mut newest = vec![0; pickers.len()];
    while !is_over.load(Relaxed) {
        picks += 1;
        let (service, key) = (random.usize(..pickers.len()), random.u64(..));
        let is_logged = picks.is_multiple_of(LOGGED_ONE_IN);
        let begun = if is_logged { now() } else { 0 };
        let picker = &mut pickers[service];
        let picked = match picker.keyed(HashKey::of(&key.to_le_bytes())) {
            Ok(pick) => {
                let endpoint = pick.endpoint();
                ensure!(!endpoint.is_foreign(), "another zone: {endpoint:?}");
                ensure!(endpoint.is_usable(), "not to be picked: {endpoint:?}");
                is_logged.then(|| endpoint.identity().to_string())
            }
            Err(_) => None,
        };
        if !is_logged {
            continue;
        }
        let (ended, picked) = (now(), picked.as_deref().unwrap_or("-"));
        writeln!(log, "{begun} {ended} {service} {key} {picked}")?;
        let generation = picker.generation().0;
        ensure!(generation >= newest[service], "a generation went back");
        newest[service] = generation;
    }
    log.flush()?;
    Ok(picks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_every_pick_and_answer_under_churn_fits_what_the_server_said() -> anyhow::Result<()> {
    let is_long = std::env::var_os("ZONAL_LONG").is_some();
    let time = Duration::from_secs(if is_long { 600 } else { 3 });
    let options = Options::default();
    let server = ApiServer::filled(options, |store| CLUSTER.fill(store)).await?;
    let (folder, mut truth) = (tempfile::tempdir()?, Truth::of(&server));
    let (node, url) = (Cluster::node(0, 0), server.url());
    let agent = Agent::start(&node, &url, &folder.path().join("agent"), None)?;
    let mut picking = Picking::spawn(&server, folder.path())?;
    ensure!(picking.said()? == "picking");
    agent.ready(AGENT_READY_WITHIN).await?;
    let is_over = Arc::<AtomicBool>::default();
    let answers = tokio::spawn(ask_all_the_while(agent.dns, is_over.clone()));
    let (began, mut changes, mut at_rest) = (Instant::now(), 0_u64, None);
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(CHANGES_PER_SECOND)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < time {
        ticks.tick().await;
        truth.change(&server)?;
        changes += 1;
        if at_rest.is_none() && began.elapsed() > time / 6 {
            at_rest = Some(picking.resident_kib()?);
        }
    }
    is_over.store(true, Relaxed);
    let answers = answers.await??;
    let memory = (at_rest.unwrap_or_default(), picking.resident_kib()?);
    let quiet = Instant::now();
    let mut has_converged = || -> anyhow::Result<bool> {
        let told: Vec<Vec<String>> = serde_json::from_str(&picking.order("who")?)?;
        let sorted = told.into_iter().map(|mut names| {
            names.sort();
            names
        });
        Ok(sorted.eq(truth
            .last()
            .map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())))
    };
    let waited = testbed::wait_for("the library has it all", CONVERGED_WITHIN, || {
        ready(has_converged().unwrap_or_default().then_some(()))
    });
    waited.await?;
    let converged = quiet.elapsed();
    let picks: u64 = picking.order("end")?.parse()?;
    let told = answers.len();
    let mut ages = explained(answers.into_iter().chain(picked(folder.path())?), &truth)?;
    ages.sort_unstable();
    let nth = |of_thousand: usize| ages[(ages.len() - 1) * of_thousand / 1_000];
    let grown = memory.1.saturating_sub(memory.0);
    println!(
        "L1: {changes} changes and {picks} picks in {time:?}, {} of them and {told} answers explained; behind by {:?} (p99), {:?} (most); all there \
         {converged:?} after the last change; {} MiB and {grown} KiB more at the end",
        ages.len() - told,
        nth(990),
        nth(1_000),
        memory.0 >> 10,
    );
    ensure!(nth(1_000) <= AGE_MAX, "a pick was {:?} behind", nth(1_000));
    if is_long {
        let is_flat = grown < GROWTH_KIB_MAX;
        let row = json!({
            "value": grown, "limit": GROWTH_KIB_MAX, "unit": "KiB more after ten minutes", "pass": is_flat,
            "picks": picks, "explained": ages.len() - told, "answers": told, "changes": changes, "seconds": time.as_secs(),
            "behind_p99_ms": nth(990).as_millis(), "behind_most_ms": nth(1_000).as_millis(),
            "converged_ms": converged.as_millis(), "memory_mib": memory.0 >> 10,
        });
        results::record_row("library-load.jsonl", "L1", &row)?;
        ensure!(is_flat, "{grown} KiB more");
    }
    Ok(())
}

/// Asks for the addresses of random services, one after the other.
async fn ask_all_the_while(
    server: SocketAddr,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<Vec<Seen>> {
    let (mut random, mut answers) = (Rng::new(), Vec::new());
    let mut ticks = interval(ASKED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !is_over.load(Relaxed) {
        ticks.tick().await;
        let service = random.usize(..CLUSTER.services);
        let name = format!("{}-shop.service.consul", Cluster::service(service));
        let begun = now();
        let reply = ask(server, &name, "A", DnsTransport::Udp, ANSWERED_WITHIN).await?;
        let ended = now();
        let told = match reply.rcode.as_str() {
            "NOERROR" | "NXDOMAIN" => reply.answers.into_iter().map(|record| record.data),
            rcode => bail!("{name} is answered with {rcode}"),
        };
        answers.push(Seen {
            begun,
            ended,
            service,
            what: What::Answer(told.collect()),
        });
    }
    Ok(answers)
}

const ASKED_EVERY: Duration = Duration::from_millis(5);
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The picks that were logged.
fn picked(folder: &Path) -> anyhow::Result<Vec<Seen>> {
    let mut picks = Vec::new();
    for number in 0..THREADS {
        for line in fs::read_to_string(folder.join(format!("picks-{number}")))?.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [begun, ended, service, key, picked] = words[..] else {
                bail!("a log of five words: {line}")
            };
            let picked = (picked != "-").then(|| picked.to_owned());
            picks.push(Seen {
                begun: begun.parse()?,
                ended: ended.parse()?,
                service: service.parse()?,
                what: What::Pick(key.parse()?, picked),
            });
        }
    }
    ensure!(picks.len() > 100, "{} picks were logged", picks.len());
    Ok(picks)
}

/// How far behind each of what was seen is; an error for what no state explains.
fn explained(seen: impl Iterator<Item = Seen>, truth: &Truth) -> anyhow::Result<Vec<Duration>> {
    let mut by_service: Vec<Vec<Seen>> = (0..CLUSTER.services).map(|_| Vec::new()).collect();
    seen.for_each(|one| by_service[one.service].push(one));
    let mut ages = Vec::new();
    for (states, seen) in truth.services.iter().zip(&by_service) {
        for one in seen {
            let age = age(states, one);
            ages.push(age.with_context(|| format!("nothing explains {one:?} in {states:?}"))?);
        }
        states.iter().for_each(State::forget_ring);
    }
    Ok(ages)
}
