// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resolvers of the field in a namespace of their own, with us as their only server: each finds a service whole, also where
//! the answer is cut and asked for again over TCP, and is told at once that another does not exist.
//!
//! The way of each is its own: glibc asks for A and AAAA from one socket and without EDNS, Go takes NOERROR without AA for
//! lame, Node resolves by c-ares, Java keeps what it learned, musl before 1.2.4 never asks over TCP, systemd-resolved keeps
//! answers and asks in its own words. The last is asked by
//! `cargo test -p dns-sidecar --test dns -- --ignored r25_systemd` where its program is (`ZONAL_RESOLVED`, else where Debian puts it).

use crate::running::Running;
use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use testbed::{Musl, Netns, Process};

/// A namespace whose `/etc/resolv.conf` names the server in it.
struct Resolving {
    netns: Netns,
    etc: Etc,
    server: Running,
    work: tempfile::TempDir,
}

/// A folder of `/etc/netns`, gone when dropped.
struct Etc(PathBuf);

impl Drop for Etc {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Resolving {
    /// None where the machine has no namespaces, or not the program.
    fn open(test: &str, program: &str) -> Option<Self> {
        if !has(program) {
            testbed::skip(test, &format!("there is no {program}"));
            return None;
        }
        Self::asking(test, "127.0.0.1")
    }

    /// None where the machine has no namespaces. The server is at 127.0.0.1; whom programs ask, is said.
    fn asking(test: &str, asked: &str) -> Option<Self> {
        let netns = Netns::new_or_skip(test)?;
        // ip-netns(8) mounts what lies here over /etc, for the process that it starts.
        let etc = Path::new("/etc/netns").join(netns.name());
        fs::create_dir_all(&etc).unwrap();
        let resolving = Self {
            server: Running::start_in(&netns, "127.0.0.1:53", |config| config),
            netns,
            etc: Etc(etc),
            work: tempfile::tempdir().unwrap(),
        };
        resolving.etc("resolv.conf", &format!("nameserver {asked}\n"));
        resolving.etc("nsswitch.conf", "hosts: files dns\n");
        Some(resolving)
    }

    /// What programs in the namespace find as `/etc/<name>`.
    fn etc(&self, name: &str, text: &str) {
        fs::write(self.etc.0.join(name), text).unwrap();
    }

