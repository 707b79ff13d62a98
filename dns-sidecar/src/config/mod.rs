// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operator may set, checked when it is set.
//!
//! In: addresses, names, sizes, durations. Out: a [`Config`] whose every value can be used. No I/O.

mod consul;
mod error;
#[cfg(feature = "http")]
mod http;
mod limits;
mod profile;
mod query;
#[cfg(any(feature = "dot", feature = "doh"))]
mod tls;
mod ttl;

#[cfg(feature = "http")]
pub(crate) use consul::read_span;
pub use consul::{DnsConfig, Strategy};
pub use error::ConfigError;
#[cfg(feature = "http")]
use http::HttpFace;
use limits::Limits;
pub use profile::Profile;
pub use query::PreparedQuery;
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

/// What the SOA record says beside its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoaTimes {
    pub(crate) refresh: u32,
    pub(crate) retry: u32,
    pub(crate) expire: u32,
    /// None means the default of the profile.
    minimum: Option<u32>,
}

/// How names of others are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) timeout: Duration,
    pub(crate) strategy: Strategy,
    pub(crate) open_max: usize,
    pub(crate) cache_bytes: usize,
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

    /// The domain under which all names stand; default `consul`.
    pub fn domain(mut self, domain: &str) -> Result<Self, ConfigError> {
        let text = domain.strip_suffix('.').unwrap_or(domain);
        let refuse = || ConfigError::Domain {
            domain: domain.chars().take(2 * DOMAIN_BYTES_MAX).collect(),
        };
        if text.len() > DOMAIN_BYTES_MAX || !text.bytes().all(is_host_byte) {
            return Err(refuse());
        }
        self.domain = WireName::parse(text).ok_or_else(refuse)?;
        self.domain_text = text.to_ascii_lowercase();
        Ok(self)
    }

    /// A second domain with the same names, as Consul's `alt_domain`; none by default.
    pub fn alt_domain(mut self, domain: &str) -> Result<Self, ConfigError> {
        let other = self.clone().domain(domain)?;
        self.alt_domain = Some(other.domain);
        Ok(self)
    }

    /// How closely Consul is followed; default [`Profile::Modern`].
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// How long callers may keep an answer; default 0, as in Consul: every lookup sees the newest snapshot.
    pub fn ttl(mut self, ttl: Duration) -> Result<Self, ConfigError> {
        self.node_ttl_seconds = ttl_seconds("ttl", ttl)?;
        self.service_ttls.set("*", self.node_ttl_seconds);
        Ok(self)
    }

    /// How long callers may keep a "does not exist" (RFC 2308 5); default 1 s, which bounds both the load of callers that
    /// ask in a loop and the wait after a service appears; 0 in the profile `compat`.
    pub fn soa_minimum_ttl(mut self, ttl: Duration) -> Result<Self, ConfigError> {
        self.soa.minimum = Some(ttl_seconds("soa_minimum_ttl", ttl)?);
        Ok(self)
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

    /// Keeps replies of other servers for as long as they allow, at most an hour, and a "no" a minute at most; in so many bytes
    /// of memory, default 0: none is kept. A thousand replies take about 500 kB.
    #[must_use]
    pub fn forward_cache_bytes(mut self, bytes: usize) -> Self {
        self.forward.cache_bytes = bytes;
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

    /// The domain in lower case, without a final dot.
    pub fn domain_text(&self) -> &str {
        &self.domain_text
    }

    pub(crate) fn domain_name(&self) -> &WireName {
        &self.domain
    }

    pub(crate) fn alt_domain_name(&self) -> Option<&WireName> {
        self.alt_domain.as_ref()
    }

    pub(crate) fn soa_minimum_seconds(&self) -> u32 {
        let default = match self.profile {
            Profile::Modern => SOA_MINIMUM_TTL_SECONDS,
            Profile::Compat => 0,
        };
        self.soa.minimum.unwrap_or(default)
    }

    /// Whether other servers are asked for names of others.
    pub(crate) fn is_forwarding(&self) -> bool {
        !self.forward.servers.is_empty()
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
            soa: SoaTimes {
                refresh: 3600, // these three are Consul's; nobody transfers this domain
                retry: 600,
                expire: 86_400,
                minimum: None,
            },
            forward: Forward {
                servers: Vec::new(),
                timeout: Duration::from_secs(2), // Consul's recursor_timeout
                strategy: Strategy::default(),
                open_max: FORWARDED_OPEN_MAX,
                cache_bytes: 0, // what is asked of others is theirs to keep
            },
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

fn ttl_seconds(name: &'static str, ttl: Duration) -> Result<u32, ConfigError> {
    let seconds = ttl.as_secs();
    let fits = u32::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= TTL_SECONDS_MAX);
    fits.ok_or(ConfigError::Ttl { name, seconds })
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// What Consul's agents listen on.
const PORT: u16 = 8600;
/// What Consul answers for.
const DOMAIN: &str = "consul";
/// Leaves room for the longest label of an address, a kind and a zone in a name of 255 bytes.
const DOMAIN_BYTES_MAX: usize = 128;
/// Negative answers are kept by some resolvers for as long as they may: as short as a zone file can say.
const SOA_MINIMUM_TTL_SECONDS: u32 = 1;
/// RFC 2181 8.
const TTL_SECONDS_MAX: u32 = i32::MAX as u32;
/// A site's own callers ask hundreds.
const RATE_PER_SECOND: u32 = 2_000;
/// A cut that a restart of a router explains is not worth a word.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// About 2 MB of questions and sockets.
const FORWARDED_OPEN_MAX: usize = 1_000;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names_of_bounded_length() {
        for good in ["consul", "Mall.Internal.", "a_b.c-d"] {
            let config = Config::default().domain(good).unwrap();
            assert_eq!(
                config.domain_text(),
                good.to_lowercase().trim_end_matches('.')
            );
        }
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "ä",
            &"a".repeat(64),
            &"a.".repeat(65),
        ] {
            assert!(Config::default().domain(bad).is_err(), "{bad:?}");
        }
    }

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
