// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who listens on a port that we want: the process, as far as `/proc` lets us see.
//!
//! In: a port. Out: a process id and its name, or nothing. It reads `/proc` and blocks while it does, so it runs beside
//! the runtime and only when a port has turned out busy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A process that holds a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// The process that listens on the TCP port; none when there is none, or it belongs to another user or namespace.
pub(crate) fn holder_of(port: u16) -> Option<Process> {
    let proc = Path::new("/proc");
    let inode = ["net/tcp", "net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(proc.join(table)).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let entries = fs::read_dir(proc).ok()?.flatten();
    let pid = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| has_open(&proc.join(pid.to_string()), &socket).unwrap_or(false))?;
    let name = fs::read_to_string(proc.join(format!("{pid}/comm"))).ok()?;
    Some(Process {
        pid,
        name: name.trim_end().to_owned(),
    })
}

/// The inode of the socket that listens on the port, from a table in the form of `/proc/net/tcp` (proc(5)).
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, local_port) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && state == LISTEN;
        is_it.then_some(inode)
    })
}

fn has_open(process: &Path, socket: &Path) -> io::Result<bool> {
    let mut open = fs::read_dir(process.join("fd"))?.flatten();
    Ok(open.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == socket)))
}

/// `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder_of(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
    }

    #[test]
    fn only_a_listening_socket_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4\n\
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0\n";
        assert_eq!(listening_inode(table, 8_080), Some(22));
        assert_eq!(listening_inode(table, 80), None);
        assert_eq!(listening_inode("garbage\n0: x y\n", 80), None);
    }
}
