// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resolvers of the field in a namespace of their own, with us as their only server: each finds a service whole, also where
//! the answer is cut and asked for again over TCP, and is told at once that another does not exist.
//!
//! The way of each is its own: glibc asks for A and AAAA from one socket and without EDNS, Go takes NOERROR without AA for
//! lame, Node resolves by c-ares, Java keeps what it learned.

use crate::running::Running;
use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use testbed::Netns;

/// A namespace whose `/etc/resolv.conf` names the server in it.
struct Resolving {
    netns: Netns,
    _etc: Etc,
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
        let netns = Netns::new_or_skip(test)?;
        if !has(program) {
            testbed::skip(test, &format!("there is no {program}"));
            return None;
        }
        // ip-netns(8) mounts what lies here over /etc, for the process that it starts.
        let etc = Path::new("/etc/netns").join(netns.name());
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        fs::write(etc.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        Some(Self {
            server: Running::start_in(&netns, "127.0.0.1:53", |config| config),
            netns,
            _etc: Etc(etc),
            work: tempfile::tempdir().unwrap(),
        })
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

    /// Whether the lines are all of `web`, all of the large service, and a quick "no".
    async fn check(self, lines: Vec<String>) {
        let expected: BTreeSet<String> = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00:1::1"]
            .map(str::to_owned)
            .into_iter()
            .chain((0..1_500).map(|n| format!("10.2.{}.{}", n / 256, n % 256)))
            .collect();
        let (no, found): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.starts_with("none"));
        // Each writes IPv6 in its own way.
        let found = found.iter().map(|line| line.parse::<IpAddr>().unwrap());
        let found: BTreeSet<_> = found.map(|address| address.to_string()).collect();
        assert_eq!(found, expected);
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
        println!("{} questions", totals.requests);
        self.server.stop().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r25_glibc_resolves_by_getent() {
    let Some(resolving) = Resolving::open("r25_glibc_resolves_by_getent", "getent") else {
        return;
    };
    // `ahosts` asks for both families at once, and names each address three times: for streams, datagrams and raw sockets.
    let script = format!(
        "getent ahosts {} | cut -d' ' -f1; getent ahosts {} | cut -d' ' -f1; before=$(date +%s%3N); \
         getent ahosts {} || echo none $(($(date +%s%3N) - before))",
        NAMES[0], NAMES[1], NAMES[2]
    );
    let lines = resolving.run("sh", &["-c", &script]).await;
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
