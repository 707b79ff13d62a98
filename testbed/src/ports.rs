// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses ports that are free on loopback for both TCP and UDP.
//!
//! The kernel chooses (port 0); all sockets of one call are held until the last is bound, so the ports differ. Between
//! the choice and the server's own bind another process may take one: who starts servers tries again.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::Error;

/// `N` different ports of 127.0.0.1 that are free right now, for TCP and for UDP.
///
/// # Errors
///
/// [`Error::Io`] when the kernel hands out no port, or none that is free for both.
pub fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let pair = bind_both()?;
        *port = pair
            .0
            .local_addr()
            .map_err(Error::io("reading a free port"))?
            .port();
        held.push(pair);
    }
    Ok(ports)
}

fn bind_both() -> Result<(TcpListener, UdpSocket), Error> {
    let mut refused = None;
    for _ in 0..TRIES {
        let tcp = TcpListener::bind(ANY).map_err(Error::io("binding a free TCP port"))?;
        let chosen = tcp.local_addr().map_err(Error::io("reading a free port"))?;
        match UdpSocket::bind(chosen) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => refused = Some(error),
        }
    }
    let source = refused.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(Error::Io {
        what: "no port is free for both TCP and UDP".to_owned(),
        source,
    })
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A UDP socket on a port that TCP has free is rare; many in a row mean that something is wrong.
const TRIES: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_ports_of_one_call_differ() {
        let ports = free_ports::<16>().unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 16);
    }
}
