//! Child processes that end with the lab, however it ends, even if they stand still at that moment.
//!
//! A guard in the child's process group kills the group once the lab's end of a pipe closes: the system closes it for a
//! lab that was killed, too.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

/// The guard goes to the background and lets go of the outputs, whose end is news; then the shell becomes the program, so that
/// the child's id is the program's.
const GUARDED: &str =
    r#"exec 3<&0; { read -r _ <&3; kill -9 0; } >/dev/null 2>&1 & exec "$@" 3<&- </dev/null"#;

/// Held as long as the child is to live.
pub(crate) struct Lifeline(#[expect(dead_code, reason = "its end is what it's for")] ChildStdin);

/// How to start a program under guard; its input is empty. A Ctrl-C in the terminal isn't for it, but for the lab.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARDED, "guarded"])
        .arg(program)
        .process_group(0)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts what [`command`] made.
///
/// # Errors
/// When there is no shell. A program that isn't there ends with status 127 and a word in its error output.
pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Lifeline)> {
    let mut child = command.spawn()?;
    let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, Lifeline(input)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = command(Path::new("sh"));
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    #[tokio::test]
    async fn a_child_that_stands_still_ends_when_its_lifeline_is_let_go() {
        let (mut child, lifeline) = spawn(&mut shell("echo up; exec sleep 600")).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        assert_eq!(line.unwrap().as_deref(), Some("up"));
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(lifeline);
        let ended = timeout(PATIENCE, child.wait()).await;
        assert!(!ended.unwrap().unwrap().success());
    }

    #[tokio::test]
    async fn the_end_of_a_childs_output_is_heard_though_its_guard_lives_on() {
        let (mut child, _lifeline) = spawn(&mut shell("exit 3")).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        assert_eq!(line.unwrap(), None);
        let ended = timeout(PATIENCE, child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(3));
    }
}
