//! A request whose handler panics is answered like any other failure of ours; the connection and
//! everybody else's requests go on.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use tracing::error;
use uuid::Uuid;

use super::answer::{ApiError, respond};

/// Runs the handler of `request`.
pub(super) async fn catch(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    // State that a panic may leave half-done is behind locks that know of it.
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    handled.unwrap_or_else(|panic| {
        let request_id = Uuid::new_v4();
        let text = text(&*panic);
        error!(%request_id, path, panic = text, "a request handler panicked");
        respond(request_id, Err(ApiError::unknown()))
    })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let borrowed = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    borrowed.or(owned).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn panic_is_answered_in_the_shape_of_aws_and_tells_nothing() {
        let broken = get(async || -> Response { panic!("secret of the handler") });
        let router = Router::new()
            .route("/broken", broken)
            .route("/well", get(async || "well"))
            .layer(axum::middleware::from_fn(catch));
        let service = TowerToHyperService::new(router);
        let call = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            service.call(request).await.unwrap()
        };

        let response = call("/broken").await;

        assert_eq!(response.status(), 500);
        assert_eq!(
            response.headers()["x-amzn-errortype"],
            "InternalServerError"
        );
        let id = response.headers()["x-amzn-requestid"].to_str().unwrap();
        assert!(Uuid::parse_str(id).is_ok());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["__type"], "InternalServerError");
        assert!(!body.to_string().contains("secret"));
        assert_eq!(call("/well").await.status(), 200);
    }

    #[test]
    fn text_of_a_panic_is_found() {
        assert_eq!(text(&"fixed"), "fixed");
        assert_eq!(text(&String::from("made")), "made");
        assert_eq!(text(&7), "no text");
    }
}
