// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an adapter counts against an endpoint: answers by which it says that it cannot serve, and errors that are not ours.

use http::StatusCode;
use rustix::io::Errno;
use std::{error::Error as StdError, io};

/// Whether an answer says that who gave it cannot serve. Not 500: one bad request, sent again and again, would eject its
/// owner.
pub(super) fn says_it_cannot_serve(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether the error is of this process: a request that cannot be sent, or a resource that it has run out of.
pub(super) fn is_our_own(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_request = error.downcast_ref().is_some_and(::hyper::Error::is_user);
        if is_request || error.downcast_ref().is_some_and(is_exhaustion) {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_exhaustion(error: &io::Error) -> bool {
    let used_up = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::ADDRNOTAVAIL,
        Errno::NOBUFS,
        Errno::NOMEM,
    ];
    Errno::from_io_error(error).is_some_and(|error| used_up.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a request failed")]
    struct Failed(#[source] io::Error);

    #[test]
    fn descriptors_that_ran_out_are_our_own_and_a_refusal_is_not() {
        let failed = |error: Errno| Failed(io::Error::from_raw_os_error(error.raw_os_error()));
        assert!(is_our_own(&failed(Errno::MFILE)));
        assert!(!is_our_own(&failed(Errno::CONNREFUSED)));
        assert!(!is_our_own(&Failed(io::ErrorKind::TimedOut.into())));
    }
}
