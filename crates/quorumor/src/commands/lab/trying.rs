//! What `lab run` and `lab matrix` share: which columns, how many seeds, which defect.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorumor_lab::contest::{Contender, Contest, System};
use quorumor_lab::history::World;
use quorumor_lab::network::LinkKind;
use quorumor_lab::scenario::Scenario;
use quorumor_lab::world::sim::Plant;

use crate::exit::Failure;

/// Where scenarios are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Where {
    /// In virtual time, from a seed: seconds, and the same every time
    Simulated,
    /// As processes on this machine, in real time
    Real,
    /// In both, side by side
    Both,
}

impl Where {
    const fn worlds(self) -> &'static [World] {
        match self {
            Self::Simulated => &[World::Simulated],
            Self::Real => &[World::Cluster],
            Self::Both => &[World::Simulated, World::Cluster],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Real => "real",
            Self::Both => "both",
        }
    }
}

/// A system to play it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    /// Strong mode
    Strong,
    /// Eventual mode
    Eventual,
    /// etcd, with linearizable reads (real processes only; its binary in $ETCD or the PATH)
    Etcd,
    /// etcd, with serializable reads that are judged as linearizable: known to be weak
    EtcdSerializable,
}

impl Who {
    const fn system(self) -> System {
        match self {
            Self::Strong => System::Strong,
            Self::Eventual => System::Eventual,
            Self::Etcd => System::Etcd,
            Self::EtcdSerializable => System::EtcdSerializable,
        }
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// What links are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinksArg {
    /// Proxies of the lab over loopback: anywhere, unprivileged
    Proxies,
    /// The kernel's own between network namespaces, so that packets of streams are lost too: on Linux, as root, with `ip` and `nft`
    Namespaces,
}

impl LinksArg {
    const fn kind(self) -> LinkKind {
        match self {
            Self::Proxies => LinkKind::Proxies,
            Self::Namespaces => LinkKind::Namespaces,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TryingArgs {
    /// Where it is played
    #[arg(long, value_enum, value_name = "WORLD", default_value_t = Where::Simulated)]
    pub(crate) world: Where,
    /// Only these columns, or others beside both modes [default: strong,eventual]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SYSTEM,..")]
    pub(crate) only: Vec<Who>,
    /// What links between our nodes are made of, where they are real processes
    #[arg(long, value_enum, default_value_t = LinksArg::Proxies)]
    pub(crate) links: LinksArg,
    /// How many seeds, counted up from the first; medians are over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: u64,
    /// The first seed [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Plant a defect in the simulated world, to see that it is found
    #[arg(long, value_name = "DEFECT", value_parser = super::super::sim::plant, hide = true)]
    pub(crate) plant: Option<Plant>,
}

impl TryingArgs {
    /// The columns. etcd can't be simulated, so of both worlds it takes the real one.
    fn contenders(&self) -> Result<Vec<Contender>, Failure> {
        if self.links == LinksArg::Namespaces && self.world == Where::Simulated {
            let what = "--links namespaces is about real processes";
            return Err(Failure::usage(what).advising("--world real"));
        }
        let usual = [Who::Strong, Who::Eventual];
        let systems: &[Who] = if self.only.is_empty() {
            &usual
        } else {
            &self.only
        };
        let mut contenders = Vec::new();
        for who in systems {
            for &world in self.world.worlds() {
                let system = who.system();
                if system.mode().is_some() || world == World::Cluster {
                    contenders.push(Contender::new(system, world));
                }
            }
        }
        if contenders.is_empty() {
            return Err(Failure::usage("etcd runs as real processes only").advising("--world real"));
        }
        Ok(contenders)
    }

    /// The contest of a scenario. `called` is what it was called by.
    pub(crate) fn contest(
        &self,
        command: &str,
        scenario: Scenario,
        out: PathBuf,
    ) -> Result<Contest, Failure> {
        let scenario = Scenario {
            seed: self.seed.unwrap_or(scenario.seed),
            ..scenario
        };
        Ok(Contest {
            contenders: self.contenders()?,
            seeds: self.seeds,
            out,
            program: None,
            links: self.links.kind(),
            cluster_plant: None,
            sim_plant: self.plant,
            command: self.command(command, scenario.seed),
            scenario,
        })
    }

    /// The command that repeats it.
    pub(crate) fn command(&self, command: &str, seed: u64) -> String {
        let mut text = format!(
            "quorumor lab {command} --world {} --seed {seed}",
            self.world.name()
        );
        if self.seeds > 1 {
            text += &format!(" --seeds {}", self.seeds);
        }
        if !self.only.is_empty() {
            let names: Vec<String> = self.only.iter().map(|who| who.name()).collect();
            text += &format!(" --only {}", names.join(","));
        }
        if self.links == LinksArg::Namespaces {
            text += " --links namespaces";
        }
        if let Some(plant) = self.plant {
            text += &format!(" --plant {}", plant.name());
        }
        text
    }
}
