// SPDX-License-Identifier: MIT OR Apache-2.0
//! An agent that may use little: 64 MiB of memory, a tenth of a CPU, no root and no file of its own. By the kernel's own means:
//! control groups, capabilities, a read-only root.

#[path = "limits/site.rs"]
mod site;

use discovery_core::telemetry::DnsTransport;
use dns_sidecar::client::ask;
use serde_json::Value;
use site::{PATIENCE, Site, exchange};
use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use testbed::{Cgroup, CgroupLimit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_with_64_mib_of_memory_under_load_it_sheds_and_is_not_killed() {
    let test = "f40_with_64_mib_of_memory_under_load_it_sheds_and_is_not_killed";
    let limit = 64 << 20;
    let Some(group) = Cgroup::new_or_skip(test, CgroupLimit::Memory(limit)) else {
        return;
    };
    let site = Site::new(1);
    let mut agent = site.start(|command| group.around(&command));
    site.served().await;
    let is_over = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let mut streams = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| flood(site.dns, &is_over, &sent));
        // Connections of DNS that begin a question, and more proxied ones than any one source may have.
        let dns = scope.spawn(|| {
            let connect = |_| TcpStream::connect(site.dns).ok();
            let mut opened: Vec<_> = (0..500).filter_map(connect).collect();
            for stream in &mut opened {
                let _ = stream.write_all(&[0, 30, 1]);
            }
            opened
        });
        for number in 0..3_000 {
            let Ok(mut stream) = TcpStream::connect(site.front) else {
                continue;
            };
            let _ = stream.write_all(&[b'x'; 4_096]);
            streams.push(stream);
            if number % 500 == 0 {
                assert_eq!(agent.status().unwrap(), None, "it lives");
            }
        }
        streams.extend(dns.join().unwrap());
        is_over.store(true, Relaxed);
    });
    let metrics = site.metrics().await;
    let count = |name: &str| sum(&metrics, name);
    let shed = [
        "zonal_proxy_rejected_total",
        "zonal_dns_overflows_total",
        "zonal_dns_shed_total",
        "zonal_dns_dropped_total",
    ]
    .map(|name| (name, count(name)));
    let (peak, kills) = (group.memory_peak().unwrap(), group.oom_kills().unwrap());
    println!(
        "{} questions sent, {} answered; {} connections accepted, {shed:?}; {} MiB at most, {kills} killed",
        sent.load(Relaxed),
        count("zonal_dns_responses_total"),
        count("zonal_proxy_accepted_total"),
        peak >> 20,
    );
    assert_eq!((agent.status().unwrap(), kills), (None, 0));
    assert!(peak <= limit, "{peak} bytes");
    assert!(
        shed.iter().any(|(_, count)| *count > 0),
        "more came than is served, and that is told"
    );
    drop(streams);
    // What it still may do: as before.
    site.answers().await;
    site.served().await;
}

/// Asks without waiting for answers.
fn flood(server: SocketAddr, is_over: &AtomicBool, sent: &AtomicU64) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01";
    while !is_over.load(Relaxed) {
        for _ in 0..64 {
            let _ = socket.send(question);
        }
        sent.fetch_add(64, Relaxed);
    }
}

