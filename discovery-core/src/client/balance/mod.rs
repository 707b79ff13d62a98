// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `tower::Service` that chooses the endpoint after it has seen the request.
//!
//! tower's own balancer picks in `poll_ready`, before there is a request, and thus cannot pick by key. This one is always
//! ready, asks the request for its key, and hands request and address to the inner service. When that fails it goes to
//! the next candidate of the ring, never to the same endpoint again, while the budget lasts. How each try ended is told to
//! the endpoint's counters, so that one that fails is ejected.

mod blame;
mod key;
mod pool;
mod replay;

pub use blame::{BlameRule, EveryError};
pub use key::{HeaderKey, RequestKey};
pub use pool::{Pool, PoolError, Target};
pub use replay::{ReplayBody, ReplayError};

use super::{CallError, RetryBudget, ServiceClient, plan::Plan};
use crate::store::Endpoint;
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// A request on its way to the endpoint that was picked for it.
#[derive(Clone, Debug)]
pub struct Dispatch<R> {
    /// Where to send it.
    pub address: SocketAddr,
    /// Who listens there.
    pub endpoint: Arc<Endpoint>,
    /// The request.
    pub request: R,
}

/// Why a balanced request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError<E> {
    /// There was nobody to send it to.
    #[error("no endpoint for the request")]
    Pick(#[source] CallError),
    /// The endpoints have no port of the name that was asked for.
    #[error("no endpoint has a port named {port:?}")]
    NoPort {
        /// The port's name.
        port: String,
    },
    /// It was sent, failed, and may not be sent again.
    #[error("the request failed at candidate {attempts} and may not be sent again")]
    Failed {
        /// How many were tried.
        attempts: usize,
        /// What the last one said.
        #[source]
        last: E,
    },
    /// It failed, and too many requests fail for it to be sent again.
    #[error("the request failed at candidate {attempts}, and the budget for retries is used up")]
    OverBudget {
        /// How many were tried.
        attempts: usize,
        /// What the last one said.
        #[source]
        last: E,
    },
    /// Every candidate that was tried failed.
    #[error("all {attempts} candidates that were tried failed")]
    Exhausted {
        /// How many were tried.
        attempts: usize,
        /// What the last one said.
        #[source]
        last: E,
    },
}

/// Says whether a request may be sent again after an error. Every `Fn(&E) -> bool` is one, and so is [`Always`].
pub trait RetryRule<E> {
    /// Whether the next candidate may be sent the same request.
    fn may_retry(&self, error: &E) -> bool;
}

impl<E, F: Fn(&E) -> bool> RetryRule<E> for F {
    fn may_retry(&self, error: &E) -> bool {
        self(error)
    }
}

/// Sends again after any error: for an inner service whose errors all mean that nothing was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

impl<E> RetryRule<E> for Always {
    fn may_retry(&self, _: &E) -> bool {
        true
    }
}

/// Sends each request to the owner of its key, and to the next candidates when that fails.
///
/// `inner` takes a [`Dispatch`]; a [`Pool`] is one that keeps a service per endpoint. An error of it moves the request to
/// the next candidate when the [`RetryRule`] and the [`RetryBudget`] allow. A request is cloned once for each candidate
/// but the last; [`ReplayBody`] makes one with a body cheap to clone. Each try counts as a success or, where the
/// [`BlameRule`] says so, as a failure of its endpoint, which [ejects](crate::pick::EjectRule) one that fails. A call that
/// is dropped before it has ended says nothing of its endpoint: bound the time of `inner`, not that of the balancer.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{client::{Balance, Dispatch, ServiceClient}, hash::HashKey};
/// use tower::{ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let web = ServiceClient::new(reader, "web".parse().unwrap());
/// let send = service_fn(|to: Dispatch<String>| async move { Ok::<_, std::io::Error>(to.request) });
/// let balance = Balance::new(web, |user: &String| HashKey::of(user.as_bytes()), send);
/// let error = balance.oneshot("ann".to_owned()).await.unwrap_err();
/// assert_eq!(error.to_string(), "no endpoint for the request");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Balance<K, S, P = Always, B = EveryError> {
    service: ServiceClient,
    key: K,
    inner: S,
    rule: P,
    blame: B,
    budget: RetryBudget,
    port: Option<Arc<str>>,
    attempts_max: usize,
}

impl<K, S> Balance<K, S> {
    /// Balances over the service; `key` tells what makes requests belong together.
    pub fn new(service: ServiceClient, key: K, inner: S) -> Self {
        Self {
            service,
            key,
            inner,
            rule: Always,
            blame: EveryError,
            budget: RetryBudget::default(),
            port: None,
            attempts_max: ATTEMPTS_MAX,
        }
    }
}

