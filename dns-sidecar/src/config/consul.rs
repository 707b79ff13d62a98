// SPDX-License-Identifier: MIT OR Apache-2.0
//! A configuration of Consul's agent, as far as it concerns DNS: `domain`, `alt_domain`, `recursors` and the whole
//! `dns_config` block under Consul's own keys, so that a block can be pasted in.
//!
//! In: JSON or any value that serde reads. Out: checked settings, and notices of keys that mean nothing here because
//! answers always come from memory. An unknown key is an error that names the nearest known one. Pure.

use super::{Config, ConfigError, ttl::ttl_seconds};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// What Consul's `dns_config` says, with Consul's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    node_ttl: Option<Span>,
    service_ttl: BTreeMap<String, Span>,
    enable_truncate: Option<bool>,
    only_passing: bool,
    udp_answer_limit: Option<usize>,
    a_record_limit: usize,
    disable_compression: bool,
    enable_additional_node_meta_txt: Option<bool>,
    soa: Soa,
    recursor_timeout: Option<Span>,
    recursor_strategy: Option<Strategy>,
    allow_stale: Option<bool>,
    max_stale: Option<Span>,
    use_cache: Option<bool>,
    cache_max_age: Option<Span>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Soa {
    refresh: Option<u32>,
    retry: Option<u32>,
    expire: Option<u32>,
    min_ttl: Option<u32>,
}

/// In which order upstream servers are asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// As they are listed. The default.
    #[default]
    Sequential,
    /// Beginning anywhere.
    Random,
}

/// A duration as Consul writes it: `300ms`, `15s`, `87600h`, or a number of nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Nanoseconds(u64),
        }
        match Written::deserialize(deserializer)? {
            Written::Nanoseconds(count) => Ok(Self(Duration::from_nanos(count))),
            Written::Text(text) => read_span(&text).map(Self).ok_or_else(|| {
                D::Error::custom(format!("{text:?} is no duration such as \"15s\""))
            }),
        }
    }
}

/// Go's notation of durations: numbers with units, one after another.
pub(crate) fn read_span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum += number * unit.1;
        rest = &rest[unit.0.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(sum).ok())?
}

