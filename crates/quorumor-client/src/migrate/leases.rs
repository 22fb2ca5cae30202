//! The source's leases at the destination: each gets one there with its whole TTL when the first of its entries moves, and is kept
//! alive until the run ends. By then its owner must go on with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use quorumor_core::{LeaseId, Operation, Value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::book::{Book, unreadable};
use super::progress::LeaseRecord;
use super::sides::Side;
use super::{LeaseMoved, MigrateError};
use crate::client::Client;

/// Leases that are kept alive at the same time.
const AHEAD: usize = 32;
/// How often those that are due are looked for.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
struct Held {
    record: LeaseRecord,
    due: Instant,
    /// Whether it is gone at the destination.
    gone: bool,
}

impl Held {
    fn new(record: LeaseRecord) -> Self {
        Self {
            record,
            due: Instant::now() + pause(record),
            gone: false,
        }
    }
}

fn pause(record: LeaseRecord) -> Duration {
    Duration::from_millis(record.ttl_ms / 3)
}

type Table = Arc<Mutex<BTreeMap<LeaseId, Held>>>;

/// The leases by the source's ids. Bounded as leases are: `leases_max`.
#[derive(Debug)]
pub(super) struct Leases {
    table: Table,
    client: Client,
    keeper: Option<JoinHandle<()>>,
}

impl Leases {
    /// None yet, and nobody keeps them.
    pub(super) fn none(destination: &Side) -> Self {
        Self {
            table: Table::default(),
            client: destination.client.clone(),
            keeper: None,
        }
    }

    /// Those that are written down, looked after from now on.
    pub(super) async fn load(book: &Book) -> Result<Self, MigrateError> {
        let mut leases = Self::written_down(book).await?;
        let all = leases.all();
        keep(&leases.client, &leases.table, all).await;
        let (client, table) = (leases.client.clone(), Arc::clone(&leases.table));
        leases.keeper = Some(tokio::spawn(look_after(client, table)));
        Ok(leases)
    }

    /// Those that are written down, and nobody keeps them.
    pub(super) async fn written_down(book: &Book) -> Result<Self, MigrateError> {
        let leases = Self::none(&book.side);
        let mut after = None;
        loop {
            let (entries, more) = book.side.own(&book.names.leases(), after.as_ref()).await?;
            for entry in &entries {
                let record = LeaseRecord::decode(entry.value.as_bytes());
                let record = record.ok_or_else(|| unreadable(&entry.key))?;
                leases.table.lock().insert(record.source, Held::new(record));
            }
            after = entries.last().map(|entry| entry.key.clone());
            if !more || after.is_none() {
                return Ok(leases);
            }
        }
    }

    fn all(&self) -> Vec<LeaseRecord> {
        let table = self.table.lock();
        table.values().map(|held| held.record).collect()
    }

    /// The one that stands for this lease of the source, if it lives.
    pub(super) fn live(&self, source: LeaseId) -> Option<LeaseRecord> {
        let table = self.table.lock();
        let held = table.get(&source).filter(|held| !held.gone);
        held.map(|held| held.record)
    }

    /// The one that stands for this lease of the source, granted if there is none. `None` if the source's is gone.
    pub(super) async fn arm(
        &self,
        source: &Side,
        book: &Book,
        id: LeaseId,
    ) -> Result<Option<LeaseRecord>, MigrateError> {
        if let Some(record) = self.live(id) {
            return Ok(Some(record));
        }
        let before = LeaseId::new(id.as_u64() - 1);
        let before = (before != LeaseId::ZERO).then_some(before);
        let listed = source.client.leases(before, 1).await?.leases;
        let Some(lease) = listed.into_iter().find(|lease| lease.id == id) else {
            return Ok(None);
        };
        let granted = self.client.grant_lease(lease.granted_ttl).await?;
        let record = LeaseRecord {
            source: id,
            destination: granted.lease,
            ttl_ms: u64::try_from(granted.ttl.as_millis()).unwrap_or(u64::MAX),
            owner: if book.side.mode == quorumor_core::Mode::Eventual {
                granted.receipt.node.as_u64()
            } else {
                0
            },
        };
        // Should it end before this is written, the lease runs out by itself.
        let noted = Operation::Put {
            key: book.names.lease(id),
            value: Value::parse(record.encode())?,
            context: None,
            lease: None,
        };
        book.side.client.batch(&[noted]).await?;
        self.table.lock().insert(id, Held::new(record));
        Ok(Some(record))
    }

    /// Lets each live for its whole TTL again, and finds those that are gone.
    pub(super) async fn renew(&self) {
        keep(&self.client, &self.table, self.all()).await;
    }

    /// Those that have keys at the destination.
    pub(super) async fn moved(&self) -> Result<Vec<LeaseMoved>, MigrateError> {
        let mut with_keys = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.client.leases(after, 0).await?;
            after = page.leases.last().map(|lease| lease.id);
            for lease in page.leases.iter().filter(|lease| lease.key_count > 0) {
                with_keys.insert(lease.id, lease.key_count);
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        let live = self
            .all()
            .into_iter()
            .filter(|record| with_keys.contains_key(&record.destination));
        Ok(live
            .map(|record| LeaseMoved {
                from: record.source,
                to: record.destination,
                ttl: Duration::from_millis(record.ttl_ms),
            })
            .collect())
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

async fn look_after(client: Client, table: Table) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = Instant::now();
        let due: Vec<LeaseRecord> = {
            let table = table.lock();
            let due = table.values().filter(|held| !held.gone && held.due <= now);
            due.map(|held| held.record).collect()
        };
        keep(&client, &table, due).await;
    }
}

/// Keeps these alive, some at a time. One that couldn't be asked for is due again at the next look.
async fn keep(client: &Client, table: &Table, leases: Vec<LeaseRecord>) {
    let kept = stream::iter(leases).map(|record| async move {
        let kept = client.keep_alive_once(record.destination).await;
        (record, kept)
    });
    let mut kept = kept.buffer_unordered(AHEAD);
    while let Some((record, result)) = kept.next().await {
        let Ok(left) = result else { continue };
        if let Some(held) = table.lock().get_mut(&record.source)
            && held.record == record
        {
            held.gone = left.is_none();
            held.due = Instant::now() + pause(record);
        }
    }
}
