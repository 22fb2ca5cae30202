//! What a client does about endpoints that fail: breakers, a retry budget, hedged reads, and what callers see of it.
//!
//! `cargo run -p quorumor-client --example resilience`, beside `quorumor dev --mode strong`.

use std::time::Duration;

use quorumor_client::{
    BreakerPolicy, BreakerState, CallOptions, Certainty, Client, Hedge, Level, RetryBudget,
};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it got")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder()
        .endpoints(["127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"])
        .timeout(Duration::from_secs(2))
        .breaker(BreakerPolicy {
            open_for: Duration::from_secs(3),
            ..BreakerPolicy::default()
        })
        .retry_budget(RetryBudget {
            percent: 10,
            ..RetryBudget::default()
        })
        .connect()?;

    // A local read may go to a second node if the first one is slow.
    let fast = client.with(CallOptions {
        level: Some(Level::Local),
        hedge: Some(Hedge::P95),
        ..client.options().clone()
    });
    println!("{:?}", fast.get("greeting").await?.entry);

    match client.put("greeting", "hello").await {
        Ok(answer) => println!("written: {:?}", answer.version),
        Err(error) => match (error.circuit_open(), error.certainty()) {
            (Some(open), _) => println!("nothing was sent; try in {:?}", open.retry_after),
            (None, Certainty::NotApplied) => println!("not written: {error}"),
            (None, Certainty::Unknown) => println!("it may have been written: {error}"),
        },
    }
    for breaker in client.breakers() {
        if breaker.state != BreakerState::Closed {
            let class = breaker.class.as_str();
            println!("{} {class}: {:?}", breaker.endpoint, breaker.state);
        }
    }
    Ok(())
}
