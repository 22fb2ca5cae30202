//! How two nodes prove a common key to each other when a stream opens, before anything else is said.
//!
//! ```text
//! offer   (dialler):  0 magic "QRMK" | 4 version | 5 keys | 6 zero u16 | 8 dialler's node id | 16 salt | 48 a tag of 32 for each key
//! answer  (acceptor): 0 magic "QRMK" | 4 version | 5 status | 6 which key | 7 zero | 8 salt | 40 proof
//! confirm (dialler):  0 proof
//! ```
//! A tag or proof is a keyed BLAKE3 over its role, the dialler's id and the salts so far, so that none fits another place or another
//! stream; only who has the key can make one. The acceptor takes the first of its own keys that the dialler offers. From key
//! and both salts comes a key for each direction. The node id is what the dialler says, for the log.

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ring::{Key, KeyRing};
use super::stream::SealedStream;

const MAGIC: [u8; 4] = *b"QRMK";
const VERSION: u8 = 1;
const HEAD: usize = 16;
const SALT: usize = 32;
const TAG: usize = 32;
const ANSWER_HEAD: usize = 8;
const AGREED: u8 = 0;
const NO_COMMON_KEY: u8 = 1;
const NO_KEY_HERE: u8 = 2;
/// More keys than any file has.
const KEYS_MAX: usize = 16;
const PROOFS: &str = "quorumor.dev 2026-11 peer stream proof";
const SEALS: &str = "quorumor.dev 2026-11 peer stream seal";

type Salt = [u8; SALT];

/// Why there is no sealed stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct KeyFailure {
    /// For the metric's label.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) why: String,
}

impl KeyFailure {
    fn new(reason: &'static str, why: impl Into<String>) -> Self {
        Self {
            reason,
            why: why.into(),
        }
    }

    fn broken(error: &std::io::Error) -> Self {
        let why = format!(
            "the other side closed while keys were compared ({error}); it may have no cluster key, or be no node"
        );
        Self::new("closed", why)
    }

    /// The other side wants a cluster key, and this node has none.
    fn key_not_here(node: u64) -> Self {
        let why = format!(
            "the peer, which says that it is node {node}, has a cluster key and this node has none (--cluster-key)"
        );
        Self::new("key_not_here", why)
    }

    fn malformed() -> Self {
        Self::new(
            "malformed_key",
            "what the other side says of its keys can't be read",
        )
    }
}

/// Whether a stream's first bytes are an offer of keys.
pub(crate) fn begins_keyed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// What is proved, so that no proof fits another place.
#[derive(Clone, Copy)]
enum Place {
    Offer,
    Answer,
    Confirm,
}

/// What proofs are about.
struct Proofs {
    node: u64,
    dialler: Salt,
    acceptor: Salt,
}

impl Proofs {
    fn make(&self, key: &Key, place: Place) -> blake3::Hash {
        let secret = blake3::derive_key(PROOFS, key);
        let mut hash = blake3::Hasher::new_keyed(&secret);
        hash.update(match place {
            Place::Offer => b"offer",
            Place::Answer => b"answer",
            Place::Confirm => b"confirm",
        });
        hash.update(&self.node.to_le_bytes());
        hash.update(&self.dialler);
        if let Place::Answer | Place::Confirm = place {
            hash.update(&self.acceptor);
        }
        hash.finalize()
    }

    /// Comparing hashes takes the same time wherever they differ.
    fn check(&self, key: &Key, place: Place, shown: [u8; TAG]) -> bool {
        self.make(key, place) == blake3::Hash::from_bytes(shown)
    }

    /// The keys of both directions, the dialler's first.
    fn seals(&self, key: &Key) -> Option<(LessSafeKey, LessSafeKey)> {
        let derive = |direction: &[u8]| {
            let derived = blake3::Hasher::new_derive_key(SEALS)
                .update(key)
                .update(&self.dialler)
                .update(&self.acceptor)
                .update(direction)
                .finalize();
            let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_bytes()).ok()?;
            Some(LessSafeKey::new(key))
        };
        Some((derive(b"dialler")?, derive(b"acceptor")?))
    }
}

