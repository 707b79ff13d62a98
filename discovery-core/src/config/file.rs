// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads one YAML file into a raw section tree, and says precisely what is wrong with it.

use serde::de::DeserializeOwned;
use std::{fmt, fs, io, path::Path};

/// Why a configuration file did not come into force.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than 1 MiB.
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: usize,
    },
    /// The file does not say what it should.
    Invalid {
        /// The file.
        path: String,
        /// Line and column, from 1; none when the whole file is meant.
        place: Option<(u64, u64)>,
        /// What is wrong.
        message: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
}

impl ConfigError {
    /// Whether the file itself could not be read, rather than what it says.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// The line that follows the place, for a person: what was probably meant.
    pub fn suggestion(&self) -> Option<&str> {
        match self {
            Self::Invalid { suggestion, .. } => suggestion.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "{path} cannot be read"),
            Self::TooLarge { path, bytes } => {
                write!(
                    f,
                    "{path} has {bytes} bytes, more than the {FILE_BYTES_MAX} of a configuration"
                )
            }
            Self::Invalid {
                path,
                place: Some((line, column)),
                message,
                ..
            } => {
                write!(f, "{path}:{line}:{column}: {message}")
            }
            Self::Invalid { path, message, .. } => write!(f, "{path}: {message}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Reads a YAML (or JSON) file into `T`.
///
/// # Errors
/// When the file cannot be read, is larger than 1 MiB, is no UTF-8, or does not fit `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| ConfigError::Io {
        path: name.clone(),
        source,
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: name,
            bytes: bytes.len(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::Invalid {
        path: name.clone(),
        place: None,
        message: format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()),
        suggestion: None,
    })?;
    parse(&name, &text)
}

/// Reads YAML text into `T`; `name` stands for the file in errors.
///
/// An empty text is an empty mapping, so that every default holds.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Zone {
///     #[allow(dead_code)]
///     policy: String,
/// }
///
/// let error = discovery_core::config::parse::<Zone>("zonal.yaml", "polcy: strict\n").unwrap_err();
/// assert_eq!(error.to_string(), "zonal.yaml:1:1: unknown key `polcy`");
/// assert_eq!(error.suggestion(), Some("did you mean `policy`? Keys here: policy"));
/// ```
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    let is_empty = text
        .lines()
        .all(|line| line.trim_start().starts_with('#') || line.trim().is_empty());
    let text = if is_empty { "{}" } else { text };
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|at| (at.line(), at.column()));
        let (message, suggestion) = match error {
            serde_saphyr::Error::SerdeUnknownField {
                field, expected, ..
            } => (
                format!("unknown key `{field}`"),
                Some(suggest(field, expected)),
            ),
            // The place stands before the message already.
            error => {
                let message = error.to_string();
                (
                    message
                        .split(" at line ")
                        .next()
                        .unwrap_or(&message)
                        .to_owned(),
                    None,
                )
            }
        };
        ConfigError::Invalid {
            path: name.to_owned(),
            place,
            message,
            suggestion,
        }
    })
}

/// The nearest known key, if one is near, and all of them.
fn suggest(unknown: &str, known: &[&str]) -> String {
    let keys = format!("Keys here: {}", known.join(", "));
    let distances = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key));
    match distances
        .filter(|(distance, key)| *distance <= key.len().div_ceil(3))
        .min()
    {
        Some((_, key)) => format!("did you mean `{key}`? {keys}"),
        None => keys,
    }
}

/// More is not a configuration.
const FILE_BYTES_MAX: usize = 1024 * 1024;
