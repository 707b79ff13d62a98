// SPDX-License-Identifier: MIT OR Apache-2.0
//! A child process that ends with its test, however the test ends.
//!
//! A destructor does not run when a test is killed, and the parent-death signal needs code between fork and exec,
//! which is unsafe. So a shell stands between: it starts the program, tells its id, and a second shell waits for the
//! end of a pipe whose only writer is the test process. When that process ends, by whatever means, the kernel closes
//! the pipe and exactly that id is killed. The program's parent reaps it only after it ended, so the id cannot have
//! passed to a stranger before.
//!
//! Lock-free and without tasks; starting and dropping block for milliseconds.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, wait::PAUSE};

/// A running program and its guard; dropped, both have ended.
#[derive(Debug)]
pub struct Process {
    what: String,
    pid: Pid,
    guard: Child,
    /// Held, never written: its closing is what ends the program.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, with no input and with both outputs appended to `log`.
    ///
    /// Program, arguments, environment and directory of the command count; what it says about its streams does not.
    /// A program that cannot be executed shows as one that ended at once with status 126 or 127.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no shell can be started.
    pub fn start(what: &str, command: &Command, log: &Path) -> Result<Self, Error> {
        let starting = || format!("starting {what}");
        let mut guard = guarded(command, log)
            .spawn()
            .map_err(Error::io(starting()))?;
        let lifeline = guard.stdin.take();
        let pid = read_pid(&mut guard).map_err(Error::io(starting()))?;
        Ok(Self {
            what: what.to_owned(),
            pid,
            guard,
            lifeline,
            log: log.to_owned(),
        })
    }

    /// The id of the program itself, not of its guard.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The file that both of its outputs go to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How the program ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the guard cannot be asked.
    pub fn status(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.guard
            .try_wait()
            .map_err(Error::io(format!("asking for the status of {}", self.what)))
    }

    /// Sends `signal` to the program, for example `Signal::STOP` and `Signal::CONT`.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when it does not run any more; [`Error::Io`] when the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        self.check()?;
        kill_process(self.pid, signal)
            .map_err(|errno| Error::io(format!("sending a signal to {}", self.what))(errno.into()))
    }

    /// Stops the program (SIGSTOP) and returns when every one of its threads has stopped.
    ///
    /// [`Process::signal`] returns before: on a busy machine a server went on answering for some milliseconds.
    ///
    /// # Errors
    ///
    /// As [`Process::signal`]; [`Error::Deadline`] when a thread does not stop.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        let begun = Instant::now();
        while !self.is_stopped() {
            self.check()?;
            if begun.elapsed() > STOPPED_WITHIN {
                return Err(Error::Deadline {
                    what: format!("{} has stopped", self.what),
                    after: STOPPED_WITHIN,
                });
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Ends the program with SIGKILL, works on a stopped one too, and returns when it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks `probe` until it says yes.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] as soon as the program ends, [`Error::NotReady`] after `within`; both with the end of its log.
    pub async fn wait_ready<F>(
        &mut self,
        within: Duration,
        probe: impl FnMut() -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = bool>,
    {
        match tokio::time::timeout(within, self.ask_until_yes(probe)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::NotReady {
                what: self.what.clone(),
                after: within,
                log: self.log_tail(),
            }),
        }
    }

    /// Not by [`wait_for`](crate::wait_for): each round needs the process mutably.
    async fn ask_until_yes<F>(&mut self, mut probe: impl FnMut() -> F) -> Result<(), Error>
    where
        F: Future<Output = bool>,
    {
        loop {
            self.check()?;
            if probe().await {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        match self.status()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                what: self.what.clone(),
                status,
                log: self.log_tail(),
            }),
        }
    }

    /// proc(5): the state follows the name, which stands in parentheses; a stopped thread says `T`.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn end(&mut self) {
        drop(self.lifeline.take());
        let _ = self.guard.wait();
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]);
        text.into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn guarded(command: &Command, log: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(GUARD).arg("testbed-guard").arg(log);
    shell.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    // A group of its own: Ctrl-C and a runner that kills the test's group reach the test, and the guard sees that.
    shell
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    shell
}

fn read_pid(guard: &mut Child) -> std::io::Result<Pid> {
    let mut line = String::new();
    if let Some(out) = guard.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let invalid = || std::io::Error::other(format!("the guard said {line:?} for an id"));
    let raw = line.trim().parse().map_err(|_| invalid())?;
    Pid::from_raw(raw).ok_or_else(invalid)
}

/// `$1` is the log, the rest is the command. A job in the background of a script gets /dev/null for its input, hence
/// the copy of the pipe as descriptor 3; the program itself must not inherit it. A killed test orphans the group: where the
/// program is stopped, the system sends SIGHUP to all of it, which would end both shells before they end the program.
const GUARD: &str = r#"
exec 3<&0
log=$1
shift
"$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
trap 'kill -KILL "$program"' HUP
echo "$program"
exec >/dev/null
( read -r line <&3; kill -KILL "$program" ) &
watcher=$!
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// Enough for the last lines of any of the servers, little enough for a test report.
const LOG_TAIL_BYTES: usize = 4096;

/// With more busy threads than processors the slowest took 35 ms.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
