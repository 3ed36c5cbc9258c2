//! What a busy store advises: `Retry-After` of a 429 or 503 answer.
//!
//! The client gives answers that are errors as text, without their headers. So the advice is noted where the answer
//! arrives, and added where the request ends; both are in one task.
//!
//! Only seconds are understood, which is what stores send; a date is no advice.

use std::cell::Cell;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::{Trouble, WAIT_MAX};

tokio::task_local! {
    /// The advice of the request's last answer.
    static ADVICE: Cell<Option<Duration>>;
}

/// Adds to a request's end what the store advised.
pub(super) async fn heeded<T>(
    request: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let listening = async {
        match (request.await, ADVICE.with(Cell::take)) {
            (Err(Trouble::Away(why)), Some(wait)) => Err(Trouble::Busy { why, wait }),
            (done, _) => done,
        }
    };
    ADVICE.scope(Cell::new(None), listening).await
}

/// Makes clients that note advice.
#[derive(Debug, Default)]
pub(super) struct Listening(ReqwestConnector);

impl HttpConnector for Listening {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Noting(self.0.connect(options)?)))
    }
}

/// A client that notes advice.
#[derive(Debug)]
struct Noting(HttpClient);

#[async_trait]
impl HttpService for Noting {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.execute(request).await?;
        let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let advice = match answer.status().as_u16() {
            429 | 503 => header.and_then(advice),
            _ => None,
        };
        // Outside of a request, for credentials, nobody asks for it.
        let _nobody = ADVICE.try_with(|noted| noted.set(advice));
        Ok(answer)
    }
}

/// What a header means.
fn advice(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    //! Goal: advice is seconds within a limit, and everything else is none.

    use super::*;

    #[test]
    fn seconds_are_heeded_up_to_a_limit() {
        assert_eq!(advice("7"), Some(Duration::from_secs(7)));
        assert_eq!(advice(" 0 "), Some(Duration::ZERO));
        assert_eq!(advice("18446744073709551615"), Some(WAIT_MAX));
        for none in ["", "-1", "soon", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(advice(none), None, "{none}");
        }
    }
}