    /// Writes a program beside the test.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.work.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What the program writes: addresses, one on each line, and for what does not exist `none` and how many milliseconds
    /// it took to learn that.
    async fn run(&self, program: &str, args: &[&str]) -> Vec<String> {
        let mut command = self.netns.command(program);
        command.args(args).current_dir(self.work.path());
        let output = run_to_end(command).await;
        assert!(output.status.success(), "{program}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What glibc finds. `ahosts` asks for both families at once, and names each address three times: for streams, datagrams and
    /// raw sockets.
    async fn getent(&self) -> Vec<String> {
        let script = format!(
            "getent ahosts {} | cut -d' ' -f1; getent ahosts {} | cut -d' ' -f1; before=$(date +%s%3N); \
             getent ahosts {} || echo none $(($(date +%s%3N) - before))",
            NAMES[0], NAMES[1], NAMES[2]
        );
        self.run("sh", &["-c", &script]).await
    }

    /// Whether the lines are all of `web`, all of the large service, and a quick "no".
    async fn check(self, lines: Vec<String>) {
        let found = self.check_but_for_the_cut(lines).await;
        assert_eq!(found.len(), WEB.len() + usize::from(CROWD));
    }

    /// Whether the lines are all of `web`, some of the large service, and a quick "no"; the addresses.
    async fn check_but_for_the_cut(self, lines: Vec<String>) -> BTreeSet<String> {
        let web = WEB.map(str::to_owned);
        let crowd = (0..CROWD).map(|n| format!("10.2.{}.{}", n / 256, n % 256));
        let expected: BTreeSet<String> = web.iter().cloned().chain(crowd).collect();
        let (no, found): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.starts_with("none"));
        // Each writes IPv6 in its own way.
        let found = found.iter().map(|line| line.parse::<IpAddr>().unwrap());
        let found: BTreeSet<_> = found.map(|address| address.to_string()).collect();
        assert!(found.is_subset(&expected), "{found:?}");
        assert!(web.iter().all(|address| found.contains(address)));
        assert!(found.len() > web.len(), "none of the large service");
        let took = no[0].strip_prefix("none ").unwrap().parse().unwrap();
        // A resolver that does not take the "no" asks again after 5 s.
        assert!(
            Duration::from_millis(took) < Duration::from_secs(4),
            "{took} ms"
        );
        assert_eq!(no.len(), 1);
        let totals = self.server.metrics.totals();
        assert_eq!((totals.dropped, totals.shed), (0, 0));
        assert!(totals.truncated > 0, "the large answer was cut over UDP");
        println!("{} questions, {} addresses", totals.requests, found.len());
        self.server.stop().await;
        found
    }
}

/// Runs it while the server in this process goes on.
async fn run_to_end(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// The two services, and one that does not exist.
const NAMES: [&str; 3] = [
    "web.service.consul",
    "crowd-shop.service.consul",
    "nosuch.service.consul",
];

const WEB: [&str; 4] = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00:1::1"];
/// Addresses of the large service, from 10.2.0.0 on.
const CROWD: u16 = 1_500;
/// Addresses of one family that 512 bytes can hold at most; musl keeps 48 of what it is told.
const IN_A_DATAGRAM: usize = 512 / 16;
const RESOLVED: &str = "/lib/systemd/systemd-resolved";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_glibc_resolves_by_getent() {
    let Some(resolving) = Resolving::open("r25_glibc_resolves_by_getent", "getent") else {
        return;
    };
    let lines = resolving.getent().await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_new_musl_resolves() {
    if let Some((resolving, lines)) = musl_resolves("r25_new_musl_resolves", Musl::New).await {
        let found = resolving.check_but_for_the_cut(lines).await;
        assert!(found.len() > WEB.len() + IN_A_DATAGRAM, "{}", found.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_old_musl_takes_what_the_cut_answer_holds() {
    let test = "r25_old_musl_takes_what_the_cut_answer_holds";
    if let Some((resolving, lines)) = musl_resolves(test, Musl::Old).await {
        let found = resolving.check_but_for_the_cut(lines).await;
        assert!(found.len() <= WEB.len() + IN_A_DATAGRAM, "{}", found.len());
    }
}

async fn musl_resolves(test: &'static str, musl: Musl) -> Option<(Resolving, Vec<String>)> {
    let found = tokio::task::spawn_blocking(move || musl.resolver_blocking()).await;
    let program = match found.unwrap() {
        Ok(program) => program,
        Err(error) if error.is_unavailable() => {
            testbed::skip(test, &error.to_string());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let resolving = Resolving::open(test, program.to_str().unwrap())?;
    let lines = resolving.run(program.to_str().unwrap(), &NAMES).await;
    Some((resolving, lines))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: systemd-resolved is a package that takes over the host's resolv.conf"]
async fn r25_systemd_resolved_resolves() {
    let test = "r25_systemd_resolved_resolves";
    let program = std::env::var("ZONAL_RESOLVED").unwrap_or(RESOLVED.to_owned());
    assert!(has(&program), "there is no {program}");
    let resolving = Resolving::asking(test, "127.0.0.53").expect("a namespace");
    // Its user may not exist: the package makes it.
    for (file, entry) in [
        ("passwd", "systemd-resolve:x:997:997::/:/usr/sbin/nologin"),
        ("group", "systemd-resolve:x:997:"),
    ] {
        let host = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        let host = host.lines();
        let mut lines: Vec<_> = host
            .filter(|line| !line.starts_with("systemd-resolve:"))
            .collect();
        lines.push(entry);
        resolving.etc(file, &(lines.join("\n") + "\n"));
    }
    let drop_in = resolving.file("zonal.conf", "[Resolve]\nDNS=127.0.0.1\nDomains=~consul\n");
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolved.conf.d && \
         cp {drop_in} /run/systemd/resolved.conf.d/ && exec {program}"
    );
    let mut command = resolving.netns.command("sh");
    command.args(["-c", &script]);
    let log = resolving.work.path().join("resolved.log");
    let _resolved = Process::start("systemd-resolved", &command, &log).unwrap();
    let listens = async || {
        let sockets = resolving.netns.run("ss", &["-Hlnt"]).unwrap();
        let is_there = String::from_utf8_lossy(&sockets.stdout).contains("127.0.0.53");
        is_there.then_some(())
    };
    testbed::wait_for("systemd-resolved", Duration::from_secs(10), listens)
        .await
        .unwrap();
    let lines = resolving.getent().await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_python_resolves_by_getaddrinfo() {
    let Some(resolving) = Resolving::open("r25_python_resolves_by_getaddrinfo", "python3") else {
        return;
    };
    let program = resolving.file("resolve.py", PYTHON);
    let lines = resolving
        .run("python3", &[&[&*program][..], &NAMES].concat())
        .await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_node_resolves_by_glibc() {
    let Some(resolving) = Resolving::open("r25_node_resolves_by_glibc", "node") else {
        return;
    };
    let program = resolving.file("resolve.js", NODE);
    let lines = resolving
        .run("node", &[&[&*program, "lookup"][..], &NAMES].concat())
        .await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_c_ares_resolves_in_node() {
    let Some(resolving) = Resolving::open("r25_c_ares_resolves_in_node", "node") else {
        return;
    };
    let program = resolving.file("resolve.js", NODE);
    let lines = resolving
        .run("node", &[&[&*program, "resolve"][..], &NAMES].concat())
        .await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_java_resolves() {
    let Some(resolving) = Resolving::open("r25_java_resolves", "java") else {
        return;
    };
    let program = resolving.file("Resolve.java", JAVA);
    let lines = resolving
        .run("java", &[&[&*program][..], &NAMES].concat())
        .await;
    resolving.check(lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_go_resolves_by_itself() {
    let Some(resolving) = Resolving::open("r25_go_resolves_by_itself", "go") else {
        return;
    };
    let program = resolving.file("main.go", GO);
    // Without cgo the resolver is Go's own.
    let mut build = Command::new("go");
    build
        .args(["build", "-o", "resolve", &program])
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .current_dir(resolving.work.path());
    let built = run_to_end(build).await;
    assert!(built.status.success(), "{built:?}");
    let built = resolving.work.path().join("resolve");
    let lines = resolving.run(built.to_str().unwrap(), &NAMES).await;
    resolving.check(lines).await;
}

const PYTHON: &str = r#"
import socket, sys, time
web, many, nosuch = sys.argv[1:]
for name in (web, many):
    for found in socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP):
        print(found[4][0])
before = time.monotonic()
try:
    print(socket.getaddrinfo(nosuch, None))
except socket.gaierror:
    print("none", round((time.monotonic() - before) * 1000))
"#;

const NODE: &str = r#"
const dns = require("node:dns").promises;
const [way, web, many, nosuch] = process.argv.slice(2);
const lookup = async (name) => (await dns.lookup(name, { all: true })).map((found) => found.address);
const resolve = async (name) => {
  const none = (error) => { if (error.code === "ENODATA") return []; throw error; };
  const found = await Promise.all([dns.resolve4(name).catch(none), dns.resolve6(name).catch(none)]);
  return found.flat();
};
const ask = way === "lookup" ? lookup : resolve;
(async () => {
  for (const name of [web, many]) for (const address of await ask(name)) console.log(address);
  const before = Date.now();
  await ask(nosuch).then(console.log, (error) => {
    if (error.code !== "ENOTFOUND") throw error;
    console.log("none", Date.now() - before);
  });
})();
"#;

const JAVA: &str = r#"
import java.net.InetAddress;
import java.net.UnknownHostException;

class Resolve {
    public static void main(String[] names) throws Exception {
        for (int at = 0; at < 2; at++) {
            for (InetAddress address : InetAddress.getAllByName(names[at])) System.out.println(address.getHostAddress());
        }
        long before = System.currentTimeMillis();
        try {
            System.out.println(InetAddress.getByName(names[2]));
        } catch (UnknownHostException unknown) {
            System.out.println("none " + (System.currentTimeMillis() - before));
        }
    }
}
"#;

const GO: &str = r#"
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:3] {
		found, err := resolver.LookupHost(context.Background(), name)
		if err != nil {
			panic(err)
		}
		for _, address := range found {
			fmt.Println(address)
		}
	}
	before := time.Now()
	found, err := resolver.LookupHost(context.Background(), os.Args[3])
	var no *net.DNSError
	if !errors.As(err, &no) || !no.IsNotFound {
		panic(fmt.Sprint(found, err))
	}
	fmt.Println("none", time.Since(before).Milliseconds())
}
"#;
