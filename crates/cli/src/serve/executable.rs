//! Whether a program can be started, found out before the first request asks for it.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// What the kernel reads of a file to learn how to run it.
const HEAD: usize = 256;

/// Interpreters that are interpreted in turn; the kernel takes no more.
const MAX_DEPTH: usize = 4;

/// Checks that `program` can be started, looked for as the shell does.
///
/// # Errors
/// One sentence that names the file and says what is wrong with it, and the way out where there
/// is one.
pub(crate) fn check(program: &OsStr) -> Result<(), String> {
    check_at(&find(program)?, MAX_DEPTH)
}

/// The file that is meant: by its path, or in a folder of `PATH`.
fn find(program: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(program);
    if program.is_empty() {
        return Err("the command is empty".to_owned());
    }
    if path.components().count() > 1 || program.as_bytes().contains(&b'/') {
        return is_executable(path).map(|()| path.to_owned());
    }
    let dirs = env::var_os("PATH").unwrap_or_default();
    let mut why = None;
    for candidate in env::split_paths(&dirs).map(|dir| dir.join(path)) {
        match is_executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(reason) if candidate.is_file() => why = why.or(Some(reason)),
            Err(_) => {}
        }
    }
    Err(why.unwrap_or_else(|| format!("{}: no such program on PATH", path.display())))
}

fn is_executable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let file = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{shown}: no such program"),
        _ => format!("{shown}: {error}"),
    })?;
    if file.is_dir() {
        return Err(format!("{shown} is a folder, not a program"));
    }
    if !file.is_file() {
        return Err(format!("{shown} is not a program"));
    }
    // By the kernel's own rules: owner, lists of rights, a file system where nothing may run.
    access(path, Access::EXEC_OK).map_err(|error| {
        let error = std::io::Error::from(error);
        format!("{shown} may not be executed ({error}): chmod +x {shown}, or name its interpreter")
    })
}

fn check_at(path: &Path, depth: usize) -> Result<(), String> {
    // What may be run and not read is for the kernel to judge.
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut head = [0; HEAD];
    let read = read_up_to(&file, &mut head);
    let head = &head[..read];
    if head.starts_with(b"#!") {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(format!("{}: its interpreters lead in a circle", path.display()));
        };
        return check_script(path, head, depth);
    }
    if head.starts_with(b"\x7fELF") {
        return match elf_interpreter(&file, head) {
            Some(loader) if !loader.exists() => Err(format!(
                "{} needs {}, which is not on this machine: build it for this system",
                path.display(),
                loader.display()
            )),
            _ => Ok(()),
        };
    }
    if runs_by_other_rules() {
        return Ok(());
    }
    Err(format!(
        "{} is no program for this machine: a script begins with the line #!/bin/sh or the like",
        path.display()
    ))
}

fn check_script(path: &Path, head: &[u8], depth: usize) -> Result<(), String> {
    let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let shown = path.display();
    let Some(interpreter) = words.next() else {
        return Err(format!("{shown}: its first line names no interpreter"));
    };
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    let windows = match interpreter.as_os_str().as_bytes().ends_with(b"\r") {
        true => "; the file has line ends as Windows writes them",
        false => "",
    };
    let fault = |why: String| format!("{shown}: its interpreter cannot be run: {why}{windows}");
    is_executable(interpreter).map_err(fault)?;
    // What env is asked to find, options and settings apart.
    if interpreter.file_name() == Some(OsStr::new("env")) {
        let is_option = |word: &&[u8]| word.starts_with(b"-") || word.contains(&b'=');
        return match words.find(|word| !is_option(word)) {
            Some(program) => find(OsStr::from_bytes(program)).map(drop).map_err(fault),
            None => Ok(()),
        };
    }
    check_at(interpreter, depth).map_err(fault)
}

