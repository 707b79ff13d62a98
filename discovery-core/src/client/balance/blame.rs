// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose fault it is how a try ended: what ejects an endpoint, and what does not.

/// Says whether the endpoint is to blame for how a try ended; what it is to blame for can eject it
/// ([`EjectRule`](crate::pick::EjectRule)). An error for which it is not to blame says nothing of it, an answer for which it is
/// not speaks for it. Every `Fn(Result<&T, &E>) -> bool` is one, and so is [`EveryError`].
///
/// An endpoint is not to blame for a request that makes no sense, for a client that gave up, nor for descriptors that this
/// process has run out of: each would eject one that is well.
///
/// ```
/// use discovery_core::client::BlameRule;
/// use std::io;
///
/// let rule = |ended: Result<&u16, &io::Error>| match ended {
///     Ok(status) => *status == 503,
///     Err(error) => error.kind() != io::ErrorKind::InvalidInput,
/// };
/// assert!(rule.is_to_blame(Ok(&503)) && !rule.is_to_blame(Ok(&404)));
/// ```
pub trait BlameRule<T, E> {
    /// Whether the endpoint failed.
    fn is_to_blame(&self, ended: Result<&T, &E>) -> bool;
}

impl<T, E, F: Fn(Result<&T, &E>) -> bool> BlameRule<T, E> for F {
    fn is_to_blame(&self, ended: Result<&T, &E>) -> bool {
        self(ended)
    }
}

/// An endpoint is to blame for every error and for no answer: where answers are judged by the inner service.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryError;

impl<T, E> BlameRule<T, E> for EveryError {
    fn is_to_blame(&self, ended: Result<&T, &E>) -> bool {
        ended.is_err()
    }
}
