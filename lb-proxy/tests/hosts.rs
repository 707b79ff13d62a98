// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reason for this proxy: three hosts of a site, each with a network card of its own, carry three times what one does.
//!
//! Twelve network namespaces: a router with the endpoints, three hosts whose link towards clients is limited by tbf, eight
//! clients. Each host reaches the endpoints by a link of its own that is not limited.

mod site;

use lb_proxy::Config;
use site::{Endpoint, Site, greeting, pattern, within};
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a process of this test is.
const ROLE: &str = "ZONAL_TEST_HOSTS_ROLE";

/// What one host's link carries, in Mbit/s.
const LINK_MBIT: u64 = 40;

const PORT: u16 = 30_080;

#[test]
fn eight_clients_through_three_hosts_are_carried_by_the_sum_of_their_links() {
    let test = "eight_clients_through_three_hosts_are_carried_by_the_sum_of_their_links";
    if !rustix::process::geteuid().is_root() {
        return testbed::skip(test, "needs root for network namespaces");
    }
    let status = exe(&[
        "unshare",
        "--net",
        "sh",
        "-c",
        "ip link set lo up; exec \"$0\" \"$@\"",
    ])
    .env(ROLE, "router")
    .stdin(Stdio::null())
    .status()
    .unwrap();
    assert!(status.success());
}

/// This test's own program in another role, behind the words of a wrapper.
fn exe(wrapper: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "a_role_in_the_play", "--nocapture"]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test starts it"]
async fn a_role_in_the_play() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<_> = role.split(' ').collect();
    match &words[..] {
        ["router"] => router().await,
        ["host", endpoints @ ..] => host(endpoints).await,
        ["client", hosts @ ..] => client(hosts).await,
        other => panic!("{other:?}"),
    }
}

/// A process in a namespace of its own; it begins when it is told to.
struct Player(Child);

impl Player {
    fn new(role: &str, setup: &str) -> Self {
        let script = format!("read go; ip link set lo up; {setup}; exec \"$0\" \"$@\"");
        let child = exe(&["unshare", "--net", "sh", "-c", &script])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // `ip` moves a link into the namespace of a process, which must have it by then.
        let (ours, theirs) = (namespace("self"), || namespace(&child.id().to_string()));
        while ours == theirs() {
            std::thread::yield_now();
        }
        Self(child)
    }

    /// Joins the router to it by a cable: the router's end has `.1` of the network, its own is `name` and has `.2`.
    fn cable(&self, end: &str, name: &str, network: &str) {
        let pid = self.0.id();
        run(&format!(
            "ip link add {end} type veth peer name {name} netns {pid}"
        ));
        run(&format!("ip addr add {network}.1/24 dev {end}"));
        run(&format!("ip link set {end} up"));
    }

    fn go(&mut self) {
        writeln!(self.0.stdin.as_mut().unwrap(), "go").unwrap();
    }

    fn output(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // A role ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn namespace(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// The line of a role's output that begins with `said `.
fn said(output: &mut BufReader<ChildStdout>) -> String {
    output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("said ")?.1.to_owned()))
        .expect("the role says something")
}

async fn router() {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    run("ip addr add 10.9.0.1/32 dev lo");
    let mut endpoints = Vec::new();
    for number in 0..4 {
        endpoints.push(endless(&format!("pod-{number}")).await);
    }
    let listed: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    let mut hosts = Vec::new();
    for number in 0..3 {
        let (front, back) = (format!("10.2.{number}"), format!("10.3.{number}"));
        let setup = format!(
            "ip addr add {front}.2/24 dev front; ip link set front up; \
             ip addr add {back}.2/24 dev back; ip link set back up; \
             ip route add 10.9.0.0/16 via {back}.1; ip route add 10.1.0.0/16 via {front}.1; \
             tc qdisc add dev front root tbf rate {LINK_MBIT}mbit burst 32kb latency 50ms"
        );
        let mut host = Player::new(&format!("host {}", listed.join(" ")), &setup);
        host.cable(&format!("f{number}"), "front", &front);
        host.cable(&format!("b{number}"), "back", &back);
        host.go();
        assert_eq!(said(&mut host.output()), "serving");
        hosts.push((host, format!("{front}.2:{PORT}")));
    }
    let fronts: Vec<_> = hosts.iter().map(|(_, front)| front.as_str()).collect();
    let one = tokio::task::block_in_place(|| pull(&fronts[..1]));
    let three = tokio::task::block_in_place(|| pull(&fronts));
    println!(
        "said one host {one} Mbit/s, three hosts {three} Mbit/s of {} in all",
        3 * LINK_MBIT
    );
    // What the bucket holds at the start passes at once, and a busy machine reads its clock late.
    let limit = LINK_MBIT * 6 / 5;
    assert!(
        one <= limit && one >= LINK_MBIT * 4 / 5,
        "{one} Mbit/s by one host"
    );
    assert!(
        three >= 3 * LINK_MBIT * 17 / 20,
        "{three} Mbit/s by three hosts"
    );
}

