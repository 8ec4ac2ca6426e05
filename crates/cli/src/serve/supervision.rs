//! What a worker does for each of its programs: an environment without secrets, and an end.

use std::{io, sync::Arc};

use rustix::process::Pid;
use sinew_telemetry::console::tell;
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use super::{
    args::ServeArgs,
    environment::Environment,
    guard::{Guard, Watched},
    orphans::{self, Children},
};
use crate::exit::{Exit, Failure};

/// What the programs of a worker have in common. Clones share it.
#[derive(Clone)]
pub(crate) struct Supervision {
    environment: Arc<Environment>,
    guard: Guard,
    /// Where orphans come to this process.
    orphans: Option<Arc<Orphans>>,
}

struct Orphans {
    children: Arc<Children>,
    _collector: AbortOnDropHandle<()>,
}

impl Supervision {
    /// Decides what is withheld, and starts the guard.
    pub(crate) fn start(args: &ServeArgs) -> Result<Self, Failure> {
        let environment = Environment::new(std::env::vars_os(), &args.pass_env)
            .map_err(|message| Failure::new(Exit::Usage, message))?;
        let children = orphans::inherits_orphans().then(Arc::<Children>::default);
        let failed = |error: io::Error| {
            let what =
                format!("cannot start the guard that ends programs with this worker: {error}");
            Failure::new(Exit::SetUp, what)
        };
        let guard = Guard::start(args.kill_grace, children.clone());
        let guard = guard.map_err(failed)?;
        let orphans = match children {
            Some(children) => {
                let _collector = orphans::collect(Arc::clone(&children)).map_err(failed)?;
                Some(Arc::new(Orphans { children, _collector }))
            }
            None => None,
        };
        Ok(Self { environment: Arc::new(environment), guard, orphans })
    }

    /// Says which variables the programs do not get, if there are any.
    pub(crate) fn say_what_is_withheld(&self) {
        let names = self.environment.withheld();
        if names.is_empty() {
            return;
        }
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        let names = names.join(", ");
        tell(&format!("withheld from the command: {names}; --pass-env NAME passes one"));
    }

    /// Starts a program.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Supervised)> {
        let (name, mark) = self.guard.mark();
        command.env(name, mark);
        for name in self.environment.withheld() {
            command.env_remove(name);
        }
        let children = self.orphans.as_ref().map(|orphans| &orphans.children);
        let child = match children {
            Some(children) => children.start(|| command.spawn().map(|it| (it.id(), it)))?,
            None => command.spawn()?,
        };
        let number = child.id();
        let group = number.and_then(|number| i32::try_from(number).ok()).and_then(Pid::from_raw);
        let own = children.zip(number).map(|(children, number)| (Arc::clone(children), number));
        Ok((child, Supervised { _watched: group.map(|group| self.guard.watch(group)), own }))
    }

    /// Ends what programs have left behind.
    pub(crate) async fn close(&self) {
        self.guard.close().await;
    }
}

/// A program under supervision; dropped once it has ended.
pub(crate) struct Supervised {
    _watched: Option<Watched>,
    own: Option<(Arc<Children>, u32)>,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some((children, number)) = &self.own {
            children.ended(*number);
        }
    }
}
