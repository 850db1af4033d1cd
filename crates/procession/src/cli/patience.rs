//! How long a verb that waits bears a server that went away.
//!
//! A server may be replaced or crash under running jobs; whoever waits for one of them
//! goes on waiting. A server that never answered at all is no such case.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::Failure;

const BEARABLE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Counts from the last good answer.
#[derive(Debug)]
pub(super) struct Patience {
    answered: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Patience { answered: None, pause: FIRST_PAUSE }
    }

    /// The server answered.
    pub(super) fn answered(&mut self) {
        *self = Patience { answered: Some(Instant::now()), pause: FIRST_PAUSE };
    }

    /// Returns after a pause if it is worth to try again, and the failure if not.
    pub(super) async fn bear(&mut self, failure: Failure) -> Result<(), Failure> {
        match self.answered {
            Some(at) if failure.passes() && at.elapsed() < BEARABLE => {
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Ok(())
            }
            _ => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Failure {
        Failure::Broken { address: String::new(), what: String::new() }
    }

    #[tokio::test]
    async fn only_a_server_that_once_answered_is_waited_for() {
        let mut patience = Patience::new();
        assert!(patience.bear(broken()).await.is_err());
        patience.answered();
        assert!(patience.bear(broken()).await.is_ok());
        assert_eq!(patience.pause, FIRST_PAUSE * 2);
        let strange = serde_json::from_str::<u8>("x").expect_err("no number");
        assert!(patience.bear(strange.into()).await.is_err());
    }
}
