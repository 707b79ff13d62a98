// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faces beside UDP and TCP: DNS over TLS and HTTPS, and Consul's HTTP interface. Each is open where the configuration
//! names an address, and has connections of its own.

use super::{BindError, sockets::open_tcp};
#[cfg(feature = "doh")]
use crate::doh::Doh;
#[cfg(any(feature = "dot", feature = "doh"))]
use crate::tls::{Acceptor, Certificate};
use crate::{Config, tcp::TcpContext};
#[cfg(any(feature = "http", feature = "doh"))]
use crate::{access::Access, web::Web};
use discovery_core::runtime::Kept;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
#[cfg(feature = "http")]
use {
    crate::consul_api::{ConsulApi, keep_view},
    std::num::NonZeroUsize,
};

/// A certificate, with what accepts below TLS for each face.
#[cfg(any(feature = "dot", feature = "doh"))]
#[derive(Debug)]
struct Certified {
    certificate: Arc<Certificate>,
    #[cfg(feature = "dot")]
    dot: Acceptor,
    #[cfg(feature = "doh")]
    doh: Acceptor,
}

type Listeners = Vec<(TcpListener, SocketAddr)>;

/// Their open sockets.
#[derive(Debug)]
pub(super) struct Streams {
    #[cfg(feature = "http")]
    pub(super) http: Listeners,
    #[cfg(feature = "dot")]
    pub(super) dot: Listeners,
    #[cfg(feature = "doh")]
    pub(super) doh: Listeners,
    #[cfg(any(feature = "dot", feature = "doh"))]
    certificate: Option<Certified>,
}

impl Streams {
    #[allow(
        unused_variables,
        clippy::unnecessary_wraps,
        clippy::ptr_arg,
        reason = "without these features there is nothing to open"
    )]
    pub(super) fn open(config: &Config, kept: &mut Vec<Kept>) -> Result<Self, BindError> {
        Ok(Self {
            #[cfg(feature = "http")]
            http: open(config, &config.http.listen, HTTP, kept)?,
            #[cfg(feature = "dot")]
            dot: open(config, &config.tls.dot_listen, DOT, kept)?,
            #[cfg(feature = "doh")]
            doh: open(config, &config.tls.doh_listen, DOH, kept)?,
            #[cfg(any(feature = "dot", feature = "doh"))]
            certificate: certificate(config)?,
        })
    }

    /// Serves each until the context is told to stop.
    #[allow(
        unused_variables,
        clippy::unused_self,
        reason = "without these features there is nothing to serve"
    )]
    pub(super) fn serve(self, context: &Arc<TcpContext>, published: &watch::Sender<()>) {
        #[cfg(feature = "http")]
        if !self.http.is_empty() {
            serve_http(self.http, context, published.subscribe());
        }
        #[cfg(any(feature = "dot", feature = "doh"))]
        if let Some(certified) = self.certificate {
            let stop = context.stop.clone();
            context.tasks.spawn(certified.certificate.follow(stop));
            #[cfg(feature = "dot")]
            serve_dot(self.dot, context, &certified.dot);
            #[cfg(feature = "doh")]
            serve_doh(self.doh, context, &certified.doh);
        }
    }
}

