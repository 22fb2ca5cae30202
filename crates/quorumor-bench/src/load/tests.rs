//! The load generator against callers of known slowness.

use super::*;

/// Answers at once, but one call sleeps.
#[derive(Clone)]
struct Stalls {
    calls: Arc<AtomicU64>,
    stall_at: u64,
    stall: Duration,
}

impl Call for Stalls {
    async fn call(&mut self, _op: Op) -> Result<(), CallError> {
        let index = self.calls.fetch_add(1, Ordering::Relaxed);
        if index == self.stall_at {
            tokio::time::sleep(self.stall).await;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Fails;

impl Call for Fails {
    async fn call(&mut self, _op: Op) -> Result<(), CallError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err(CallError("no".into()))
    }
}

fn plan(pattern: Pattern, in_flight: usize, pace: Pace) -> LoadPlan {
    LoadPlan {
        pattern,
        in_flight,
        pace,
        warm_up: Duration::from_millis(20),
        duration: Duration::from_millis(400),
        keys: 10,
        value_bytes: 8,
        seed: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_counts_from_the_intended_start() {
    let stalls = [Stalls {
        calls: Arc::default(),
        stall_at: 100,
        stall: Duration::from_millis(200),
    }];
    let plan = plan(Pattern::Put, 1, Pace::Open { rate: 500.0 });
    let (measured, _) = run(&plan, &stalls, &stalls, &Processes::default()).await;
    // One call slept; every call that was due meanwhile was late, and must show it: about a quarter of all waited
    // 100 ms or more. Counted from the actual start it would be one call in two hundred.
    let late = measured.latency_us.count_between(100_000, LATENCY_US_MAX);
    assert!(late > 25, "only {late} of {} were late", measured.calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_keeps_so_many_in_flight() {
    #[derive(Clone, Default)]
    struct Gauge {
        now: Arc<AtomicU64>,
        most: Arc<AtomicU64>,
    }
    impl Call for Gauge {
        async fn call(&mut self, _op: Op) -> Result<(), CallError> {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let gauge = Gauge::default();
    let callers = [gauge.clone()];
    let plan = plan(Pattern::Batch, 7, Pace::Closed);
    let (measured, _) = run(&plan, &callers, &callers, &Processes::default()).await;
    assert_eq!(gauge.most.load(Ordering::Relaxed), 7);
    assert!(measured.calls > 7, "{}", measured.calls);
    assert_eq!(measured.keys, measured.calls * 100);
    assert!(measured.latency_us.min() >= 5_000);
}

#[tokio::test]
async fn failures_are_counted_and_never_as_done() {
    let plan = plan(Pattern::Get(Freshness::Local), 2, Pace::Closed);
    let (measured, _) = run(&plan, &[Fails], &[Fails], &Processes::default()).await;
    assert_eq!(measured.calls, 0);
    assert_eq!(measured.latency_us.len(), 0);
    assert!(measured.errors["no"] > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_nobody_was_free_to_make_are_errors() {
    let stalls = [Stalls {
        calls: Arc::default(),
        stall_at: 0,
        stall: Duration::from_millis(500),
    }];
    let plan = plan(Pattern::Put, 1, Pace::Open { rate: 100.0 });
    let (measured, _) = run(&plan, &stalls, &stalls, &Processes::default()).await;
    let unsent = measured.errors_total();
    assert!((35..=41).contains(&unsent), "{:?}", measured.errors);
}

#[test]
fn kinds_of_errors_are_bounded() {
    let mut measured = Measured::empty();
    for index in 0..100 {
        measured.count_error(&CallError(format!("error {index}")));
    }
    assert_eq!(measured.errors_total(), 100);
    assert_eq!(measured.errors.len(), ERROR_KINDS_MAX + 1);
}
