// SPDX-License-Identifier: MIT OR Apache-2.0
//! DNS over HTTPS (RFC 8484): a question in a GET or POST at `/dns-query`, the reply as over a connection.
//!
//! An answer of any code has status 200, and says for how long HTTP may keep it: no longer than DNS may. What is no
//! question at all is an error of HTTP.

mod request;

use crate::{
    Config, Index, Responder, Verdict,
    answer::{Answered, asked_type},
    cookie::Secret,
    forward::Forwarder,
    query_log::Told,
    tally::Tally,
    udp::now_seconds,
    web::{Face, TurnedAway},
    wire::ttl_places,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use discovery_core::telemetry::{
    DnsDrop, DnsMetrics, DnsPause, DnsQueryType, DnsShed, DnsTransport,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use request::read_question;
use std::{net::IpAddr, sync::Arc};

/// The face, as every connection shares it.
#[derive(Debug)]
pub(crate) struct Doh {
    pub(crate) config: Config,
    pub(crate) index: Arc<ArcSwap<Index>>,
    pub(crate) metrics: Arc<DnsMetrics>,
    pub(crate) forwarder: Forwarder,
    pub(crate) log: Option<Told>,
    pub(crate) secret: Option<Secret>,
}

impl Face for Doh {
    async fn answer(&self, request: Request<Incoming>, client: IpAddr) -> Response<Full<Bytes>> {
        match read_question(request).await {
            Ok(question) => self.reply_to(&question, client).await,
            Err(status) => {
                self.metrics.received(TRANSPORT, DnsQueryType::Unread);
                self.metrics.dropped(TRANSPORT, DnsDrop::Short);
                failure(status)
            }
        }
    }

    fn turned_away(&self, why: TurnedAway) {
        let reason = match why {
            TurnedAway::Denied => DnsDrop::Denied,
            TurnedAway::Source => DnsDrop::Connections,
            TurnedAway::Handshake => DnsDrop::Handshake,
            TurnedAway::Full => return self.metrics.paused(DnsPause::ConnectionsFull),
            TurnedAway::AcceptFailed => return self.metrics.paused(DnsPause::AcceptFailed),
        };
        self.metrics.received(TRANSPORT, DnsQueryType::Unread);
        self.metrics.dropped(TRANSPORT, reason);
    }
}

impl Doh {
    async fn reply_to(&self, question: &[u8], client: IpAddr) -> Response<Full<Bytes>> {
        let index = self.index.load_full();
        let mut responder = Responder::new(&self.config);
        responder.asking().by(client, self.secret);
        responder.asking().at(now_seconds());
        let mut tally = Tally::new(TRANSPORT);
        let mut reply = Vec::new();
        let verdict = responder.answer(&index, question, TRANSPORT, &mut reply);
        let answered = match verdict {
            Verdict::Answered(answered) => {
                tally.received(answered.qtype);
                Ok(answered)
            }
            Verdict::Dropped(reason) => {
                tally.dropped(reason);
                Err(StatusCode::BAD_REQUEST)
            }
            Verdict::Upstream(upstream) => {
                tally.received(asked_type(question));
                let place = self.forwarder.place(client);
                let asked = async {
                    let _place = place.ok_or(DnsShed::UpstreamFull)?;
                    let finished = self.forwarder.finish(
                        &index,
                        &mut responder,
                        question,
                        TRANSPORT,
                        upstream,
                    );
                    finished.await.ok_or(DnsShed::SendFailed)
                };
                match asked.await {
                    Ok(finished) => {
                        reply = finished.bytes;
                        Ok(finished.answered)
                    }
                    Err(reason) => {
                        tally.shed(reason);
                        Err(StatusCode::SERVICE_UNAVAILABLE)
                    }
                }
            }
        };
        if let Ok(answered) = answered {
            self.note(client, question, answered);
            tally.delivered(answered);
        }
        tally.hand_over(&self.metrics);
        answered.map_or_else(failure, |_| success(reply))
    }

    fn note(&self, client: IpAddr, question: &[u8], answered: Answered) {
        if let Some(log) = &self.log {
            log.clone().note(client, TRANSPORT, question, answered);
        }
    }
}

/// RFC 8484 5.1: fresh for as long as the record that lives shortest.
fn success(reply: Vec<u8>) -> Response<Full<Bytes>> {
    let places = ttl_places(&reply).unwrap_or_default();
    let shortest = places.iter().map(|place| place.seconds).min();
    let kept = format!("max-age={}", shortest.unwrap_or(0));
    let mut response = Response::new(Full::new(reply.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(kept) = HeaderValue::from_str(&kept) {
        headers.insert(header::CACHE_CONTROL, kept);
    }
    response
}

fn failure(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, POST");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

const TRANSPORT: DnsTransport = DnsTransport::Doh;
/// RFC 8484 6.
const MEDIA_TYPE: &str = "application/dns-message";
