// SPDX-License-Identifier: MIT OR Apache-2.0
//! An API server that does what a test says: true by default, broken on command.
//!
//! It keeps Nodes, Services, EndpointSlices, Endpoints and `ConfigMap`s under one rising version and answers LIST and WATCH
//! as kube-apiserver does: selectors, pages with tokens that expire, watches from a version with bookmarks, a window of
//! kept events with 410 inside the stream for what is older, silence for a version of the future, gzip of large lists.
//! A test breaks it by a script (a closure that answers instead), by faults that can be switched while it runs, or by
//! taking its listener and connections away. The truth can be read, to compare with what agents see.
//!
//! All time is the runtime's, so that it works in one runtime with paused time, and as a real server on any address.
//!
//! ```
//! use serde_json::json;
//! use testbed::api_server::{Answer, ApiServer, Fault, Rule};
//!
//! # #[tokio::main] async fn main() -> Result<(), testbed::Error> {
//! let server = ApiServer::start().await?;
//! server.store().put(json!({ "kind": "Node", "metadata": { "name": "edge-1" } }))?;
//! let sick = server.fault(Rule::everything().lists(), Fault::Answer(Answer::status(503, "down")));
//! // … an agent against `server.url()` …
//! sick.off();
//! # Ok(())
//! # }
//! ```

mod answer;
mod beta;
mod document;
mod fault;
pub mod generate;
mod gzip;
mod list;
mod request;
mod resource;
mod selector;
mod serve;
mod store;
mod watch;

pub use answer::{Answer, Piece, list_body};
pub use fault::{Fault, Rule, Switch};
pub use request::Asked;
pub use resource::{Resource, SliceApis};
pub use store::{Change, Store, Write};

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::Error;
use serve::Shared;

/// How a server behaves when nothing is wrong.
#[derive(Clone, Debug)]
pub struct Options {
    listen: SocketAddr,
    slices: SliceApis,
    bookmark_every: Option<Duration>,
    events_kept: usize,
    token_life: Duration,
    has_streaming_lists: bool,
}

impl Default for Options {
    /// A free port of 127.0.0.1; slices in `v1`; a bookmark a minute; 1,000 events kept of each kind; tokens live 5
    /// minutes; streaming lists are served.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            slices: SliceApis::default(),
            bookmark_every: Some(Duration::from_secs(60)),
            events_kept: 1_000,
            token_life: Duration::from_secs(300),
            has_streaming_lists: true,
        }
    }
}

impl Options {
    /// Where to listen.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Which versions of the slices' API there are.
    #[must_use]
    pub fn slices(mut self, apis: SliceApis) -> Self {
        self.slices = apis;
        self
    }

    /// How often a watch that wants bookmarks gets one; none sends none.
    #[must_use]
    pub fn bookmark_every(mut self, every: Option<Duration>) -> Self {
        self.bookmark_every = every;
        self
    }

    /// How many events of each kind are kept for watches that begin in the past.
    #[must_use]
    pub fn events_kept(mut self, count: usize) -> Self {
        self.events_kept = count;
        self
    }

    /// How long the token of a page is good.
    #[must_use]
    pub fn token_life(mut self, life: Duration) -> Self {
        self.token_life = life;
        self
    }

    /// Whether `sendInitialEvents` is known; servers up to 1.26 answer it with 422.
    #[must_use]
    pub fn streaming_lists(mut self, has: bool) -> Self {
        self.has_streaming_lists = has;
        self
    }
}

/// A running server; dropped, it is gone with all of its connections.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    // Guards the task of the listener, none while connections are refused; held to replace it, never across an await.
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl ApiServer {
    /// A true server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port.
    pub async fn start() -> Result<Self, Error> {
        Self::with(Options::default(), |_| None).await
    }

    /// A server whose script answers what it will; the rest is answered truly.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port.
    pub async fn scripted(
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::with(Options::default(), script).await
    }

    /// A server of one's own making.
    ///
    /// # Errors
    /// [`Error::Io`] when the address cannot be listened on.
    pub async fn with(
        options: Options,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::listen(options.listen, Shared::new(options, script)).await
    }

    /// A true server that has these objects before anybody can ask.
    ///
    /// # Errors
    /// As [`ApiServer::with`], and what filling says.
    pub async fn filled(
        options: Options,
        fill: impl FnOnce(&Store) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let address = options.listen;
        let shared = Shared::new(options, |_| None);
        fill(&shared.store)?;
        Self::listen(address, shared).await
    }

    async fn listen(address: SocketAddr, shared: Shared) -> Result<Self, Error> {
        let listener = bind(address).await?;
        let address = listener.local_addr();
        let address = address.map_err(Error::io("reading the address of the API server"))?;
        let shared = Arc::new(shared);
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self {
            shared,
            address,
            listening: Mutex::new(Some(task)),
        })
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that leads here, without credentials.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.url())
    }

    /// Its objects.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// From the next request on, this happens to those that the rule names.
    pub fn fault(&self, rule: Rule, fault: Fault) -> Switch {
        self.shared.desk().faults.set(rule, fault)
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.desk().faults.clear();
    }

    /// What was asked of this kind so far: lists or watches.
    pub fn asked(&self, what: &str, is_watch: bool) -> Vec<Asked> {
        let desk = self.shared.desk();
        let wanted = |asked: &&Asked| asked.what == what && asked.is_watch == is_watch;
        desk.asked.iter().filter(wanted).cloned().collect()
    }

    /// Everything that was asked so far, of the first million requests.
    pub fn all_asked(&self) -> Vec<Asked> {
        self.shared.desk().asked.clone()
    }

    /// How many requests there were so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }

    /// Bytes of all bodies so far, as they were sent: after compression, without heads.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// The tokens of all lists under way are good no more.
    pub fn expire_tokens(&self) {
        self.shared.desk().cursors.expire();
    }

    /// From now on, these are the versions of the slices' API: the server was upgraded.
    pub fn serve_slices(&self, apis: SliceApis) {
        self.shared.desk().slices = apis;
    }

    /// Closes the listener and every connection: connecting is refused until [`ApiServer::listen_again`].
    pub async fn refuse(&self) {
        let task = self.task(None);
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens at the same address again.
    ///
    /// # Errors
    /// [`Error::Io`] when somebody has taken it meanwhile.
    pub async fn listen_again(&self) -> Result<(), Error> {
        self.refuse().await;
        let listener = bind(self.address).await?;
        self.task(Some(tokio::spawn(accept(listener, self.shared.clone()))));
        Ok(())
    }

    /// Closes every connection; the next is accepted.
    ///
    /// # Errors
    /// As [`ApiServer::listen_again`].
    pub async fn sever(&self) -> Result<(), Error> {
        self.listen_again().await
    }

    fn task(&self, new: Option<JoinHandle<()>>) -> Option<JoinHandle<()>> {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut listening, new)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(task) = self.task(None) {
            task.abort();
        }
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A kubeconfig that leads to this address, without credentials.
pub fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: scripted\n\
         clusters: [{{name: scripted, cluster: {{server: \"{url}\"}}}}]\n\
         users: [{{name: nobody, user: {{}}}}]\n\
         contexts: [{{name: scripted, context: {{cluster: scripted, user: nobody}}}}]\n"
    )
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let what = format!("listening on {address} as an API server");
    TcpListener::bind(address).await.map_err(Error::io(what))
}

/// Accepts until it is aborted, which ends its connections too.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, shared.clone()))),
                // Out of descriptors: a connection that ends gives one back.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Nagle's delay would be real time, in which hours of a test's time pass.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| shared.answer(&request));
    // A connection ends as the client, the script or a fault wants it.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