/// The dialler's part.
pub(crate) async fn dial(
    mut stream: TcpStream,
    ring: &KeyRing,
    node: u64,
) -> Result<SealedStream, KeyFailure> {
    let broken = |error: std::io::Error| KeyFailure::broken(&error);
    let mut proofs = Proofs {
        node,
        dialler: rand::random(),
        acceptor: [0; SALT],
    };
    let offer = offer(&proofs, ring);
    stream.write_all(&offer).await.map_err(broken)?;
    let mut head = [0; ANSWER_HEAD];
    stream.read_exact(&mut head).await.map_err(broken)?;
    let [a, b, c, d, version, status, which, _] = head;
    if [a, b, c, d] != MAGIC {
        return Err(if matches!(head, [0x14..=0x17, 0x03, ..]) {
            KeyFailure::new(
                "tls_there",
                "the other side wants TLS, and this node has none (--tls-cert)",
            )
        } else {
            KeyFailure::malformed()
        });
    }
    match (version, status) {
        (VERSION, AGREED) => {}
        (VERSION, NO_COMMON_KEY) => {
            return Err(KeyFailure::new(
                "refused_wrong_key",
                "the peer has another cluster key",
            ));
        }
        (VERSION, NO_KEY_HERE) => {
            return Err(KeyFailure::new(
                "refused_no_key",
                "the peer has no cluster key, and this node has one",
            ));
        }
        (_, _) => return Err(KeyFailure::malformed()),
    }
    stream
        .read_exact(&mut proofs.acceptor)
        .await
        .map_err(broken)?;
    let mut proof = [0; TAG];
    stream.read_exact(&mut proof).await.map_err(broken)?;
    let key = ring
        .keys()
        .get(usize::from(which))
        .ok_or_else(KeyFailure::malformed)?;
    if !proofs.check(key, Place::Answer, proof) {
        return Err(KeyFailure::new(
            "unproved",
            "the other side couldn't prove the cluster key",
        ));
    }
    let confirm = proofs.make(key, Place::Confirm);
    stream.write_all(confirm.as_bytes()).await.map_err(broken)?;
    let (out, back) = proofs.seals(key).ok_or_else(KeyFailure::malformed)?;
    Ok(SealedStream::new(stream, *key, back, out))
}

fn offer(proofs: &Proofs, ring: &KeyRing) -> Vec<u8> {
    let keys = ring.keys();
    let mut offer = Vec::with_capacity(HEAD + SALT + TAG * keys.len());
    offer.extend(MAGIC);
    offer.push(VERSION);
    offer.push(u8::try_from(keys.len()).expect("a ring has few keys"));
    offer.extend([0; 2]);
    offer.extend(proofs.node.to_le_bytes());
    offer.extend(proofs.dialler);
    for key in keys {
        offer.extend(proofs.make(key, Place::Offer).as_bytes());
    }
    offer
}

/// The acceptor's part.
pub(crate) async fn accept(
    mut stream: TcpStream,
    ring: &KeyRing,
) -> Result<SealedStream, KeyFailure> {
    let broken = |error: std::io::Error| KeyFailure::broken(&error);
    let (mut proofs, tags) = read_offer(&mut stream).await?;
    let place = |key: &Key| {
        let mut tags = tags.iter();
        tags.position(|tag| proofs.check(key, Place::Offer, *tag))
    };
    let common = ring.keys().iter().find_map(|key| Some((key, place(key)?)));
    let Some((key, which)) = common else {
        answer(&mut stream, NO_COMMON_KEY).await;
        let node = proofs.node;
        let why = format!("the peer, which says that it is node {node}, has another cluster key");
        return Err(KeyFailure::new("wrong_key", why));
    };
    proofs.acceptor = rand::random();
    let mut agreed = Vec::with_capacity(ANSWER_HEAD + SALT + TAG);
    agreed.extend(MAGIC);
    agreed.extend([VERSION, AGREED]);
    agreed.push(u8::try_from(which).expect("an offer has few keys"));
    agreed.push(0);
    agreed.extend(proofs.acceptor);
    agreed.extend(proofs.make(key, Place::Answer).as_bytes());
    stream.write_all(&agreed).await.map_err(broken)?;
    let mut confirm = [0; TAG];
    stream.read_exact(&mut confirm).await.map_err(broken)?;
    if !proofs.check(key, Place::Confirm, confirm) {
        return Err(KeyFailure::new(
            "unproved",
            "the other side couldn't prove the cluster key",
        ));
    }
    let (back, out) = proofs.seals(key).ok_or_else(KeyFailure::malformed)?;
    Ok(SealedStream::new(stream, *key, back, out))
}

