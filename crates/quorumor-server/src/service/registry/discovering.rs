//! Lists of instances and of services, from one view each.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quorumor_core::limits::{LIST_BYTES_MAX, LIST_ENTRIES_MAX};
use quorumor_core::{Error, KeyRange};
use quorumor_proto::pb;
use quorumor_proto::pb::{HealthFilter, InstanceHealth, ZoneRule};

use super::super::asking::Asking;
use super::super::list::limit;
use super::discovered::Discovered;
use crate::registry::filter::{Filter, tags_of};
use crate::registry::naming::{PREFIX, parse_service, range};
use crate::registry::shelf::{Ready, Shelf};
use crate::registry::stored::{Found, instances};

/// The first text above every key of the registry.
const END: &str = "quorumor/services0";
const TOKEN_FORMAT: u8 = 1;
/// What an instance weighs in a page beside its own message: a tag and a length.
const INSTANCE_BYTES: usize = 8;

/// Which instances a caller wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    filter: Filter,
    health: HealthFilter,
}

impl Wanted {
    /// # Errors
    /// `InvalidArgument` that names what can't be read.
    pub(super) fn parse(filter: &str, health: i32) -> Result<Self, Error> {
        Ok(Self {
            filter: Filter::parse(filter)?,
            health: HealthFilter::try_from(health).map_err(|_| {
                Error::invalid(
                    "health",
                    "it is unspecified (passing and warning), passing or any",
                )
            })?,
        })
    }

    pub(super) fn takes(&self, instance: &pb::ServiceInstance) -> bool {
        let health = instance.status.as_ref().map(pb::InstanceStatus::health);
        let critical = health == Some(InstanceHealth::Critical);
        let fits = match self.health {
            HealthFilter::Unspecified => !critical,
            HealthFilter::Passing => health == Some(InstanceHealth::Passing),
            HealthFilter::Any => true,
        };
        fits && instance
            .instance
            .as_ref()
            .is_some_and(|it| self.filter.matches(it))
    }
}

/// An instance's place in the order of a discovery: the caller's zone first, then by id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    elsewhere: bool,
    id: String,
}

impl Place {
    fn of(ready: &Ready, zone: &str) -> Self {
        Self {
            elsewhere: is_elsewhere(ready, zone),
            id: ready.id().to_owned(),
        }
    }

    /// Whether an instance stands behind it.
    fn is_before(&self, ready: &Ready, zone: &str) -> bool {
        (self.elsewhere, self.id.as_str()) < (is_elsewhere(ready, zone), ready.id())
    }

    fn token(&self, service: &str) -> Bytes {
        let mut token = BytesMut::new();
        token.put_u8(TOKEN_FORMAT);
        token.put_u8(self.elsewhere.into());
        token.put_slice(service.as_bytes());
        token.put_u8(b'/');
        token.put_slice(self.id.as_bytes());
        token.freeze()
    }

    fn parse(token: &[u8], service: &str) -> Result<Option<Self>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let place = || {
            let [TOKEN_FORMAT, elsewhere, rest @ ..] = token else {
                return None;
            };
            let (named, id) = std::str::from_utf8(rest).ok()?.split_once('/')?;
            (named == service).then(|| Self {
                elsewhere: *elsewhere != 0,
                id: id.to_owned(),
            })
        };
        let why = "it is none that a page of this service's instances gave";
        place()
            .map(Some)
            .ok_or_else(|| Error::invalid("page_token", why))
    }
}

/// Whether an instance is in another zone than the caller's, if he names one.
fn is_elsewhere(ready: &Ready, zone: &str) -> bool {
    let instance = ready.instance.instance.as_ref();
    !zone.is_empty() && instance.is_none_or(|it| it.zone != zone)
}

