// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network namespace with one cable to the host, for tests that break the network.
//!
//! Needs root and iproute2. A shell holds the name: it deletes namespace and cable when the pipe to the test process
//! closes, so that a killed test leaves nothing behind. Processes in the namespace are the caller's to end before.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, skip::or_skip};

/// A namespace, its end of the cable and the host's; dropped, all are gone.
#[derive(Debug)]
pub struct Netns {
    name: String,
    host_link: String,
    inner_link: String,
    host_ip: Ipv4Addr,
    inner_ip: Ipv4Addr,
    guard: Child,
    /// Held, never written: its closing is what deletes the namespace.
    lifeline: Option<ChildStdin>,
}

impl Netns {
    /// Whether this process may make namespaces: it is root and `ip` really does it. Asked once per process.
    pub fn available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| rustix::process::geteuid().is_root() && Self::make().is_ok())
    }

    /// Makes a namespace `zt-<pid>-<n>` with loopback up, joined to the host by a veth pair with a /30 network out of
    /// 198.18.0.0/15, the block reserved for benchmarks of networks.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when not [`Netns::available`]; [`Error::Command`] when `ip` refuses.
    pub fn new() -> Result<Self, Error> {
        if !Self::available() {
            return Err(Error::unavailable(
                "network namespaces",
                "needs root and a working `ip`",
            ));
        }
        Self::make()
    }

    /// [`Netns::new`], or `None` after [`skip`](crate::skip) where it is unavailable.
    ///
    /// # Panics
    ///
    /// When it is available and fails, and under `CI=true` instead of skipping.
    pub fn new_or_skip(test: &str) -> Option<Self> {
        or_skip(test, Self::new())
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface on the host's side.
    pub fn host_link(&self) -> &str {
        &self.host_link
    }

    /// The interface inside.
    pub fn inner_link(&self) -> &str {
        &self.inner_link
    }

    /// The host's address on the cable.
    pub fn host_ip(&self) -> Ipv4Addr {
        self.host_ip
    }

    /// The namespace's address on the cable.
    pub fn inner_ip(&self) -> Ipv4Addr {
        self.inner_ip
    }

    /// A command that will run `program` inside; takes further arguments, and [`Process::start`](crate::Process::start)
    /// takes it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command inside to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] when it fails, with what it wrote on its error stream.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output, Error> {
        finish(self.command(program).args(args))
    }

    /// Calls `open` on a thread inside: sockets belong to where they were opened, whoever uses them later.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the thread cannot enter.
    ///
    /// # Panics
    ///
    /// When `open` does.
    pub fn inside<T: Send>(&self, open: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = format!("/run/netns/{}", self.name);
        let entering = || format!("entering {path}");
        let entered = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(&path)?;
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network)?;
                Ok::<T, io::Error>(open())
            });
            thread.join().expect("what was called does not panic")
        });
        entered.map_err(Error::io(entering()))
    }

    fn make() -> Result<Self, Error> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // An interface's name has at most 15 bytes: 3 + 7 (pid) + 1 + 3 + 1.
        let name = format!("zt-{}-{n}", std::process::id());
        let (host_link, inner_link) = (format!("{name}h"), format!("{name}i"));
        let (host_ip, inner_ip) = free_network()?;
        let (guard, lifeline) = guard(&name, &host_link)?;
        // From here on dropping cleans up, also half of it.
        let made = Self {
            name,
            host_link,
            inner_link,
            host_ip,
            inner_ip,
            guard,
            lifeline,
        };
        made.set_up()?;
        Ok(made)
    }

    fn set_up(&self) -> Result<(), Error> {
        let Self {
            name,
            host_link,
            inner_link,
            host_ip,
            inner_ip,
            ..
        } = self;
        ip(&["netns", "add", name])?;
        ip(&[
            "link", "add", host_link, "type", "veth", "peer", "name", inner_link, "netns", name,
        ])?;
        ip(&["addr", "add", &format!("{host_ip}/30"), "dev", host_link])?;
        ip(&["link", "set", host_link, "up"])?;
        ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{inner_ip}/30"),
            "dev",
            inner_link,
        ])?;
        ip(&["-n", name, "link", "set", inner_link, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.guard.wait();
    }
}

fn guard(name: &str, host_link: &str) -> Result<(Child, Option<ChildStdin>), Error> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", GUARD, "testbed-guard", name, host_link]);
    shell
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell
        .spawn()
        .map_err(Error::io("starting the guard of a namespace"))?;
    let lifeline = child.stdin.take();
    Ok((child, lifeline))
}

/// Two addresses of a /30 that no interface has. Another process may take it in the next moment; with 32 768 to choose
/// from at random it will not.
fn free_network() -> Result<(Ipv4Addr, Ipv4Addr), Error> {
    let taken = ip(&["-o", "-4", "addr", "show"])?;
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    loop {
        let base = u32::from(BLOCK) + fastrand::u32(..1 << 15) * 4;
        let (host, inner) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        if !taken.contains(&format!(" {host}/")) {
            return Ok((host, inner));
        }
    }
}

fn ip(args: &[&str]) -> Result<Output, Error> {
    finish(Command::new("ip").args(args))
}

fn finish(command: &mut Command) -> Result<Output, Error> {
    let line = format!("{command:?}");
    let output = command
        .output()
        .map_err(Error::io(format!("running {line}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Command {
        command: line,
        status: output.status,
        output: text,
    })
}

static NEXT: AtomicU32 = AtomicU32::new(0);

const BLOCK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// The cable is deleted by itself too: while a process lives inside, the namespace outlives its name.
const GUARD: &str = r#"
read -r line
ip link del "$2"
ip netns del "$1"
"#;
