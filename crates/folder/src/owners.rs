//! The users whose files and folders are trusted.

use std::{fmt, str::FromStr};

use crate::own_user;

/// The administrator, who can change everything anyway.
const ROOT: u32 = 0;

/// Most users that can be listed: checked one by one for every file.
const MAX_LISTED: usize = 64;

/// The users whose files and folders are trusted, in addition to this process's user and root.
///
/// As text: `own`, `any`, or user numbers such as `1000,1001`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owners {
    /// No other users.
    #[default]
    Own,
    /// Also these users, by number; at most 64.
    Also(Vec<u32>),
    /// All users who can write there. A user who can write then decides where requests go.
    Any,
}

impl Owners {
    /// True if this user is trusted.
    pub fn include(&self, user: u32) -> bool {
        if user == ROOT || user == own_user() {
            return true;
        }
        match self {
            Self::Own => false,
            Self::Also(users) => users.contains(&user),
            Self::Any => true,
        }
    }

    /// True if only this process's user and root are trusted.
    pub fn are_own(&self) -> bool {
        match self {
            Self::Own => true,
            Self::Also(users) => users.iter().all(|user| Self::Own.include(*user)),
            Self::Any => false,
        }
    }
}

impl FromStr for Owners {
    type Err = OwnersError;

    fn from_str(text: &str) -> Result<Self, OwnersError> {
        match text.trim() {
            "own" => Ok(Self::Own),
            "any" => Ok(Self::Any),
            list => {
                let users = list.split(',').map(|one| one.trim().parse::<u32>());
                let users: Vec<_> = users.collect::<Result<_, _>>().map_err(|_| OwnersError)?;
                // The highest number means "no user" to the kernel.
                let are_users = users.len() <= MAX_LISTED && !users.contains(&u32::MAX);
                are_users.then_some(Self::Also(users)).ok_or(OwnersError)
            }
        }
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Any => f.write_str("any"),
            Self::Also(users) => {
                let texts: Vec<_> = users.iter().map(u32::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// The text is not valid for [`Owners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnersError;

impl fmt::Display for OwnersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be own, any, or at most 64 user numbers such as 1000,1001")
    }
}

impl std::error::Error for OwnersError {}
