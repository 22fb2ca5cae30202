//! Receipts, instances and nodes as the text of TXT records.
//!
//! A text is `word key=value key=value ...`, cut into strings of at most 255 bytes that are to be joined again. In keys and values
//! everything but printable ASCII, and of that the space and `%`, is written as `%` and two hexadecimal digits; in keys `=` too. Of
//! a key that comes twice the first counts (RFC 6763, section 6.4).

use std::fmt::Write;

use hickory_proto::rr::rdata::TXT;
use quorumor_proto::pb;

/// A string of a TXT record has a length of one byte.
const STRING_BYTES_MAX: usize = 255;

/// A text under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    fn word(mut self, word: &str) -> Self {
        self.separate();
        self.0.push_str(word);
        self
    }

    fn pair(mut self, key: &str, value: &str) -> Self {
        self.separate();
        self.escape(key, b"%=");
        self.0.push('=');
        self.escape(value, b"%");
        self
    }

    fn number(self, key: &str, value: impl Into<u64>) -> Self {
        let value: u64 = value.into();
        self.pair(key, &value.to_string())
    }

    /// A pair, unless its value is empty.
    fn filled(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        self.pair(key, value)
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
    }

    fn escape(&mut self, text: &str, special: &[u8]) {
        for byte in text.bytes() {
            if byte.is_ascii_graphic() && !special.contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                write!(self.0, "%{byte:02x}").expect("a string takes what is written");
            }
        }
    }

    fn into_txt(self) -> TXT {
        TXT::from_bytes(self.0.as_bytes().chunks(STRING_BYTES_MAX).collect())
    }
}

/// What an answer says about itself.
pub(crate) fn receipt(receipt: &pb::Receipt) -> TXT {
    let counts = receipt.members.unwrap_or_default();
    let text = Text::default()
        .word("receipt")
        .pair("mode", mode(receipt.mode()))
        .pair("asked", level(receipt.asked()))
        .pair("got", level(receipt.got()))
        .filled("degraded", &receipt.degraded)
        .pair("cluster", &format!("{:016x}", receipt.cluster_id))
        .number("node", receipt.node_id)
        .number("epoch", receipt.data_epoch);
    let text = position(text, receipt.position.as_ref());
    staleness(text, receipt.staleness.unwrap_or_default())
        .number("alive", counts.alive)
        .number("suspect", counts.suspect)
        .number("down", counts.down)
        .filled("token", &hex(&receipt.token))
        .into_txt()
}

fn position(text: Text, position: Option<&pb::receipt::Position>) -> Text {
    match position {
        Some(pb::receipt::Position::Strong(strong)) => text
            .number("revision", strong.revision)
            .number("term", strong.term)
            .number("leader", strong.leader_id)
            .filled("leader_address", &strong.leader_address),
        // A read has no place of its own there: the token says what it saw.
        Some(pb::receipt::Position::Eventual(_)) | None => text,
    }
}

fn staleness(text: Text, staleness: pb::Staleness) -> Text {
    let mut text = text.pair("staleness", basis(staleness.basis()));
    if let Some(age_ms) = staleness.contact_age.and_then(millis) {
        text = text.number("contact_age_ms", age_ms);
    }
    if let Some(lag) = staleness.apply_lag {
        text = text.number("apply_lag", lag);
    }
    text
}

/// A duration of the wire in milliseconds.
fn millis(duration: impl TryInto<std::time::Duration>) -> Option<u64> {
    let duration: std::time::Duration = duration.try_into().ok()?;
    u64::try_from(duration.as_millis()).ok()
}

/// One instance.
pub(crate) fn instance(listed: &pb::ServiceInstance) -> Option<TXT> {
    let instance = listed.instance.as_ref()?;
    let status = listed.status.clone().unwrap_or_default();
    let mut text = Text::default()
        .pair("id", &instance.instance_id)
        .filled("tags", &instance.tags.join(","))
        .filled("zone", &instance.zone)
        .pair("address", &instance.address)
        .number("port", instance.port)
        .number("weight", instance.weight.max(1))
        .pair("health", health(status.health()))
        .number("node", instance.node_id);
    let mut metadata: Vec<_> = instance.metadata.iter().collect();
    metadata.sort();
    for (key, value) in metadata {
        text = text.pair(key, value);
    }
    Some(text.into_txt())
}

