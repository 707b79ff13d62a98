// SPDX-License-Identifier: MIT OR Apache-2.0
//! A site in one process: endpoints on loopback, the proxy in front, clients with a source address of their choice.
#![allow(dead_code, reason = "each test file uses its own part")]

use discovery_core::{
    hash::HashKey,
    model::{
        AddressRules, Conditions, Front, Node, NodeName, Protocol, Service, ServicePort, Slice,
        SliceEndpoint, SliceKey, SlicePort, TargetRef, Zone,
    },
    pick::candidates,
    store::{
        Kind, Object, ObjectKey, Reader, SourceId, StateConfig, Tier, Update, Writer, channel,
    },
    telemetry::{ListenerMetrics, ProxyMetrics},
};
use lb_proxy::{Config, ListenerState, Proxy, Reason, StatusHandle, Witness};
use socket2::{Domain, Socket, Type};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Where proxies listen: an address that no outgoing connection takes as its source.
pub(crate) const FRONT: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// A proxy and the state that it follows.
pub(crate) struct Site {
    writer: Writer,
    /// The transport of services and endpoints from here on.
    pub(crate) protocol: Protocol,
    pub(crate) reader: Reader,
    pub(crate) metrics: Arc<ProxyMetrics>,
    pub(crate) status: StatusHandle,
    pub(crate) witness: Witness,
    pub(crate) stop: CancellationToken,
    pub(crate) kill: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl Site {
    /// Runs a proxy on [`FRONT`] over an empty cluster.
    pub(crate) fn start(config: Config) -> Self {
        Self::start_on(config.bind_addresses(vec![FRONT.into()]))
    }

    /// Runs a proxy as it is configured.
    pub(crate) fn start_on(config: Config) -> Self {
        let name = NodeName::parse("edge-a").unwrap();
        let rules = AddressRules::new(true, []);
        let (mut writer, reader) = channel(StateConfig::new(name.clone()).addresses(rules));
        let node = Node::new(name, Some(Zone::parse("mall-1").unwrap()));
        for object in [Object::OwnNode(node.clone()), Object::Node(node)] {
            writer.apply(Update::Upsert(SourceId::Manifest, object));
        }
        for kind in Kind::ALL {
            writer.apply(Update::Synced(SourceId::Manifest, kind));
        }
        writer.publish();
        let metrics = Arc::new(ProxyMetrics::default());
        let proxy = Proxy::new(config, reader.clone(), metrics.clone());
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let (status, witness) = (proxy.status(), proxy.witness());
        let running = tokio::spawn(proxy.run(stop.clone(), kill.clone()));
        Self {
            writer,
            protocol: Protocol::Tcp,
            reader,
            metrics,
            status,
            witness,
            stop,
            kill,
            running,
        }
    }

    /// A proxy with one service `default/web` over the endpoints; returns when it serves.
    pub(crate) async fn serving(config: Config, endpoints: &[&Endpoint]) -> (Self, SocketAddr) {
        let mut site = Self::start(config);
        let front = free_port();
        site.service("web", front.port());
        for endpoint in endpoints {
            site.endpoint("web", endpoint);
        }
        site.publish();
        assert_eq!(site.status.serving().await, Some(front));
        (site, front)
    }

    pub(crate) fn service(&mut self, name: &str, node_port: u16) {
        self.fronted(name, node_port, |_| {});
    }

    /// A service with wishes to the proxy.
    pub(crate) fn fronted(&mut self, name: &str, node_port: u16, wish: impl FnOnce(&mut Front)) {
        self.service_of(name, node_port, |service| wish(&mut service.front));
    }

    /// A service that is not as services are by default.
    pub(crate) fn service_of(
        &mut self,
        name: &str,
        node_port: u16,
        change: impl FnOnce(&mut Service),
    ) {
        let port = |name: &str, protocol| ServicePort {
            name: name.into(),
            protocol,
            port: NonZeroU16::new(80).unwrap(),
            node_port: NonZeroU16::new(node_port),
        };
        let mut service = Service {
            ports: vec![port("http", self.protocol)],
            owns_node_ports: true,
            ..Service::new(name.parse().unwrap())
        };
        change(&mut service);
        self.upsert(Object::Service(service));
    }

    /// Lists the endpoint for the service, in a slice of its own since it has a port of its own.
    pub(crate) fn endpoint(&mut self, service: &str, endpoint: &Endpoint) {
        self.listed(service, &endpoint.name, endpoint.address, true);
    }

    /// Lists the endpoint on another node.
    pub(crate) fn on_node(&mut self, service: &str, endpoint: &Endpoint, node: &str) {
        self.in_zone(service, endpoint, node, "mall-1");
    }

    /// Lists the endpoint on a node of a zone.
    pub(crate) fn in_zone(&mut self, service: &str, endpoint: &Endpoint, node: &str, zone: &str) {
        let node = NodeName::parse(node).unwrap();
        let zone = Zone::parse(zone).unwrap();
        self.upsert(Object::Node(Node::new(node.clone(), Some(zone))));
        let conditions = Conditions::from_api(Some(true), None, None);
        self.place(service, &endpoint.name, endpoint.address, conditions, node);
    }

    /// Says of a listed endpoint that it terminates, and whether it still serves.
    pub(crate) fn terminating(&mut self, service: &str, name: &str, serving: bool) {
        let snapshot = self.reader.load();
        let view = snapshot.service(&service.parse().unwrap()).unwrap();
        let mut members = view.tiers().iter().flat_map(Tier::members);
        let listed = members.find(|endpoint| endpoint.identity().as_str() == name);
        let address = listed.unwrap().socket(None).unwrap();
        let conditions = Conditions::from_api(Some(false), Some(serving), Some(true));
        let node = NodeName::parse("edge-a").unwrap();
        self.place(service, name, address, conditions, node);
    }

    pub(crate) fn listed(&mut self, service: &str, name: &str, address: SocketAddr, ready: bool) {
        let conditions = Conditions::from_api(Some(ready), None, None);
        let node = NodeName::parse("edge-a").unwrap();
        self.place(service, name, address, conditions, node);
    }

    fn place(
        &mut self,
        service: &str,
        name: &str,
        address: SocketAddr,
        conditions: Conditions,
        node: NodeName,
    ) {
        let port = SlicePort {
            name: "http".into(),
            protocol: self.protocol,
            port: NonZeroU16::new(address.port()).unwrap(),
        };
        let endpoint = SliceEndpoint {
            target: Some(TargetRef {
                name: name.into(),
                uid: name.into(),
            }),
            node: Some(node),
            conditions,
            ..SliceEndpoint::new(address.ip())
        };
        self.upsert(Object::Slice(Slice {
            ports: [port].into(),
            endpoints: vec![endpoint],
            ..Slice::new(
                SliceKey::new("default", &format!("{service}-{name}")).unwrap(),
                service.parse().unwrap(),
            )
        }));
    }

    pub(crate) fn unlist(&mut self, service: &str, name: &str) {
        let key = SliceKey::new("default", &format!("{service}-{name}")).unwrap();
        self.writer
            .apply(Update::Remove(SourceId::Manifest, ObjectKey::Slice(key)));
    }

    pub(crate) fn remove_service(&mut self, name: &str) {
        let key = ObjectKey::Service(name.parse().unwrap());
        self.writer.apply(Update::Remove(SourceId::Manifest, key));
    }

    pub(crate) fn publish(&mut self) {
        self.writer.publish();
    }

    /// The endpoints of `default/web` in the order of trial for a client, as the core gives it.
    pub(crate) fn order(&self, client: IpAddr) -> Vec<String> {
        let snapshot = self.reader.load();
        let view = snapshot.service(&"web".parse().unwrap()).unwrap();
        let order = candidates(view, HashKey::of_source(client));
        order
            .map(|endpoint| endpoint.identity().to_string())
            .collect()
    }

    /// The counters of a listener of `default/web`.
    pub(crate) fn counters(&self, front: SocketAddr) -> ListenerMetrics {
        self.metrics.listener(
            &"web".parse().unwrap(),
            NonZeroU16::new(front.port()).unwrap(),
        )
    }

    /// Waits until the only listener is in the state.
    pub(crate) async fn state(&self, state: &ListenerState) {
        let reached = self
            .status
            .wait_for(|all| all.len() == 1 && all[0].state == *state);
        within(reached).await.unwrap();
    }

    /// Stops and waits for the end; then every accepted connection must have ended in one outcome.
    pub(crate) async fn end(self, counters: &ListenerMetrics) -> BTreeMap<&'static str, u64> {
        self.stop.cancel();
        within(self.running).await.unwrap();
        let ended: BTreeMap<_, _> = Reason::ALL
            .iter()
            .map(|reason| (reason.as_str(), counters.ended(*reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            counters.accepted(),
            ended.values().sum::<u64>(),
            "{ended:?}"
        );
        ended
    }

    pub(crate) fn upsert(&mut self, object: Object) {
        self.writer
            .apply(Update::Upsert(SourceId::Manifest, object));
    }
}

/// An endpoint that says its name and a new line, then does as it was made to.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn new<F, S>(name: &str, serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::at(name, (Ipv4Addr::LOCALHOST, 0).into(), serve).await
    }

