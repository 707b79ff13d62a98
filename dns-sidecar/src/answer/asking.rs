// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of who asks beside the request, and what the reply's EDNS says because of it. Pure.

use crate::{
    cookie::{CLIENT_BYTES, Secret},
    wire::{Edns, Options},
};
use discovery_core::telemetry::DnsTransport;
use std::net::IpAddr;

/// Who asks; by default nobody that is known, who gets no cookie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asking {
    client: Option<(IpAddr, Secret)>,
    now_seconds: u32,
    keepalive_tenths: Option<u16>,
    showed_cookie: bool,
}

impl Asking {
    /// Who asks, and what its cookies are made with.
    pub(crate) fn by(&mut self, client: IpAddr, secret: Option<Secret>) {
        self.client = secret.map(|secret| (client, secret));
    }

    /// When it asks, in seconds of the epoch.
    pub(crate) fn at(&mut self, now_seconds: u32) {
        self.now_seconds = now_seconds;
    }

    /// How long its connection may be idle.
    pub(crate) fn may_idle(&mut self, longest: std::time::Duration) {
        let tenths = longest.as_millis() / 100;
        self.keepalive_tenths = Some(u16::try_from(tenths).unwrap_or(u16::MAX));
    }

    /// Whether the last request showed a cookie that we gave to its address.
    pub(crate) fn showed_cookie(&self) -> bool {
        self.showed_cookie
    }

    /// A request begins.
    pub(super) fn begin(&mut self) {
        self.showed_cookie = false;
    }

    /// What the reply to a request with this EDNS says.
    pub(super) fn options(&mut self, edns: Edns<'_>, transport: DnsTransport) -> Options {
        let shown = edns.cookie.zip(self.client);
        let cookie = shown.and_then(|(shown, (client, secret))| {
            self.showed_cookie = secret.knows(shown, client, self.now_seconds);
            let own = shown.first_chunk::<CLIENT_BYTES>()?;
            Some(secret.cookie(*own, client, self.now_seconds))
        });
        let keepalive = self.keepalive_tenths.filter(|_| edns.asks_keepalive);
        Options {
            repeats_dnssec_ok: true,
            tells_errors: true,
            cookie,
            keepalive,
            pads: edns.is_padded && transport.is_encrypted(),
        }
    }
}
