//! The file that a migration's whole list goes to. What stands there from before is replaced only once a list begins: a run that lists
//! nothing, since it failed or since all was told before, leaves it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use quorumor_client::migrate::Listed;

use super::stating;
use crate::exit::Failure;

/// The file. The first failure is told at the end.
pub(super) struct Ledger {
    out: BufWriter<File>,
    /// Else it is a pipe or a terminal, which has nothing to replace or to sync.
    is_file: bool,
    failed: Option<io::Error>,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let opened = opened.and_then(|file| {
            let is_file = file.metadata()?.is_file();
            Ok(Self {
                out: BufWriter::new(file),
                is_file,
                failed: None,
            })
        });
        opened.map_err(|error| Failure::usage(format!("can't write {}: {error}", path.display())))
    }

    /// From here on the file has the list alone.
    pub(super) fn begin(&mut self) {
        if self.is_file {
            let emptied = self.out.get_ref().set_len(0);
            self.keep(emptied);
        }
    }

    pub(super) fn add(&mut self, listed: &Listed) {
        let line = stating::listed_json(listed);
        let written = writeln!(self.out, "{line}");
        self.keep(written);
    }

    /// Returns once the list is on the disk.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        self.keep(flushed);
        if self.is_file {
            let synced = self.out.get_ref().sync_all();
            self.keep(synced);
        }
        match self.failed {
            Some(error) => Err(Failure::unavailable("can't write the ledger", &error)),
            None => Ok(()),
        }
    }

    fn keep(&mut self, result: io::Result<()>) {
        self.failed = self.failed.take().or(result.err());
    }
}