    pub(crate) async fn at<F, S>(name: &str, address: SocketAddr, serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let greeting = format!("{name}\n");
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A client that leaves early ends its own connection only.
                if stream.write_all(greeting.as_bytes()).await.is_ok() {
                    tokio::spawn(serve(stream));
                }
            }
        });
        Self {
            name: name.to_owned(),
            address,
            task,
        }
    }

    /// Says its name and then what it is told, until the end.
    pub(crate) async fn echo(name: &str) -> Self {
        Self::new(name, async |mut stream| {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        })
        .await
    }

    pub(crate) async fn echoes(count: usize) -> Vec<Self> {
        let mut endpoints = Vec::new();
        for i in 0..count {
            endpoints.push(Self::echo(&format!("pod-{i}")).await);
        }
        endpoints
    }

    /// Ends the listener, so that further connects are refused.
    pub(crate) async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A connection that is carried.
pub(crate) async fn carried(front: SocketAddr) -> TcpStream {
    let mut stream = connect(front).await;
    greeting(&mut stream).await.unwrap();
    stream
}

/// A listener whose queue is full, so that the kernel drops further SYNs.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _kept: Vec<Socket>,
}

pub(crate) fn black_hole() -> BlackHole {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut kept = vec![listener];
    for _ in 0..4 {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        kept.push(client);
    }
    BlackHole {
        address,
        _kept: kept,
    }
}

