// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses ports that are free on loopback for both TCP and UDP.
//!
//! They lie below the range from which the kernel takes the ports of connections, and below the NodePorts: a port out
//! of that range may be the near end of somebody's connection, or of one that ended within the last minute, by the time
//! that a server binds it. No port is told twice by one process, and each process begins elsewhere. Another process may
//! still take one before the server does: who starts servers tries again.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::Range,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::Error;

/// `N` different ports of 127.0.0.1 that are free right now, for TCP and for UDP.
///
/// # Errors
///
/// [`Error::Io`] when no port is free for both.
pub fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

fn free_port() -> Result<u16, Error> {
    let mut refused = None;
    for _ in RANGE {
        let port = next();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .and_then(|_tcp| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))
        {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    let source = refused.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(Error::Io {
        what: "no port is free for both TCP and UDP".to_owned(),
        source,
    })
}

fn next() -> u16 {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let told = TOLD.fetch_add(1, Relaxed);
    let begin = std::process::id().wrapping_mul(SPREAD);
    let place = begin.wrapping_add(told) % u32::try_from(RANGE.len()).expect("a range of ports");
    RANGE.start + u16::try_from(place).expect("a place among ports")
}

const RANGE: Range<u16> = 10_000..30_000;

/// Processes that follow one another begin so many ports apart.
const SPREAD: u32 = 127;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_told_twice_and_none_is_one_of_the_kernels() {
        let ports = [free_ports::<16>().unwrap(), free_ports().unwrap()].concat();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 32);
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
    }
}
