// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the endpoints of a service are to be picked, as its annotations ask: shared facts, the same at every caller.

use super::{ModelError, PlacementWish, Weights};
use serde::{Deserialize, Serialize};
use std::{str::FromStr, time::Duration};

/// The wishes of a service about picking; what it leaves open is decided by the caller's configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Balancing {
    /// What the key of a connection is (`zonal.dev/hash-on`); none leaves it to the face.
    pub hash_on: Option<HashOn>,
    /// Which function places keys (`zonal.dev/hash-algorithm`); `ring/v1` unless it says otherwise.
    pub placement: PlacementWish,
    /// How endpoints are picked without a key (`zonal.dev/balance`); by requests in flight unless it says otherwise.
    pub without_key: WithoutKey,
    /// How far above the mean one endpoint may be loaded (`zonal.dev/bounded-load`); none means no bound.
    pub load_factor: Option<LoadFactor>,
    /// How long a new endpoint takes to reach its full share (`zonal.dev/slow-start`); none means at once.
    pub slow_start: Option<SlowStart>,
    /// From which usable share of the own zone on keys spill over, under policy `prefer` (`zonal.dev/spill-below`); none
    /// means only when nothing is usable.
    pub spill_below: Option<SpillBelow>,
    /// The weights of its endpoints (`zonal.dev/weights`).
    pub weights: Weights,
}

/// What makes connections belong together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashOn {
    /// The client's address.
    SourceIp,
    /// The client's address and port: each connection by itself.
    SourceIpPort,
    /// The key that the caller gives; a face that sees none picks without a key.
    Key,
    /// Nothing.
    None,
}

impl FromStr for HashOn {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "source-ip" => Ok(Self::SourceIp),
            "source-ip-port" => Ok(Self::SourceIpPort),
            "key" => Ok(Self::Key),
            "none" => Ok(Self::None),
            _ => Err(ModelError::new(
                "hash key",
                text,
                "the keys are source-ip, source-ip-port, key and none",
            )),
        }
    }
}

/// How endpoints are picked where no key says.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutKey {
    /// The less busy of two random ones. The default.
    #[default]
    LeastRequests,
    /// The one of two random ones that should answer sooner: latency, decaying from its peaks, times requests in flight.
    Ewma,
    /// In turn, smoothly by weight.
    RoundRobin,
    /// At random by weight.
    Random,
}

impl FromStr for WithoutKey {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "least-requests" => Ok(Self::LeastRequests),
            "ewma" => Ok(Self::Ewma),
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            _ => Err(ModelError::new(
                "balance",
                text,
                "the ways are least-requests, ewma, round-robin and random",
            )),
        }
    }
}

/// How many times the mean one endpoint may have in flight, in hundredths: more than 1.00, at most 100.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LoadFactor(u32);

impl LoadFactor {
    /// A factor in hundredths; none unless above 100 and at most 10,000.
    pub fn new(percent: u32) -> Option<Self> {
        matches!(percent, 101..=10_000).then_some(Self(percent))
    }

    /// In hundredths.
    pub fn percent(self) -> u32 {
        self.0
    }
}

impl FromStr for LoadFactor {
    type Err = ModelError;

    /// Reads `1.25`.
    ///
    /// ```
    /// use discovery_core::model::LoadFactor;
    ///
    /// assert_eq!("1.25".parse(), Ok(LoadFactor::new(125).unwrap()));
    /// assert!("1".parse::<LoadFactor>().is_err(), "the mean itself cannot be kept");
    /// ```
    fn from_str(text: &str) -> Result<Self, ModelError> {
        hundredths(text).and_then(Self::new).ok_or_else(|| {
            ModelError::new(
                "load factor",
                text,
                "it is a number such as 1.25, above 1 and at most 100, of two decimals at most",
            )
        })
    }
}

impl TryFrom<u32> for LoadFactor {
    type Error = String;

    fn try_from(percent: u32) -> Result<Self, String> {
        Self::new(percent).ok_or_else(|| format!("load factor {percent} % is out of range"))
    }
}

impl From<LoadFactor> for u32 {
    fn from(factor: LoadFactor) -> Self {
        factor.0
    }
}

