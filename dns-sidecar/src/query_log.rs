// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who asked what, for a person who looks into a failure: off, or for some questions.
//!
//! A worker puts what is to be told into a bounded queue and goes on; a task of its own writes it. What does not fit is
//! dropped and counted: answers never wait for a log. Names are escaped as in a zone file, so that nobody writes lines of
//! their own (RFC 4343 2.1).

use crate::{
    Network,
    answer::Answered,
    wire::{HEADER_BYTES, LABEL_BYTES_MAX},
};
use discovery_core::telemetry::{DnsMetrics, DnsQueryType, DnsRcode, DnsTransport};
use std::{fmt::Write as _, net::IpAddr, num::NonZeroU32, str::FromStr, sync::Arc};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// Which questions are told.
///
/// ```
/// use dns_sidecar::QueryLog;
///
/// assert!("errors".parse::<QueryLog>().is_ok());
/// assert!("sample:100".parse::<QueryLog>().is_ok(), "one in a hundred");
/// assert!("client:10.4.0.0/16".parse::<QueryLog>().is_ok(), "all of that network");
/// assert!("sample:0".parse::<QueryLog>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum QueryLog {
    /// None. The default.
    #[default]
    Off,
    /// Those whose answer is an error: neither an answer nor that there is no such name.
    Errors,
    /// One in so many.
    Sample(NonZeroU32),
    /// Those of a network.
    Client(Network),
}

impl FromStr for QueryLog {
    type Err = String;

    /// Reads `off`, `errors`, `sample:N` or `client:NETWORK`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is none of off, errors, sample:100, client:10.4.0.0/16");
        match text.split_once(':') {
            None if text == "off" => Ok(Self::Off),
            None if text == "errors" => Ok(Self::Errors),
            Some(("sample", one_in)) => one_in.parse().map(Self::Sample).map_err(|_| refuse()),
            Some(("client", network)) => network.parse().map(Self::Client),
            _ => Err(refuse()),
        }
    }
}

/// One worker's way to the log. Clones count their samples each for themselves.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    which: QueryLog,
    /// Questions until the next sample.
    until_sample: u32,
    queue: mpsc::Sender<Entry>,
    metrics: Arc<DnsMetrics>,
}

/// A question and its answer.
#[derive(Debug)]
struct Entry {
    client: IpAddr,
    transport: DnsTransport,
    qtype: DnsQueryType,
    rcode: DnsRcode,
    name: String,
}

/// What the workers tell, to be written.
#[derive(Debug)]
pub(crate) struct Writing(mpsc::Receiver<Entry>);

/// Both ends of the queue; none when nothing is told.
pub(crate) fn query_log(which: QueryLog, metrics: &Arc<DnsMetrics>) -> Option<(Told, Writing)> {
    if which == QueryLog::Off {
        return None;
    }
    let (queue, written) = mpsc::channel(WAITING_MAX);
    let told = Told {
        which,
        until_sample: 0,
        queue,
        metrics: metrics.clone(),
    };
    Some((told, Writing(written)))
}

impl Told {
    /// Tells of a question, if it is one to tell.
    pub(crate) fn note(
        &mut self,
        client: IpAddr,
        transport: DnsTransport,
        request: &[u8],
        answered: Answered,
    ) {
        if !self.is_told(client, answered.rcode) {
            return;
        }
        // A place first: what is dropped costs no text.
        match self.queue.try_reserve() {
            Ok(place) => place.send(Entry {
                client,
                transport,
                qtype: answered.qtype,
                rcode: answered.rcode,
                name: name(request),
            }),
            Err(TrySendError::Full(()) | TrySendError::Closed(())) => self.metrics.untold(),
        }
    }

    fn is_told(&mut self, client: IpAddr, rcode: DnsRcode) -> bool {
        match self.which {
            QueryLog::Off => false,
            QueryLog::Errors => !matches!(rcode, DnsRcode::NoError | DnsRcode::NxDomain),
            QueryLog::Client(network) => network.contains(client),
            QueryLog::Sample(one_in) => {
                let is_due = self.until_sample == 0;
                self.until_sample = if is_due {
                    one_in.get() - 1
                } else {
                    self.until_sample - 1
                };
                is_due
            }
        }
    }
}

