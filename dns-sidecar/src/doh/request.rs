// SPDX-License-Identifier: MIT OR Apache-2.0
//! The question in a request over HTTP: in the query of a GET, or the body of a POST.

use super::MEDIA_TYPE;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::timeout;

/// The message that is asked with; else what HTTP says of it.
pub(super) async fn read_question(request: Request<Incoming>) -> Result<Bytes, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match *request.method() {
        Method::GET => question_of_query(request.uri().query()).map(Bytes::from),
        Method::POST => {
            let stated = request.headers().get(header::CONTENT_TYPE);
            if stated.is_none_or(|stated| stated.as_bytes() != MEDIA_TYPE.as_bytes()) {
                return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
            let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
            match timeout(BODY_WITHIN, body).await {
                Ok(Ok(body)) => Ok(body.to_bytes()),
                Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(StatusCode::PAYLOAD_TOO_LARGE)
                }
                Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
                Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
            }
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn question_of_query(query: Option<&str>) -> Result<Vec<u8>, StatusCode> {
    let mut pairs = query.unwrap_or_default().split('&');
    let dns = pairs.find_map(|pair| pair.strip_prefix("dns="));
    dns.and_then(decode).ok_or(StatusCode::BAD_REQUEST)
}

/// base64url (RFC 4648 5); padding, which RFC 8484 6 forbids, is looked away from.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | value(*digit)?;
        }
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let missing = u32::try_from(4 - group.len()).ok()?;
        let [_, taken @ ..] = (bits << (6 * missing)).to_be_bytes();
        bytes.extend_from_slice(taken.get(..whole)?);
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// What every client knows.
const PATH: &str = "/dns-query";
/// A question has 300 bytes, padded 512.
const BODY_BYTES_MAX: usize = 64 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8484 4.1.1.
    #[test]
    fn the_example_of_the_standard_is_decoded() {
        let query = "x=1&dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
        let question = question_of_query(Some(query)).unwrap();
        assert_eq!(question.len(), 33);
        assert_eq!(&question[12..], b"\x03www\x07example\x03com\0\0\x01\0\x01");
    }

    #[test]
    fn what_is_no_base64url_is_refused() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("AA", &[0]),
            ("_-8", &[255, 239]),
            ("AA==", &[0]),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text:?}");
        }
        for text in ["A", "AAAAA", "A+A=", "A/AA", "ä", "A A"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        assert_eq!(question_of_query(None), Err(StatusCode::BAD_REQUEST));
    }
}