pub(super) async fn discover(
    shelf: Shelf,
    asking: Arc<Asking>,
    request: pb::DiscoverRequest,
) -> Result<Discovered, Error> {
    parse_service(&request.service)?;
    let wanted = Wanted::parse(&request.filter, request.health)?;
    let rule = ZoneRule::try_from(request.zone_rule)
        .map_err(|_| Error::invalid("zone_rule", "it is unspecified (first), prefer or require"))?;
    let after = Place::parse(&request.page_token, &request.service)?;
    let most = match request.limit {
        0 => LIST_ENTRIES_MAX,
        named => limit(named)?,
    };
    let keys = range(&request.service)?;
    asking.principal().may_read(&keys)?;
    let reading = asking.read().await?;
    let now_ms = asking.handle().clock().now().wall_ms;
    let entries = || reading.published.view.range(&keys, None);
    let shown = shelf.show(&request.service, entries, now_ms);
    let wanted_of = shown.instances.iter();
    let mut found: Vec<&Ready> = wanted_of
        .filter(|ready| wanted.takes(&ready.instance))
        .collect();
    let zone = request.zone.as_str();
    // They lie by their ids, and stay so within each half.
    found.sort_by_key(|ready| is_elsewhere(ready, zone));
    let zone_failed_over = by_zone(&mut found, zone, rule);
    let mut page = Page::default();
    for ready in found {
        let is_on_an_earlier_page = after
            .as_ref()
            .is_some_and(|after| !after.is_before(ready, zone));
        if is_on_an_earlier_page {
            continue;
        }
        if !page.take(ready, most) {
            break;
        }
    }
    let next_page_token = page
        .more_after
        .map(|last| Place::of(last, zone).token(&request.service));
    Ok(Discovered {
        receipt: Some(asking.read_receipt(&reading)?),
        instances: page.messages,
        next_page_token: next_page_token.unwrap_or_default(),
        service_known: !shown.instances.is_empty(),
        zone_failed_over,
    })
}

/// Leaves other zones out where the caller wants that; whether the caller's own had nothing.
fn by_zone(found: &mut Vec<&Ready>, zone: &str, rule: ZoneRule) -> bool {
    if zone.is_empty() {
        return false;
    }
    let has_own = found
        .first()
        .is_some_and(|ready| !is_elsewhere(ready, zone));
    match rule {
        ZoneRule::Unspecified => false,
        ZoneRule::Prefer if !has_own => !found.is_empty(),
        ZoneRule::Prefer | ZoneRule::Require => {
            found.retain(|ready| !is_elsewhere(ready, zone));
            false
        }
    }
}

/// Instances up to a number and a weight, one at least.
#[derive(Default)]
struct Page<'a> {
    messages: Vec<Bytes>,
    bytes: usize,
    last: Option<&'a Ready>,
    /// The last of this page, if more follow.
    more_after: Option<&'a Ready>,
}

impl<'a> Page<'a> {
    /// Whether it fitted in.
    fn take(&mut self, ready: &'a Ready, most: usize) -> bool {
        let weight = INSTANCE_BYTES + ready.message.len();
        let full = self.messages.len() >= most || self.bytes + weight > LIST_BYTES_MAX;
        if full && !self.messages.is_empty() {
            self.more_after = self.last.take();
            return false;
        }
        self.bytes += weight;
        self.messages.push(ready.message.clone());
        self.last = Some(ready);
        true
    }
}

pub(super) async fn services(
    asking: Arc<Asking>,
    request: pb::ListServicesRequest,
) -> Result<pb::ListServicesResponse, Error> {
    let most = limit(request.limit)?;
    if !request.after_service.is_empty() {
        parse_service(&request.after_service)?;
    }
    let keys = range("")?;
    asking.principal().may_read(&keys)?;
    let reading = asking.read().await?;
    let now_ms = asking.handle().clock().now().wall_ms;
    // `0` is the sign behind `/`, so that no key of the service itself is above.
    let rest = match request.after_service.as_str() {
        "" => keys,
        after => KeyRange::between(&format!("{PREFIX}{after}0"), Some(END))?,
    };
    let entries = reading.published.view.range(&rest, None);
    let mut services: Vec<pb::ServiceSummary> = Vec::new();
    let mut more = false;
    let mut of_one: Vec<Found> = Vec::new();
    for found in instances(entries.map(|entry| &**entry)) {
        if of_one
            .first()
            .is_some_and(|one| one.name.service != found.name.service)
        {
            services.push(summary(&std::mem::take(&mut of_one), now_ms));
            if services.len() >= most {
                more = true;
                break;
            }
        }
        of_one.push(found);
    }
    if !of_one.is_empty() {
        services.push(summary(&of_one, now_ms));
    }
    Ok(pb::ListServicesResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        services,
        more,
    })
}

/// One service's instances, counted. There is one at least.
fn summary(found: &[Found], now_ms: u64) -> pb::ServiceSummary {
    let count = |wanted| {
        let healths = found.iter().map(|found| found.status(now_ms).health());
        let count = healths.filter(|health| *health == wanted).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    pb::ServiceSummary {
        service: found
            .first()
            .map(|found| found.name.service.clone())
            .unwrap_or_default(),
        passing: count(InstanceHealth::Passing),
        warning: count(InstanceHealth::Warning),
        critical: count(InstanceHealth::Critical),
        tags: tags_of(found.iter().map(|found| &found.instance)),
    }
}
