// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a port can be taken away by chance: one that lies among those from which outgoing connections take theirs.
//!
//! In: the kernel's settings and a port. Out: a verdict, and the line that mends it. An outgoing connection of any process
//! that has the port as its source blocks the bind.

use std::{fs, ops::RangeInclusive};

/// From which ports outgoing connections take theirs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EphemeralPorts {
    range: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl EphemeralPorts {
    /// Those of this host; the kernel's default where the settings cannot be read.
    pub fn of_this_host() -> Self {
        let setting =
            |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self::parse(
            &setting("ip_local_port_range"),
            &setting("ip_local_reserved_ports"),
        )
    }

    /// Reads the two settings as the kernel writes them: `32768 60999` and `30000-32767,8080`.
    pub fn parse(range: &str, reserved: &str) -> Self {
        let mut ends = range.split_whitespace().filter_map(|end| end.parse().ok());
        let range = match (ends.next(), ends.next()) {
            (Some(first), Some(last)) => first..=last,
            _ => DEFAULT,
        };
        let reserved = reserved.trim().split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        });
        Self {
            range,
            reserved: reserved.collect(),
        }
    }

    /// Whether an outgoing connection may have the port.
    pub fn may_take(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|part| part.contains(&port))
    }

    /// The setting that keeps outgoing connections off the ports, besides what is reserved already; none when nothing is to
    /// be done.
    ///
    /// ```
    /// use lb_proxy::EphemeralPorts;
    ///
    /// let host = EphemeralPorts::parse("32768\t60999", "9000");
    /// let line = host.reservation([30_080, 40_000, 40_001, 50_000]).unwrap();
    /// assert_eq!(line, "net.ipv4.ip_local_reserved_ports=9000,40000-40001,50000");
    /// assert_eq!(host.reservation([30_080]), None);
    /// ```
    pub fn reservation(&self, ports: impl IntoIterator<Item = u16>) -> Option<String> {
        let mut open: Vec<u16> = ports
            .into_iter()
            .filter(|port| self.may_take(*port))
            .collect();
        if open.is_empty() {
            return None;
        }
        open.sort_unstable();
        open.dedup();
        let mut parts = self.reserved.clone();
        let kept = parts.len();
        for port in open {
            match parts[kept..].last_mut() {
                Some(last) if last.end().checked_add(1) == Some(port) => {
                    *last = *last.start()..=port;
                }
                _ => parts.push(port..=port),
            }
        }
        let parts: Vec<_> = parts.iter().map(text).collect();
        Some(format!(
            "net.ipv4.ip_local_reserved_ports={}",
            parts.join(",")
        ))
    }
}

fn text(part: &RangeInclusive<u16>) -> String {
    if part.start() == part.end() {
        part.start().to_string()
    } else {
        format!("{}-{}", part.start(), part.end())
    }
}

/// The kernel's own range.
const DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_range_of_node_ports_is_safe_and_others_are_told() {
        let host = EphemeralPorts::parse("32768\t60999\n", "\n");
        assert!(!host.may_take(30_080) && host.may_take(32_768) && host.may_take(60_999));
        let reserved = EphemeralPorts::parse("1024 65535", "30000-32767,8080\n");
        assert!(
            !reserved.may_take(30_080) && !reserved.may_take(8_080) && reserved.may_take(8_081)
        );
        assert_eq!(
            EphemeralPorts::parse("", "x-y"),
            EphemeralPorts::parse("32768 60999", "")
        );
    }
}