/// Runs what depends on a quiet machine up to so many times; it must hold once.
pub(crate) async fn in_one_of(tries: u32, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..tries {
        if holds().await {
            return;
        }
    }
    panic!("it held in none of {tries} runs");
}

/// The address of a client.
pub(crate) fn source(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

pub(crate) async fn connect_from(source: IpAddr, front: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(front).await
}

pub(crate) async fn connect(front: SocketAddr) -> TcpStream {
    TcpStream::connect(front).await.unwrap()
}

/// Reads the name of the endpoint.
pub(crate) async fn greeting(stream: &mut TcpStream) -> io::Result<String> {
    let mut name = Vec::new();
    loop {
        match within(stream.read_u8()).await? {
            b'\n' => return Ok(String::from_utf8(name).unwrap()),
            byte => name.push(byte),
        }
    }
}

/// Connects and reads the name of the endpoint. A reset may come so early that the connect itself fails.
pub(crate) async fn greeted(front: SocketAddr) -> io::Result<String> {
    greeting(&mut TcpStream::connect(front).await?).await
}

/// The same from a source address.
pub(crate) async fn greeted_from(source: IpAddr, front: SocketAddr) -> io::Result<String> {
    greeting(&mut connect_from(source, front).await?).await
}

/// Sends a line and expects it back.
pub(crate) async fn exchange(stream: &mut TcpStream, line: &[u8]) -> io::Result<()> {
    stream.write_all(line).await?;
    let mut back = vec![0; line.len()];
    within(stream.read_exact(&mut back)).await?;
    assert_eq!(back, line);
    Ok(())
}

/// Reads to the end, or to an error: what came, and how it ended.
pub(crate) async fn read_all(
    stream: &mut (impl AsyncReadExt + Unpin),
) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = within(stream.read_to_end(&mut bytes)).await.map(|_| ());
    (bytes, end)
}

pub(crate) fn assert_reset<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// Bytes without a short period.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect()
}

/// A port that is free at [`FRONT`].
pub(crate) fn free_port() -> SocketAddr {
    let [port] = testbed::free_ports().unwrap();
    SocketAddr::from((FRONT, port))
}

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future)
        .await
        .expect("it should have happened by now")
}

/// Waits for a condition that nobody announces.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
