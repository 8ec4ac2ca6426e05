//! Standing in for `protoc`, so that nobody has to install it.
//!
//! The build script of etcd-client runs the program that the variable `PROTOC` names. Every cargo
//! that xtask starts finds this very program there, and this module does what is asked: proto
//! files in, one descriptor set out.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Through which build scripts learn where `protoc` is.
const VARIABLE: &str = "PROTOC";

/// Makes this program the `protoc` of everything that `cargo` builds, unless the user has named
/// another one.
pub(crate) fn offer_to(cargo: &mut Command) {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    if let Some(path) = process::ourselves() {
        cargo.env(VARIABLE, path);
    }
}

/// What `protoc` is asked to do, as far as build scripts ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Where the descriptor set goes.
    output: PathBuf,
    with_imports: bool,
    with_source: bool,
}

impl Call {
    /// `None` when these are the arguments of a chore: a chore begins with its name, a call of
    /// `protoc` with an option, and it names its output.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Self>> {
        let arguments: Vec<_> = arguments.into_iter().map(into_text).collect();
        let is_output = |text: &String| text == "-o" || text.starts_with("--descriptor_set_out");
        let is_call = arguments.first().is_some_and(|first| first.starts_with('-'))
            && arguments.iter().any(is_output);
        is_call.then(|| Self::parse(arguments))
    }

    fn parse(arguments: Vec<String>) -> Result<Self> {
        let mut call = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = |name: &str| {
                let attached = argument.strip_prefix(name).unwrap_or_default();
                let attached = attached.strip_prefix('=').unwrap_or(attached);
                if attached.is_empty() {
                    arguments.next().with_context(|| format!("protoc: {name} needs a path"))
                } else {
                    Ok(attached.to_owned())
                }
            };
            match argument.as_str() {
                "--include_imports" => call.with_imports = true,
                "--include_source_info" => call.with_source = true,
                text if text.starts_with("-I") => call.includes.push(value("-I")?.into()),
                text if text.starts_with("--proto_path") => {
                    call.includes.push(value("--proto_path")?.into());
                }
                text if text.starts_with("-o") => call.output = value("-o")?.into(),
                text if text.starts_with("--descriptor_set_out") => {
                    call.output = value("--descriptor_set_out")?.into();
                }
                text if text.starts_with('-') => bail!(
                    "protoc: xtask stands in for it and does not know {text}: install \
                     protobuf-compiler and set {VARIABLE}"
                ),
                _ => call.files.push(argument.into()),
            }
        }
        Ok(call)
    }

    /// Compiles the files and writes their descriptor set.
    pub(crate) fn run(self) -> Result<()> {
        let mut compiler = protox::Compiler::new(&self.includes)?;
        compiler.include_imports(self.with_imports).include_source_info(self.with_source);
        let set = compiler.open_files(&self.files)?.encode_file_descriptor_set();
        fs::write(&self.output, set).with_context(|| format!("writing {}", self.output.display()))
    }
}

/// Paths of build scripts are UTF-8, as cargo's own are.
fn into_text(argument: OsString) -> String {
    argument.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Result<Call>> {
        Call::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_call_of_a_build_script_is_told_from_a_chore() {
        let call = read("--include_imports --include_source_info -o out -I proto proto/a.proto");
        let call = call.unwrap().unwrap();
        let expected = Call {
            includes: vec!["proto".into()],
            files: vec!["proto/a.proto".into()],
            output: "out".into(),
            with_imports: true,
            with_source: true,
        };
        assert_eq!(call, expected);
        let spelled = read("--proto_path=proto --descriptor_set_out=out proto/a.proto").unwrap();
        assert_eq!(spelled.unwrap().output, PathBuf::from("out"));
        for chore in ["test -o", "--help", "ci --only fmt"] {
            assert!(read(chore).is_none(), "{chore}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = read("--rust_out=. -o out a.proto").unwrap().unwrap_err().to_string();
        assert!(error.contains("--rust_out=."), "{error}");
        assert!(read("--include_imports -o").unwrap().is_err());
    }

    #[test]
    fn a_file_and_what_it_imports_become_one_set() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("syntax = \"proto3\";\n{text}")).unwrap();
            path
        };
        write("b.proto", "message Inner { int64 number = 1; }\n");
        let outer = write("a.proto", "import \"b.proto\";\nmessage Outer { Inner inner = 1; }\n");
        let output = folder.path().join("set");
        let include = folder.path().to_owned();
        let call = Call {
            includes: vec![include],
            files: vec![outer],
            output: output.clone(),
            with_imports: true,
            with_source: true,
        };
        call.run().unwrap();
        let set = String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned();
        assert!(set.contains("Inner") && set.contains("Outer"), "{set}");
    }
}
