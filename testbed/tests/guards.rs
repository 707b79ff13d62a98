// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test starts ends with it, however it ends.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use testbed::{Error, Netns, Process, wait_for};

#[test]
fn a_dropped_process_has_ended_even_when_stopped() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut process = sleeper(dir.path())?;
    let id = process.id();
    assert!(runs(id));
    process.signal(Signal::STOP)?;
    drop(process);
    assert!(!runs(id));
    Ok(())
}

#[test]
fn a_panic_ends_the_process() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = sleeper(dir.path())?;
    let id = process.id();
    let panicked = std::thread::spawn(move || {
        let _held = process;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!runs(id));
    Ok(())
}

#[tokio::test]
async fn a_killed_test_takes_its_process_along() -> Result<()> {
    ends_with_its_test("").await
}

/// The system wakes what is stopped in an orphaned group and sends it SIGHUP, which also ends shells.
#[tokio::test]
async fn a_killed_test_takes_a_stopped_process_along_that_ignores_sighup() -> Result<()> {
    ends_with_its_test("stopped").await
}

async fn ends_with_its_test(state: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut test = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "role_of_a_test_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("TESTBED_ROLE", dir.path())
        .env("TESTBED_STATE", state)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(test.stdout.take().context("stdout is piped")?).lines();
    let told = lines.find_map(|line| Some(line.ok()?.split_once("id=")?.1.to_owned()));
    let id = told.context("the role tells an id")?.parse()?;
    assert!(runs(id));
    test.kill()?;
    test.wait()?;
    wait_for("the process ends", WITHIN, async || {
        (!runs(id)).then_some(())
    })
    .await?;
    Ok(())
}

#[test]
#[ignore = "a role that another test starts and kills"]
fn role_of_a_test_that_is_killed() -> Result<()> {
    // Else a run with all ignored tests would wait for ever.
    let Some(dir) = std::env::var_os("TESTBED_ROLE") else {
        return Ok(());
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; echo ignores; exec sleep 600"]);
    let log = Path::new(&dir).join("log");
    let mut process = Process::start("a sleeper", &shell, &log)?;
    // There is no log before the program has begun.
    let said = || fs::read_to_string(&log).unwrap_or_default();
    while !said().contains("ignores") {
        std::thread::yield_now();
    }
    if std::env::var_os("TESTBED_STATE").is_some_and(|state| state == "stopped") {
        process.stop()?;
    }
    println!("id={}", process.id());
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_program_that_ends_is_noticed_with_its_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo $WORD >&2; exit 3"])
        .env("WORD", "broken");
    let mut process = Process::start("a shell", &shell, &dir.path().join("log"))?;
    match process.wait_ready(WITHIN, async || false).await {
        Err(Error::Ended { status, log, .. }) => {
            assert_eq!((status.code(), log.as_str()), (Some(3), "broken\n"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        process.signal(Signal::CONT),
        Err(Error::Ended { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_noticed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let command = Command::new("/no/such/program");
    let mut process = Process::start("nothing", &command, &dir.path().join("log"))?;
    let ready = process.wait_ready(WITHIN, async || false).await;
    assert!(matches!(ready, Err(Error::Ended { .. })), "{ready:?}");
    Ok(())
}

#[test]
fn a_namespace_has_a_cable_and_leaves_nothing() -> Result<()> {
    let Some(netns) = Netns::new_or_skip("a_namespace_has_a_cable") else {
        return Ok(());
    };
    let inside = netns.run("ip", &["-o", "-4", "addr", "show"])?;
    let inside = String::from_utf8(inside.stdout)?;
    assert!(inside.contains(&netns.inner_ip().to_string()), "{inside}");
    assert!(!inside.contains(&netns.host_ip().to_string()), "{inside}");

    let listener = std::net::TcpListener::bind((netns.host_ip(), 0))?;
    let port = listener.local_addr()?.port();
    let dial = format!("exec 3<>/dev/tcp/{}/{port}", netns.host_ip());
    netns.run("bash", &["-c", &dial])?;
    assert_eq!(listener.accept()?.1.ip(), netns.inner_ip());

    let failed = netns.run("false", &[]);
    assert!(matches!(failed, Err(Error::Command { .. })), "{failed:?}");
    let (name, host_link) = (netns.name().to_owned(), netns.host_link().to_owned());
    drop(netns);
    assert!(!Path::new("/run/netns").join(name).exists());
    assert!(!Path::new("/sys/class/net").join(host_link).exists());
    Ok(())
}

fn sleeper(dir: &Path) -> Result<Process, Error> {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    Process::start("sleep", &sleep, &dir.join("log"))
}

/// Whether a process has this id and is more than an entry that waits to be reaped.
fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

const WITHIN: Duration = Duration::from_secs(10);
