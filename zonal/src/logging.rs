// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where log lines go: text on a terminal, JSON elsewhere, always stderr.

use std::io::IsTerminal;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Sets logging up for the process; `RUST_LOG` overrides the filter: levels by target, `info,lb_proxy=debug`.
pub(crate) fn init(default_filter: &str) {
    let asked = std::env::var("RUST_LOG").ok();
    let asked = asked.and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| default_filter.parse().unwrap_or_default());
    let is_terminal = std::io::stderr().is_terminal();
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if is_terminal {
        lines.with_ansi(colour).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

/// A change of state is worth a line; a request is not.
pub(crate) const AGENT_FILTER: &str = "info,hyper=warn,kube=warn";
/// The demo talks for itself.
pub(crate) const DEMO_FILTER: &str = "warn";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_the_commands_are_filters() {
        for text in [AGENT_FILTER, DEMO_FILTER] {
            let filter: Targets = text.parse().unwrap();
            assert!(filter.would_enable("lb_proxy", &tracing::Level::WARN));
            assert!(!filter.would_enable("hyper::client", &tracing::Level::INFO));
        }
    }
}
