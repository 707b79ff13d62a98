// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many descriptors this process may have: as many as it is allowed, not as many as shells and supervisors give out.
//!
//! The soft limit is mostly 1,024, for programs that use `select`, which we do not; a proxy spends two on a connection. It is
//! raised once, before anything is sized by it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that holds; none where there is none.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the soft limit to the hard one, and says so.
pub(super) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        let now = before.current;
        return tracing::info!(
            descriptors_max = now,
            "Descriptor limit is as high as it may be"
        );
    }
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => {
            let (was, now) = (before.current, before.maximum);
            tracing::info!(was, descriptors_max = now, "Descriptor limit raised");
        }
        // Where an administrator has lowered fs.nr_open below the hard limit.
        Err(error) => {
            let soft = before.current;
            tracing::warn!(descriptors_max = soft, %error, "Descriptor limit cannot be raised");
        }
    }
}
