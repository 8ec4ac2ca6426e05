//! The variables of a process: which of them are settings, and whether they agree.

use std::{collections::BTreeMap, ffi::OsString};

use crate::{
    ConfigError,
    env::{
        draft::Draft,
        form::Given,
        setting::Setting,
        table::{FAMILIES, PARTS, Part},
    },
};

/// Prefixes of the variables of tests and benchmarks, which no program reads.
const OF_TESTS: [&str; 3] = ["SINEW_TEST_", "SINEW_BENCH_", "SINEW_BLESS"];

/// Largest edit distance at which a name counts as a mistyped setting.
const TYPING_ERRORS: usize = 2;

/// The variables that are settings, by name.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Picks the settings out of a list of variables. An empty variable counts as not set.
    ///
    /// # Errors
    /// A name that looks like a setting and is none, or a value that no setting can have.
    pub(super) fn read<N: Into<OsString>, V: Into<OsString>>(
        all: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        let mut variables = BTreeMap::new();
        for (name, value) in all {
            // One that is not UTF-8 is shown as well as it can be.
            let name = name.into().to_string_lossy().into_owned();
            let value = value.into();
            if value.is_empty() || !is_ours(&name)? {
                continue;
            }
            variables.insert(name.clone(), text(name, value)?);
        }
        Ok(Self(variables))
    }

    /// Changes the draft by the value of a setting, if it is given. With `refuses`, a value that
    /// asks for something that no build has is an error.
    pub(super) fn take(
        &self,
        setting: &Setting,
        draft: &mut Draft,
        refuses: bool,
    ) -> Result<(), ConfigError> {
        let mut taken: Option<(&'static str, &str, Given)> = None;
        for name in setting.names() {
            let Some(text) = self.0.get(name) else { continue };
            let shown = || setting.shown(text);
            let fault = |reason: String| ConfigError::new(name, format!("{} {reason}", shown()));
            let given = setting.form.read(text).map_err(fault)?;
            if let Some(asks) = setting.asks.filter(|asks| refuses && (asks.by)(&given)) {
                return Err(fault(format!("asks for {}", asks.what)));
            }
            match &taken {
                None => taken = Some((name, text, given)),
                Some((_, _, same)) if *same == given => {}
                Some((first, other, _)) => {
                    let reason = format!(
                        "is {} but {name}, which means the same, is {}: unset one",
                        setting.shown(other),
                        shown()
                    );
                    return Err(ConfigError::new(*first, reason));
                }
            }
        }
        let Some((name, text, given)) = taken else { return Ok(()) };
        draft.given.insert(setting.name(), name);
        let taken = setting.form.take(draft, &given);
        taken.map_err(|reason| ConfigError::new(name, joined(&setting.shown(text), &reason)))?;
        if let Some(why) = setting.no_effect().filter(|why| !why.is_empty()) {
            tracing::info!(variable = name, why, "this variable has no effect here");
        }
        Ok(())
    }
}

/// A value and what is wrong with it, as one text. Some reasons continue the sentence about the
/// value, others are sentences of their own.
fn joined(shown: &str, reason: &str) -> String {
    let goes_on = ["is ", "has ", "holds ", "names ", "stands "];
    let between = if goes_on.iter().any(|verb| reason.starts_with(verb)) { " " } else { ": " };
    format!("{shown}{between}{reason}")
}

/// True for the name of a setting.
fn is_ours(name: &str) -> Result<bool, ConfigError> {
    if known().any(|known| known == name) {
        return Ok(true);
    }
    if let Some((_, what)) = FAMILIES.iter().find(|(family, _)| name.starts_with(family)) {
        return Err(ConfigError::new(name, format!("asks for {what}")));
    }
    if OF_TESTS.iter().any(|family| name.starts_with(family)) {
        return Ok(false);
    }
    let is_sinew = name.starts_with("SINEW_");
    if !is_sinew && !["DYN_", "ETCD_", "NATS_"].iter().any(|family| name.starts_with(family)) {
        return Ok(false);
    }
    let nearest = known().map(|known| (distance(name, known), known)).min();
    let (distance, nearest) = nearest.unwrap_or_default();
    if is_sinew {
        let reason =
            format!("is not a setting; did you mean {nearest}? `sinew config reference` lists all");
        return Err(ConfigError::new(name.escape_default().to_string(), reason));
    }
    if distance <= TYPING_ERRORS {
        tracing::warn!(variable = name, "this variable is not known; did you mean {nearest}?");
    }
    Ok(false)
}

fn known() -> impl Iterator<Item = &'static str> {
    PARTS.iter().flat_map(|(_, settings)| settings.iter()).flat_map(Setting::names)
}

/// The value as text.
fn text(name: String, value: OsString) -> Result<String, ConfigError> {
    let mut rows = PARTS.iter().flat_map(|(part, all)| all.iter().map(|one| (*part, one)));
    let found = rows.rfind(|(_, setting)| setting.names().any(|known| known == name));
    let Some((part, setting)) = found else { return Ok(String::new()) };
    let text = match value.into_string() {
        Ok(text) => text,
        Err(value) => {
            let reason = format!("{} is not UTF-8", setting.shown(&value.to_string_lossy()));
            return Err(ConfigError::new(name, reason));
        }
    };
    // Certificates have several lines; so may what other programs read.
    let may_have_lines = part == Part::OtherPrograms || text.starts_with("-----BEGIN ");
    if text.chars().any(char::is_control) && !may_have_lines {
        let reason = format!(
            "{} holds a control character, perhaps the end of a line at its end",
            setting.shown(&text)
        );
        return Err(ConfigError::new(name, reason));
    }
    Ok(text)
}

/// Edit distance between two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
