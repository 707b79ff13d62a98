// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where log lines go: text on a terminal, JSON elsewhere, always stderr.

use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Sets logging up for the process; `RUST_LOG` overrides the filter.
pub(crate) fn init(default_filter: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    if is_terminal {
        builder.with_ansi(colour).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

/// A change of state is worth a line; a request is not.
pub(crate) const AGENT_FILTER: &str = "info,hyper=warn,kube=warn";
/// The demo talks for itself.
pub(crate) const DEMO_FILTER: &str = "warn";
