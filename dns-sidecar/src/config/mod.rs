// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operator may set, checked when it is set.
//!
//! In: addresses, names, sizes, durations. Out: a [`Config`] whose every value can be used. No I/O.

mod consul;
mod domain;
mod error;
mod forward;
#[cfg(feature = "http")]
mod http;
mod limits;
mod profile;
mod query;
mod soa;
#[cfg(any(feature = "dot", feature = "doh"))]
mod tls;
mod ttl;

#[cfg(feature = "http")]
pub(crate) use consul::read_span;
pub use consul::{DnsConfig, Strategy};
use domain::DOMAIN;
pub use error::ConfigError;
use forward::Forward;
#[cfg(feature = "http")]
use http::HttpFace;
use limits::Limits;
pub use profile::Profile;
pub use query::PreparedQuery;
use soa::SoaTimes;
pub(crate) use ttl::ServiceTtls;

use crate::{Network, QueryLog, wire::WireName};
use discovery_core::runtime::Sockets;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

/// The settings of a responder.
///
/// ```
/// use dns_sidecar::Config;
///
/// let config = Config::default().domain("mall.internal")?.max_udp_payload(4096)?;
/// assert_eq!(config.listen_addresses()[0].to_string(), "127.0.0.1:8600");
/// assert!(config.max_udp_payload(100).is_err());
/// # Ok::<(), dns_sidecar::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of Consul's own, and no two of them make a state"
)]
pub struct Config {
    listen: Vec<SocketAddr>,
    domain: WireName,
    domain_text: String,
    alt_domain: Option<WireName>,
    pub(crate) profile: Profile,
    pub(crate) node_ttl_seconds: u32,
    pub(crate) service_ttls: ServiceTtls,
    pub(crate) enable_truncate: Option<bool>,
    pub(crate) only_passing: bool,
    pub(crate) udp_answer_limit: Option<usize>,
    pub(crate) a_record_limit: usize,
    pub(crate) is_compressed: bool,
    pub(crate) has_node_meta_txt: bool,
    pub(crate) soa: SoaTimes,
    pub(crate) forward: Forward,
    pub(crate) queries: Vec<PreparedQuery>,
    pub(crate) zone_aliases: Vec<String>,
    pub(crate) zone_labels: BTreeMap<String, String>,
    pub(crate) node_meta_labels: Vec<(String, String)>,
    pub(crate) is_denied: bool,
    pub(crate) stale_after: Duration,
    pub(crate) allow: Vec<Network>,
    pub(crate) rate_per_second: u32,
    pub(crate) query_log: QueryLog,
    notices: Vec<String>,
    pub(crate) limits: Limits,
    #[cfg(feature = "http")]
    pub(crate) http: HttpFace,
    #[cfg(any(feature = "dot", feature = "doh"))]
    pub(crate) tls: tls::TlsFaces,
    plain_namespaces: Vec<String>,
    name_server_addresses: Vec<IpAddr>,
    pub(crate) sockets: Sockets,
}

impl Config {
    /// Where to listen, over UDP and TCP alike; default 127.0.0.1:8600, the port of Consul.
    ///
    /// An IPv6 wildcard takes IPv6 only, so that both wildcards can stand side by side.
    pub fn listen(mut self, addresses: Vec<SocketAddr>) -> Result<Self, ConfigError> {
        if addresses.is_empty() {
            return Err(ConfigError::NoListener);
        }
        self.listen = addresses;
        Ok(self)
    }

    /// How closely Consul is followed; default [`Profile::Modern`].
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Names under `query.<domain>`; none by default.
    #[must_use]
    pub fn queries(mut self, queries: Vec<PreparedQuery>) -> Self {
        self.queries = queries;
        self
    }

    /// Labels that mean our own zone although it is called otherwise: old configurations have `dc1` written in.
    #[must_use]
    pub fn datacenter_aliases(mut self, labels: &[&str]) -> Self {
        self.zone_aliases = labels
            .iter()
            .map(|label| label.to_ascii_lowercase())
            .collect();
        self
    }

