//! Who takes part: a system in a world, and how its column is called and judged.

use crate::analyse::RunResult;
use crate::checker::linearizable::Reads;
use crate::etcd;
use crate::history::{Level, Mode, World};
use crate::report::Column;
use crate::scenario::{Breaker, Contrast, Limits, Scenario};

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Quorumor in strong mode.
    Strong,
    /// Quorumor in eventual mode.
    Eventual,
    /// etcd, its reads linearizable.
    Etcd,
    /// etcd, its reads serializable and judged as if they were linearizable: known to be weak.
    EtcdSerializable,
}

impl System {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
            Self::Etcd => "etcd",
            Self::EtcdSerializable => "etcd serializable",
        }
    }

    /// Our mode; none for a system that isn't ours.
    pub const fn mode(self) -> Option<Mode> {
        match self {
            Self::Strong => Some(Mode::Strong),
            Self::Eventual => Some(Mode::Eventual),
            Self::Etcd | Self::EtcdSerializable => None,
        }
    }
}

/// Which side of a scenario's contrast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// There is none: the scenario as it is written.
    #[default]
    Whole,
    /// With what is contrasted.
    With(Contrast),
    /// Without it.
    Without(Contrast),
}

impl Side {
    /// As a part of a label.
    const fn words(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::With(Contrast::Breaker) => Some("breaker on"),
            Self::Without(Contrast::Breaker) => Some("breaker off"),
            Self::With(Contrast::Limits) => Some("limits enforcing"),
            Self::Without(Contrast::Limits) => Some("limits disabled"),
        }
    }
}

/// A system in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Which system.
    pub system: System,
    /// Where it runs.
    pub world: World,
    /// With or without what the scenario contrasts.
    pub side: Side,
}

impl Contender {
    /// A system in a world, playing scenarios as they are written.
    pub const fn new(system: System, world: World) -> Self {
        Self {
            system,
            world,
            side: Side::Whole,
        }
    }

    /// The sides that it takes in a scenario: itself, or both where there is a contrast that it can play, one after the other.
    pub(super) fn sides(self, scenario: &Scenario) -> Vec<Self> {
        let side = |side| Self { side, ..self };
        let plays = self.world == World::Cluster && self.system.mode().is_some();
        match scenario.contrast.filter(|_| plays) {
            Some(contrast) => vec![side(Side::With(contrast)), side(Side::Without(contrast))],
            None => vec![self],
        }
    }

    fn name(self) -> String {
        let name = self.system.name();
        self.side
            .words()
            .map_or(name.to_owned(), |side| format!("{name}, {side}"))
    }

    /// What people call it when both worlds are shown.
    pub fn label(self) -> String {
        let world = match self.world {
            World::Cluster => "real processes",
            World::Simulated => "simulated",
        };
        format!("{}, {world}", self.name())
    }

    /// The same as a part of file names.
    pub fn slug(self) -> String {
        let world = match self.world {
            World::Cluster => "real",
            World::Simulated => "simulated",
        };
        let name = self.name().replace(", ", "-").replace(' ', "-");
        format!("{name}-{world}")
    }

    /// How its reads are judged.
    pub(super) fn reads(self) -> Reads {
        match self.system {
            System::EtcdSerializable => Reads::All,
            System::Strong | System::Eventual | System::Etcd => Reads::Claimed,
        }
    }

    /// How etcd is asked.
    pub(super) fn etcd_reads(self) -> etcd::Reads {
        match self.system {
            System::EtcdSerializable => etcd::Reads::Serializable,
            System::Strong | System::Eventual | System::Etcd => etcd::Reads::Linearizable,
        }
    }

    /// The scenario as it plays it: serializable reads are local ones.
    pub(super) fn scenario(self, scenario: &Scenario) -> Scenario {
        let mut scenario = scenario.clone();
        // etcd is asked as its column says, whatever the scenario asks of our modes.
        match self.system {
            System::Strong | System::Eventual => {}
            System::Etcd => scenario.workload.read_level = Some(Level::Linearizable),
            System::EtcdSerializable => scenario.workload.read_level = Some(Level::Local),
        }
        match self.side {
            Side::Whole => {}
            Side::With(Contrast::Breaker) => scenario.workload.breaker = Some(Breaker::On),
            Side::Without(Contrast::Breaker) => scenario.workload.breaker = Some(Breaker::Off),
            Side::With(Contrast::Limits) => scenario.limits = Some(Limits::Enforcing),
            Side::Without(Contrast::Limits) => scenario.limits = Some(Limits::Disabled),
        }
        scenario
    }

    /// What its column is called beside `all`.
    pub(super) fn shown(self, all: &[Self]) -> String {
        if all.iter().all(|other| other.world == self.world) {
            self.name()
        } else {
            self.label()
        }
    }

    /// The same without its side, if it is the side with what is contrasted.
    pub(super) fn both(self) -> Option<(Self, Self)> {
        let side = |side| Self { side, ..self };
        match self.side {
            Side::With(contrast) => Some((side(Side::Whole), side(Side::Without(contrast)))),
            Side::Whole | Side::Without(_) => None,
        }
    }

    /// Its column of the report, beside `all`.
    pub(super) fn column(self, runs: Vec<RunResult>, all: &[Self]) -> Column {
        let mode = self.system.mode().unwrap_or(Mode::Strong);
        let mut column = Column::new(mode, self.world, runs);
        column.label = self.shown(all);
        if self.system.mode().is_none() {
            column.promises =
                vec!["etcd's own: an acknowledged write is on a majority.".to_owned()];
        }
        if self.system == System::EtcdSerializable {
            let weak = "Its reads are serializable; here they are judged as linearizable, which etcd does not promise.";
            column.promises.push(weak.to_owned());
        }
        column
    }
}
