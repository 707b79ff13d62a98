// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod that fails is ejected by what its callers see, through every adapter, over real sockets.
//!
//! One user belongs to one pod. It dies, is ill, or hangs: after three calls that met it nobody goes there any more, each
//! call being answered by the next pod all the while. When it is well again one call tries it, and its user comes back.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use discovery_core::{
    client::{
        Balance, Discovery, HeaderKey, Pool, ServiceClient, Target,
        hyper::{Connector, HttpClient},
        reqwest::KeyedClient,
        tonic::Channel,
    },
    hash::HashKey,
    pick::EjectRule,
};
use examples::{RawCodec, Shop};
use http::{HeaderName, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tonic::client::Grpc;
use tower::{ServiceExt as _, service_fn};

const USER: &str = "ann";

/// What a call is made with; each makes a new connection to a pod that it has none to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Adapter {
    Tower,
    Http,
    Connector,
    Tonic,
    Reqwest,
}

const ALL: [Adapter; 5] = [
    Adapter::Tower,
    Adapter::Http,
    Adapter::Connector,
    Adapter::Tonic,
    Adapter::Reqwest,
];
/// Those that see answers.
const READERS: [Adapter; 3] = [Adapter::Http, Adapter::Tonic, Adapter::Reqwest];

/// Three errors in a row eject.
fn rule(backoff: Duration) -> EjectRule {
    EjectRule {
        errors_in_row: 3,
        backoff,
        ..EjectRule::default()
    }
}

/// A shop, discovery in it, and a caller that keeps its connections.
struct Scene {
    shop: Shop,
    discovery: Discovery,
    web: ServiceClient,
    http: HttpClient<HeaderKey, Empty<Bytes>>,
    tonic: Channel<HeaderKey>,
    reqwest: KeyedClient,
    client: reqwest::Client,
}