    /// The labels of zones whose names make none that is wanted, by zone.
    #[must_use]
    pub fn zone_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.zone_labels = labels;
        self
    }

    /// The labels of nodes that are told as their meta data, each with the key under which it is told; none by default, since
    /// each costs a TXT record in every answer about a node.
    #[must_use]
    pub fn node_meta_labels(mut self, labels: &[(&str, &str)]) -> Self {
        let own = |(label, key): &(&str, &str)| ((*label).to_owned(), (*key).to_owned());
        self.node_meta_labels = labels.iter().map(own).collect();
        self
    }

    /// The listening sockets of this process: those of our addresses are taken out where it was handed them, and ours are listed
    /// as open. By default nothing was handed.
    #[must_use]
    pub fn sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// The networks whose hosts are answered; default this host and private networks. Others get no byte.
    #[must_use]
    pub fn allow(mut self, networks: Vec<Network>) -> Self {
        self.allow = networks;
        self
    }

    /// How many datagrams of one network (/24, /56) are answered a second, with bursts of twice as many; default 2,000, and no
    /// limit where only this host can ask. A reply that is no answer costs two. Over the rate every second reply is cut to
    /// nothing, which makes a real client come back over TCP, and the others are dropped and counted.
    #[must_use]
    pub fn rate_per_second(mut self, datagrams: NonZeroU32) -> Self {
        self.rate_per_second = datagrams.get();
        self
    }

    /// Which questions are told in the log; default none. At most about a thousand wait to be written, others are counted.
    #[must_use]
    pub fn query_log(mut self, which: QueryLog) -> Self {
        self.query_log = which;
        self
    }

    /// How long a source may be out of reach before answers say that they are old (RFC 8914, code 3); default 60 s. They are
    /// given all the same.
    #[must_use]
    pub fn stale_after(mut self, duration: Duration) -> Self {
        self.stale_after = duration;
        self
    }

    /// Tells nobody of services and nodes, as a Consul that denies by default and has no token for DNS: such names do not
    /// exist. Addresses that a name spells are still told.
    #[must_use]
    pub fn deny_all(mut self) -> Self {
        self.is_denied = true;
        self
    }

    /// The namespaces whose services also have their bare name, `web` beside `web-shop`; default `default`.
    #[must_use]
    pub fn plain_namespaces(mut self, namespaces: Vec<String>) -> Self {
        self.plain_namespaces = namespaces;
        self
    }

    /// What `ns.<domain>` resolves to; default the addresses listened on that are no wildcards.
    #[must_use]
    pub fn name_server_addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.name_server_addresses = addresses;
        self
    }

    /// Where to listen.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Whether a client is told that an answer was cut. Consul tells only on request.
    pub(crate) fn tells_truncation(&self) -> bool {
        self.enable_truncate.unwrap_or(!self.profile.is_compat())
    }

    pub(crate) fn is_plain(&self, namespace: &str) -> bool {
        self.plain_namespaces.iter().any(|plain| plain == namespace)
    }

    pub(crate) fn name_servers(&self) -> Vec<IpAddr> {
        if !self.name_server_addresses.is_empty() {
            return self.name_server_addresses.clone();
        }
        let listened = self.listen.iter().map(SocketAddr::ip);
        listened
            .filter(|address| !address.is_unspecified())
            .collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)],
            domain: WireName::parse(DOMAIN).unwrap_or_default(),
            domain_text: DOMAIN.to_owned(),
            alt_domain: None,
            profile: Profile::default(),
            node_ttl_seconds: 0, // as Consul: answers are asked anew each time
            service_ttls: ServiceTtls::default(),
            enable_truncate: None,
            only_passing: false,
            udp_answer_limit: None,
            a_record_limit: 0,
            is_compressed: true,
            has_node_meta_txt: true,
            soa: SoaTimes::default(),
            forward: Forward::default(),
            queries: Vec::new(),
            zone_aliases: Vec::new(),
            zone_labels: BTreeMap::new(),
            node_meta_labels: Vec::new(),
            is_denied: false,
            stale_after: STALE_AFTER,
            allow: Vec::new(),
            rate_per_second: RATE_PER_SECOND,
            query_log: QueryLog::Off,
            notices: Vec::new(),
            limits: Limits::default(),
            #[cfg(feature = "http")]
            http: HttpFace::default(),
            #[cfg(any(feature = "dot", feature = "doh"))]
            tls: tls::TlsFaces::default(),
            plain_namespaces: vec!["default".to_owned()],
            name_server_addresses: Vec::new(),
            sockets: Sockets::default(),
        }
    }
}

/// What Consul's agents listen on.
const PORT: u16 = 8600;
/// A site's own callers ask hundreds.
const RATE_PER_SECOND: u32 = 2_000;
/// A cut that a restart of a router explains is not worth a word.
const STALE_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_lists_are_checked() {
        assert!(Config::default().ttl(Duration::from_secs(1 << 31)).is_err());
        assert!(Config::default().listen(Vec::new()).is_err());
    }

    #[test]
    fn wildcards_are_no_addresses_of_a_name_server() {
        let listen = ["0.0.0.0:53", "10.0.0.1:53"].map(|text| text.parse().unwrap());
        let config = Config::default().listen(listen.to_vec()).unwrap();
        assert_eq!(
            config.name_servers(),
            ["10.0.0.1".parse::<IpAddr>().unwrap()]
        );
    }
}
