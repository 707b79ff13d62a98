// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agents that somebody else has started, as the pods of a `DaemonSet`: through the door.

use crate::{
    agents::{Agents, TCP, UDP},
    host::{self, echo, exchange},
    load::{Load, UdpClients, udp_echo},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The next agent, of the same files, as a new pod of a `DaemonSet` is: no child of the one that serves.
struct Newcomer {
    process: Child,
    log: PathBuf,
}

impl Newcomer {
    /// Starts it in a pid namespace of its own, as a pod has one, where that may be made.
    fn start(agents: &Agents, number: usize, change: impl FnOnce(&mut Command)) -> Self {
        let agent = host::agent(agents.folder.path());
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]);
        command.arg(agent.get_program()).args(agent.get_args());
        change(&mut command);
        let log = agents.folder.path().join(format!("log-{number}"));
        let file = fs::File::create(&log).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        let process = command.spawn().unwrap();
        Self { process, log }
    }

    async fn says(&self, word: &str) {
        let ask = async || self.log().contains(word).then_some(());
        let waited = testbed::wait_for(word, Duration::from_secs(60), ask).await;
        assert!(waited.is_ok(), "{word}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM to the agent itself: the first process of its namespace, our child's only one.
    fn term(&self) {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = fs::read_to_string(children).unwrap();
        let pid = children.trim().parse().ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_pods_that_replace_one_another_under_load_fail_nobody() {
    let rounds = if std::env::var_os("ZONAL_LONG").is_some() {
        20
    } else {
        4
    };
    let endpoints = [echo(), udp_echo().await];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("next").display().to_string();
    for door in [format!("@zonal-test-{}", std::process::id()), path] {
        let mut agents = Agents::start(endpoints, "drain_seconds: 60", |command, _| {
            command.env("ZONAL_TAKE_OVER", &door);
        })
        .await;
        let mut old = tokio::net::TcpStream::connect(agents.at(TCP))
            .await
            .unwrap();
        exchange(&mut old).await.unwrap();
        let load = Load::start(agents.at(TCP));
        let clients = UdpClients::start(agents.at(UDP)).await;
        let mut pods = Vec::<Newcomer>::new();
        for number in 0..rounds {
            let pod = Newcomer::start(&agents, number, |command| {
                command.env("ZONAL_TAKE_OVER", &door);
            });
            pod.says("UDP sessions taken over").await;
            clients.each_is_answered_from_its_port().await;
            // Whoever rolls the pods out ends the one before, which carries what it has to the end.
            let replaced = "this process ends when it is told to";
            match pods.last() {
                None => {
                    agents
                        .until("it makes way", |log| log.contains(replaced))
                        .await;
                    exchange(&mut old).await.unwrap();
                    assert!(agents.first.try_wait().unwrap().is_none());
                    agents.signal(Signal::TERM);
                }
                Some(before) => {
                    before.says(replaced).await;
                    before.term();
                }
            }
            pods.push(pod);
        }
        exchange(&mut old).await.unwrap();
        let (served, failed) = load.stop().await;
        println!("{served} connections while {rounds} pods replaced one another: {failed:?}");
        assert!(failed.is_empty(), "{failed:?}");
        assert!(served > 100);
        drop(old);
        let newest = pods.pop().unwrap();
        let ended = || {
            let mut all = agents.first.try_wait().unwrap().is_some();
            for pod in &mut pods {
                all &= pod.process.try_wait().unwrap().is_some();
            }
            std::future::ready(all.then_some(()))
        };
        let waited = testbed::wait_for("the older ones end", Duration::from_secs(60), ended).await;
        assert!(waited.is_ok(), "{}", agents.log());
        newest.term();
        newest.says("Agent ended").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_pod_that_is_not_let_in_or_does_not_come_up_changes_nothing() {
    let endpoints = [echo(), udp_echo().await];
    let door = format!("@zonal-test-refused-{}", std::process::id());
    let mut agents = Agents::start(endpoints, "drain_seconds: 1", |command, _| {
        command.env("ZONAL_TAKE_OVER", &door);
    })
    .await;
    let clients = UdpClients::start(agents.at(UDP)).await;
    let config = agents.folder.path().join("zonal.yaml");
    let sound = fs::read_to_string(&config).unwrap();
    let knocks = |command: &mut Command| {
        command.env("ZONAL_TAKE_OVER", &door);
    };
    // A file that is broken ends it before it knocks, one that names no manifest after that.
    for (number, (broken, said)) in [
        (
            sound.replace("proxy: {", "proxy: {no_such_key: 1, "),
            "no_such_key",
        ),
        (sound.replace("mall.yaml", "none.yaml"), "none.yaml"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&config, broken).unwrap();
        let mut pod = Newcomer::start(&agents, number, knocks);
        pod.says(said).await;
        assert!(!pod.process.wait().unwrap().success());
    }
    agents
        .until("it goes on", |log| {
            log.contains("Whoever knocked did not take over; this one goes on")
        })
        .await;
    fs::write(&config, sound).unwrap();
    // Another user is handed nothing; the door stays open for those who may.
    let program = agents.folder.path().join("zonal");
    fs::copy(env!("CARGO_BIN_EXE_zonal"), &program).unwrap();
    fs::set_permissions(agents.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut stranger = Command::new(program);
    stranger.args(["agent", "--config"]).arg(&config);
    stranger.env("ZONAL_TAKE_OVER", &door).current_dir("/");
    let refused = stranger.uid(65_534).gid(65_534).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("ZNL0302") && !refused.status.success(),
        "{said}"
    );
    agents
        .until("who it was", |log| log.contains("user 65534 stands there"))
        .await;
    clients.each_is_answered_from_its_port().await;
    let pod = Newcomer::start(&agents, 9, knocks);
    pod.says("UDP sessions taken over").await;
    clients.each_is_answered_from_its_port().await;
    assert!(agents.first.try_wait().unwrap().is_none());
}
