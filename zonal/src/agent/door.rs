// SPDX-License-Identifier: MIT OR Apache-2.0
//! The door at which the next agent of a host knocks when it is no child of the one that serves, as the new pod of a `DaemonSet`: a
//! unix socket of packets, in a folder or, under a name that begins with `@`, in the network namespace alone (unix(7), abstract),
//! which pods of the host's network share without a volume.
//!
//! In: an address. Out: in the new process a channel to the one that serves, if there is one; in that one a channel to whoever
//! knocks. Both speak to root and to their own user alone, by what the kernel knows (`SO_PEERCRED`); the abstract name has no mode.

use super::channel::Channel;
use discovery_core::source::{PeerUids, peer_uid};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::{
    fmt, fs,
    future::pending,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

/// Where a door is: a path, or `@NAME` in the network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DoorAddress {
    File(PathBuf),
    Abstract(String),
}

/// One that is open.
#[derive(Debug)]
pub(super) struct Door {
    address: DoorAddress,
    listener: UnixListener,
}

impl DoorAddress {
    /// The agent behind the door; none when nobody is there, or a stranger, who is not followed.
    ///
    /// # Errors
    /// When it cannot be asked at all. Needs a runtime of tokio.
    pub(super) fn knock(&self) -> io::Result<Option<Channel>> {
        use rustix::io::Errno;
        let socket = packets()?;
        match connect(&socket, &self.system()?) {
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            other => other?,
        }
        let socket = UnixStream::from_std(socket.into())?;
        if let Err(error) = known(&socket) {
            tracing::warn!(door = %self, %error, "Nobody to take over from");
            return Ok(None);
        }
        Ok(Some(Channel::of(socket)))
    }

    /// Opens it; a file of an agent that has ended is replaced.
    ///
    /// # Errors
    /// Where the name is somebody's, or the folder does not let us. Needs a runtime of tokio.
    pub(super) fn open(self) -> io::Result<Door> {
        let socket = match &self {
            Self::Abstract(_) => {
                let socket = packets()?;
                bind(&socket, &self.system()?)?;
                socket
            }
            Self::File(path) => bound_at(path)?,
        };
        listen(&socket, WAITING_MAX)?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Door {
            address: self,
            listener,
        })
    }

    fn system(&self) -> io::Result<SocketAddrUnix> {
        let address = match self {
            Self::File(path) => SocketAddrUnix::new(path),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        };
        Ok(address?)
    }
}

impl FromStr for DoorAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = match text.strip_prefix('@') {
            Some("") => return Err("a name follows the @"),
            Some(name) => Self::Abstract(name.to_owned()),
            None if text.starts_with('/') => Self::File(text.into()),
            None => return Err("neither a path from / on nor a name after @"),
        };
        // unix(7): sun_path has 108 bytes.
        match address.system() {
            Ok(_) if !text.contains('\0') => Ok(address),
            _ => Err("longer than the 107 bytes of a unix socket's address, or with a NUL"),
        }
    }
}

impl fmt::Display for DoorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl Door {
    pub(super) fn address(&self) -> &DoorAddress {
        &self.address
    }

    /// The next one who knocks and is of a user that is spoken to; never where there is no door. Dropping the future loses nobody.
    pub(super) async fn next(door: Option<&Self>) -> Channel {
        let Some(Self { address, listener }) = door else {
            return pending().await;
        };
        loop {
            let came = listener.accept().await;
            match came.and_then(|(socket, _)| known(&socket).map(|()| Channel::of(socket))) {
                Ok(channel) => return channel,
                Err(error) => {
                    tracing::warn!(door = %address, %error, "Whoever knocked was refused");
                    // Out of descriptors, or hammered at: neither may spin.
                    sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }
}

/// A socket that nobody can connect to before it has its mode and its place.
fn bound_at(path: &Path) -> io::Result<OwnedFd> {
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::other("what stands there is no socket"));
    }
    let (socket, beside) = (
        packets()?,
        path.with_extension(std::process::id().to_string()),
    );
    let _ = fs::remove_file(&beside);
    bind(&socket, &SocketAddrUnix::new(&beside)?)?;
    let moved = fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved.map(|()| socket)
}

fn packets() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(family, kind, flags, None)?)
}

/// Holds for a process of root or of our own user.
fn known(socket: &UnixStream) -> io::Result<()> {
    let uid = peer_uid(socket)?;
    if PeerUids::default().allows(uid) {
        return Ok(());
    }
    let what = format!("user {uid} stands there, who is neither root nor ours");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

/// For root and our own user, as what is asked again of whoever knocks.
const MODE: u32 = 0o600;

/// Those who may wait while one takes over.
const WAITING_MAX: i32 = 8;

const REFUSED_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(folder: &Path) -> [DoorAddress; 2] {
        let name = format!("@zonal-test-{}", folder.display());
        let path = folder.join("door").display().to_string();
        [name.parse().unwrap(), path.parse().unwrap()]
    }

    #[tokio::test]
    async fn who_knocks_is_met_behind_the_door_and_nobody_behind_one_that_is_shut() {
        let folder = tempfile::tempdir().unwrap();
        for address in doors(folder.path()) {
            for _ in 0..2 {
                assert!(address.knock().unwrap().is_none(), "{address}");
                let door = address.clone().open().unwrap();
                let new = address.knock().unwrap().expect("one is there");
                let old = Door::next(Some(&door)).await;
                new.send_open().await.unwrap();
                old.receive_open().await.unwrap();
                // A file stays, and is replaced.
                drop(door);
            }
        }
    }

    #[tokio::test]
    async fn a_door_opens_where_no_other_stands_and_no_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let [name, path] = doors(folder.path());
        let _open = name.clone().open().unwrap();
        assert_eq!(name.open().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        fs::write(folder.path().join("door"), "a file").unwrap();
        assert!(path.open().is_err());
        assert_eq!(fs::read(folder.path().join("door")).unwrap(), b"a file");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_address_is_a_path_or_a_name() {
        for good in ["/run/zonal/next", "@zonal", "@zonal/next"] {
            assert_eq!(good.parse::<DoorAddress>().unwrap().to_string(), good);
        }
        let long = format!("/{}", "x".repeat(108));
        for bad in ["", "@", "next", "./next", &long, "@a\0b", "/a\0b"] {
            assert!(bad.parse::<DoorAddress>().is_err(), "{bad:?}");
        }
    }
}