impl Writing {
    /// Writes until it is told to stop, and then what still waits.
    pub(crate) async fn write(mut self, stop: CancellationToken) {
        loop {
            let entry = tokio::select! {
                () = stop.cancelled() => self.0.try_recv().ok(),
                entry = self.0.recv() => entry,
            };
            let Some(entry) = entry else { return };
            tracing::info!(
                client = %entry.client,
                name = entry.name,
                qtype = entry.qtype.as_str(),
                rcode = entry.rcode.as_str(),
                transport = entry.transport.as_str(),
                "DNS question"
            );
        }
    }
}

/// The name of the first question as a zone file has it (RFC 1035 5.1); what cannot be read is a question mark.
fn name(request: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = request.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first() {
        let length = usize::from(*length);
        let Some((label, behind)) = behind.split_at_checked(length) else {
            break;
        };
        if length == 0 {
            return if text.is_empty() {
                ".".to_owned()
            } else {
                text
            };
        }
        if length > LABEL_BYTES_MAX || text.len() > NAME_CHARACTERS_MAX {
            break;
        }
        for byte in label {
            match byte {
                b'.' | b'\\' | b'"' => text.extend(['\\', char::from(*byte)]),
                b'!'..=b'~' => text.push(char::from(*byte)),
                other => {
                    let _ = write!(text, "\\{other:03}");
                }
            }
        }
        text.push('.');
        rest = behind;
    }
    "?".to_owned()
}

/// Some 200 kB at most.
const WAITING_MAX: usize = 1_024;
/// A name of 255 bytes of which each is escaped.
const NAME_CHARACTERS_MAX: usize = 1_020;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(labels: &[u8]) -> Vec<u8> {
        [&[0; 12][..], labels, &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn names_are_escaped_as_in_a_zone_file() {
        for (labels, text) in [
            (&b"\x03wEb\x06consul\0"[..], "wEb.consul."),
            (b"\0", "."),
            (b"\x05a.\n\xff\\\0", "a\\.\\010\\255\\\\."),
            (b"\x03we", "?"),
            (b"\xc0\x0c", "?"),
        ] {
            assert_eq!(name(&request(labels)), text);
        }
        assert_eq!(name(&[0; 5]), "?");
    }

    fn answered(rcode: DnsRcode) -> Answered {
        Answered {
            qtype: DnsQueryType::A,
            rcode,
            is_truncated: false,
            is_stale: false,
        }
    }

    /// How many of some questions are told.
    fn count(which: &str, questions: u32) -> usize {
        let metrics = Arc::new(DnsMetrics::default());
        let log = query_log(which.parse().unwrap(), &metrics);
        let Some((mut told, mut writing)) = log else {
            return 0;
        };
        let request = request(b"\x03web\0");
        for number in 0..questions {
            let client = IpAddr::from([10, 4, 0, u8::from(number % 2 == 0)]);
            let rcode = [DnsRcode::NoError, DnsRcode::NxDomain, DnsRcode::ServFail];
            let rcode = rcode[number as usize % 3];
            told.note(client, DnsTransport::Udp, &request, answered(rcode));
        }
        std::iter::from_fn(|| writing.0.try_recv().ok()).count()
    }

    #[test]
    fn what_is_asked_for_is_told_and_no_more_than_the_queue_holds() {
        for (which, told) in [
            ("off", 0),
            ("errors", 100),
            ("sample:50", 6),
            ("sample:1", 300),
            ("client:10.4.0.1", 150),
            ("client:10.5.0.0/16", 0),
        ] {
            assert_eq!(count(which, 300), told, "{which}");
        }
        assert_eq!(count("sample:1", 5_000), WAITING_MAX);
        for bad in [
            "",
            "all",
            "sample:",
            "sample:x",
            "client:nowhere",
            "errors:1",
        ] {
            assert!(bad.parse::<QueryLog>().is_err(), "{bad:?}");
        }
    }
}
