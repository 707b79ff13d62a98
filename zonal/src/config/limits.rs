// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits and timeouts of the proxy: `proxy.limits` and `proxy.timeouts`, as `docs/proxy.md` lists them.
//!
//! In: keys of the file; where one is left out the library's default holds. A number that would carry nothing is refused where it
//! stands, two that contradict each other by name.

use crate::failure::{Code, Failure};
use lb_proxy::Config;
use serde::Deserialize;
use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// How much there may be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    threads: Option<NonZeroUsize>,
    connections: Option<NonZeroUsize>,
    listener_connections: Option<NonZeroUsize>,
    source_connections: Option<NonZeroU32>,
    source_new_per_second: Option<NonZeroU32>,
    source_new_at_once: Option<NonZeroU32>,
    sources: Option<NonZeroUsize>,
    connect_attempts: Option<NonZeroU32>,
    /// None at all is a choice: every byte is copied then.
    pipes: Option<usize>,
    udp_sessions: Option<NonZeroUsize>,
    udp_source_sessions: Option<NonZeroU32>,
}

/// How long things may take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeouts {
    connect_milliseconds: Option<NonZeroU64>,
    connect_total_milliseconds: Option<NonZeroU64>,
    header_milliseconds: Option<NonZeroU64>,
    /// 0 for never.
    answer_seconds: Option<u64>,
    idle_seconds: Option<NonZeroU64>,
    half_close_seconds: Option<NonZeroU64>,
    /// 0 closes at once.
    hold_seconds: Option<u64>,
    /// 0 cuts at once.
    endpoint_drain_seconds: Option<u64>,
    udp_unreplied_seconds: Option<NonZeroU64>,
    udp_replied_seconds: Option<NonZeroU64>,
}

/// Both, without contradictions.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    limits: RawLimits,
    timeouts: RawTimeouts,
}

impl Limits {
    /// # Errors
    /// When a part may have more than the whole.
    pub(super) fn check(limits: RawLimits, timeouts: RawTimeouts) -> Result<Self, Failure> {
        let [listener, all] = [limits.listener_connections, limits.connections];
        within(
            (
                "limits.listener_connections",
                listener.map(NonZeroUsize::get),
            ),
            ("limits.connections", all.map(NonZeroUsize::get)),
        )?;
        let [one, all] = [
            timeouts.connect_milliseconds,
            timeouts.connect_total_milliseconds,
        ];
        within(
            ("timeouts.connect_milliseconds", one.map(NonZeroU64::get)),
            (
                "timeouts.connect_total_milliseconds",
                all.map(NonZeroU64::get),
            ),
        )?;
        Ok(Self { limits, timeouts })
    }

    /// Lays what is given over the defaults.
    pub(super) fn apply(&self, config: Config) -> Config {
        self.timeouts.apply(self.limits.apply(config))
    }
}

fn within<N: Copy + Ord + std::fmt::Display>(
    (part, of_part): (&str, Option<N>),
    (whole, of_whole): (&str, Option<N>),
) -> Result<(), Failure> {
    match (of_part, of_whole) {
        (Some(some), Some(all)) if some > all => {
            let what = format!("proxy.{part}: {some} is more than proxy.{whole}: {all}");
            Err(Failure::new(Code::ConfigInvalid, what)
                .help(format!("lower proxy.{part}, or raise proxy.{whole}")))
        }
        _ => Ok(()),
    }
}

/// Sets what is given.
macro_rules! laid_over {
    ($config:ident: $($given:expr => $set:expr;)+) => {{
        let mut config = $config;
        $(if let Some(given) = $given {
            config = $set(config, given);
        })+
        config
    }};
}

impl RawLimits {
    fn apply(&self, config: Config) -> Config {
        laid_over! { config:
            self.threads.map(NonZeroUsize::get) => Config::threads;
            self.connections.map(NonZeroUsize::get) => Config::connections_max;
            self.listener_connections.map(NonZeroUsize::get) => Config::listener_connections_max;
            self.source_connections.map(NonZeroU32::get) => Config::source_connections_max;
            self.source_new_per_second.map(NonZeroU32::get) => Config::source_new_per_second;
            self.source_new_at_once.map(NonZeroU32::get) => Config::source_new_at_once;
            self.sources.map(NonZeroUsize::get) => Config::sources_max;
            self.connect_attempts.map(NonZeroU32::get) => Config::connect_attempts_max;
            self.pipes => Config::pipes_max;
            self.udp_sessions.map(NonZeroUsize::get) => Config::udp_sessions_max;
            self.udp_source_sessions.map(NonZeroU32::get) => Config::udp_source_sessions_max;
        }
    }
}

