//! Properties of served endpoints that the path of a request does not contain.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use sinew_plane::{EndpointName, InstanceId};

/// The properties of a served instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointDeclaration {
    /// The endpoint that it serves.
    pub endpoint: EndpointName,
    /// Its id.
    pub instance: InstanceId,
    /// The NATS subject on which its requests arrive.
    pub subject: Option<String>,
    /// True if its items have the annotations of another system's peers already, and get no further
    /// ones: [`ItemFormat::annotated`](crate::ItemFormat). It applies to the endpoint as long as
    /// one of its instances declares it.
    pub annotated: bool,
}

impl EndpointDeclaration {
    /// Makes a declaration with plain items and without a subject.
    pub const fn new(endpoint: EndpointName, instance: InstanceId) -> Self {
        Self { endpoint, instance, subject: None, annotated: false }
    }
}

/// Keeps a declaration in force until it is dropped.
#[must_use = "the declaration is withdrawn when this is dropped"]
#[derive(Debug)]
pub struct DeclaredEndpoint {
    declared: Arc<Declared>,
    declaration: EndpointDeclaration,
}

impl Drop for DeclaredEndpoint {
    fn drop(&mut self) {
        self.declared.remove(&self.declaration);
    }
}

/// All declarations. They change when an endpoint comes or goes, and are read for each request.
#[derive(Debug, Default)]
pub(super) struct Declared(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Of several declarations of one subject the last counts.
    subjects: HashMap<String, Vec<(EndpointName, InstanceId)>>,
    /// How many instances say so.
    annotated: HashMap<EndpointName, usize>,
}

impl Declared {
    pub(super) fn insert(self: &Arc<Self>, declaration: EndpointDeclaration) -> DeclaredEndpoint {
        let mut tables = self.0.write();
        if let Some(subject) = &declaration.subject {
            let instance = (declaration.endpoint.clone(), declaration.instance);
            tables.subjects.entry(subject.clone()).or_default().push(instance);
        }
        if declaration.annotated {
            *tables.annotated.entry(declaration.endpoint.clone()).or_default() += 1;
        }
        drop(tables);
        DeclaredEndpoint { declared: Arc::clone(self), declaration }
    }

    fn remove(&self, declaration: &EndpointDeclaration) {
        let mut tables = self.0.write();
        if let Some(subject) = &declaration.subject {
            // The other declarations of the subject stand; of those that say the same, any goes.
            let ours = |(endpoint, instance): &(EndpointName, InstanceId)| {
                *endpoint == declaration.endpoint && *instance == declaration.instance
            };
            if let Some(all) = tables.subjects.get_mut(subject) {
                if let Some(place) = all.iter().position(ours) {
                    all.remove(place);
                }
                if all.is_empty() {
                    tables.subjects.remove(subject);
                }
            }
        }
        if declaration.annotated
            && let Some(count) = tables.annotated.get_mut(&declaration.endpoint)
        {
            *count -= 1;
            if *count == 0 {
                tables.annotated.remove(&declaration.endpoint);
            }
        }
    }

    /// Whom a subject means.
    pub(super) fn of_subject(&self, subject: &str) -> Option<(EndpointName, InstanceId)> {
        self.0.read().subjects.get(subject)?.last().cloned()
    }

    pub(super) fn is_annotated(&self, endpoint: &str) -> bool {
        self.0.read().annotated.contains_key(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_holds_until_it_is_dropped() {
        let declared = Arc::new(Declared::default());
        let endpoint: EndpointName = "a/b/c".parse().unwrap();
        let declare = |id| {
            let mut declaration = EndpointDeclaration::new(endpoint.clone(), InstanceId(id));
            declaration.subject = Some(format!("a_b.c-{id:x}"));
            declaration.annotated = true;
            declared.insert(declaration)
        };
        let (one, two) = (declare(1), declare(2));
        assert_eq!(declared.of_subject("a_b.c-1"), Some((endpoint.clone(), InstanceId(1))));
        drop(one);
        assert_eq!(declared.of_subject("a_b.c-1"), None);
        assert!(declared.is_annotated("a/b/c"), "the other one still says so");
        let again = declare(2);
        drop(two);
        assert!(declared.of_subject("a_b.c-2").is_some(), "the later declaration stands");
        drop(again);
        assert!(declared.of_subject("a_b.c-2").is_none());
        assert!(!declared.is_annotated("a/b/c"));
    }
}
