//! Judging a history as a data type: what `quorumor lab check` does with a file, ours or anybody's.
//!
//! A model says which operations the history may have and which checkers are run. Called by the command line.

use super::linearizable::{self, Reads, STEP_BUDGET};
use super::{Finding, Verdict, is_linearizable, judge_reads, phantom, set};
use crate::history::{Action, History, Op};

/// As what a history is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Keys that are read, written and deleted: linearizable per key, no phantoms.
    Register,
    /// As [`Model::Register`], with compare-and-set.
    CasRegister,
    /// Elements that are put once and listed: set-full, no phantoms.
    Set,
    /// Everything that the history has, by what its mode promises.
    Kv,
}

impl Model {
    /// The word that people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::CasRegister => "cas-register",
            Self::Set => "set",
            Self::Kv => "kv",
        }
    }

    fn allows(self, action: &Action) -> bool {
        match action {
            Action::Get | Action::Delete => self != Self::Set,
            Action::Put(_) => true,
            Action::Cas(_) => matches!(self, Self::CasRegister | Self::Kv),
            Action::List => matches!(self, Self::Set | Self::Kv),
            Action::Grant { .. } | Action::KeepAlive | Action::Revoke => self == Self::Kv,
        }
    }
}

/// Why a history can't be judged as this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// It has an operation that the model doesn't know.
    #[error(
        "a {model} has no such operation: {op}; --model kv judges everything that a history has"
    )]
    Operation {
        /// The model's name.
        model: &'static str,
        /// The operation.
        op: String,
    },
    /// Nothing in it could break the model's promises.
    #[error("{0}")]
    Nothing(String),
}

/// Judges a history as a model. A history without an end is judged as far as it goes; whoever asks must say so.
///
/// # Errors
/// When it has an operation that the model doesn't know, or nothing that could be judged: a verdict would mean nothing.
pub fn judge_as(history: &History, model: Model, reads: Reads) -> Result<Vec<Finding>, ModelError> {
    let foreign = |op: &&Op| !model.allows(&op.invoke.action);
    if let Some(op) = history.ops.iter().find(foreign) {
        return Err(ModelError::Operation {
            model: model.name(),
            op: op.describe(),
        });
    }
    match model {
        Model::Kv => Ok(judge_reads(history, reads).findings),
        Model::Register | Model::CasRegister => {
            something_is_read(history, reads)?;
            Ok(vec![
                linearizable::check(history, reads, STEP_BUDGET),
                phantom::check(history),
            ])
        }
        Model::Set => {
            let sets = set::check(history).ok_or_else(|| {
                let text =
                    "no element is put under a prefix that is listed: there is no set to judge";
                ModelError::Nothing(text.to_owned())
            })?;
            Ok(vec![sets.finding, phantom::check(history)])
        }
    }
}

fn something_is_read(history: &History, reads: Reads) -> Result<(), ModelError> {
    let shows = |op: &Op| match op.invoke.action {
        Action::Get => true,
        Action::Cas(_) => true,
        Action::Delete => op.answer().is_some_and(|ret| ret.deleted_nothing()),
        Action::Put(_)
        | Action::List
        | Action::Grant { .. }
        | Action::KeepAlive
        | Action::Revoke => false,
    };
    let judged = |op: &&Op| {
        let claims = |ret| is_linearizable(history.header.mode, op, ret);
        shows(op)
            && op
                .answer()
                .is_some_and(|ret| reads == Reads::All || claims(ret))
    };
    if history.ops.iter().any(|op| judged(&op)) {
        return Ok(());
    }
    let text = "no answer claims to be linearizable, so nothing can contradict it; \
                --reads-as linearizable judges weaker reads as if they did";
    Err(ModelError::Nothing(text.to_owned()))
}

/// The verdict on the whole: the worst of the findings, and never better than unknown for a history without an end.
pub fn verdict(history: &History, findings: &[Finding]) -> Verdict {
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let worst = worst.unwrap_or(Verdict::Unknown);
    if history.is_complete() {
        worst
    } else {
        worst.max(Verdict::Unknown)
    }
}
