// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a request to its answer: the script first, then the faults, then the truth.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Answer, Fault, Options, SliceApis,
    answer::{Chunks, Kind, Reply, chunks, failure, json_headers, reply, whole},
    document::document,
    fault::Faults,
    gzip,
    list::{Cursors, Page},
    request::{Asked, Objects, Target, decoded, parameter},
    selector::Selector,
    store::Store,
    watch::{From, Watch},
};

type Script = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) requests: AtomicU64,
    options: Options,
    script: Box<Script>,
    // Guards what changes per request; held while one is looked at, never across an await.
    desk: Mutex<Desk>,
}

/// What changes with every request.
pub(super) struct Desk {
    pub(super) asked: Vec<Asked>,
    pub(super) faults: Faults,
    pub(super) cursors: Cursors,
    pub(super) slices: SliceApis,
    counts: HashMap<(&'static str, bool), usize>,
}

/// An answer that is not on its way yet.
struct Prepared {
    status: StatusCode,
    headers: HeaderMap,
    body: Chunks,
    after: Duration,
}

impl Shared {
    pub(super) fn new(
        options: Options,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store: Arc::new(Store::new(options.events_kept)),
            sent: Arc::default(),
            requests: AtomicU64::default(),
            script: Box::new(script),
            desk: Mutex::new(Desk {
                asked: Vec::new(),
                faults: Faults::default(),
                cursors: Cursors::new(options.token_life),
                slices: options.slices,
                counts: HashMap::new(),
            }),
            options,
        }
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer; the error closes the connection.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> BoxFuture<'static, io::Result<Reply>> {
        self.requests.fetch_add(1, Relaxed);
        let uri = request.uri().to_string();
        let target = Target::of(request.uri().path());
        let (asked, fault) = self.enter(uri, &target, request.headers());
        let scripted = (self.script)(&asked).or(match &fault {
            Some(Fault::Answer(answer)) => Some(answer.clone()),
            _ => None,
        });
        if let Some(answer) = scripted {
            return self.scripted(answer);
        }
        let mut prepared = self.truth(&asked, &target, fault.as_ref());
        if let Some(fault) = fault {
            if let Fault::Delay(time) = fault {
                prepared.after += time;
            }
            prepared.body = fault.applied(prepared.body);
        }
        self.send(prepared)
    }

    /// Notes the request and finds the fault for it.
    fn enter(&self, uri: String, target: &Target, headers: &HeaderMap) -> (Asked, Option<Fault>) {
        let what = target.what(&uri);
        let is_watch = matches!(parameter(&uri, "watch"), Some("true" | "1"));
        let mut desk = self.desk();
        let before = desk.counts.entry((what, is_watch)).or_default();
        let asked = Asked {
            what,
            is_watch,
            before: *before,
            uri,
            headers: headers.clone(),
            at: Instant::now(),
        };
        *before += 1;
        if desk.asked.len() < ASKED_MAX {
            desk.asked.push(asked.clone());
        }
        let fault = desk.faults.meet(&asked);
        (asked, fault)
    }