/// Tells a dialler with a key that this node has none.
pub(crate) async fn refuse(mut stream: TcpStream) -> KeyFailure {
    match read_offer(&mut stream).await {
        Ok((proofs, _)) => {
            answer(&mut stream, NO_KEY_HERE).await;
            KeyFailure::key_not_here(proofs.node)
        }
        Err(failure) => failure,
    }
}

async fn read_offer(stream: &mut TcpStream) -> Result<(Proofs, Vec<[u8; TAG]>), KeyFailure> {
    let broken = |error: std::io::Error| KeyFailure::broken(&error);
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(broken)?;
    let [a, b, c, d, version, count, _, _, node @ ..] = head;
    let count = usize::from(count);
    if [a, b, c, d] != MAGIC || version != VERSION || count > KEYS_MAX {
        return Err(KeyFailure::malformed());
    }
    let mut dialler = [0; SALT];
    stream.read_exact(&mut dialler).await.map_err(broken)?;
    let mut tags = vec![[0; TAG]; count];
    for tag in &mut tags {
        stream.read_exact(tag).await.map_err(broken)?;
    }
    let proofs = Proofs {
        node: u64::from_le_bytes(node),
        dialler,
        acceptor: [0; SALT],
    };
    Ok((proofs, tags))
}

/// Says no. The dialler that doesn't hear it sees the stream close.
async fn answer(stream: &mut TcpStream, status: u8) {
    let mut refusal = MAGIC.to_vec();
    refusal.extend([VERSION, status, 0, 0]);
    let _ = stream.write_all(&refusal).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn ring(keys: &[u8]) -> KeyRing {
        let lines: Vec<_> = keys
            .iter()
            .map(|key| format!("{key:02x}").repeat(32))
            .collect();
        KeyRing::parse(lines.join("\n").as_bytes(), [0; 16]).unwrap()
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    async fn shake(
        dialler: &[u8],
        acceptor: &[u8],
    ) -> (
        Result<SealedStream, KeyFailure>,
        Result<SealedStream, KeyFailure>,
    ) {
        let (dialled, accepted) = pair().await;
        let (dialler, acceptor) = (ring(dialler), ring(acceptor));
        tokio::join!(dial(dialled, &dialler, 7), accept(accepted, &acceptor))
    }

    #[tokio::test]
    async fn whoever_has_a_key_in_common_talks_both_ways() {
        for (dialler, acceptor) in [(&[1][..], &[1][..]), (&[2, 1], &[1]), (&[1], &[2, 1])] {
            let (dialled, accepted) = shake(dialler, acceptor).await;
            let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
            dialled.write_all(b"there").await.unwrap();
            dialled.flush().await.unwrap();
            let mut word = [0; 5];
            accepted.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"there");
            accepted.write_all(b"back!").await.unwrap();
            accepted.flush().await.unwrap();
            dialled.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"back!");
        }
    }

    #[tokio::test]
    async fn another_key_is_refused_and_both_are_told() {
        let (dialled, accepted) = shake(&[1], &[2]).await;
        assert_eq!(dialled.unwrap_err().reason, "refused_wrong_key");
        let refused = accepted.unwrap_err();
        assert_eq!(refused.reason, "wrong_key");
        assert!(refused.why.contains("node 7"), "{refused}");
    }

    #[tokio::test]
    async fn a_node_without_a_key_says_so() {
        let (dialled, accepted) = pair().await;
        let ring = ring(&[1]);
        let (dialled, refused) = tokio::join!(dial(dialled, &ring, 7), refuse(accepted));
        assert_eq!(dialled.unwrap_err().reason, "refused_no_key");
        assert_eq!(refused.reason, "key_not_here");
    }

    #[tokio::test]
    async fn an_offer_that_was_heard_before_proves_nothing() {
        let heard = {
            let proofs = Proofs {
                node: 7,
                dialler: [5; SALT],
                acceptor: [0; SALT],
            };
            offer(&proofs, &ring(&[1]))
        };
        let (mut thief, accepted) = pair().await;
        let ring = ring(&[1]);
        let steal = async {
            thief.write_all(&heard).await.unwrap();
            let mut answer = [0; ANSWER_HEAD + SALT + TAG];
            thief.read_exact(&mut answer).await.unwrap();
            // The acceptor's own proof, sent back.
            thief
                .write_all(&answer[ANSWER_HEAD + SALT..])
                .await
                .unwrap();
        };
        let ((), refused) = tokio::join!(steal, accept(accepted, &ring));
        assert_eq!(refused.unwrap_err().reason, "unproved");
    }
}
