// SPDX-License-Identifier: MIT OR Apache-2.0
//! The routes of the admin listener (page, status, explain) and of the probe listener (metrics, liveness, readiness).

use super::{
    Readiness, Runtime, explain,
    http::{RouteRequest, RouteResponse, Routes, json, respond, text},
};
use crate::store::Reader;
use http::{Method, StatusCode};
use serde_json::json as object;

/// The routes of 127.0.0.1:9690: `/`, `/api/v1/status`, `/api/v1/explain?service=S[&key=K]`, `/api/v1/accept`.
///
/// All of them only read. Requests must name this machine in `Host`.
pub fn admin_routes(runtime: &Runtime) -> Routes {
    let (status, explained, held) = (runtime.clone(), runtime.clone(), runtime.reader());
    Routes::new()
        .local_only()
        .route(Method::GET, "/", |_| {
            respond(
                StatusCode::OK,
                "text/html; charset=utf-8",
                include_str!("page.html"),
            )
        })
        .route(Method::GET, "/api/v1/status", move |_| {
            json(StatusCode::OK, &status.status())
        })
        .route(Method::GET, "/api/v1/explain", move |request| {
            answer_explain(&explained, request)
        })
        .route(Method::GET, "/api/v1/accept", move |_| {
            json(StatusCode::OK, &object!({ "held": held_texts(&held) }))
        })
}

/// Routes that change something, to be added to [`admin_routes`] where an operator wants them: `POST /api/v1/accept` lets
/// go of what is held back.
pub fn admin_write_routes(routes: Routes, runtime: &Runtime) -> Routes {
    let runtime = runtime.clone();
    routes.route(Method::POST, "/api/v1/accept", move |_| {
        let held = held_texts(&runtime.reader());
        runtime.accept();
        json(StatusCode::OK, &object!({ "accepted": held }))
    })
}

fn held_texts(reader: &Reader) -> Vec<String> {
    let snapshot = reader.load();
    snapshot.held().iter().map(ToString::to_string).collect()
}

/// The routes of 0.0.0.0:9691: `/metrics`, `/livez`, `/readyz`.
pub fn probe_routes(runtime: &Runtime) -> Routes {
    let (metrics, ready) = (runtime.metrics().clone(), runtime.clone());
    Routes::new()
        .route(Method::GET, "/metrics", move |_| {
            let exposition = metrics.expose();
            respond(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                exposition,
            )
        })
        .route(Method::GET, "/livez", |_| text(StatusCode::OK, "ok\n"))
        .route(Method::GET, "/readyz", move |request| {
            answer_ready(&ready.readiness(), request)
        })
}

fn answer_ready(readiness: &Readiness, request: &RouteRequest) -> RouteResponse {
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = if readiness.ready {
        String::from("ok\n")
    } else {
        format!(
            "missing: {}
",
            readiness.missing.join(
                "
missing: "
            )
        )
    };
    match request.query("verbose") {
        Some(_) => json(status, readiness),
        None => text(status, body),
    }
}

fn answer_explain(runtime: &Runtime, request: &RouteRequest) -> RouteResponse {
    let fail = |status, message: String| json(status, &object!({ "error": message }));
    let Some(asked) = request.query("service") else {
        return fail(
            StatusCode::BAD_REQUEST,
            "the parameter service is missing".to_owned(),
        );
    };
    let service = match asked.parse() {
        Ok(service) => service,
        Err(error) => return fail(StatusCode::BAD_REQUEST, format!("{error}")),
    };
    let snapshot = runtime.reader().load();
    let key = request.query("key").map(str::as_bytes);
    match explain(&snapshot, &service, key) {
        Some(explanation) => json(StatusCode::OK, &explanation),
        None if snapshot.is_authoritative() => fail(
            StatusCode::NOT_FOUND,
            format!("service {service} is unknown"),
        ),
        None => fail(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nothing is served yet: {}", snapshot.zone()),
        ),
    }
}
