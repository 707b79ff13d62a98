// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a Consul agent listens: `127.0.0.1:8500`, `http://…`, `https://…` or `unix:///path`.

use std::{fmt, path::PathBuf, str::FromStr};

/// The address of a Consul agent.
///
/// ```
/// use discovery_core::source::ConsulAddress;
///
/// let plain: ConsulAddress = "127.0.0.1:8500".parse().unwrap();
/// assert_eq!(plain.to_string(), "http://127.0.0.1:8500");
/// assert!("unix:///run/consul.sock".parse::<ConsulAddress>().is_ok());
/// assert!("ftp://consul".parse::<ConsulAddress>().is_err());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsulAddress(Place);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Host, port, and whether TLS is spoken.
    Tcp { host: String, port: u16, tls: bool },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why a text is no address of a Consul agent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no address of a Consul agent: {why}")]
pub struct ConsulAddressError {
    text: String,
    why: &'static str,
}

impl ConsulAddress {
    pub(super) fn place(&self) -> &Place {
        &self.0
    }

    /// Whether TLS is spoken, for which the certificate authority has to be known.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Place::Tcp { tls: true, .. })
    }

    /// The value of the header `Host`.
    pub(super) fn authority(&self) -> String {
        match &self.0 {
            Place::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for ConsulAddress {
    type Err = ConsulAddressError;

    fn from_str(text: &str) -> Result<Self, ConsulAddressError> {
        let refuse = |why| ConsulAddressError {
            text: text
                .chars()
                .filter(|c| !c.is_control())
                .take(TEXT_CHARS_MAX)
                .collect(),
            why,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let whole = path.starts_with('/');
            let place = whole.then(|| Self(Place::Unix(path.into())));
            return place.ok_or_else(|| {
                refuse("a socket is named by its whole path: unix:///run/consul.sock")
            });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (tls, default_port) = match scheme {
            "http" => (false, HTTP_PORT),
            "https" => (true, HTTPS_PORT),
            _ => return Err(refuse("the schemes are http, https and unix")),
        };
        let authority: http::uri::Authority = rest
            .trim_end_matches('/')
            .parse()
            .map_err(|_| refuse("it is not host:port"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it holds credentials; Consul takes a token"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(refuse("it names no host"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            _ => authority
                .port_u16()
                .ok_or_else(|| refuse("its port is no number"))?,
        };
        let host = host.to_owned();
        Ok(Self(Place::Tcp { host, port, tls }))
    }
}

impl fmt::Display for ConsulAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Tcp { tls, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{}", self.authority())
            }
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Consul's own defaults.
const HTTP_PORT: u16 = 8500;
const HTTPS_PORT: u16 = 8501;
const TEXT_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("consul", "http://consul:8500"),
            ("http://consul/", "http://consul:8500"),
            ("https://consul.mall-1", "https://consul.mall-1:8501"),
            ("https://[fd00::1]:9501", "https://[fd00::1]:9501"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
        ] {
            let address: ConsulAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "http://",
            "ftp://consul",
            "consul:port",
            "consul:99999",
            "unix://run/consul.sock",
            "http://me:secret@consul",
            "http://consul/v1",
            "a b",
        ] {
            assert!(bad.parse::<ConsulAddress>().is_err(), "{bad:?}");
        }
    }
}
