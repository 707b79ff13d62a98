// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which Consul is spoken: the one that was recorded, or that one without its faults.

use serde::Deserialize;
use std::{fmt, str::FromStr};

/// How closely Consul 1.8.7 is followed.
///
/// Decision record 0060 lists every difference between the two.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// What callers rely on, with the faults replaced by what the RFCs ask. The default.
    #[default]
    Modern,
    /// What Consul 1.8.7 answers, faults included, but for those that harm others: no reply is larger than the client takes,
    /// and none is withheld for its size.
    Compat,
}

impl Profile {
    /// Whether the faults are kept.
    pub fn is_compat(self) -> bool {
        self == Self::Compat
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "modern" => Ok(Self::Modern),
            "compat" => Ok(Self::Compat),
            other => Err(format!("profile {other:?} is neither modern nor compat")),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modern => "modern",
            Self::Compat => "compat",
        })
    }
}
