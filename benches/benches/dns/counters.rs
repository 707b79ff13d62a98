// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many system calls an answer takes, and how often the server lost its core, by `perf stat`: what other work on the machine
//! moves less than time.

use crate::{
    compare::Questions,
    report::{Report, rounded},
    server::Server,
    udp,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{
    process::{Command, Stdio},
    time::Duration,
};

/// Counts for each server while it is asked as fast as answers come.
pub(crate) fn count(
    servers: &[Server],
    questions: &Questions,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("\ncounted for an answer over UDP");
    for server in servers {
        server.go_on();
        let asked = questions.of(server);
        udp::closed_loop(server, asked, WARM)?;
        let ids: Vec<String> = server.ids().iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args([
            "stat",
            "-x",
            ",",
            "-e",
            &EVENTS.join(","),
            "-p",
            &ids.join(","),
        ]);
        let Ok(counting) = perf.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
            println!("SKIPPED counted: perf is not installed");
            server.pause();
            return Ok(());
        };
        // It attaches meanwhile; a server that is not asked does nothing.
        std::thread::park_timeout(WARM);
        let figures = udp::closed_loop(server, asked, MEASURED)?;
        let id = i32::try_from(counting.id()).ok().and_then(Pid::from_raw);
        let _ = id.map(|id| kill_process(id, Signal::INT));
        let output = counting.wait_with_output()?;
        server.pause();
        let text = String::from_utf8_lossy(&output.stderr);
        let counts = EVENTS.map(|event| {
            let line = text
                .lines()
                .find(|line| line.split(',').nth(2) == Some(event));
            let count = line.and_then(|line| line.split(',').next()?.parse::<f64>().ok());
            count.unwrap_or(f64::NAN) / f64_of(figures.answers.max(1))
        });
        let [calls, switches] = counts;
        println!(
            "  {:<8} {calls:>5.2} system calls  {switches:.3} switches",
            server.name
        );
        let row = json!({ "system_calls": rounded(calls), "switches": rounded(switches) });
        report.row("counted", server.name, row);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds of load")]
fn f64_of(count: u64) -> f64 {
    count as f64
}

const EVENTS: [&str; 2] = ["raw_syscalls:sys_enter", "context-switches"];
const WARM: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(1);