/// Has eight clients pull at once, each by one of the hosts; Mbit/s of all together.
fn pull(fronts: &[&str]) -> u64 {
    let mut clients = Vec::new();
    for number in 0..8_usize {
        let place = number + 8 * fronts.len();
        let network = format!("10.1.{place}");
        let setup = format!(
            "ip addr add {network}.2/24 dev lan; ip link set lan up; ip route add default via {network}.1"
        );
        let mut order = fronts.to_vec();
        order.rotate_left(number % fronts.len());
        let client = Player::new(&format!("client {}", order.join(" ")), &setup);
        client.cable(&format!("c{place}"), "lan", &network);
        clients.push(client);
    }
    let mut outputs: Vec<_> = clients.iter_mut().map(Player::output).collect();
    clients.iter_mut().for_each(Player::go);
    for output in &mut outputs {
        assert_eq!(said(output), "connected");
    }
    // All at once: rates of different times would not add up.
    clients.iter_mut().for_each(Player::go);
    let bits: u64 = outputs
        .iter_mut()
        .map(|output| said(output).parse::<u64>().unwrap())
        .sum();
    bits / 1_000_000
}

/// An endpoint at the router's own address that sends without end.
async fn endless(name: &str) -> Endpoint {
    Endpoint::at(
        name,
        ([10, 9, 0, 1], 0).into(),
        async |mut stream: TcpStream| {
            let bytes = pattern(1 << 16);
            loop {
                stream.write_all(&bytes).await?;
            }
        },
    )
    .await
}

/// Fronts the endpoints until its input ends.
async fn host(endpoints: &[&str]) {
    let mut site = Site::start_on(Config::default());
    site.service("web", PORT);
    for (number, endpoint) in endpoints.iter().enumerate() {
        site.listed(
            "web",
            &format!("pod-{number}"),
            endpoint.parse().unwrap(),
            true,
        );
    }
    site.publish();
    assert!(within(site.status.serving()).await.is_some());
    println!("said serving");
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await.unwrap().unwrap();
    site.kill.cancel();
    within(site.running).await.unwrap();
}

/// Asks every host for its endpoint, which must be the same; then pulls by the first. Says how many bits came in a second.
async fn client(hosts: &[&str]) {
    let mut owners = BTreeSet::new();
    let mut streams = Vec::new();
    for host in hosts {
        let front: SocketAddr = host.parse().unwrap();
        let mut stream = within(TcpStream::connect(front)).await.unwrap();
        owners.insert(greeting(&mut stream).await.unwrap());
        streams.push(stream);
    }
    assert_eq!(
        owners.len(),
        1,
        "the hosts agree on the owner of this client: {owners:?}"
    );
    let mut stream = streams.swap_remove(0);
    drop(streams);
    println!("said connected");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut read_for = async |time: Duration| {
        let (started, mut bytes) = (Instant::now(), 0);
        while started.elapsed() < time {
            bytes += within(stream.read(&mut buffer)).await.unwrap() as u64;
        }
        bytes * 8 * 1_000 / u64::try_from(started.elapsed().as_millis()).unwrap()
    };
    read_for(Duration::from_millis(500)).await;
    println!("said {}", read_for(Duration::from_secs(2)).await);
}
