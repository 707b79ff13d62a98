// SPDX-License-Identifier: MIT OR Apache-2.0
//! One service per endpoint, made when the first request goes there: tower's `MakeService`, for a balancer that chooses
//! after it has seen the request.

use super::Dispatch;
use crate::store::{Endpoint, Load};
use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::OnceCell, time::Instant};
use tower::{Service, ServiceExt as _};

/// To whom a service is to be made.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who it is.
    pub endpoint: Arc<Endpoint>,
}

/// Why a pooled request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError<C, E> {
    /// No connection: nothing was sent.
    #[error("the endpoint cannot be connected")]
    Connect(#[source] C),
    /// The connected service failed.
    #[error("the connected endpoint failed")]
    Call(#[source] E),
}

/// Keeps one `S` for each endpoint, made by `M` from a [`Target`] when it is first needed.
///
/// Those who need the same one at once wait for one to be made. One that fails, or was not used for a minute, is let go;
/// above the limit the one unused for longest is. An endpoint that comes back as another pod is another one.
///
/// ```
/// use discovery_core::client::{Dispatch, Pool, Target};
/// use tower::service_fn;
///
/// let make = service_fn(|to: Target| async move {
///     println!("connecting to {}", to.address);
///     Ok::<_, std::io::Error>(service_fn(|request: String| async move { Ok::<_, std::io::Error>(request) }))
/// });
/// let pool = Pool::new(make).connections_max(64);
/// # fn is_inner<S: tower::Service<Dispatch<String>, Response = String> + Clone>(_: S) {}
/// # is_inner(pool);
/// ```
#[derive(Debug)]
pub struct Pool<M, S> {
    make: M,
    // Guards the connections by endpoint; held for a look-up, never across an await.
    connections: Arc<Mutex<HashMap<Place, Connection<S>>>>,
    limit: usize,
}

/// The address, and the counters that hang on the pod behind it.
type Place = (SocketAddr, usize);

#[derive(Debug)]
struct Connection<S> {
    service: Arc<OnceCell<S>>,
    used: Instant,
    /// Kept so that no other pod's counters take their place in memory.
    _pod: Arc<Load>,
}

impl<M, S> Pool<M, S> {
    /// A pool of at most 1,024 services, each made by `make`.
    pub fn new(make: M) -> Self {
        Self {
            make,
            connections: Arc::default(),
            limit: CONNECTIONS_MAX,
        }
    }

    /// Keeps at most this many, at least 1.
    #[must_use]
    pub fn connections_max(mut self, limit: usize) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Services that are kept now.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cell(&self, place: Place, pod: &Arc<Load>) -> Arc<OnceCell<S>> {
        let mut connections = self.lock();
        let now = Instant::now();
        if let Some(connection) = connections.get_mut(&place) {
            connection.used = now;
            return connection.service.clone();
        }
        connections.retain(|_, connection| now - connection.used < IDLE_MAX);
        if connections.len() >= self.limit {
            let oldest = connections.iter().min_by_key(|(_, c)| c.used);
            if let Some(oldest) = oldest.map(|(place, _)| *place) {
                connections.remove(&oldest);
            }
        }
        let service = Arc::new(OnceCell::new());
        let connection = Connection {
            service: service.clone(),
            used: now,
            _pod: pod.clone(),
        };
        connections.insert(place, connection);
        service
    }

    /// Lets go of the service, unless another has taken its place.
    fn forget(&self, place: Place, cell: &Arc<OnceCell<S>>) {
        let mut connections = self.lock();
        let is_it = |connection: &Connection<S>| Arc::ptr_eq(&connection.service, cell);
        if connections.get(&place).is_some_and(is_it) {
            connections.remove(&place);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Connection<S>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Clone, S> Clone for Pool<M, S> {
    fn clone(&self) -> Self {
        Self {
            make: self.make.clone(),
            connections: self.connections.clone(),
            limit: self.limit,
        }
    }
}

impl<R, M, S> Service<Dispatch<R>> for Pool<M, S>
where
    R: Send + 'static,
    M: Service<Target, Response = S> + Clone + Send + 'static,
    M::Future: Send,
    M::Error: Send,
    S: Service<R> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = PoolError<M::Error, S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, dispatch: Dispatch<R>) -> Self::Future {
        let pod = dispatch.endpoint.load();
        let place = (dispatch.address, Arc::as_ptr(pod) as usize);
        let (pool, cell) = (self.clone(), self.cell(place, pod));
        Box::pin(async move {
            let target = Target {
                address: dispatch.address,
                endpoint: dispatch.endpoint,
            };
            let make = pool.make.clone();
            let made = cell.get_or_try_init(|| make.oneshot(target)).await.cloned();
            let service = made.map_err(|error| {
                pool.forget(place, &cell);
                PoolError::Connect(error)
            })?;
            let answer = service.oneshot(dispatch.request).await;
            answer.map_err(|error| {
                pool.forget(place, &cell);
                PoolError::Call(error)
            })
        })
    }
}

const CONNECTIONS_MAX: usize = 1_024;
/// Long beside the pause between two requests of a busy key, short beside the life of a pod.
const IDLE_MAX: Duration = Duration::from_secs(60);
