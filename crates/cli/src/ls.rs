//! `sinew ls`: who serves what, where.

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use sinew::{
    Change, Continuation, DiscoverySource, EndpointName, Instance, Runtime, Snapshot, View,
};
use sinew_telemetry::{
    console::{Label, tell, tell_labelled},
    printable,
};
use tokio::time::timeout;

use crate::{
    exit::{Exit, Failure},
    output::print,
    reader::Reader,
    settings::Settings,
    signals::Interrupts,
    terminal,
};

/// List endpoints and their instances.
#[derive(Debug, Args)]
#[command(after_help = "With --watch each change is one line: + an instance came, ~ it changed, \
                        - it went.")]
pub(crate) struct LsArgs {
    /// Only this endpoint. Static discovery needs it: addresses do not say what they serve.
    name: Option<EndpointName>,
    /// Print one JSON array; with --watch one JSON object per change.
    #[arg(long)]
    json: bool,
    /// Go on and print changes, until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Lists what is there.
pub(crate) async fn run(settings: &Settings, args: LsArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::new()?;
    let discovery = settings.config()?.discovery;
    if args.name.is_none() && lists_nothing(&discovery) {
        return Err(unnamed(settings, &discovery));
    }
    let looking = async {
        let runtime = settings.runtime(&|_| {}).await?;
        let view = runtime.browse(args.name.as_ref()).await?;
        Ok::<_, Failure>((runtime, view))
    };
    let Some(found) = interrupts.or(looking).await else { return Ok(Exit::Cancelled) };
    let (runtime, view) = found?;
    let is_wanted = |one: &Instance| args.name.as_ref().is_none_or(|name| *name == one.endpoint);
    let trouble = runtime.discovery_trouble();
    if args.watch {
        say_trouble(&discovery, trouble.as_deref());
        let exit = follow(view, &args, is_wanted, interrupts).await;
        close(&runtime).await;
        return exit;
    }
    let snapshot = view.snapshot();
    let instances: Vec<_> = snapshot.iter().filter(|one| is_wanted(one)).collect();
    if args.json || !instances.is_empty() {
        say_trouble(&discovery, trouble.as_deref());
    }
    if args.json {
        let list: Vec<_> = instances.iter().map(|one| as_json(one)).collect();
        print(&json_line(&Value::from(list)))?;
    } else if instances.is_empty() {
        let of = args.name.as_ref().map_or_else(String::new, |name| format!(" for {name}"));
        let name = args.name.as_ref().map_or("NAME", |name| name.as_str());
        let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        tell(&format!("No instances found{of} in {discovery}{why}"));
        let start = settings.how_to_serve(&discovery, name);
        tell_labelled(Label::Hint, &format!("start one{start}"));
    } else {
        let instances: Vec<_> = instances.iter().map(|one| &***one).collect();
        print(&fitting(&instances, terminal::width()))?;
    }
    close(&runtime).await;
    Ok(Exit::Complete)
}

/// Longest time for the end of what only looked.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Ends the discovery in order: cut off midway it would take its own end for an outage, and say so.
pub(crate) async fn close(runtime: &Runtime) {
    let _ = timeout(CLOSE_LIMIT, runtime.shutdown(Duration::ZERO)).await;
}

/// Says what is known to be wrong with the discovery, whatever it shows.
fn say_trouble(discovery: &DiscoverySource, trouble: Option<&str>) {
    if let Some(trouble) = trouble {
        tell(&format!("{discovery}: {trouble}"));
    }
}

/// Prints what is there as additions, and then every change.
async fn follow(
    mut view: View,
    args: &LsArgs,
    is_wanted: impl Fn(&Instance) -> bool,
    mut interrupts: Interrupts,
) -> Result<Exit, Failure> {
    let reader = Reader::stdout();
    let mut shown = Snapshot::default();
    loop {
        // From what was shown, not from what the view last told: it may be ahead of that.
        let now = view.snapshot();
        let mut changed = shown.changes_to(&now);
        changed.retain(|change| is_wanted(subject(change)));
        print(&changes(&changed, args.json))?;
        shown = now;
        let more = tokio::select! {
            biased;
            () = interrupts.next() => false,
            () = reader.gone() => return Ok(Exit::Cancelled),
            changed = view.changed() => changed.is_some(),
        };
        if !more {
            return Ok(Exit::Complete);
        }
    }
}

/// True for sources that know addresses, and not what is served there.
fn lists_nothing(discovery: &DiscoverySource) -> bool {
    match discovery {
        DiscoverySource::Static(_) | DiscoverySource::Dns(_) => true,
        DiscoverySource::Merged(all) => all.iter().all(lists_nothing),
        _ => false,
    }
}

fn unnamed(settings: &Settings, discovery: &DiscoverySource) -> Failure {
    let message = format!("{discovery} has addresses, which do not say what they serve");
    let hint = format!("name the endpoint: {} ls NAME", settings.same_place());
    Failure::new(Exit::Usage, message).hint(hint)
}

/// A table where it fits, and otherwise a few lines for each instance.
fn fitting(instances: &[&Instance], width: Option<usize>) -> String {
    let table = table(instances.iter().copied());
    let needs = table.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    if width.is_none_or(|width| needs <= width) {
        return table;
    }
    instances.iter().map(|one| block(one)).collect()
}

/// An instance in lines of its own: what it is, and below where and how.
fn block(one: &Instance) -> String {
    let mut text = format!("{} {}\n", printable(one.endpoint.as_str()), one.id);
    for address in printable_places(one) {
        text.push_str(&format!("  {address}\n"));
    }
    text.push_str(&format!("  codecs {}\n", printable(&one.codecs.join(","))));
    text.push_str(&format!("  weight {}\n", one.weight));
    if one.continuation != Continuation::None {
        text.push_str(&format!("  continuation {}\n", one.continuation));
    }
    if let Some(source) = &one.source {
        text.push_str(&format!("  source {}\n", printable(source)));
    }
    text
}

/// With several discoveries a column says which one told, and a column says what may happen when a
/// worker dies where any declares it.
fn table<'a>(instances: impl Iterator<Item = &'a Instance>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let instances: Vec<_> = instances.collect();
    let is_merged = instances.iter().any(|one| one.source.is_some());
    let any_continues = instances.iter().any(|one| one.continuation != Continuation::None);
    let columns =
        ["ENDPOINT", "INSTANCE", "ADDRESSES", "CODECS", "WEIGHT", "CONTINUATION", "SOURCE"];
    let is_shown = [true, true, true, true, true, any_continues, is_merged];
    let shown = |cells: [String; 7]| {
        let cells = cells.into_iter().zip(is_shown);
        cells.filter_map(|(cell, is_shown)| is_shown.then_some(cell))
    };
    table.set_header(shown(columns.map(str::to_owned)));
    for one in instances {
        let cells = [
            printable(one.endpoint.as_str()).into_owned(),
            one.id.to_string(),
            printable_places(one).join("\n"),
            printable(&one.codecs.join(",")).into_owned(),
            one.weight.to_string(),
            one.continuation.to_string(),
            printable(one.source.as_deref().unwrap_or_default()).into_owned(),
        ];
        table.add_row(shown(cells));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// The addresses, and behind them those that lead nowhere from here, with the reason.
fn places(instance: &Instance) -> Vec<String> {
    let near = instance.addresses.iter().map(ToString::to_string);
    let far = instance
        .unreachable
        .iter()
        .map(|one| format!("{} (not reachable from here: {})", one.address, one.obstacle));
    near.chain(far).collect()
}

/// A record is written by whoever serves; a terminal is not to obey it.
fn printable_places(instance: &Instance) -> Vec<String> {
    places(instance).iter().map(|one| printable(one).into_owned()).collect()
}

/// JSON on one line. What a terminal would obey is escaped as JSON has it, so that the value
/// stays the same; it stands in strings only.
fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if printable(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line.push('\n');
    line
}

fn as_json(instance: &Instance) -> Value {
    let addresses: Vec<_> = instance.addresses.iter().map(|address| address.as_str()).collect();
    let mut object = json!({
        "endpoint": instance.endpoint.as_str(),
        "instance": instance.id.to_string(),
        "addresses": addresses,
        "codecs": instance.codecs,
        "weight": instance.weight,
        "idempotent": instance.idempotent,
        "continuation": instance.continuation.as_str(),
    });
    if !instance.unreachable.is_empty() {
        let unreachable = instance.unreachable.iter();
        let unreachable = unreachable.map(
            |one| json!({ "address": one.address.as_str(), "reason": one.obstacle.to_string() }),
        );
        object["unreachable"] = unreachable.collect();
    }
    if let Some(source) = &instance.source {
        object["source"] = (**source).into();
    }
    object
}

fn subject(change: &Change) -> &Instance {
    match change {
        Change::Added(one) | Change::Removed(one) | Change::Changed { new: one, .. } => one,
    }
}

fn changes(changes: &[Change], json: bool) -> String {
    let line = |change: &Change| {
        let (sign, word) = match change {
            Change::Added(_) => ('+', "added"),
            Change::Changed { .. } => ('~', "changed"),
            Change::Removed(_) => ('-', "removed"),
        };
        let one = subject(change);
        if json {
            let mut object = as_json(one);
            object["change"] = word.into();
            return json_line(&object);
        }
        let (id, weight) = (one.id, one.weight);
        let places = places(one).join(" ");
        let said = format!("{} {id} {places} {}", one.endpoint, one.codecs.join(","));
        format!("{sign} {} weight {weight}\n", printable(&said))
    };
    changes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sinew::InstanceId;

    use super::*;

    fn instance(id: u64) -> Instance {
        let places = ["tcp://127.0.0.1:9", "unix:///s"];
        let places = places.map(|text| text.parse().unwrap()).into();
        Instance::new("text/words/split".parse().unwrap(), InstanceId(id), places)
    }

    #[test]
    fn the_table_lines_up() {
        let text = table([instance(10), instance(11)].iter());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        let column = lines[0].find("ADDRESSES").unwrap();
        assert_eq!(lines[1].find("tcp://").unwrap(), column, "{text}");
        assert_eq!(lines[2].find("unix://").unwrap(), column, "{text}");
        assert!(lines[0].starts_with("ENDPOINT"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_lines_that_fit() {
        let mut one = instance(0x1234_5678_9abc_def0);
        one.codecs = ["raw", "json", "msgpack"].map(str::to_owned).into();
        let all = [&one];
        assert_eq!(fitting(&all, None), table(all.into_iter()));
        assert_eq!(fitting(&all, Some(200)), table(all.into_iter()));
        let narrow = fitting(&all, Some(60));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        for part in
            ["text/words/split 123456789abcdef0", "  unix:///s", "  codecs raw,json,msgpack"]
        {
            assert!(narrow.lines().any(|line| line == part), "{narrow}");
        }
    }

    #[test]
    fn merged_discoveries_say_which_one_told() {
        let mut one = instance(10);
        one.source = Some("file:/kv".into());
        assert!(table([one.clone(), instance(11)].iter()).contains("file:/kv"));
        assert_eq!(as_json(&one)["source"], "file:/kv");
        assert!(as_json(&instance(11)).get("source").is_none());
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_json_keeps_its_value() {
        let mut one = instance(10);
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\n\u{e0041}x";
        one.codecs = vec![hostile.to_owned()];
        one.source = Some(hostile.into());
        let old = Arc::new(one.clone());
        let shown = [
            table([&one].into_iter()),
            changes(&[Change::Added(Arc::clone(&old))], false),
            changes(&[Change::Added(old)], true),
            json_line(&as_json(&one)),
        ];
        for text in shown {
            let bad = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{e0041}".contains(c));
            assert!(!text.contains(bad), "{text:?}");
        }
        let read: Value = serde_json::from_str(&json_line(&as_json(&one))).unwrap();
        assert_eq!(read["codecs"][0], hostile);
    }

    #[test]
    fn changes_are_lines() {
        let old = Arc::new(instance(10));
        let all = [
            Change::Added(Arc::clone(&old)),
            Change::Changed { new: Arc::new(instance(10)), old: Arc::clone(&old) },
            Change::Removed(old),
        ];
        let text = changes(&all, false);
        let signs: String = text.lines().map(|line| &line[..1]).collect();
        assert_eq!(signs, "+~-");
        let words: Vec<_> = changes(&all, true)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["change"].clone())
            .collect();
        assert_eq!(words, ["added", "changed", "removed"]);
    }
}
