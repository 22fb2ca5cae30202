//! Service discovery: an instance registers and is kept, others find it, and a channel is balanced over all of them.
//!
//! `cargo run -p quorumor-client --example discover -- 127.0.0.1:7400`, beside `quorumor dev --mode eventual`.

use std::time::Duration;

use quorumor_client::{
    BalanceOptions, Client, DiscoverQuery, Health, HealthFilter, Mode, Registration, ServiceStep,
    ServiceView, ZoneRule,
};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it got")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let client = Client::builder()
        .endpoint(endpoint)
        .mode(Mode::Eventual)
        // If no node can answer, what was found within the last minute will do, and says so.
        .allow_last_known(Duration::from_secs(60))
        .connect()?;

    // Kept alive in the background, and registered again if the registry loses it.
    let registration = Registration::new("web", "web-1", "127.0.0.1", 8080)
        .tag("canary")
        .zone("eu-1")
        .ttl(Duration::from_secs(15));
    let registered = client.register(registration).await?;
    registered.set_health(Health::Warning, "the cache is cold");
    println!("{:?}", registered.state());

    let query = DiscoverQuery::new("web")
        .filter("canary")
        .health(HealthFilter::Any)
        .zone("eu-1", ZoneRule::Prefer);
    let found = client.discover(&query).await?;
    for instance in &found.instances {
        let health = instance.status.health.as_str();
        println!("{} is {health}", instance.instance.authority());
    }
    if let Some(age) = found.last_known() {
        println!("no node could answer: this is what was found {age:?} ago");
    }

    // The set and its changes, over broken connections and gaps.
    let mut watch = client.watch_service("web");
    let mut view = ServiceView::default();
    while let Some(item) = watch.next().await {
        let step = item?.step;
        let is_whole = matches!(&step, ServiceStep::Snapshot { complete: true, .. });
        view.take(step);
        println!("{} instances", view.instances().count());
        if is_whole {
            break;
        }
    }

    // For generated gRPC clients: calls go to the instances that are there, whatever becomes of the registry.
    let options = BalanceOptions::new("web")
        .configure(|endpoint| endpoint.connect_timeout(Duration::from_secs(1)));
    let balanced = client.discover_channel(options).await?;
    println!("{:?}", balanced.state());
    let _channel = balanced.channel();

    registered.leave().await?;
    Ok(())
}
