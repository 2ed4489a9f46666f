//! Which failures of a call are worth another attempt, and after what wait.

use std::time::Duration;

use super::error::CallError;
use crate::runtime::backoff::Backoff;

/// Attempts after the first, as the AWS SDKs have it.
const MAX_RETRIES: u32 = 3;
/// First wait. Doubles; half of each wait is random.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait: a person may be waiting for the answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Operations that do a thing twice when they are sent twice: after a lost answer they are not
/// repeated, because the first request may have been carried out.
const UNREPEATABLE: [&str; 3] = ["StartSession", "CreateActivation", "SendCommand"];

/// The attempts of one call.
pub(super) struct Attempts {
    repeatable: bool,
    retries: u32,
    clock_corrected: bool,
    credentials_renewed: bool,
    backoff: Backoff,
}

/// What to do about a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Report it.
    GiveUp,
    /// Try again at once: the clock's correction has changed since the request was signed.
    Resign,
    /// Try again at once, with other credentials.
    RenewCredentials,
    /// Try again after this wait.
    Wait(Duration),
}

impl Attempts {
    /// Of a JSON call.
    pub(super) fn of(operation: &str) -> Self {
        Self {
            repeatable: !UNREPEATABLE.contains(&operation),
            retries: MAX_RETRIES,
            clock_corrected: false,
            credentials_renewed: false,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        }
    }

    /// Of a call whose owner has a back-off of its own: only what a new signature cures is repeated.
    pub(super) fn signature_only() -> Self {
        Self {
            retries: 0,
            ..Self::of("")
        }
    }

    /// Judges `failure`; `clock_changed` tells that its answer has corrected the clock.
    pub(super) fn judge(&mut self, failure: &CallError, clock_changed: bool) -> Verdict {
        if clock_changed && failure.blames_clock() && !self.clock_corrected {
            self.clock_corrected = true;
            return Verdict::Resign;
        }
        if failure.blames_credentials() && !self.credentials_renewed {
            self.credentials_renewed = true;
            return Verdict::RenewCredentials;
        }
        if self.retries == 0 || !self.is_worth_waiting(failure) {
            return Verdict::GiveUp;
        }
        self.retries -= 1;
        Verdict::Wait(self.backoff.next_wait())
    }

    fn is_worth_waiting(&self, failure: &CallError) -> bool {
        match failure {
            CallError::Service { .. } => failure.is_transient_refusal(),
            CallError::Network { cause, .. } => self.repeatable || cause.is_unsent(),
            CallError::Credentials { .. }
            | CallError::Sign { .. }
            | CallError::Decode { .. }
            | CallError::Answer { .. }
            | CallError::Address { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::http::HttpError;

    fn refused(status: u16, code: &str) -> CallError {
        CallError::Service {
            operation: "Op".into(),
            code: code.into(),
            message: String::new(),
            status,
        }
    }

    fn timed_out() -> CallError {
        CallError::Network {
            operation: "Op".into(),
            cause: HttpError::Timeout {
                host: "h".into(),
                after: Duration::from_secs(1),
            },
        }
    }

    fn is_wait(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Wait(_))
    }

    #[test]
    fn overload_is_retried_three_times() {
        let mut attempts = Attempts::of("GetDocument");

        for _ in 0..3 {
            assert!(is_wait(
                &attempts.judge(&refused(400, "ThrottlingException"), false)
            ));
        }
        assert_eq!(attempts.judge(&refused(503, ""), false), Verdict::GiveUp);
    }

    #[test]
    fn refusal_is_final() {
        let mut attempts = Attempts::of("GetDocument");

        let verdict = attempts.judge(&refused(400, "InvalidActivation"), false);

        assert_eq!(verdict, Verdict::GiveUp);
    }

    #[test]
    fn lost_answer_of_an_operation_that_must_not_happen_twice_is_not_retried() {
        assert_eq!(
            Attempts::of("StartSession").judge(&timed_out(), false),
            Verdict::GiveUp
        );
        assert!(is_wait(
            &Attempts::of("GetDocument").judge(&timed_out(), false)
        ));
    }

    #[test]
    fn corrected_clock_is_worth_one_more_signature() {
        let mut attempts = Attempts::signature_only();
        let failure = refused(403, "InvalidSignatureException");

        assert_eq!(attempts.judge(&failure, true), Verdict::Resign);
        assert_eq!(attempts.judge(&failure, true), Verdict::GiveUp);
    }

    #[test]
    fn wrong_signature_under_a_right_clock_is_final() {
        let mut attempts = Attempts::of("GetDocument");

        let verdict = attempts.judge(&refused(403, "InvalidSignatureException"), false);

        assert_eq!(verdict, Verdict::GiveUp);
    }

    #[test]
    fn expired_credentials_are_renewed_once() {
        let mut attempts = Attempts::signature_only();
        let failure = refused(400, "ExpiredTokenException");

        assert_eq!(attempts.judge(&failure, false), Verdict::RenewCredentials);
        assert_eq!(attempts.judge(&failure, false), Verdict::GiveUp);
    }
}
