// SPDX-License-Identifier: MIT OR Apache-2.0
//! This program again under a role: lines in, lines out, and what the kernel says of it.

use anyhow::{Context as _, bail};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child as Process, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, SystemTime},
};

/// A process under a role; it ends when this is dropped.
pub(crate) struct Child {
    process: Process,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    role: String,
}

impl Child {
    pub(crate) fn start(role: &[&str]) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--role")
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("its output is piped")?;
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            input: process.stdin.take(),
            process,
            lines,
            role: role.join(" "),
        })
    }

    /// Gives an order and waits for its answer.
    pub(crate) fn order(&mut self, order: &str, answer: &str) -> anyhow::Result<Vec<String>> {
        let input = self.input.as_mut().context("its input is piped")?;
        writeln!(input, "{order}")?;
        self.wait_for(answer)
    }

    /// The next line.
    pub(crate) fn next_line(&mut self) -> anyhow::Result<String> {
        let line = self.lines.recv_timeout(ANSWER_TIME);
        line.with_context(|| format!("{} said nothing", self.role))
    }

    /// The words after `first` of the next line that begins with it; other lines are passed over.
    pub(crate) fn wait_for(&mut self, first: &str) -> anyhow::Result<Vec<String>> {
        loop {
            let line = self.lines.recv_timeout(ANSWER_TIME);
            let line = line.with_context(|| format!("{} did not say {first:?}", self.role))?;
            let mut words = line.split(' ').map(str::to_owned);
            if words.next().as_deref() == Some(first) {
                return Ok(words.collect());
            }
        }
    }

    /// Passes this time, and over what the process says meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended", self.role),
            }
        }
    }

    /// A size of proc(5)'s status: `VmRSS` is what it has, `VmHWM` the most that it had.
    pub(crate) fn memory_bytes(&self, field: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("the field is there")?
            .parse()?;
        Ok(kib * 1024.0)
    }

    /// From now on, the most that it had is what it has now.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.process.id());
        Ok(std::fs::write(path, "5")?)
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name in parentheses may have spaces; times are fields 14 and 15 of proc(5), in hundredths.
        let rest = stat.rsplit_once(") ").context("the name ends")?.1;
        let times = rest.split(' ').skip(11).take(2);
        let hundredths: u64 = times.map(|time| time.parse().unwrap_or(0)).sum();
        Ok(Duration::from_millis(hundredths * 10))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says a line with the time of day, which the processes of a machine share.
pub(crate) fn say(words: &str) {
    println!("{words} {}", nanos());
}

/// The time between two lines; nothing when the second was faster than the first could be written.
pub(crate) fn between(from: &[String], to: &[String]) -> anyhow::Result<Duration> {
    let time = |words: &[String]| -> anyhow::Result<u64> {
        Ok(words.last().context("the line has a time")?.parse()?)
    };
    Ok(Duration::from_nanos(time(to)?.saturating_sub(time(from)?)))
}

/// Ends the process when its driver is gone.
pub(crate) fn end_with_input() {
    std::thread::spawn(|| {
        let mut line = String::new();
        while std::io::stdin()
            .read_line(&mut line)
            .is_ok_and(|read| read > 0)
        {
            line.clear();
        }
        std::process::exit(0);
    });
}

fn nanos() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

const ANSWER_TIME: Duration = Duration::from_secs(180);
const LINES_MAX: usize = 4_096;