/// Opens the sockets of a face, each with the address that it has.
#[allow(dead_code, reason = "without these features there is nothing to open")]
fn open(
    config: &Config,
    addresses: &[SocketAddr],
    [what, setting]: [&'static str; 2],
    kept: &mut Vec<Kept>,
) -> Result<Listeners, BindError> {
    let mut open = |address: &SocketAddr| -> io::Result<(TcpListener, SocketAddr)> {
        let listener = open_tcp(*address, &config.sockets)?;
        let bound = listener.local_addr()?;
        kept.push(config.sockets.keep(&listener)?);
        Ok((listener, bound))
    };
    let opened = addresses.iter().map(|address| {
        open(address).map_err(|source| BindError {
            address: *address,
            what,
            setting,
            source,
        })
    });
    opened.collect()
}

/// The certificate, where a face needs one.
#[cfg(any(feature = "dot", feature = "doh"))]
fn certificate(config: &Config) -> Result<Option<Certified>, BindError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    #[cfg(feature = "dot")]
    addresses.extend(&config.tls.dot_listen);
    #[cfg(feature = "doh")]
    addresses.extend(&config.tls.doh_listen);
    let Some(address) = addresses.first() else {
        return Ok(None);
    };
    let load = || {
        let files = config.tls.files.as_ref();
        let files = files.ok_or_else(|| io::Error::other("no certificate is named"))?;
        let certificate = Certificate::load(files)?;
        Ok(Certified {
            #[cfg(feature = "dot")]
            dot: certificate.acceptor(b"dot")?,
            #[cfg(feature = "doh")]
            doh: certificate.acceptor(b"http/1.1")?,
            certificate,
        })
    };
    let [what, setting] = CERTIFICATE;
    let loaded = load().map_err(|source| BindError {
        address: *address,
        what,
        setting,
        source,
    });
    loaded.map(Some)
}

/// Offers Consul's HTTP interface.
#[cfg(feature = "http")]
fn serve_http(listeners: Listeners, context: &TcpContext, published: watch::Receiver<()>) {
    let (config, tasks, stop) = (&context.config, &context.tasks, &context.stop);
    let (view, keep) = keep_view(context.index.clone(), published, stop.clone());
    tasks.spawn(keep);
    let limits = [
        config.http.connections_max,
        config.http.connections_per_source_max,
    ];
    for (listener, address) in listeners {
        let metrics = context.metrics.clone();
        let face = ConsulApi::new(config, address, &view, metrics, stop.clone());
        let access = Access::new(&config.allow);
        let limits = limits.map(NonZeroUsize::get);
        let web = Web::new(face, access, limits, tasks.clone(), stop.clone());
        tracing::info!(%address, "Consul's HTTP interface is offered");
        tasks.spawn(web.accept_all(listener));
    }
}

#[cfg(feature = "dot")]
fn serve_dot(listeners: Listeners, context: &TcpContext, acceptor: &Acceptor) {
    let below = Arc::new(context.below(acceptor.clone()));
    for (listener, address) in listeners {
        tracing::info!(%address, "DNS over TLS serving");
        context
            .tasks
            .spawn(crate::tcp::accept_all(listener, below.clone()));
    }
}

#[cfg(feature = "doh")]
fn serve_doh(listeners: Listeners, context: &TcpContext, acceptor: &Acceptor) {
    let config = &context.config;
    let limits = [
        config.connections_max(),
        config.connections_per_source_max(),
    ];
    for (listener, address) in listeners {
        let (log, secret) = context.told();
        let face = Doh {
            config: config.clone(),
            index: context.index.clone(),
            metrics: context.metrics.clone(),
            forwarder: context.forwarder.clone(),
            log,
            secret,
        };
        let (tasks, stop) = (context.tasks.clone(), context.stop.clone());
        let web = Web::new(face, Access::new(&config.allow), limits, tasks, stop);
        tracing::info!(%address, "DNS over HTTPS serving");
        context
            .tasks
            .spawn(web.below(acceptor.clone()).accept_all(listener));
    }
}

// What cannot be opened, and where it is set.
#[cfg(feature = "http")]
const HTTP: [&str; 2] = ["Consul's HTTP interface", "http.listen"];
#[cfg(feature = "dot")]
const DOT: [&str; 2] = ["DNS over TLS", "tls.dot_listen"];
#[cfg(feature = "doh")]
const DOH: [&str; 2] = ["DNS over HTTPS", "tls.doh_listen"];
#[cfg(any(feature = "dot", feature = "doh"))]
const CERTIFICATE: [&str; 2] = [
    "DNS over TLS or HTTPS, for its certificate,",
    "tls.certificate",
];