/// A decimal of at most two decimals, in hundredths.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(rest) || rest.len() > 2 {
        return None;
    }
    let cents: u32 = rest.parse().ok()?;
    let cents = if rest.len() == 1 { cents * 10 } else { cents };
    whole
        .parse::<u32>()
        .ok()?
        .checked_mul(100)?
        .checked_add(cents)
}

/// How long a new endpoint takes to reach its full share: 1 s to 1 h.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SlowStart(u32);

impl SlowStart {
    /// A window of whole seconds; none unless 1 to 3,600.
    pub fn new(seconds: u32) -> Option<Self> {
        matches!(seconds, 1..=3_600).then_some(Self(seconds))
    }

    /// The window.
    pub fn window(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl FromStr for SlowStart {
    type Err = ModelError;

    /// Reads `30s` or `2m`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let seconds = || {
            let unit = text.chars().next_back()?;
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            match unit {
                's' => Some(number),
                'm' => number.checked_mul(60),
                'h' => number.checked_mul(3_600),
                _ => None,
            }
        };
        seconds().and_then(Self::new).ok_or_else(|| {
            ModelError::new(
                "slow start",
                text,
                "it is a duration such as 30s, from 1s to 1h",
            )
        })
    }
}

impl TryFrom<u32> for SlowStart {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        Self::new(seconds).ok_or_else(|| format!("a slow start of {seconds} s is out of range"))
    }
}

impl From<SlowStart> for u32 {
    fn from(window: SlowStart) -> Self {
        window.0
    }
}

/// The usable share of the own zone, in percent, below which keys spill over: 1 to 100.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SpillBelow(u32);

impl SpillBelow {
    /// A share in percent; none unless 1 to 100.
    pub fn new(percent: u32) -> Option<Self> {
        matches!(percent, 1..=100).then_some(Self(percent))
    }

    /// In percent.
    pub fn percent(self) -> u32 {
        self.0
    }
}

impl FromStr for SpillBelow {
    type Err = ModelError;

    /// Reads `70` or `70%`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let number = text.strip_suffix('%').unwrap_or(text).parse();
        number.ok().and_then(Self::new).ok_or_else(|| {
            ModelError::new("spill threshold", text, "it is a percentage from 1 to 100")
        })
    }
}

impl TryFrom<u32> for SpillBelow {
    type Error = String;

    fn try_from(percent: u32) -> Result<Self, String> {
        Self::new(percent)
            .ok_or_else(|| format!("a spill threshold of {percent} % is out of range"))
    }
}

impl From<SpillBelow> for u32 {
    fn from(share: SpillBelow) -> Self {
        share.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_factors_are_decimals_above_one() {
        for (text, percent) in [
            ("1.25", 125),
            ("2", 200),
            ("1.5", 150),
            ("1.01", 101),
            ("100", 10_000),
        ] {
            assert_eq!(
                text.parse::<LoadFactor>().unwrap().percent(),
                percent,
                "{text}"
            );
        }
        for bad in [
            "",
            ".",
            "1",
            "1.",
            ".5",
            "0.5",
            "1.255",
            "-2",
            "1e3",
            "100.01",
            "4294967296",
            "NaN",
        ] {
            assert!(bad.parse::<LoadFactor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn absurd_windows_and_thresholds_are_refused() {
        assert_eq!(
            "2m".parse::<SlowStart>().unwrap().window(),
            Duration::from_secs(120)
        );
        for bad in [
            "",
            "0s",
            "30",
            "s",
            "2h",
            "5ms",
            "4294967296s",
            "30ß",
            "-1s",
        ] {
            assert!(bad.parse::<SlowStart>().is_err(), "{bad}");
        }
        assert_eq!("70%".parse::<SpillBelow>().unwrap().percent(), 70);
        for bad in ["", "0", "101", "70%%", "x"] {
            assert!(bad.parse::<SpillBelow>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_service_asks_for_survives_the_disk() {
        let asked = Balancing {
            hash_on: Some(HashOn::SourceIp),
            placement: "ring/v9".into(),
            without_key: WithoutKey::Ewma,
            load_factor: LoadFactor::new(150),
            slow_start: SlowStart::new(30),
            spill_below: SpillBelow::new(70),
            weights: "a-*=50".parse().unwrap(),
        };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<Balancing>(&text).unwrap(), asked);
        assert_eq!(
            serde_json::from_str::<Balancing>("{}").unwrap(),
            Balancing::default()
        );
    }
}
