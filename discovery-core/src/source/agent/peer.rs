// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is at the other end of a unix socket: the kernel says, nobody can claim.

use rustix::process::geteuid;
use std::{collections::BTreeSet, io};
use tokio::net::UnixStream;

/// The user ids that are spoken to.
///
/// The file's mode decides who may open the socket; this decides again, after the connection is made, from what the kernel
/// knows of the peer (`SO_PEERCRED`), and also holds where somebody loosened the mode.
///
/// ```
/// use discovery_core::source::PeerUids;
///
/// let uids = PeerUids::default().and(1_000);
/// assert!(uids.allows(0), "root may do anything anyway");
/// assert!(uids.allows(1_000) && !uids.allows(1_001));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerUids {
    allowed: BTreeSet<u32>,
    is_any: bool,
}

impl PeerUids {
    /// These and no others, not even root.
    pub fn only(uids: impl IntoIterator<Item = u32>) -> Self {
        Self {
            allowed: uids.into_iter().collect(),
            is_any: false,
        }
    }

    /// Whoever the file's mode lets open the socket.
    pub fn any() -> Self {
        Self {
            allowed: BTreeSet::new(),
            is_any: true,
        }
    }

    /// One more.
    #[must_use]
    pub fn and(mut self, uid: u32) -> Self {
        self.allowed.insert(uid);
        self
    }

    /// Whether this user is spoken to.
    pub fn allows(&self, uid: u32) -> bool {
        self.is_any || self.allowed.contains(&uid)
    }
}

impl Default for PeerUids {
    /// Root and the user that this process runs as.
    fn default() -> Self {
        Self::only([0, geteuid().as_raw()])
    }
}

/// The user at the other end of a connected unix socket.
///
/// # Errors
/// What the system says of the socket.
// Not by rustix 1.1, which takes the process id 0 of a peer in another pid namespace for an error.
pub fn peer_uid(socket: &UnixStream) -> io::Result<u32> {
    Ok(socket.peer_cred()?.uid())
}
