// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services that could not have a name.

use discovery_core::model::ServiceName;
use std::fmt;

/// A service that could not have a name, and why.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unnamed {
    /// Another service has the name; the older one keeps it, of two of one age the one with the smaller `namespace/name`.
    Taken {
        /// The service without this name.
        service: ServiceName,
        /// The name.
        label: String,
        /// The service that has it.
        holder: ServiceName,
    },
    /// The name would be longer than the 63 bytes of a label.
    TooLong {
        /// The service without this name.
        service: ServiceName,
        /// The name.
        label: String,
    },
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken {
                service,
                label,
                holder,
            } => {
                write!(f, "{service} is not called {label}: {holder} has that name")
            }
            Self::TooLong { service, label } => {
                write!(
                    f,
                    "{service} is not called {label}: it is longer than 63 bytes"
                )
            }
        }
    }
}