impl<K, S, P, B> Balance<K, S, P, B> {
    /// Sends to the port of this name instead of the first.
    #[must_use]
    pub fn port(mut self, name: &str) -> Self {
        self.port = Some(name.into());
        self
    }

    /// How many candidates a request may be sent to; 3 unless set, never less than 1.
    #[must_use]
    pub fn attempts_max(mut self, attempts: usize) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// What retries may cost; [`RetryBudget::default`] unless set. Hand one to several balancers to share it.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// The same over another inner service.
    #[cfg(feature = "hyper")]
    pub(super) fn map_inner(mut self, change: impl FnOnce(S) -> S) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// After which errors a request may be sent again; after all unless set.
    #[must_use]
    pub fn retry_if<N>(self, rule: N) -> Balance<K, S, N, B> {
        Balance {
            service: self.service,
            key: self.key,
            inner: self.inner,
            rule,
            blame: self.blame,
            budget: self.budget,
            port: self.port,
            attempts_max: self.attempts_max,
        }
    }

    /// How a try ends for which its endpoint is to blame; every error does unless set.
    #[must_use]
    pub fn blame_if<N>(self, blame: N) -> Balance<K, S, P, N> {
        Balance {
            service: self.service,
            key: self.key,
            inner: self.inner,
            rule: self.rule,
            blame,
            budget: self.budget,
            port: self.port,
            attempts_max: self.attempts_max,
        }
    }
}

impl<R, K, S, P, B> tower::Service<R> for Balance<K, S, P, B>
where
    R: Clone + Send + 'static,
    K: RequestKey<R>,
    S: tower::Service<Dispatch<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    P: RetryRule<S::Error> + Clone + Send + 'static,
    B: BlameRule<S::Response, S::Error> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = BalanceError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    /// Always ready: who will be asked is known only once the request is seen.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let plan = self.service.plan(self.key.key(&request), self.attempts_max);
        let tries = Tries {
            inner: self.inner.clone(),
            rule: self.rule.clone(),
            blame: self.blame.clone(),
            budget: self.budget.clone(),
            port: self.port.clone(),
        };
        Box::pin(async move { tries.run(plan.map_err(BalanceError::Pick)?, request).await })
    }
}

/// What the tries of one request need.
struct Tries<S, P, B> {
    inner: S,
    rule: P,
    blame: B,
    budget: RetryBudget,
    port: Option<Arc<str>>,
}

impl<S, P, B> Tries<S, P, B> {
    async fn run<R>(
        mut self,
        mut plan: Plan,
        request: R,
    ) -> Result<S::Response, BalanceError<S::Error>>
    where
        R: Clone,
        S: tower::Service<Dispatch<R>>,
        P: RetryRule<S::Error>,
        B: BlameRule<S::Response, S::Error>,
    {
        self.budget.deposit();
        let mut request = Some(request);
        let mut attempts = 0;
        let mut failed = None;
        while let Some(attempt) = plan.next() {
            let Some(address) = attempt.endpoint().socket(self.port.as_deref()) else {
                continue;
            };
            if let Some(last) = failed.take_if(|_| !self.budget.withdraw()) {
                return Err(BalanceError::OverBudget { attempts, last });
            }
            let again = if plan.is_last() {
                request.take()
            } else {
                request.clone()
            };
            let Some(again) = again else { break };
            attempts += 1;
            let dispatch = Dispatch {
                address,
                endpoint: attempt.endpoint().clone(),
                request: again,
            };
            let ended = send(&mut self.inner, dispatch).await;
            let is_to_blame = self.blame.is_to_blame(ended.as_ref());
            plan.ended(attempt, ended.is_ok(), is_to_blame);
            match ended {
                Ok(response) => return Ok(response),
                Err(last) => {
                    if !self.rule.may_retry(&last) {
                        return Err(BalanceError::Failed { attempts, last });
                    }
                    failed = Some(last);
                }
            }
        }
        Err(match failed {
            Some(last) => BalanceError::Exhausted { attempts, last },
            None => BalanceError::NoPort {
                port: self.port.as_deref().unwrap_or_default().to_owned(),
            },
        })
    }
}

async fn send<R, S: tower::Service<Dispatch<R>>>(
    inner: &mut S,
    dispatch: Dispatch<R>,
) -> Result<S::Response, S::Error> {
    tower::ServiceExt::ready(inner).await?.call(dispatch).await
}

/// Candidates that a request is sent to unless told otherwise.
const ATTEMPTS_MAX: usize = 3;

#[cfg(test)]
mod tests;
