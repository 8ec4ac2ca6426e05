//! Why a folder is not used.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::own_user;

/// Why a folder is not used. Nothing in it was read or changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum FolderError {
    /// Other users could change its content, or have changed it. A person has to change its
    /// permissions; until then another attempt fails too.
    Untrusted {
        /// The folder, or the one above it, that is at fault.
        path: PathBuf,
        /// Why it is not trusted.
        why: Why,
    },
    /// The file system refused.
    Failed {
        /// The path.
        path: PathBuf,
        /// The error; `NotFound` if the path does not exist, `NotADirectory` if it is not a folder.
        source: io::Error,
    },
}

/// What makes a folder untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The user with this number owns the folder and is not trusted.
    OtherOwner(u32),
    /// Its group, or all users, may write in it; these are its permissions.
    OpenToOthers(u32),
    /// Its group, or all users, may access its content; these are its permissions.
    Reachable(u32),
    /// All users may write in it, and without the sticky bit may also replace files of others.
    NotSticky(u32),
    /// It is a symbolic link, in a place where links are not followed.
    Link,
    /// It is a symbolic link, and the user with this number, who owns it, is not trusted.
    LinkOf(u32),
}

impl FolderError {
    pub(crate) fn untrusted(path: &Path, why: Why) -> Self {
        Self::Untrusted { path: path.to_owned(), why }
    }

    pub(crate) fn failed(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Failed { path: path.to_owned(), source: source.into() }
    }

    /// True if the folder, or one above it, does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True if other users could change its content.
    pub fn is_untrusted(&self) -> bool {
        matches!(self, Self::Untrusted { .. })
    }
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Quoted with escapes: a path may hold anything, and this reaches terminals.
            Self::Untrusted { path, why } => write!(f, "{path:?} is not used: {why}"),
            Self::Failed { path, source } => write!(f, "{path:?}: {source}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = own_user();
        match self {
            Self::OtherOwner(user) => write!(
                f,
                "it belongs to user {user}, and this process runs as user {own}: name a folder of \
                 your own, or list user {user} as one to trust"
            ),
            Self::OpenToOthers(mode) => write!(
                f,
                "other users may write in it (mode {mode:04o}): take that away with chmod go-w, \
                 or list the users to trust"
            ),
            Self::Reachable(mode) => write!(
                f,
                "other users may reach what is in it (mode {mode:04o}): close it with chmod 0700"
            ),
            Self::NotSticky(mode) => write!(
                f,
                "everyone may replace what is in it (mode {mode:04o}): set the sticky bit with \
                 chmod +t, or take the permission away with chmod o-w"
            ),
            Self::Link => f.write_str("it is a symbolic link: name the folder that it leads to"),
            Self::LinkOf(user) => write!(
                f,
                "it is a symbolic link of user {user}, and this process runs as user {own}: name \
                 the folder itself"
            ),
        }
    }
}

impl std::error::Error for FolderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::Untrusted { .. } => None,
        }
    }
}

impl From<FolderError> for io::Error {
    fn from(error: FolderError) -> Self {
        let kind = match &error {
            FolderError::Untrusted { .. } => io::ErrorKind::PermissionDenied,
            FolderError::Failed { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}
