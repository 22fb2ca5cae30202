//! One of the three services of `examples/three-services`: it registers itself, finds the other two, and tells over HTTP whom it found.
//!
//! `cargo run -p quorumor-client --example stock -- --mode eventual --endpoints 127.0.0.1:7400`, beside `quorumor dev --mode eventual`.

use std::error::Error;
use std::io;
use std::time::Duration;

use quorumor_client::{Client, Mode, Receipt, Registered, Registration, RegistrationState};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it tells where it listens")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mode: Mode = argument("--mode")?.parse()?;
    let endpoints = argument("--endpoints")?;
    let client = Client::builder()
        .endpoints(endpoints.split(','))
        .mode(mode)
        .timeout(PATIENCE)
        // Only the nodes that it was given: what becomes of it is then what becomes of them.
        .follow_hints(false)
        .connect()?;

    let mut term = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stock = Registration::new("stock", "stock-1", "127.0.0.1", address.port());
    let stock = client.register(stock.ttl(Duration::from_secs(3))).await?;
    println!("http://{address}/");
    loop {
        tokio::select! {
            asked = listener.accept() => {
                // Whoever asks too slowly, or not to the end, gets no answer.
                let _ = timeout(2 * PATIENCE, answer(asked?.0, &client, &stock, mode)).await;
            }
            _ = term.recv() => break,
        }
    }
    stock.leave().await?;
    Ok(())
}

/// What stands behind an argument's name.
fn argument(name: &str) -> Result<String, String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).ok_or_else(|| format!("{name} is missing"))
}

/// Answers one HTTP request, whatever it asks.
async fn answer(
    stream: TcpStream,
    client: &Client,
    stock: &Registered,
    mode: Mode,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let (prices, front) = tokio::join!(find(client, "prices"), find(client, "front"));
    let state = match stock.state() {
        RegistrationState::Registered { .. } | RegistrationState::Leased => "registered",
        RegistrationState::Returning { .. } => "returning",
        RegistrationState::Refused { .. } => "refused",
        RegistrationState::Left => "left",
    };
    let body = format!(
        r#"{{"service": "stock", "language": "Rust", "mode": "{mode}", "registration": "{state}", "finds": {{"prices": {prices}, "front": {front}}}}}"#
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let length = body.len();
    let whole = format!("{head}content-length: {length}\r\n\r\n{body}");
    stream.write_all(whole.as_bytes()).await?;
    stream.shutdown().await
}

/// Where a service is now and how fresh that is, or why the node doesn't say, as JSON. None of the words needs an escape.
async fn find(client: &Client, service: &str) -> String {
    match client.discover(service).await {
        Ok(found) => {
            let addresses = found.instances.iter();
            let addresses = addresses.map(|one| format!(r#""{}""#, one.instance.authority()));
            let addresses = addresses.collect::<Vec<_>>().join(", ");
            format!(r#"{{"at": [{addresses}], {}}}"#, freshness(&found.receipt))
        }
        Err(error) => format!(r#"{{"refused": "{}"}}"#, error.reason()),
    }
}

fn freshness(receipt: &Receipt) -> String {
    let basis = format!("{:?}", receipt.staleness.basis).to_lowercase();
    let age = receipt.staleness.contact_age_ms;
    let age = age.map_or("null".to_owned(), |age| age.to_string());
    let members = receipt.members;
    format!(
        r#""node": {}, "level": "{}", "staleness": "{basis}", "contact_age_ms": {age}, "alive": {}, "suspect": {}, "down": {}"#,
        receipt.node, receipt.got, members.alive, members.suspect, members.down
    )
}
