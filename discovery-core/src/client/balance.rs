// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `tower::Service` that chooses the endpoint after it has seen the request.
//!
//! tower's own balancer picks in `poll_ready`, before there is a request, and thus cannot pick by key. This one is always
//! ready, asks the request for its key, and hands request and address to the inner service. When that fails it goes to
//! the next candidate of the ring, never to the same endpoint again.

use crate::{
    hash::HashKey,
    pick::{InFlight, PickError, Picker},
    store::Endpoint,
};
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
    Pick(#[source] PickError),
    /// The endpoints have no port of the name that was asked for.
    #[error("no endpoint has a port named {port:?}")]
    NoPort {
        /// The port's name.
        port: String,
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

/// Sends each request to the owner of its key, and to the next candidates when that fails.
///
/// `inner` takes a [`Dispatch`]; an error of it moves the request to the next candidate, so `inner` should report as
/// errors only failures after which the request may be sent again. A request is cloned once for each candidate but the
/// last.
///
/// ```
/// # use discovery_core::{model::NodeName, pick::Picker, store::{StateConfig, channel}};
/// use discovery_core::{client::{Balance, Dispatch}, hash::HashKey};
/// use tower::{ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let picker = Picker::new(reader, "web".parse().unwrap());
/// let send = service_fn(|to: Dispatch<String>| async move { Ok::<_, std::io::Error>(to.request) });
/// let balance = Balance::new(picker, |user: &String| HashKey::of(user.as_bytes()), send);
/// let error = balance.oneshot("ann".to_owned()).await.unwrap_err();
/// assert_eq!(error.to_string(), "no endpoint for the request");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Balance<K, S> {
    picker: Picker,
    key: K,
    inner: S,
    port: Option<Arc<str>>,
    attempts_max: usize,
}

impl<K, S> Balance<K, S> {
    /// Balances over the picker's service; `key` tells what makes requests belong together.
    pub fn new(picker: Picker, key: K, inner: S) -> Self {
        Self {
            picker,
            key,
            inner,
            port: None,
            attempts_max: ATTEMPTS_MAX,
        }
    }

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

    /// The candidates of the key; each is counted in flight only while it is tried.
    fn plan(&mut self, key: HashKey) -> Result<Vec<Arc<Endpoint>>, PickError> {
        Ok(self
            .picker
            .candidates(key)?
            .take(self.attempts_max)
            .cloned()
            .collect())
    }
}

impl<R, K, S> tower::Service<R> for Balance<K, S>
where
    R: Clone + Send + 'static,
    K: Fn(&R) -> HashKey,
    S: tower::Service<Dispatch<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = BalanceError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    /// Always ready: who will be asked is known only once the request is seen.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let plan = self.plan((self.key)(&request));
        let (inner, port) = (self.inner.clone(), self.port.clone());
        Box::pin(async move {
            let plan = plan.map_err(BalanceError::Pick)?;
            try_in_order(plan, inner, port.as_deref(), request).await
        })
    }
}

async fn try_in_order<R, S>(
    plan: Vec<Arc<Endpoint>>,
    mut inner: S,
    port: Option<&str>,
    request: R,
) -> Result<S::Response, BalanceError<S::Error>>
where
    R: Clone,
    S: tower::Service<Dispatch<R>>,
{
    let mut last = None;
    let mut attempts = 0;
    for endpoint in plan {
        let Some(address) = endpoint.socket(port) else {
            continue;
        };
        let in_flight = InFlight::new(&endpoint);
        attempts += 1;
        let dispatch = Dispatch {
            address,
            endpoint: endpoint.clone(),
            request: request.clone(),
        };
        match tower::ServiceExt::ready(&mut inner).await {
            Ok(ready) => match ready.call(dispatch).await {
                Ok(response) => return Ok(response),
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
        drop(in_flight);
    }
    Err(match last {
        Some(last) => BalanceError::Exhausted { attempts, last },
        None => BalanceError::NoPort {
            port: port.unwrap_or_default().to_owned(),
        },
    })
}

/// Candidates that a request is sent to unless told otherwise.
const ATTEMPTS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::testing::{reader, view};
    use std::sync::Mutex;
    use tower::{ServiceExt as _, service_fn};

    fn picker(count: usize) -> Picker {
        Picker::new(reader(count, &[]), "web".parse().unwrap())
    }

    fn key(request: &&'static str) -> HashKey {
        HashKey::of(request.as_bytes())
    }

    #[tokio::test]
    async fn a_failed_request_goes_to_the_next_candidates_and_never_twice_to_one() {
        let tried = Arc::new(Mutex::new(Vec::new()));
        let log = tried.clone();
        let failing = service_fn(move |to: Dispatch<&'static str>| {
            log.lock().unwrap().push(to.endpoint.identity().clone());
            async { Err::<(), _>(std::io::Error::other("down")) }
        });
        let error = Balance::new(picker(5), key, failing)
            .oneshot("ann")
            .await
            .unwrap_err();
        assert!(
            matches!(error, BalanceError::Exhausted { attempts: 3, .. }),
            "{error}"
        );
        let view = view(5, &[]);
        let expected: Vec<_> = crate::pick::candidates(&view, HashKey::of(b"ann"))
            .take(3)
            .map(|endpoint| endpoint.identity().clone())
            .collect();
        assert_eq!(*tried.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn the_answer_of_the_second_candidate_is_the_answer() {
        let calls = Arc::new(Mutex::new(0));
        let second = service_fn(move |to: Dispatch<&'static str>| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            let answer = if *calls == 1 {
                Err(std::io::Error::other("down"))
            } else {
                Ok(to.request)
            };
            async { answer }
        });
        let balance = Balance::new(picker(5), key, second);
        assert_eq!(balance.oneshot("ann").await.unwrap(), "ann");
    }

    #[tokio::test]
    async fn a_port_that_nobody_has_is_named() {
        let unused = service_fn(|_: Dispatch<&'static str>| async { Ok::<_, std::io::Error>(()) });
        let error = Balance::new(picker(2), key, unused)
            .port("grpc")
            .oneshot("ann")
            .await
            .unwrap_err();
        assert!(matches!(error, BalanceError::NoPort { port } if port == "grpc"));
    }
}