/// One node, as the answering one believes it.
pub(crate) fn node(node: &pb::NodeState, member: &pb::Member) -> TXT {
    let mut text = Text::default()
        .number("node", member.node_id)
        .pair("state", state(member.state()))
        .filled("peer", &member.peer_address)
        .filled("client", &member.client_address)
        .number("said_by", node.said_by_node_id);
    if node.gossip_state() != pb::MemberState::Unspecified {
        text = text.pair("gossip_state", state(node.gossip_state()));
    }
    if let Some(age_ms) = member.contact_age.and_then(millis) {
        text = text.number("contact_age_ms", age_ms);
    }
    text.into_txt()
}

const fn mode(mode: pb::Mode) -> &'static str {
    match mode {
        pb::Mode::Unspecified => "unknown",
        pb::Mode::Strong => "strong",
        pb::Mode::Eventual => "eventual",
    }
}

const fn level(level: pb::Level) -> &'static str {
    match level {
        pb::Level::Unspecified => "unknown",
        pb::Level::Local => "local",
        pb::Level::Linearizable => "linearizable",
        pb::Level::Bounded => "bounded",
        pb::Level::Sampled => "sampled",
    }
}

const fn basis(basis: pb::StalenessBasis) -> &'static str {
    match basis {
        pb::StalenessBasis::Exact => "exact",
        pb::StalenessBasis::Proven => "proven",
        pb::StalenessBasis::Estimated => "estimated",
        pb::StalenessBasis::Unspecified | pb::StalenessBasis::Unknown => "unknown",
    }
}

const fn health(health: pb::InstanceHealth) -> &'static str {
    match health {
        pb::InstanceHealth::Unspecified => "unknown",
        pb::InstanceHealth::Passing => "passing",
        pb::InstanceHealth::Warning => "warning",
        pb::InstanceHealth::Critical => "critical",
    }
}

const fn state(state: pb::MemberState) -> &'static str {
    match state {
        pb::MemberState::Unspecified => "unknown",
        pb::MemberState::Alive => "alive",
        pb::MemberState::Suspect => "suspect",
        pb::MemberState::Down => "down",
        pb::MemberState::Left => "left",
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strong_receipt_names_its_revision_and_leader() {
        let text = receipt(&pb::Receipt {
            mode: pb::Mode::Strong.into(),
            asked: pb::Level::Local.into(),
            got: pb::Level::Local.into(),
            cluster_id: 0xab,
            node_id: 3,
            data_epoch: 1,
            position: Some(pb::receipt::Position::Strong(pb::StrongPosition {
                revision: 42,
                term: 7,
                leader_id: 2,
                leader_address: "10.0.0.2:7000".to_owned(),
            })),
            staleness: Some(pb::Staleness {
                basis: pb::StalenessBasis::Unknown.into(),
                contact_age: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 500_000_000,
                }),
                apply_lag: Some(0),
            }),
            members: Some(pb::MemberCounts {
                alive: 3,
                suspect: 0,
                down: 1,
            }),
            token: vec![1, 0xff].into(),
            ..pb::Receipt::default()
        });
        assert_eq!(
            text.to_string(),
            "receipt mode=strong asked=local got=local cluster=00000000000000ab node=3 epoch=1 revision=42 term=7 leader=2 \
             leader_address=10.0.0.2:7000 staleness=unknown contact_age_ms=1500 apply_lag=0 alive=3 suspect=0 down=1 token=01ff"
        );
    }

    #[test]
    fn a_value_cannot_break_out_of_its_pair() {
        let text = Text::default()
            .word("x")
            .pair("a=b", "c d=%\n\u{e9}")
            .filled("empty", "");
        assert_eq!(text.0, "x a%3db=c%20d=%25%0a%c3%a9");
    }

    #[test]
    fn a_long_text_is_cut_into_strings_that_join_to_it() {
        let value = "0123456789".repeat(60);
        let text = Text::default().pair("k", &value).into_txt();
        let lengths: Vec<usize> = text.txt_data.iter().map(|string| string.len()).collect();
        assert_eq!(lengths, [255, 255, 92]);
        assert_eq!(text.to_string(), format!("k={value}"));
    }
}