impl RawTimeouts {
    fn apply(&self, config: Config) -> Config {
        let seconds = |given: Option<NonZeroU64>| given.map(|s| Duration::from_secs(s.get()));
        let millis = |given: Option<NonZeroU64>| given.map(|ms| Duration::from_millis(ms.get()));
        let from_zero = |given: Option<u64>| given.map(Duration::from_secs);
        let answer = |config: Config, timeout: Duration| {
            config.answer_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()))
        };
        laid_over! { config:
            millis(self.connect_milliseconds) => Config::connect_timeout;
            millis(self.connect_total_milliseconds) => Config::connect_total_timeout;
            millis(self.header_milliseconds) => Config::header_timeout;
            from_zero(self.answer_seconds) => answer;
            seconds(self.idle_seconds) => Config::idle_timeout;
            seconds(self.half_close_seconds) => Config::half_close_timeout;
            from_zero(self.hold_seconds) => Config::hold;
            from_zero(self.endpoint_drain_seconds) => Config::endpoint_drain_timeout;
            seconds(self.udp_unreplied_seconds) => Config::udp_unreplied_timeout;
            seconds(self.udp_replied_seconds) => Config::udp_replied_timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discovery_core::config;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Raw {
        limits: RawLimits,
        timeouts: RawTimeouts,
    }

    fn said(text: &str) -> Option<String> {
        match config::parse::<Raw>("zonal.yaml", text) {
            Ok(raw) => {
                let checked = Limits::check(raw.limits, raw.timeouts);
                checked.err().map(|failure| failure.to_string())
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Keys of the table in `docs/proxy.md` that stand in one of the two sections.
    fn documented() -> Vec<(&'static str, &'static str)> {
        let rows = include_str!("../../docs/proxy.md").lines();
        let key = |row: &'static str| row.strip_prefix("| `")?.split_once('`')?.0.split_once('.');
        rows.filter_map(key)
            .filter(|(section, _)| ["limits", "timeouts"].contains(section))
            .collect()
    }

    #[test]
    fn every_documented_key_is_read_and_laid_over_its_default() {
        let keys = documented();
        assert_eq!(keys.len(), 21, "{keys:?}");
        let defaults = format!("{:?}", Config::default());
        for (section, key) in keys {
            let text = format!("{{{section}: {{{key}: 7777}}}}");
            let raw: Raw = config::parse("zonal.yaml", &text).unwrap();
            let limits = Limits::check(raw.limits, raw.timeouts).unwrap();
            let changed = format!("{:?}", limits.apply(Config::default()));
            assert_ne!(changed, defaults, "{key} changes something");
        }
    }

    #[test]
    fn a_limit_that_would_carry_nothing_is_refused_with_its_place() {
        for text in [
            "limits: {connections: 0}",
            "limits: {source_new_at_once: 0}",
            "limits: {udp_sessions: -1}",
            "timeouts: {idle_seconds: 0}",
            "limits: {connections: many}",
        ] {
            let said = said(text).unwrap();
            assert!(said.starts_with("zonal.yaml:1:"), "{text}: {said}");
        }
        assert_eq!(
            said("{limits: {pipes: 0}, timeouts: {answer_seconds: 0}}"),
            None
        );
    }

    #[test]
    fn a_part_that_is_more_than_the_whole_is_refused_by_name() {
        let said = |text| said(text).unwrap();
        let limits = "limits: {listener_connections: 11, connections: 10}";
        let why = "proxy.limits.listener_connections: 11 is more than proxy.limits.connections: 10";
        assert!(said(limits).ends_with(why), "{}", said(limits));
        let timeouts = "timeouts: {connect_milliseconds: 5000, connect_total_milliseconds: 4000}";
        assert!(said(timeouts).contains("connect_total_milliseconds: 4000"));
    }
}
