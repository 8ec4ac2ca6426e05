//! The type of one setting: its names, its values, and its effect in this build.

use std::fmt;

use crate::{
    env::form::{Form, Given},
    features,
};

/// One setting of the environment: a variable, its aliases, and what it is for.
/// [`all`](crate::settings::all) lists them.
pub struct Setting {
    name: &'static str,
    aliases: &'static [&'static str],
    pub(super) form: Form,
    default: &'static str,
    meaning: &'static str,
    feature: Option<&'static str>,
    no_effect: Option<&'static str>,
    pub(super) asks: Option<Asks>,
}

/// A use of a setting that no build supports.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    /// True for a value that asks for it.
    pub(super) by: fn(&Given) -> bool,
    /// What is asked for, and what to do instead.
    pub(super) what: &'static str,
}

/// The effect of a setting that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The setting has the effect that its meaning describes.
    Honoured,
    /// The setting takes effect in a build with this feature. In another build its value is
    /// checked, and the start fails if the process uses what the setting belongs to.
    NeedsFeature(&'static str),
    /// The value is checked and changes nothing, for this reason.
    NoEffect(&'static str),
    /// A value that asks for this is an error at the start, because no build has it.
    NotInThisBuild(&'static str),
}

impl Setting {
    /// A setting that takes effect. `default` is the value while the variable is not set.
    pub(super) const fn new(
        name: &'static str,
        form: Form,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        let (aliases, feature, no_effect, asks): (&[&str], _, _, _) = (&[], None, None, None);
        Self { name, aliases, form, default, meaning, feature, no_effect, asks }
    }

    /// A known variable whose value is checked and has no effect, for the reason `why`.
    pub(super) const fn unused(name: &'static str, form: Form, why: &'static str) -> Self {
        Self { no_effect: Some(why), ..Self::new(name, form, "", "") }
    }

    /// Adds variables that mean the same.
    pub(super) const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// Names the feature that the setting needs.
    pub(super) const fn needs(self, feature: &'static str) -> Self {
        Self { feature: Some(feature), ..self }
    }

    /// Makes the values that `by` picks an error, because no build has `what` they ask for.
    pub(super) const fn asks(self, by: fn(&Given) -> bool, what: &'static str) -> Self {
        Self { asks: Some(Asks { by, what }), ..self }
    }

    /// The variable.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Other variables that mean the same. Two that are set must agree.
    pub fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// The variable and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Which values it takes, as text for people: `true or false`, `seconds, 1 to 3600`.
    pub fn values(&self) -> String {
        self.form.to_string()
    }

    /// The value that applies while it is not set; empty if there is none.
    pub fn default(&self) -> &'static str {
        self.default
    }

    /// What it is for; empty if it has no effect.
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// Why it has no effect, if it has none.
    pub(super) fn no_effect(&self) -> Option<&'static str> {
        self.no_effect
    }

    /// The feature that it needs.
    pub(super) fn feature(&self) -> Option<&'static str> {
        self.feature
    }

    /// True if messages do not show its value.
    pub fn is_secret(&self) -> bool {
        matches!(self.form, Form::Secret(_))
    }

    /// The effect of the setting when it is given.
    pub fn effect(&self) -> Effect {
        match (self.asks, self.no_effect, self.feature) {
            (Some(asks), ..) => Effect::NotInThisBuild(asks.what),
            (_, Some(why), _) => Effect::NoEffect(why),
            (.., Some(feature)) => Effect::NeedsFeature(feature),
            _ => Effect::Honoured,
        }
    }

    /// False if it [needs a feature](Effect::NeedsFeature) that this build does not have.
    pub fn is_in_this_build(&self) -> bool {
        self.feature.is_none_or(features::has)
    }

    /// A value as messages may show it: at most one line of it, and nothing of a secret.
    pub(super) fn shown(&self, text: &str) -> String {
        const LONGEST: usize = 80;
        // An address may hold a password that does not belong there.
        if self.is_secret() || text.contains('@') {
            return "a value that is not shown".to_owned();
        }
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{:?}...", &text[..end]),
            None => format!("{text:?}"),
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting")
            .field("name", &self.name)
            .field("aliases", &self.aliases)
            .field("effect", &self.effect())
            .finish_non_exhaustive()
    }
}
