//! A lock whose holder can't harm what it protects once the lock is lost: each write happens only while the lock's key is its own.
//!
//! `cargo run -p quorumor-client --example locks -- 127.0.0.1:7400`, beside `quorumor dev --mode strong`.

use std::time::Duration;

use quorumor_client::{Client, LockOptions, Mode, Operations, Relation};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it got")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let client = Client::builder()
        .endpoint(endpoint)
        .mode(Mode::Strong)
        .connect()?;
    let options = LockOptions {
        ttl: Duration::from_secs(10),
        owner: "the example".into(),
    };
    let give_up = tokio::time::sleep(Duration::from_secs(30));
    let Some(guard) = client.lock_unless("jobs/nightly", options, give_up).await? else {
        println!("somebody else has it");
        return Ok(());
    };
    println!("held, with the fencing token {}", guard.fencing_token());
    let work = async {
        client
            .txn()
            .when_create_revision(guard.key().as_str(), Relation::Equal, guard.revision())
            .then(Operations::new().put("jobs/nightly/done", "yes"))
            .send()
            .await
    };
    tokio::select! {
        answer = work => println!("done: {}", answer?.succeeded),
        why = guard.lost() => println!("stopped, since {why}"),
    }
    guard.unlock().await?;
    Ok(())
}
