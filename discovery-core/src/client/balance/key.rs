// SPDX-License-Identifier: MIT OR Apache-2.0
//! What makes requests belong together, read from the request.

use crate::hash::HashKey;
use http::{HeaderName, Request};

/// Tells the key of a request. Every `Fn(&R) -> HashKey` is one, and so is [`HeaderKey`].
pub trait RequestKey<R> {
    /// The key; none for a request that may go to anybody.
    fn key(&self, request: &R) -> Option<HashKey>;
}

impl<R, F: Fn(&R) -> HashKey> RequestKey<R> for F {
    fn key(&self, request: &R) -> Option<HashKey> {
        Some(self(request))
    }
}

/// The value of a header is the key; a request without it goes to the less busy of two.
///
/// ```
/// use discovery_core::{client::{HeaderKey, RequestKey as _}, hash::HashKey};
///
/// let by_user = HeaderKey::new(http::HeaderName::from_static("x-user"));
/// let request = http::Request::get("/cart").header("x-user", "ann").body(()).unwrap();
/// assert_eq!(by_user.key(&request), Some(HashKey::of(b"ann")));
/// assert_eq!(by_user.key(&http::Request::new(())), None);
/// ```
#[derive(Clone, Debug)]
pub struct HeaderKey {
    name: HeaderName,
}

impl HeaderKey {
    /// The key by the first header of this name.
    pub fn new(name: HeaderName) -> Self {
        Self { name }
    }
}

impl<B> RequestKey<Request<B>> for HeaderKey {
    fn key(&self, request: &Request<B>) -> Option<HashKey> {
        let value = request.headers().get(&self.name)?;
        Some(HashKey::of(value.as_bytes()))
    }
}
