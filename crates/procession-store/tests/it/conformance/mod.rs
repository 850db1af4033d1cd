//! What every store does, as functions of a store: one `conformance!` line runs all of them
//! on a backend.

pub(crate) mod life;

/// Makes a module of tests, one for each behaviour, on stores that `$fresh` makes.
#[macro_export]
macro_rules! conformance {
    ($backend:ident, $fresh:path) => {
        mod $backend {
            $crate::conformance::cases!($fresh);
        }
    };
}

macro_rules! cases {
    ($fresh:path) => {
        $crate::conformance::cases!(@each $fresh,
            life: [a_job_from_submission_to_success, a_job_is_loaded_as_it_was_submitted]
        );
    };
    (@each $fresh:path, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $fresh();
                $crate::conformance::$module::$case(&fixture.store).await;
            }
        )*)*
    };
}
pub(crate) use cases;
