//! Which defect a node is to have on purpose: none, unless this was built with the feature `plant`.

use quorumor_core::Planted;

use super::{ConfigError, Settings};

/// There is nothing to name.
#[cfg(not(feature = "plant"))]
pub(super) fn parse(_settings: &Settings) -> Result<Planted, ConfigError> {
    Ok(Planted::default())
}

/// The defect that was named.
#[cfg(feature = "plant")]
pub(super) fn parse(settings: &Settings) -> Result<Planted, ConfigError> {
    use quorumor_core::Plant;

    let Some(name) = &settings.plant else {
        return Ok(Planted::default());
    };
    let plant = Plant::parse(name).ok_or_else(|| {
        let names: Vec<_> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        ConfigError::invalid("plant", name, format!("say one of {}", names.join(", ")))
    })?;
    tracing::warn!(plant = name, "this node has a defect on purpose");
    Ok(plant.into())
}

#[cfg(all(test, feature = "plant"))]
mod tests {
    use super::*;

    fn settings(plant: &str) -> Settings {
        Settings {
            plant: Some(plant.to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn a_defect_is_named_or_refused() {
        let planted = parse(&settings("stale-read")).unwrap();
        assert!(planted.is(quorumor_core::Plant::StaleRead));
        let error = parse(&settings("none")).unwrap_err();
        assert!(error.to_string().contains("stale-read"), "{error}");
    }
}
