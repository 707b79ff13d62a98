// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection's task that panics, because the log that it writes to does: it alone is lost.

mod site;

use lb_proxy::Config;
use site::{Endpoint, Site, carried, exchange, read_all, until, within};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::io::AsyncWriteExt as _;
use tracing::{Event, Metadata, Subscriber, span};

/// A log that panics at the next connection that ends, once.
struct Trap;

static IS_SET: AtomicBool = AtomicBool::new(false);
static IS_SPRUNG: AtomicBool = AtomicBool::new(false);

impl Subscriber for Trap {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().contains("journal")
    }

    fn event(&self, _: &Event<'_>) {
        if IS_SET.swap(false, SeqCst) {
            IS_SPRUNG.store(true, SeqCst);
            panic!("the log is broken");
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn f44_a_panic_in_one_connection_takes_no_other_and_keeps_nothing() {
    tracing::subscriber::set_global_default(Trap).unwrap();
    let endpoint = Endpoint::echo("pod-0").await;
    // One connection more than these two would be refused, so that what panicked must give its place back.
    let config = Config::default().threads(1).connections_max(2);
    let (site, front) = Site::serving(config, &[&endpoint]).await;
    let mut kept = carried(front).await;
    let mut lost = carried(front).await;
    IS_SET.store(true, SeqCst);
    lost.shutdown().await.unwrap();
    read_all(&mut lost).await.1.unwrap();
    until(|| IS_SPRUNG.load(SeqCst)).await;
    exchange(&mut kept, b"undisturbed").await.unwrap();
    let mut next = within(async {
        loop {
            // The place is free a moment after the panic.
            if let Ok(mut next) = tokio::net::TcpStream::connect(front).await
                && site::greeting(&mut next).await.is_ok()
            {
                break next;
            }
        }
    })
    .await;
    exchange(&mut next, b"hello").await.unwrap();
    drop((kept, next));
    site.stop.cancel();
    within(site.running).await.unwrap();
}
