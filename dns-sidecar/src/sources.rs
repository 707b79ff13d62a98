// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much each source has open: an IPv4 address, or the /64 of an IPv6 one, which is what a host may choose from.
//!
//! For connections, and for questions to other servers. This host itself is not limited: what forwards to us from here is
//! one source for many. As many entries as there are things open.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The sources that have something open.
#[derive(Debug)]
pub(crate) struct Sources {
    max: usize,
    /// Guards the counts alone: taken for a look-up when something begins and when it ends, never over an await.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One thing that a source has open; dropped, it is over.
#[derive(Debug)]
pub(crate) struct Visit {
    /// None for this host.
    of: Option<(Arc<Sources>, IpAddr)>,
}

impl Sources {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            counts: Mutex::default(),
        }
    }

    /// Counts one more; none when the source has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Visit> {
        let client = client.to_canonical();
        if client.is_loopback() {
            return Some(Visit { of: None });
        }
        let source = source(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count == self.max {
            return None;
        }
        *count += 1;
        Some(Visit {
            of: Some((self.clone(), source)),
        })
    }

    fn leave(&self, source: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&source);
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some((sources, source)) = &self.of {
            sources.leave(*source);
        }
    }
}

fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_part_and_gets_it_back() {
        let sources = Arc::new(Sources::new(2));
        let enter = |text: &str| sources.enter(text.parse().unwrap());
        let first = enter("10.0.0.1").unwrap();
        let _second = enter("::ffff:10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
        let _other = enter("10.0.0.2").unwrap();
        drop(first);
        let _third = enter("10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
    }

    #[test]
    fn hosts_of_one_network_share_and_this_host_is_free() {
        let sources = Arc::new(Sources::new(1));
        let enter = |text: &str| sources.enter(text.parse().unwrap());
        let one = enter("fd00::1").unwrap();
        assert!(enter("fd00::ffff:2").is_none());
        let elsewhere = enter("fd00:0:0:1::1").unwrap();
        let own: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1"]
            .map(enter)
            .into_iter()
            .collect();
        assert!(own.iter().all(Option::is_some));
        drop((own, one, elsewhere));
        assert!(sources.counts.lock().unwrap().is_empty());
    }
}
