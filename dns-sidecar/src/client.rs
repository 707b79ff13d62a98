// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a DNS server one question and reads its reply, for people and tests.
//!
//! In: a server, a name, a type. Out: the reply in readable sections, or why there is none. It asks once: no search list,
//! no second server, no change to TCP by itself.

use discovery_core::telemetry::DnsTransport;
use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{
        Name, Record, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// Why a question has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The text is no DNS name.
    #[error("{name:?} is no DNS name")]
    Name {
        /// The text.
        name: String,
    },
    /// The text is no type of records.
    #[error("{qtype:?} is no type of DNS records")]
    Type {
        /// The text.
        qtype: String,
    },
    /// The server did not reply in time.
    #[error("{server} did not reply within {} ms", timeout.as_millis())]
    Timeout {
        /// The server.
        server: SocketAddr,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The server could not be reached.
    #[error("{server} could not be asked")]
    Io {
        /// The server.
        server: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What the server sent is no reply to the question.
    #[error("{server} sent what is no reply to the question: {why}")]
    Malformed {
        /// The server.
        server: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
}

impl AskError {
    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Io { .. })
    }
}

/// A record in words.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ReplyRecord {
    /// Whose record it is, as the server spells it.
    pub owner: String,
    /// How long it may be kept.
    pub ttl_seconds: u32,
    /// Its type, such as `SRV`.
    pub rtype: String,
    /// What it says, such as `1 1 8080 0a000001.addr.mall-1.consul.`.
    pub data: String,
}

impl fmt::Display for ReplyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} IN {} {}",
            self.owner, self.ttl_seconds, self.rtype, self.data
        )
    }
}

/// A reply in words.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// The response code as RFCs write it, such as `NXDOMAIN`.
    pub rcode: String,
    /// Whether the server speaks as the authority (AA).
    pub is_authoritative: bool,
    /// Whether records were left out (TC): ask again over TCP.
    pub is_truncated: bool,
    /// The answer.
    pub answers: Vec<ReplyRecord>,
    /// The authority section: the SOA record of a "no".
    pub authorities: Vec<ReplyRecord>,
    /// The additional section: addresses of SRV targets.
    pub additionals: Vec<ReplyRecord>,
    /// The datagram size that the server states; none when it does not speak EDNS.
    pub udp_payload: Option<u16>,
    /// The code of an extended error (RFC 8914); 14 is "not ready".
    pub extended_error: Option<u16>,
    /// The size of the reply.
    pub bytes: usize,
    /// From question to reply.
    pub took: Duration,
}

/// Asks `server` for the records of type `qtype` of `name`, with EDNS.
///
/// ```no_run
/// use discovery_core::telemetry::DnsTransport;
/// use dns_sidecar::client::ask;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = "127.0.0.1:8600".parse()?;
/// let reply = ask(server, "web.service.consul", "SRV", DnsTransport::Udp, Duration::from_secs(2)).await?;
/// for record in &reply.answers {
///     println!("{record}");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn ask(
    server: SocketAddr,
    name: &str,
    qtype: &str,
    transport: DnsTransport,
    timeout: Duration,
) -> Result<Reply, AskError> {
    let question = Question::new(name, qtype)?;
    let started = Instant::now();
    let exchange = async {
        match transport {
            DnsTransport::Udp => question.ask_udp(server).await,
            _ => question.ask_tcp(server).await,
        }
    };
    let received = match tokio::time::timeout(timeout, exchange).await {
        Ok(received) => received.map_err(|source| AskError::Io { server, source })?,
        Err(_) => return Err(AskError::Timeout { server, timeout }),
    };
    let malformed = |why| AskError::Malformed { server, why };
    let message = Message::from_vec(&received).map_err(|error| malformed(error.to_string()))?;
    if !question.is_answered_by(&message) {
        return Err(malformed("its id or question is another".to_owned()));
    }
    Ok(Reply::new(&message, received.len(), started.elapsed()))
}

/// A question ready to be sent.
#[derive(Debug)]
struct Question {
    message: Message,
    bytes: Vec<u8>,
}

impl Question {
    fn new(name: &str, qtype: &str) -> Result<Self, AskError> {
        let refuse = || AskError::Name {
            name: name.to_owned(),
        };
        let mut asked = Name::from_ascii(name).map_err(|_| refuse())?;
        asked.set_fqdn(true);
        let rtype =
            RecordType::from_str(&qtype.to_ascii_uppercase()).map_err(|_| AskError::Type {
                qtype: qtype.to_owned(),
            })?;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD_BYTES);
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(asked, rtype)).set_edns(edns);
        let bytes = message.to_vec().map_err(|_| refuse())?;
        Ok(Self { message, bytes })
    }

    /// The first datagram that answers the question; others are passed over.
    async fn ask_udp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&self.bytes).await?;
        let mut received = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut received).await?;
            let datagram = received.get(..length).unwrap_or_default();
            if Message::from_vec(datagram).is_ok_and(|message| self.is_answered_by(&message)) {
                return Ok(datagram.to_vec());
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes()[..], &self.bytes].concat())
            .await?;
        let mut received = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut received).await?;
        Ok(received)
    }

    /// A refusal may come without the question.
    fn is_answered_by(&self, message: &Message) -> bool {
        message.metadata.id == self.message.metadata.id
            && (message.queries.is_empty() || message.queries == self.message.queries)
    }
}

impl Reply {
    fn new(message: &Message, bytes: usize, took: Duration) -> Self {
        let words = |records: &[Record]| records.iter().map(ReplyRecord::new).collect();
        Self {
            rcode: rcode_word(message.metadata.response_code.into()),
            is_authoritative: message.metadata.authoritative,
            is_truncated: message.metadata.truncation,
            answers: words(&message.answers),
            authorities: words(&message.authorities),
            additionals: words(&message.additionals),
            udp_payload: message.edns.as_ref().map(Edns::max_payload),
            extended_error: message.edns.as_ref().and_then(extended_error),
            bytes,
            took,
        }
    }
}

impl ReplyRecord {
    fn new(record: &Record) -> Self {
        Self {
            owner: record.name.to_ascii(),
            ttl_seconds: record.ttl,
            rtype: record.record_type().to_string(),
            data: record.data.to_string(),
        }
    }
}

fn extended_error(edns: &Edns) -> Option<u16> {
    match edns.option(EdnsCode::Unknown(EXTENDED_ERROR))? {
        EdnsOption::Unknown(_, bytes) => Some(u16::from_be_bytes(*bytes.first_chunk()?)),
        _ => None,
    }
}

/// The words of the IANA registry.
fn rcode_word(code: u16) -> String {
    let word = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        other => return format!("RCODE{other}"),
    };
    word.to_owned()
}

/// RFC 8914.
const EXTENDED_ERROR: u16 = 15;
/// What no path fragments.
const UDP_PAYLOAD_BYTES: u16 = 1232;
