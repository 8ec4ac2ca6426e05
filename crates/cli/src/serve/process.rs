//! A program, and one run of it in a process group of its own.

use std::{
    ffi::OsString,
    fmt, io,
    path::Path,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::{
    executable,
    supervision::{Supervised, Supervision},
};
use crate::settings::quoted;

/// A program and its arguments.
#[derive(Clone)]
pub(crate) struct CommandLine {
    program: OsString,
    arguments: Vec<OsString>,
    /// None in tests of what a program does by itself.
    supervision: Option<Supervision>,
}

impl CommandLine {
    /// Checks that the program can be started, so that an error shows at the start and not with
    /// the first request.
    pub(crate) fn checked(words: Vec<OsString>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let program = words.next().ok_or("no command was given")?;
        executable::check(&program)?;
        Ok(Self { program, arguments: words.collect(), supervision: None })
    }

    /// The same, with all its runs under supervision.
    pub(crate) fn under(self, supervision: Supervision) -> Self {
        Self { supervision: Some(supervision), ..self }
    }

    /// The program without its folder.
    pub(crate) fn name(&self) -> String {
        let path = Path::new(&self.program);
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Starts it. Without input its standard input is empty.
    pub(crate) fn spawn(&self, with_input: bool) -> io::Result<Process> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(if with_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: what it starts in turn can be ended with it, and a Ctrl-C at
            // the terminal is ours to handle.
            .process_group(0)
            // Should its task be cut, it does not stay behind.
            .kill_on_drop(true);
        let (mut child, supervised) = match &self.supervision {
            Some(supervision) => {
                let (child, supervised) = supervision.spawn(&mut command)?;
                (child, Some(supervised))
            }
            None => (command.spawn()?, None),
        };
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdin, Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the pipes to it are missing"));
        };
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(id);
        Ok(Process { child, group, stdin, stdout, stderr, _supervised: supervised })
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.program.to_string_lossy()))?;
        self.arguments.iter().try_for_each(|word| write!(f, " {}", quoted(&word.to_string_lossy())))
    }
}

/// A running program and its pipes.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) group: Group,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
    _supervised: Option<Supervised>,
}

/// The process group of a program. Signal it before the program has been waited for: until then
/// its number belongs to nobody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Asks everything in the group to end.
    pub(crate) fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends everything in the group.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        if let Some(group) = self.0 {
            // It has ended by itself then.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// How a program ended, behind its name.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_program_is_looked_for_where_the_shell_would() {
        assert!(CommandLine::checked(words("sh -c true")).is_ok());
        assert!(CommandLine::checked(words("/bin/sh")).is_ok());
        let missing = CommandLine::checked(words("no-such-program-here")).err().unwrap();
        assert_eq!(missing, "no-such-program-here: no such program on PATH");
        // There, but a folder; and there, but not to be run.
        assert!(CommandLine::checked(words("/bin")).is_err());
        assert!(CommandLine::checked(words("/etc/passwd")).is_err());
    }

    #[test]
    fn it_is_shown_as_a_shell_would_read_it() {
        let command = CommandLine::checked(vec!["tr".into(), " ".into(), r"\n".into()]).unwrap();
        assert_eq!(command.to_string(), r"tr ' ' '\n'");
        assert_eq!(command.name(), "tr");
    }

    #[tokio::test]
    async fn the_way_it_ended_is_told() {
        let run = async |script: &str| {
            let command = CommandLine::checked(vec!["sh".into(), "-c".into(), script.into()]);
            let mut process = command.unwrap().spawn(false).unwrap();
            how_it_ended(process.child.wait().await.unwrap())
        };
        assert_eq!(run("exit 7").await, "exited with code 7");
        assert_eq!(run("kill -9 $$").await, "was killed by signal 9");
    }
}
