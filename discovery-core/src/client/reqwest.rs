// SPDX-License-Identifier: MIT OR Apache-2.0
//! reqwest: a client that is keyed per request, and a resolver for clients that know no keys.

use super::{CallError, Discovery, RetryBudget, ServiceClient, fault, service_of_host};
use crate::hash::HashKey;
use ::reqwest::{
    Client, Request, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use http::{HeaderValue, header};
use std::{error::Error as StdError, net::SocketAddr};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No endpoint could be picked.
    #[error("no endpoint for the request")]
    Pick(#[source] CallError),
    /// The endpoints have no port of the name that was asked for.
    #[error("no endpoint has the port that was asked for")]
    NoPort,
    /// The URL is not one that can be sent to an address.
    #[error("URL {url} cannot be sent to an address")]
    Url {
        /// The URL.
        url: Box<Url>,
    },
    /// The last candidate that was tried failed.
    #[error("the request failed at candidate {attempts}")]
    Failed {
        /// How many were tried.
        attempts: usize,
        /// What reqwest says.
        #[source]
        last: ::reqwest::Error,
    },
}

/// Sends each request to the owner of its key, and on to the next candidates: when nothing was sent, or when the method may
/// be sent twice and the body is no stream. Clones share connections.
///
/// An endpoint that cannot be connected, breaks off, does not answer within the client's timeout, or answers 502, 503 or 504
/// has failed, and is [ejected](crate::pick::EjectRule) for doing so often. reqwest has no timeout unless one is set: without
/// one, an endpoint that hangs is never found out.
///
/// The host of the URL is replaced by the endpoint's address and stays in `Host`; so this is for `http`. For `https` the
/// certificate has to fit the name: use a [`Resolver`].
///
/// ```no_run
/// use discovery_core::{client::{Discovery, reqwest::KeyedClient}, hash::HashKey};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Discovery::builder().start().await?;
/// let client = reqwest::Client::new();
/// let web = KeyedClient::new(client.clone(), discovery.service("shop/web".parse()?));
/// let request = client.get("http://web.shop/cart").build()?;
/// let answer = web.clone().execute(HashKey::of(b"ann"), request).await?;
/// println!("{}", answer.status());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct KeyedClient {
    client: Client,
    service: ServiceClient,
    budget: RetryBudget,
    port: Option<String>,
    attempts_max: usize,
}

impl KeyedClient {
    /// Sends by `client` to endpoints of the service.
    pub fn new(client: Client, service: ServiceClient) -> Self {
        Self {
            client,
            service,
            budget: RetryBudget::default(),
            port: None,
            attempts_max: ATTEMPTS_MAX,
        }
    }

    /// Sends to the port of this name instead of the first.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.port = Some(name.to_owned());
        self
    }

    /// How many candidates a request may be sent to; 3 unless set.
    #[must_use]
    pub fn attempts_max(mut self, attempts: usize) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// What retries may cost.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Sends the request for the key.
    pub async fn execute(
        &mut self,
        key: HashKey,
        request: Request,
    ) -> Result<Response, RequestError> {
        let plan = self.service.plan(Some(key), self.attempts_max);
        let mut plan = plan.map_err(RequestError::Pick)?;
        self.budget.deposit();
        let is_idempotent = request.method().is_idempotent();
        let (mut left, mut attempts, mut failed) = (Some(request), 0, None);
        while let Some(attempt) = plan.next() {
            let Some(address) = attempt.endpoint().socket(self.port.as_deref()) else {
                continue;
            };
            if failed.is_some() && !self.budget.withdraw() {
                break;
            }
            let Some(request) = left.take() else { break };
            left = request.try_clone();
            attempts += 1;
            let request = addressed(request, address)?;
            let last = match self.client.execute(request).await {
                Ok(answer) => {
                    plan.ended(attempt, true, fault::says_it_cannot_serve(answer.status()));
                    return Ok(answer);
                }
                Err(last) => last,
            };
            plan.ended(attempt, false, is_to_blame(&last));
            let may_move_on = last.is_connect() || is_idempotent;
            failed = Some(last);
            if !may_move_on || left.is_none() {
                break;
            }
        }
        Err(match failed {
            Some(last) => RequestError::Failed { attempts, last },
            None => RequestError::NoPort,
        })
    }
}

/// Whether the error counts against the endpoint.
fn is_to_blame(error: &::reqwest::Error) -> bool {
    !error.is_builder() && !error.is_redirect() && !fault::is_our_own(error)
}

fn addressed(mut request: Request, to: SocketAddr) -> Result<Request, RequestError> {
    let refuse = |url: &Url| RequestError::Url {
        url: Box::new(url.clone()),
    };
    let url = request.url();
    let asked = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(refuse(url)),
    };
    let Ok(asked) = HeaderValue::from_str(&asked) else {
        return Err(refuse(url));
    };
    let mut url = url.clone();
    if url.set_ip_host(to.ip()).is_err() || url.set_port(Some(to.port())).is_err() {
        return Err(refuse(&url));
    }
    *request.url_mut() = url;
    request.headers_mut().entry(header::HOST).or_insert(asked);
    Ok(request)
}

/// Resolves host names that mean a service ([`service_of_host`]) to the addresses of its endpoints: the less busy of two
/// first, others after it in random order, at most eight. The port of a URL without one is the endpoint's.
///
/// ```no_run
/// use discovery_core::client::{Discovery, reqwest::Resolver};
/// use std::sync::Arc;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Discovery::builder().start().await?;
/// let client = reqwest::Client::builder().dns_resolver(Arc::new(Resolver::new(discovery))).build()?;
/// let answer = client.get("http://web.shop/cart").send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Resolver {
    discovery: Discovery,
}

impl Resolver {
    /// Resolves the services that `discovery` knows.
    pub fn new(discovery: Discovery) -> Self {
        Self { discovery }
    }

    fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, Box<dyn StdError + Send + Sync>> {
        let mut service = self.discovery.service(service_of_host(host)?);
        let mut plan = service.plan(None, ADDRESSES_MAX)?;
        let mut addresses = Vec::new();
        while let Some(attempt) = plan.next() {
            addresses.extend(attempt.endpoint().socket(None));
        }
        Ok(addresses)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.addresses(name.as_str());
        let addresses = addresses.map(|all| Box::new(all.into_iter()) as Addrs);
        Box::pin(std::future::ready(addresses))
    }
}

const ATTEMPTS_MAX: usize = 3;
/// More than a client tries before it gives up.
const ADDRESSES_MAX: usize = 8;
