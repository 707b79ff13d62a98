// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions of our own that nobody else can have made: one that arrives shows that a server sends our questions back to us.
//!
//! Ids and ports are changed by every server on the way, and options of EDNS are lost on it; a name is what all keep. Each
//! server of the configuration has its own, made by chance at the start, below a domain that says what it is.

use crate::wire::{Header, LowerName, Request, WireName};
use std::time::Duration;

/// The names by which we know our own questions.
#[derive(Debug)]
pub(super) struct Marks(Vec<[u8; LABEL_BYTES]>);

impl Marks {
    /// A mark for each of so many servers.
    pub(super) fn new(servers: usize) -> Self {
        let digit = || HEX[fastrand::usize(..HEX.len())];
        let mark = |_| std::array::from_fn(|_| digit());
        Self((0..servers).map(mark).collect())
    }

    /// The question that is sent to a server.
    pub(super) fn question(&self, server: usize) -> Option<WireName> {
        let label = self.0.get(server)?;
        WireName::of_labels(&[]).label(label)?.label(DOMAIN)
    }

    /// Which server sent us the question that it got from us; none when it is not ours.
    pub(super) fn server_of(&self, request: &[u8]) -> Option<usize> {
        let mut name = LowerName::default();
        let request = Request::read(Header::read(request)?, request, &mut name)?;
        if request.name.labels() != 2 || request.name.label(1) != DOMAIN {
            return None;
        }
        let label = request.name.label(0);
        self.0.iter().position(|mark| mark == label)
    }
}

/// What whoever looks into a server's log reads.
const DOMAIN: &[u8] = b"zonal-loop-probe";
/// 128 bits: nobody guesses one to have a server shut out.
const LABEL_BYTES: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// How long the question may take to come back.
pub(super) const CHECK_PATIENCE: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_again_in_any_case_and_another_is_not() {
        let marks = Marks::new(3);
        let request = |name: &WireName| {
            let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            [&head[..], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
        };
        for server in 0..3 {
            let mut own = request(&marks.question(server).unwrap());
            own[12..].make_ascii_uppercase();
            // Length octets are no letters here: 32, and 16.
            assert_eq!(marks.server_of(&own), Some(server));
        }
        let other = Marks::new(1);
        assert_eq!(marks.server_of(&request(&other.question(0).unwrap())), None);
        assert_eq!(marks.server_of(b"short"), None);
        assert!(marks.question(3).is_none());
    }
}