    fn scripted(&self, answer: Answer) -> BoxFuture<'static, io::Result<Reply>> {
        match answer.kind {
            Kind::Never => std::future::pending().boxed(),
            Kind::Close => async { Err(io::Error::other("closed by the script")) }.boxed(),
            Kind::Written {
                status,
                headers,
                body,
            } => self.send(Prepared {
                status,
                headers,
                body: chunks(body),
                after: Duration::ZERO,
            }),
        }
    }

    fn send(&self, prepared: Prepared) -> BoxFuture<'static, io::Result<Reply>> {
        let sent = self.sent.clone();
        async move {
            if !prepared.after.is_zero() {
                tokio::time::sleep(prepared.after).await;
            }
            Ok(reply(
                prepared.status,
                prepared.headers,
                prepared.body,
                sent,
            ))
        }
        .boxed()
    }

    fn truth(&self, asked: &Asked, target: &Target, fault: Option<&Fault>) -> Prepared {
        let slices = self.desk().slices;
        match target {
            Target::Unknown => Prepared::not_found(),
            Target::Document(path) => match document(path, slices) {
                None => Prepared::not_found(),
                Some(Value::String(text)) => Prepared::plain(StatusCode::OK, text),
                Some(document) => Prepared::json(StatusCode::OK, &document),
            },
            Target::Objects(objects) => {
                let version = if objects.is_beta { "v1beta1" } else { "v1" };
                let is_slices = objects.resource == super::Resource::EndpointSlices;
                if is_slices && !slices.versions().contains(&version) {
                    return Prepared::not_found();
                }
                let answer = self.objects(asked, objects, fault);
                answer.unwrap_or_else(|status| Prepared::refusal(&status))
            }
        }
    }

    fn objects(
        &self,
        asked: &Asked,
        objects: &Objects,
        fault: Option<&Fault>,
    ) -> Result<Prepared, Value> {
        if let Some(name) = &objects.name {
            return self.one(objects, name);
        }
        let labels = parameter(&asked.uri, "labelSelector").map(decoded);
        let fields = parameter(&asked.uri, "fieldSelector").map(decoded);
        let selector = Selector::parse(
            objects.namespace.clone(),
            labels.as_deref(),
            fields.as_deref(),
        );
        let selector = selector.map_err(|text| failure(400, "BadRequest", &text))?;
        if asked.is_watch {
            return self.watch(asked, objects, selector);
        }
        let page = self.page(asked, objects, &selector)?;
        let Some(page) = page else {
            return Ok(Prepared::too_large(
                version(asked)?.unwrap_or_default(),
                self.store.version(),
            ));
        };
        let page = match fault {
            Some(Fault::EmptyList) => page.emptied(),
            _ => page,
        };
        Ok(Prepared::list(page, objects, &asked.headers))
    }

    fn one(&self, objects: &Objects, name: &str) -> Result<Prepared, Value> {
        let (resource, namespace) = (objects.resource, objects.namespace.as_deref());
        let found = self
            .store
            .get(resource, namespace.unwrap_or_default(), name);
        let Some(mut object) = found else {
            let text = format!("{} \"{name}\" not found", resource.plural());
            return Err(failure(404, "NotFound", &text));
        };
        object["kind"] = resource.kind().into();
        object["apiVersion"] = resource.api_version(objects.is_beta).into();
        Ok(Prepared::json(StatusCode::OK, &object))
    }

    /// None when a version of the future was asked for.
    fn page(
        &self,
        asked: &Asked,
        objects: &Objects,
        selector: &Selector,
    ) -> Result<Option<Page>, Value> {
        let wanted = version(asked)?;
        if wanted.is_some_and(|wanted| wanted > self.store.version()) {
            return Ok(None);
        }
        let limit = asked.query("limit").and_then(|limit| limit.parse().ok());
        // From its cache a real server answers whole.
        let limit = limit.filter(|limit| *limit > 0 && wanted != Some(0));
        let limit = limit.unwrap_or(usize::MAX);
        let mut desk = self.desk();
        let page = match asked
            .parameter("continue")
            .filter(|token| !token.is_empty())
        {
            None => desk.cursors.first(&self.store, objects, selector, limit),
            Some(token) => desk
                .cursors
                .next(&self.store, objects, selector, limit, &token)?,
        };
        Ok(Some(page))
    }

    fn watch(
        &self,
        asked: &Asked,
        objects: &Objects,
        selector: Selector,
    ) -> Result<Prepared, Value> {
        let is_streaming = asked.query("sendInitialEvents") == Some("true");
        if asked.query("sendInitialEvents").is_some() && !self.options.has_streaming_lists {
            let text = "sendInitialEvents: Forbidden: not supported by this server";
            return Err(failure(422, "Invalid", text));
        }
        let is_true = |name| matches!(asked.query(name), Some("true" | "1"));
        let from = match version(asked)? {
            _ if is_streaming => From::Present { is_marked: true },
            None | Some(0) => From::Present { is_marked: false },
            Some(version) => From::Version(version),
        };
        let seconds = asked
            .query("timeoutSeconds")
            .and_then(|text| text.parse().ok());
        let seconds = seconds.filter(|seconds| *seconds > 0);
        let watch = Watch {
            store: self.store.clone(),
            objects: objects.clone(),
            selector,
            from,
            timeout: seconds.map_or(WATCH_TIME, Duration::from_secs),
            bookmarks: self
                .options
                .bookmark_every
                .filter(|_| is_true("allowWatchBookmarks")),
        };
        Ok(Prepared {
            body: watch.chunks(),
            ..Prepared::plain(StatusCode::OK, String::new())
        }
        .with(json_headers()))
    }
}

impl Prepared {
    fn list(page: Page, objects: &Objects, asked: &HeaderMap) -> Self {
        let is_compressed = gzip::is_wanted(asked, page.size_bytes());
        let (mut headers, body) = (json_headers(), page.chunks(objects));
        if !is_compressed {
            return Self::plain(StatusCode::OK, String::new())
                .with(headers)
                .of(body);
        }
        let encoding = HeaderValue::from_static("gzip");
        headers.insert(header::CONTENT_ENCODING, encoding);
        let body = gzip::compressed(body);
        Self::plain(StatusCode::OK, String::new())
            .with(headers)
            .of(body)
    }

    fn json(status: StatusCode, value: &Value) -> Self {
        Self::plain(status, value.to_string()).with(json_headers())
    }

    fn plain(status: StatusCode, text: String) -> Self {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        Self {
            status,
            headers,
            body: whole(text),
            after: Duration::ZERO,
        }
    }

    fn not_found() -> Self {
        Self::plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
    }

    fn refusal(status: &Value) -> Self {
        let code = status["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok());
        let code = code.and_then(|code| StatusCode::from_u16(code).ok());
        Self::json(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status)
    }

    /// With its cache a real server waits for the version first.
    fn too_large(wanted: u64, present: u64) -> Self {
        let text = format!("Timeout: Too large resource version: {wanted}, current: {present}");
        let mut status = failure(504, "Timeout", &text);
        status["details"] = serde_json::json!({ "retryAfterSeconds": 1,
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }] });
        let mut prepared = Self::refusal(&status);
        prepared
            .headers
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        prepared.after = VERSION_WAIT;
        prepared
    }

    fn with(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    fn of(mut self, body: Chunks) -> Self {
        self.body = body.boxed();
        self
    }
}

/// The version that is asked from; none when there is none.
fn version(asked: &Asked) -> Result<Option<u64>, Value> {
    let text = asked
        .query("resourceVersion")
        .filter(|text| !text.is_empty());
    let invalid = |text: &str| failure(400, "BadRequest", &format!("Invalid value: {text:?}"));
    text.map(|text| text.parse().map_err(|_| invalid(text)))
        .transpose()
}

/// Real servers draw from 30 to 60 minutes.
const WATCH_TIME: Duration = Duration::from_secs(1800);
const VERSION_WAIT: Duration = Duration::from_secs(3);
/// Requests beyond are answered and not noted.
const ASKED_MAX: usize = 1_000_000;
