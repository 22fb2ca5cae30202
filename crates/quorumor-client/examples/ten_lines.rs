//! The shortest use: write a key, read it back, see what the answer promises.
//!
//! `cargo run -p quorumor-client --example ten_lines`, beside `quorumor dev --mode strong`.

use quorumor_client::Client;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it got")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().endpoint("127.0.0.1:7400").connect()?;
    client.put("greeting", "hello").await?;
    let answer = client.get("greeting").await?;
    let value = answer.entry.map(|entry| entry.value.as_bytes().clone());
    println!("{value:?}, {:?}", answer.receipt.got);
    Ok(())
}