/// What all series of a metric are together.
fn sum(metrics: &str, name: &str) -> u64 {
    let series = metrics.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or("x");
        rest.starts_with(['{', ' '])
    });
    let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f41_with_a_tenth_of_a_core_no_endpoint_is_ejected_that_is_well() {
    let test = "f41_with_a_tenth_of_a_core_no_endpoint_is_ejected_that_is_well";
    let Some(group) = Cgroup::new_or_skip(test, CgroupLimit::CpuPercent(10)) else {
        return;
    };
    let site = Site::new(3);
    let agent = site.start(|command| command);
    site.served().await;
    group.add(agent.id()).unwrap();
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let front = site.front;
        clients.spawn_blocking(move || {
            let mut served = 0_u32;
            while began.elapsed() < Duration::from_secs(6) {
                let mut stream = TcpStream::connect(front).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                exchange(&mut stream).unwrap();
                served += 1;
            }
            served
        });
    }
    let served: u32 = clients.join_all().await.into_iter().sum();
    let throttled = group.throttled().unwrap();
    let metrics = site.metrics().await;
    println!("{served} connections served, held back for {throttled:?}");
    assert!(
        throttled > Duration::from_millis(200),
        "{throttled:?}: it was not short of time"
    );
    assert!(served > 50, "{served}");
    assert_eq!(sum(&metrics, "zonal_lb_ejections_total"), 0);
    assert_eq!(sum(&metrics, "zonal_lb_panic_picks_total"), 0);
    assert_eq!(sum(&metrics, "zonal_proxy_connect_failures_total"), 0);
    let ejected = r#"state="ejected""#;
    let ejected = metrics.lines().filter(|line| line.contains(ejected));
    assert!(ejected.clone().count() > 0);
    for line in ejected {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_as_user_65532_without_capabilities_on_a_read_only_root_every_face_serves() {
    let test = "s5_as_user_65532_without_capabilities_on_a_read_only_root_every_face_serves";
    if !rustix::process::geteuid().is_root() {
        testbed::skip(test, "only root can become another user and mount");
        return;
    }
    let site = Site::new(1);
    let kept = site.folder().join("kept");
    let root = site.folder().join("root");
    for folder in [&kept, &root] {
        fs::create_dir(folder).unwrap();
    }
    let script = format!(
        "mount --rbind / {root} && mount -o remount,bind,ro {root} && \
         mount -t tmpfs -o mode=0700,uid=65532,gid=65532 tmpfs {root}{kept} && \
         exec chroot {root} setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=-all --bounding-set=-all \
         --no-new-privs -- \"$0\" \"$@\"",
        kept = kept.display(),
        root = root.display(),
    );
    let agent = site.start(|program| {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--",
                "sh",
                "-ec",
                &script,
            ])
            .arg(program.get_program())
            .args(program.get_args())
            .arg("--snapshot-folder")
            .arg(&kept);
        command
    });
    site.served().await;
    site.answers().await;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(field("Uid:"), "65532 65532 65532 65532");
    assert_eq!(field("Gid:"), "65532 65532 65532 65532");
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", agent.id())).unwrap();
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let options = root.and_then(|line| line.split(' ').nth(5)).unwrap();
    assert!(options.split(',').any(|option| option == "ro"), "{options}");
    // The one folder that it may write to has its snapshot.
    let snapshot = format!("/proc/{}/root{}/snapshot", agent.id(), kept.display());
    site.until("the snapshot is written", || {
        fs::metadata(&snapshot).is_ok()
    })
    .await;
    let metrics = site.metrics().await;
    assert_eq!(
        sum(&metrics, r#"zonal_snapshot_saves_total{outcome="failed"}"#),
        0
    );
}

#[test]
fn s5_the_shipped_manifest_asks_for_no_more_than_that() {
    let manifest = include_str!("../../deploy/agent.yaml");
    for line in [
        "runAsNonRoot: true",
        "runAsUser: 65532",
        "runAsGroup: 65532",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "capabilities: {drop: [ALL]}",
        "seccompProfile: {type: RuntimeDefault}",
    ] {
        assert!(manifest.contains(line), "{line}");
    }
    for more in ["privileged: true", "add:", "hostPath", "hostPID", "hostIPC"] {
        assert!(!manifest.contains(more), "{more}");
    }
}

#[test]
fn the_shipped_limit_of_connections_fits_the_shipped_limit_of_memory() {
    let manifest = include_str!("../../deploy/agent.yaml");
    let documents = manifest.split("\n---\n");
    let parse = |text| discovery_core::config::parse::<Value>("agent.yaml", text).unwrap();
    let [config, set]: [Value; 2] = documents.map(parse).collect::<Vec<_>>().try_into().unwrap();
    let text = config["data"]["zonal.yaml"].as_str().unwrap();
    let file = discovery_core::config::parse::<Value>("zonal.yaml", text).unwrap();
    let connections = file["proxy"]["limits"]["connections"].as_u64().unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let memory = container["resources"]["limits"]["memory"].as_str();
    let mib: u64 = memory.unwrap().strip_suffix("Mi").unwrap().parse().unwrap();
    let taken = connections * IDLE_KIB / 1_024;
    assert!(
        taken + OWN_MIB <= mib,
        "{taken} MiB of connections in {mib}"
    );
    // The agent takes the file as it is: what it finds fault with is what stands elsewhere.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zonal.yaml");
    fs::write(&path, text).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_zonal"))
        .args([
            "agent",
            "--node-name",
            "edge-a",
            "--zone",
            "mall 1",
            "--config",
        ])
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        told.contains("mall 1") && !told.contains("zonal.yaml"),
        "{told}"
    );
}

/// Of a connection that idles: 2 KiB of ours and 20 of the kernel's, which the container is charged for as well.
const IDLE_KIB: u64 = 22;

/// Of an agent without connections, in a large cluster.
const OWN_MIB: u64 = 44;

impl Site {
    /// Asks for the service over UDP and TCP.
    async fn answers(&self) {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            let asked = ask(self.dns, "web.service.consul", "A", transport, PATIENCE);
            assert!(!asked.await.unwrap().answers.is_empty());
        }
    }
}