/// The loader that a program of this machine's kind asks for.
fn elf_interpreter(file: &File, head: &[u8]) -> Option<PathBuf> {
    let own = File::open("/proc/self/exe").ok()?;
    let mut own_head = [0; HEAD];
    read_up_to(&own, &mut own_head);
    // Class, order of bytes, and machine: another kind is run by an emulator, which has its own
    // folders.
    let kind = |head: &[u8]| Some((head.get(4..6)?.to_owned(), head.get(18..20)?.to_owned()));
    if kind(head)? != kind(&own_head)? || head.get(5) != Some(&1) {
        return None;
    }
    let is_64 = *head.get(4)? == 2;
    let number = |bytes: &[u8]| {
        bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let field = |from: &[u8], at: usize, size: usize| Some(number(from.get(at..at + size)?));
    let (table, entry_size, count) = match is_64 {
        true => (field(head, 0x20, 8)?, field(head, 0x36, 2)?, field(head, 0x38, 2)?),
        false => (field(head, 0x1c, 4)?, field(head, 0x2a, 2)?, field(head, 0x2c, 2)?),
    };
    for position in 0..count.min(64) {
        let mut entry = [0; 56];
        let entry = &mut entry[..if is_64 { 56 } else { 32 }];
        file.read_exact_at(entry, table.checked_add(position * entry_size)?).ok()?;
        // 3 is the kind of entry that names the loader.
        if field(entry, 0, 4)? == 3 {
            let (at, size) = match is_64 {
                true => (field(entry, 8, 8)?, field(entry, 32, 8)?),
                false => (field(entry, 4, 4)?, field(entry, 16, 4)?),
            };
            let mut name = vec![0; usize::try_from(size.min(4096)).ok()?];
            file.read_exact_at(&mut name, at).ok()?;
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            return Some(PathBuf::from(OsStr::from_bytes(&name[..end])));
        }
    }
    None
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> usize {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], read as u64) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
    read
}

/// True where the kernel has been taught further kinds of programs, which are not judged here.
fn runs_by_other_rules() -> bool {
    let rules = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    rules.into_iter().any(|rule| rule.file_name() != "register" && rule.file_name() != "status")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(dir: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn why(path: &Path) -> String {
        check(path.as_os_str()).unwrap_err()
    }

    #[test]
    fn what_can_be_started_passes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("sh", &b"#!/bin/sh\necho\n"[..]),
            ("spaced", b"#! /bin/sh -e\n"),
            ("env", b"#!/usr/bin/env -S A=b sh -e\n"),
            ("no line end", b"#!/bin/sh"),
        ] {
            assert_eq!(check(file(dir.path(), name, content, 0o755).as_os_str()), Ok(()), "{name}");
        }
        let nested = file(dir.path(), "inner", b"#!/bin/sh\n", 0o755);
        let outer = format!("#!{}\n", nested.display());
        let outer = file(dir.path(), "outer", outer.as_bytes(), 0o755);
        for program in [outer.as_os_str(), "sh".as_ref(), "/bin/sh".as_ref()] {
            assert_eq!(check(program), Ok(()));
        }
        assert_eq!(check(env::current_exe().unwrap().as_os_str()), Ok(()));
    }

    #[test]
    fn what_cannot_be_started_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let plain = file(dir.path(), "plain", b"#!/bin/sh\n", 0o644);
        assert!(why(&plain).contains("chmod +x"), "{}", why(&plain));
        assert!(why(dir.path()).contains("is a folder"));
        for (name, content, word) in [
            ("lost", &b"#!/no/such/interpreter -x\n"[..], "/no/such/interpreter: no such program"),
            ("lost env", b"#!/usr/bin/env no-such-program-here\n", "no-such-program-here"),
            ("windows", b"#!/bin/sh\r\necho\r\n", "Windows"),
            ("bare", b"#!\n", "names no interpreter"),
            ("folder", b"#!/\n", "is a folder"),
        ] {
            let why = why(&file(dir.path(), name, content, 0o755));
            assert!(why.contains(word), "{why}");
        }
        if !runs_by_other_rules() {
            for content in [&b""[..], b"echo hello\n", b"\0\0\0\0"] {
                let why = why(&file(dir.path(), "other", content, 0o755));
                assert!(why.contains("no program for this machine"), "{why}");
            }
        }
        let circle = dir.path().join("circle");
        file(dir.path(), "circle", format!("#!{}\n", circle.display()).as_bytes(), 0o755);
        assert!(why(&circle).contains("circle"), "{}", why(&circle));
        assert!(check(OsStr::new("")).is_err());
    }

    #[test]
    fn a_program_whose_loader_is_missing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = fs::read("/bin/sh").unwrap();
        let loader = elf_interpreter(&File::open("/bin/sh").unwrap(), &own[..HEAD]);
        // A shell that is linked statically asks for none.
        let Some(loader) = loader else { return };
        let name = loader.as_os_str().as_bytes();
        let at = own.windows(name.len()).position(|part| part == name).unwrap();
        let mut changed = own;
        changed[at + 1] = b'X';
        let path = file(dir.path(), "foreign", &changed, 0o755);
        assert!(why(&path).contains("which is not on this machine"), "{}", why(&path));
    }
}