/// Longer units first, so that `ms` is not read as minutes.
const UNITS: [(&str, f64); 7] = [
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

impl Config {
    /// Takes over a `dns_config` block of Consul, from JSON.
    ///
    /// The keys that steer how Consul asks its servers (`allow_stale`, `max_stale`, `use_cache`, `cache_max_age`) are
    /// accepted; [`Config::notices`] says that they change nothing.
    ///
    /// ```
    /// use dns_sidecar::Config;
    ///
    /// let block = r#"{ "service_ttl": { "*": "5s", "web": "1s" }, "enable_truncate": true, "max_stale": "10m" }"#;
    /// let config = Config::default().consul_block(block)?;
    /// assert_eq!(config.notices(), ["dns_config.max_stale has no effect: answers always come from memory"]);
    ///
    /// let error = Config::default().consul_block(r#"{ "servce_ttl": {} }"#).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `service_ttl`?"));
    /// # Ok::<(), dns_sidecar::ConfigError>(())
    /// ```
    pub fn consul_block(self, json: &str) -> Result<Self, ConfigError> {
        let block = serde_json::from_str(json).map_err(|error| refuse(&error))?;
        self.dns_config(block)
    }

    /// The same from a block that was read before.
    pub fn dns_config(mut self, block: DnsConfig) -> Result<Self, ConfigError> {
        self.notices.extend(block.notices());
        if let Some(Span(ttl)) = block.node_ttl {
            self.node_ttl_seconds = ttl_seconds("node_ttl", ttl)?;
        }
        for (service, Span(ttl)) in block.service_ttl {
            self.service_ttls
                .set(&service, ttl_seconds("service_ttl", ttl)?);
        }
        self.enable_truncate = block.enable_truncate.or(self.enable_truncate);
        self.only_passing |= block.only_passing;
        self.udp_answer_limit = block.udp_answer_limit.or(self.udp_answer_limit);
        self.a_record_limit = block.a_record_limit;
        self.is_compressed &= !block.disable_compression;
        self.has_node_meta_txt = block.enable_additional_node_meta_txt.unwrap_or(true);
        self.soa.refresh = block.soa.refresh.unwrap_or(self.soa.refresh);
        self.soa.retry = block.soa.retry.unwrap_or(self.soa.retry);
        self.soa.expire = block.soa.expire.unwrap_or(self.soa.expire);
        self.soa.minimum = block.soa.min_ttl.or(self.soa.minimum);
        if let Some(Span(timeout)) = block.recursor_timeout {
            self.forward.timeout = timeout;
        }
        self.forward.strategy = block.recursor_strategy.unwrap_or(self.forward.strategy);
        Ok(self)
    }

    /// The servers that are asked for names of others, as in Consul's `recursors`: addresses, with port 53 unless given.
    /// None by default: such names are refused.
    pub fn recursors(mut self, servers: &[String]) -> Result<Self, ConfigError> {
        let read = |text: &String| {
            let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
            address
                .or_else(|_| text.parse())
                .map_err(|_| ConfigError::Recursor { text: text.clone() })
        };
        self.forward.servers = servers.iter().map(read).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// What was accepted and changes nothing, in words.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

impl DnsConfig {
    fn notices(&self) -> impl Iterator<Item = String> {
        let given = [
            ("allow_stale", self.allow_stale.is_some()),
            ("max_stale", self.max_stale.is_some()),
            ("use_cache", self.use_cache.is_some()),
            ("cache_max_age", self.cache_max_age.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(key, _)| {
            format!("dns_config.{key} has no effect: answers always come from memory")
        })
    }
}

fn refuse(error: &serde_json::Error) -> ConfigError {
    let reason = error.to_string();
    let unknown = reason
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    let nearest = unknown.and_then(|unknown| {
        let distance = |known: &&str| strsim::damerau_levenshtein(unknown, known);
        KEYS.into_iter()
            .min_by_key(distance)
            .filter(|known| distance(known) <= 3)
    });
    let help = nearest.map_or(String::new(), |key| format!("; did you mean `{key}`?"));
    ConfigError::Block {
        reason: reason + &help,
    }
}

const KEYS: [&str; 19] = [
    "node_ttl",
    "service_ttl",
    "enable_truncate",
    "only_passing",
    "udp_answer_limit",
    "a_record_limit",
    "disable_compression",
    "enable_additional_node_meta_txt",
    "soa",
    "refresh",
    "retry",
    "expire",
    "min_ttl",
    "recursor_timeout",
    "recursor_strategy",
    "allow_stale",
    "max_stale",
    "use_cache",
    "cache_max_age",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("300ms", 300),
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("87600h", 315_360_000_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(
                read_span(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "s", "5", "5x", "-1s", "1s5"] {
            assert_eq!(read_span(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_key_of_consul_is_taken() {
        let block = r#"{ "allow_stale": true, "max_stale": "87600h", "node_ttl": "0s", "service_ttl": {},
            "enable_truncate": false, "only_passing": false, "udp_answer_limit": 3, "a_record_limit": 0,
            "recursor_timeout": "2s", "recursor_strategy": "sequential", "disable_compression": false,
            "enable_additional_node_meta_txt": true, "use_cache": false, "cache_max_age": "0s",
            "soa": { "refresh": 3600, "retry": 600, "expire": 86400, "min_ttl": 0 } }"#;
        assert_eq!(
            Config::default()
                .consul_block(block)
                .unwrap()
                .notices()
                .len(),
            4
        );
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (block, word) in [
            (r#"{ "node_ttl": "soon" }"#, "\"soon\""),
            (r#"{ "udp_answer_limit": -1 }"#, "-1"),
            (r#"{ "soa": { "minttl": 1 } }"#, "did you mean `min_ttl`?"),
            (r#"{ "quite_another": 1 }"#, "unknown field `quite_another`"),
            (r#"{ "node_ttl": "900000h" }"#, "node_ttl"),
        ] {
            let error = Config::default()
                .consul_block(block)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
        let servers = ["10.0.0.1".to_owned(), "[fd00::1]:5353".to_owned()];
        assert!(Config::default().recursors(&servers).is_ok());
        assert!(
            Config::default()
                .recursors(&["dns.example".to_owned()])
                .is_err()
        );
    }
}
