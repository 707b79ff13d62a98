// SPDX-License-Identifier: MIT OR Apache-2.0
//! One backend of the demo: an HTTP server that says who it is.

use discovery_core::runtime::http::{HttpServer, Routes, text};
use hyper::{Method, StatusCode};
use std::{io, net::SocketAddr};
use tokio_util::sync::CancellationToken;

/// A backend, running or stopped.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) zone: &'static str,
    pub(super) node: &'static str,
    pub(super) address: SocketAddr,
    running: Option<CancellationToken>,
}

impl Backend {
    /// A backend that has its place and does not run yet.
    pub(super) fn new(
        name: String,
        zone: &'static str,
        node: &'static str,
        address: SocketAddr,
    ) -> Self {
        Self {
            name,
            zone,
            node,
            address,
            running: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Serves on a listener that was bound before.
    pub(super) fn serve(&mut self, server: HttpServer) {
        let stop = CancellationToken::new();
        let greeting = format!("{} in {}\n", self.name, self.zone);
        let routes = Routes::new().route(Method::GET, "/", move |_| {
            text(StatusCode::OK, greeting.clone())
        });
        tokio::spawn(server.serve(routes, stop.clone()));
        self.running = Some(stop);
    }

    /// Binds again and serves; the address stays the same.
    pub(super) fn revive(&mut self) -> io::Result<()> {
        let server = HttpServer::bind(self.address)?;
        self.serve(server);
        Ok(())
    }

    /// Stops answering, as a crash would.
    pub(super) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.cancel();
        }
    }
}
