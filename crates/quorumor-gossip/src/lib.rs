//! Eventual mode: a sans-IO replica of SWIM, rumors and anti-entropy.
