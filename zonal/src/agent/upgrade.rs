// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has a new process take over: of a new binary that stands where ours stood, with our arguments and environment.
//!
//! In: SIGUSR2 in the old process; in the new one the word that it replaces somebody. Out: a channel between the two, which the
//! new process has as its standard input, so that no path and no other user is in it.

use super::channel::Channel;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{
    env, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where this process was started from, before that file was replaced.
#[derive(Debug)]
pub(super) struct Binary(PathBuf);

impl Binary {
    pub(super) fn of_this_process() -> io::Result<Self> {
        env::current_exe().map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Starts it; the other end of the channel is the new process's.
    ///
    /// # Errors
    /// As the first process of a container, whose end would be everybody's.
    pub(super) fn start(&self) -> io::Result<(Channel, Child)> {
        if std::process::id() == 1 {
            let what = "process 1 cannot be replaced: start another container instead";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let channel = Channel::new(ours)?;
        let child = Command::new(&self.0)
            .args(env::args_os().skip(1))
            .env(REPLACES, STDIN)
            .stdin(Stdio::from(theirs))
            .spawn()?;
        Ok((channel, child))
    }
}

/// The channel to the process that this one replaces; none when it replaces nobody.
pub(super) fn replaced() -> io::Result<Option<Channel>> {
    if env::var(REPLACES).as_deref() != Ok(STDIN) {
        return Ok(None);
    }
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Channel::new(socket).map(Some)
}

/// Tells systemd which process the service is from now on (`sd_notify(3)`); where nobody listens, nobody is told.
pub(super) fn tell_supervisor(words: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = notify(&path, words);
    if let Err(error) = told {
        tracing::warn!(%error, words, "NOTIFY_SOCKET did not take it");
    }
}

fn notify(path: &std::ffi::OsStr, words: &str) -> io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(words.as_bytes(), &address)
        .map(drop)
}

/// Says to a new process where its channel is.
const REPLACES: &str = "ZONAL_REPLACES";
const STDIN: &str = "stdin";