impl Scene {
    async fn open(backoff: Duration) -> anyhow::Result<Self> {
        let shop = Shop::open().await?;
        let builder = shop.discovery().eject(Some(rule(backoff)));
        let discovery = builder.start().await?;
        discovery.ready().await;
        let web = discovery.service("shop/web".parse()?);
        let by_user = || HeaderKey::new(HeaderName::from_static("x-user"));
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self {
            http: HttpClient::new(web.clone(), by_user())
                .port("http")
                .timeout(TIMEOUT),
            tonic: Channel::new(web.clone(), by_user())
                .port("grpc")
                .idempotent(),
            reqwest: KeyedClient::new(client.clone(), web.clone()).port("http"),
            shop,
            discovery,
            web,
            client,
        })
    }

    /// The user's pod, whatever this process thinks of it.
    fn owner(&self) -> anyhow::Result<String> {
        let snapshot = self.discovery.runtime().reader().load();
        let view = snapshot.service(self.web.name()).context("it is listed")?;
        let owner = discovery_core::pick::owner(view, HashKey::of(USER.as_bytes()));
        Ok(owner.context("somebody is usable")?.identity().to_string())
    }

    fn is_ejected(&self, pod: &str) -> bool {
        let snapshot = self.discovery.runtime().reader().load();
        let view = snapshot.service(self.web.name());
        let mut usable = view.into_iter().flat_map(|view| view.usable());
        usable.any(|e| e.identity().as_str() == pod && e.load().is_ejected())
    }

    /// Calls for the user; who answered.
    async fn call(&self, adapter: Adapter) -> anyhow::Result<String> {
        match adapter {
            Adapter::Tower => self.over_tower().await,
            Adapter::Http => self.over_http().await,
            Adapter::Connector => self.over_connector().await,
            Adapter::Tonic => self.over_tonic().await,
            Adapter::Reqwest => self.over_reqwest().await,
        }
    }

    async fn over_tower(&self) -> anyhow::Result<String> {
        let connect = service_fn(|to: Target| async move {
            TcpStream::connect(to.address).await?;
            let name = to.endpoint.identity().to_string();
            Ok::<_, io::Error>(service_fn(move |_: &str| {
                let name = name.clone();
                async { Ok::<_, io::Error>(name) }
            }))
        });
        let by_user = |user: &&'static str| HashKey::of(user.as_bytes());
        let balance = Balance::new(self.web.clone(), by_user, Pool::new(connect)).port("http");
        Ok(balance.oneshot(USER).await?)
    }

    async fn over_http(&self) -> anyhow::Result<String> {
        let request = http::Request::get("/").header("x-user", USER);
        let answer = self.http.clone().oneshot(request.body(Empty::new())?);
        text(answer.await?.into_body()).await
    }

    async fn over_connector(&self) -> anyhow::Result<String> {
        let key = HashKey::of(USER.as_bytes());
        let connector = Connector::new(self.discovery.clone()).key(key).port("http");
        let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let answer = client.get("http://web.shop/".parse()?).await?;
        text(answer.into_body()).await
    }

    async fn over_tonic(&self) -> anyhow::Result<String> {
        let mut request = tonic::Request::new(Bytes::from_static(b"who are you?"));
        request.metadata_mut().insert("x-user", USER.parse()?);
        request.set_timeout(TIMEOUT);
        let mut grpc = Grpc::new(self.tonic.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/shop.Web/Name");
        let name = grpc.unary(request, path, RawCodec).await?.into_inner();
        Ok(String::from_utf8(name.to_vec())?)
    }

    async fn over_reqwest(&self) -> anyhow::Result<String> {
        let request = self.client.get("http://web.shop/").build()?;
        let key = HashKey::of(USER.as_bytes());
        let answer = self.reqwest.clone().execute(key, request).await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}

async fn text(body: hyper::body::Incoming) -> anyhow::Result<String> {
    Ok(String::from_utf8(body.collect().await?.to_bytes().into())?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_dead_is_ejected_for_callers_of_every_adapter() {
    for adapter in ALL {
        let ejected = dies(adapter).await;
        ejected.with_context(|| format!("{adapter:?}")).unwrap();
    }
}

async fn dies(adapter: Adapter) -> anyhow::Result<()> {
    let mut scene = Scene::open(LONG).await?;
    let owner = scene.owner()?;
    ensure!(scene.call(adapter).await? == owner);
    scene.shop.kill(&owner).await;
    let mut calls = 0;
    while !scene.is_ejected(&owner) {
        calls += 1;
        ensure!(
            scene.call(adapter).await? != owner,
            "a retry leaves the dead pod"
        );
        ensure!(calls <= 3, "three failures eject");
    }
    let failed = scene.discovery.outcomes().1;
    for _ in 0..10 {
        ensure!(scene.call(adapter).await? != owner);
    }
    let failed_since = scene.discovery.outcomes().1 - failed;
    ensure!(
        failed_since == 0,
        "{failed_since} calls met the dead pod after its ejection"
    );
    let metrics = scene.discovery.runtime().metrics().expose();
    for series in [
        "zonal_lb_ejections_total{service=\"shop/web\",reason=\"errors-in-row\"} 1",
        "zonal_view_endpoints{zone=\"local\",state=\"ejected\"} 1",
    ] {
        ensure!(metrics.lines().any(|line| line == series), "{series}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_answers_that_it_cannot_serve_is_ejected_and_its_user_comes_back() {
    for adapter in READERS {
        let ejected = is_ill(adapter).await;
        ejected.with_context(|| format!("{adapter:?}")).unwrap();
    }
}

async fn is_ill(adapter: Adapter) -> anyhow::Result<()> {
    let scene = Scene::open(Duration::from_millis(50)).await?;
    let owner = scene.owner()?;
    let pod = scene.shop.pod(&owner).context("it runs")?;
    pod.set_ill(true);
    let mut calls = 0;
    while !scene.is_ejected(&owner) {
        calls += 1;
        // Its answer is an answer: it is given to the caller, and not asked for elsewhere.
        let _ = scene.call(adapter).await;
        ensure!(calls <= 3, "three failures eject");
    }
    pod.set_ill(false);
    let back = async {
        while scene.call(adapter).await? != owner {}
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, back)
        .await
        .context("its user comes back")??;
    ensure!(!scene.is_ejected(&owner));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_a_pod_that_accepts_and_hangs_is_ejected_for_callers_of_every_adapter_but_never_all() {
    for adapter in READERS {
        let ejected = hangs(adapter).await;
        ejected.with_context(|| format!("{adapter:?}")).unwrap();
    }
}

async fn hangs(adapter: Adapter) -> anyhow::Result<()> {
    let mut scene = Scene::open(LONG).await?;
    let owner = scene.owner()?;
    let [http, grpc] = scene.shop.pod(&owner).context("it runs")?.ports();
    scene.shop.kill(&owner).await;
    let number: u8 = owner.trim_start_matches("web-").parse()?;
    let listen = |port| TcpListener::bind(SocketAddr::from(([127, 0, 0, number + 1], port)));
    // Nobody accepts from them: the kernel does, and no answer comes.
    let _deaf = (listen(http).await?, listen(grpc).await?);
    let mut calls = 0;
    while !scene.is_ejected(&owner) {
        calls += 1;
        let _ = scene.call(adapter).await;
        ensure!(calls <= 5, "three failures eject");
    }
    ensure!(scene.call(adapter).await? != owner);
    // The others fail as well: one of three may be ejected, and somebody is always asked.
    for other in ["web-0", "web-1", "web-2"] {
        scene.shop.kill(other).await;
    }
    for _ in 0..10 {
        ensure!(scene.call(adapter).await.is_err());
    }
    let ejected = ["web-0", "web-1", "web-2"].map(|pod| scene.is_ejected(pod));
    ensure!(ejected.iter().filter(|is| **is).count() == 1, "{ejected:?}");
    Ok(())
}

/// No trial falls into a test.
const LONG: Duration = Duration::from_secs(600);
/// A pod that hangs has failed after it.
const TIMEOUT: Duration = Duration::from_millis(300);
const WITHIN: Duration = Duration::from_secs(30);
