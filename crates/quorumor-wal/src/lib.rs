//! One write-ahead log and checkpoint files, for both modes, over a real or a faulty disk.
