// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that reach the admin listener or the agent's socket. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

pub use super::agent_socket::agent_open;

use super::http::{Routes, serve_connection, text};
use http::{Method, StatusCode};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Any bytes of a client are answered as HTTP/1.1 says, or the connection ends; a route that changes something is reached by
/// its method and path alone, and none by a `Host` of somebody else.
pub fn admin_request(bytes: &[u8]) {
    let changed = Arc::new(AtomicUsize::new(0));
    let change = changed.clone();
    let routes = Routes::new()
        .local_only()
        .route(Method::GET, "/api/v1/explain", |request| {
            let service = request.query("service").unwrap_or_default().to_owned();
            text(StatusCode::OK, service)
        })
        .route(Method::POST, "/api/v1/accept", move |_| {
            change.fetch_add(1, Ordering::Relaxed);
            text(StatusCode::OK, "")
        });
    let talk = async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let served = serve_connection(server, None, Arc::new(routes), CancellationToken::new());
        let asked = async {
            // Without what can never be read of it: the server may have ended before.
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown().await;
            let mut reply = Vec::new();
            let _ = client.read_to_end(&mut reply).await;
            reply
        };
        tokio::join!(served, asked).1
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs no file without sockets");
    let reply = runtime.block_on(talk);
    assert!(
        reply.is_empty() || reply.starts_with(b"HTTP/1."),
        "{}",
        reply.escape_ascii()
    );
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    let is_meant = has(b"POST ")
        && has(b"/api/v1/accept")
        && (has(b"localhost") || has(b"127.") || has(b"::"));
    assert!(changed.load(Ordering::Relaxed) == 0 || is_meant);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_admin_requests_holds() {
        run("admin_request", admin_request);
    }

    #[test]
    fn b2_the_corpus_of_first_words_to_an_agent_holds() {
        run("agent_open", agent_open);
    }
}
