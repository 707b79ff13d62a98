// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which API endpoints are read from. Pure.
//!
//! `discovery.k8s.io` serves v1 since Kubernetes 1.21 and v1beta1 up to 1.24. Endpoints are the last resort: truncated at
//! 1,000 addresses, deprecated, and their controller may be off. So they are read only where no EndpointSlice API is
//! served, never because it has nothing to say.

use std::{fmt, str::FromStr};

/// The API that endpoints are read from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SliceApi {
    /// EndpointSlice of `discovery.k8s.io/v1`.
    V1,
    /// EndpointSlice of `discovery.k8s.io/v1beta1`.
    V1Beta1,
    /// Endpoints of `v1`.
    Endpoints,
}

impl SliceApi {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V1Beta1, Self::Endpoints];

    /// The word for files, the page and logs; what [`FromStr`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "discovery.k8s.io/v1",
            Self::V1Beta1 => "discovery.k8s.io/v1beta1",
            Self::Endpoints => "v1/endpoints",
        }
    }
}

impl fmt::Display for SliceApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no API that endpoints are read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it names no API that endpoints are read from")]
pub struct UnknownSliceApi;

impl FromStr for SliceApi {
    type Err = UnknownSliceApi;

    fn from_str(text: &str) -> Result<Self, UnknownSliceApi> {
        let known = Self::ALL.into_iter().find(|api| api.as_str() == text);
        known.ok_or(UnknownSliceApi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for api in SliceApi::ALL {
            assert_eq!(api.as_str().parse(), Ok(api));
        }
        assert_eq!("v2".parse::<SliceApi>(), Err(UnknownSliceApi));
    }
}
