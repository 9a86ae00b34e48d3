//! Configured values before their validation: from a TOML file and from environment variables, each with its origin.
//! Each setting is read by name, so that afterwards every name that was not read is reported as a mistake. Must not
//! contain names of settings.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{ImDocument, Item, TableLike, Value};

use super::VARIABLE_PREFIX;
use super::problem::{Invalid, Origin, Problem};

/// Variables with the prefix that are not settings but have a meaning for the program or its tests.
const OTHER_VARIABLES: &[&str] = &["WEFT_CONFIG"];

/// A value and its origin.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// The file, the variables, and the problems found so far.
pub(super) struct Context<'a> {
    document: ImDocument<String>,
    path: Option<&'a Path>,
    variables: &'a BTreeMap<String, String>,
    read_variables: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// The settings of one table of the file, and the variables that override them.
pub(super) struct Fields<'a> {
    context: &'a Context<'a>,
    /// Prefix of the names of these settings: empty, `documents.`, `listen[1].`.
    prefix: String,
    table: Option<&'a dyn TableLike>,
    /// Whether variables can override these settings.
    overridable: bool,
    read_names: BTreeSet<String>,
}

impl<'a> Context<'a> {
    /// Parses the file. If it is not TOML, that is the only problem reported.
    pub(super) fn new(
        text: &str,
        path: Option<&'a Path>,
        variables: &'a BTreeMap<String, String>,
    ) -> Result<Self, Invalid> {
        let document = ImDocument::parse(text.to_owned()).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            let origin = Origin::File {
                path: path.map(Path::to_owned),
                line,
            };
            let problem = Problem {
                origin,
                setting: String::new(),
                message: error.message().to_owned(),
            };
            Invalid {
                problems: vec![problem],
            }
        })?;
        Ok(Self {
            document,
            path,
            variables,
            read_variables: RefCell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        })
    }

    /// The settings at the top level of the file.
    pub(super) fn root(&'a self) -> Fields<'a> {
        let table: &dyn TableLike = self.document.as_table();
        Fields {
            context: self,
            prefix: String::new(),
            table: Some(table),
            overridable: true,
            read_names: BTreeSet::new(),
        }
    }

    /// Problems and warnings, in the order in which they were found. Unknown variables are only warnings, because
    /// container platforms set variables of their own.
    pub(super) fn into_reports(self) -> (Vec<Problem>, Vec<Problem>) {
        let read_names = self.read_variables.into_inner();
        let mut warnings = self.warnings.into_inner();
        for name in self.variables.keys() {
            if read_names.contains(name) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let hint = suggestion(name, read_names.iter().map(String::as_str));
            let message = format!("there is no such setting{hint}");
            warnings.push(Problem {
                origin: Origin::Variable(name.clone()),
                setting: String::new(),
                message,
            });
        }
        (self.problems.into_inner(), warnings)
    }

    fn origin(&self, position: Option<usize>) -> Origin {
        let line = position.map(|position| line_of(self.document.raw(), position));
        Origin::File {
            path: self.path.map(Path::to_owned),
            line,
        }
    }

    /// Resolves a path relative to the directory of the file.
    fn resolve(&self, path: &str) -> PathBuf {
        let base = self.path.and_then(Path::parent);
        base.map_or_else(|| PathBuf::from(path), |base| base.join(path))
    }
}

impl<'a> Fields<'a> {
    /// A table inside this one. It may be absent.
    pub(super) fn section(&mut self, name: &str) -> Fields<'a> {
        self.read_names.insert(name.to_owned());
        let item = self.table.and_then(|table| table.get(name));
        let table = item.and_then(Item::as_table_like);
        if let (Some(item), None) = (item, table) {
            self.wrong(
                name,
                &self.context.origin(item.span().map(|span| span.start)),
                "must be a table".to_owned(),
            );
        }
        let prefix = format!("{}{name}.", self.prefix);
        Fields {
            context: self.context,
            prefix,
            table,
            overridable: self.overridable,
            read_names: BTreeSet::new(),
        }
    }

    /// The tables of an array of tables, each with the line at which it begins.
    pub(super) fn tables(&mut self, name: &str) -> Vec<(Fields<'a>, Origin)> {
        self.read_names.insert(name.to_owned());
        let Some(item) = self.table.and_then(|table| table.get(name)) else {
            return Vec::new();
        };
        let tables: Option<Vec<(&'a dyn TableLike, Option<usize>)>> = match item {
            Item::ArrayOfTables(tables) => Some(
                tables
                    .iter()
                    .map(|table| (table as &dyn TableLike, start(table.span())))
                    .collect(),
            ),
            Item::Value(Value::Array(values)) => values
                .iter()
                .map(|value| Some((value.as_inline_table()? as &dyn TableLike, start(value.span()))))
                .collect(),
            _ => None,
        };
        let Some(tables) = tables else {
            let origin = self.context.origin(start(item.span()));
            self.wrong(name, &origin, format!("must be tables, each under [[{name}]]"));
            return Vec::new();
        };
        let fields = |(index, (table, position))| {
            let prefix = format!("{}{name}[{index}].", self.prefix);
            let fields = Fields {
                context: self.context,
                prefix,
                table: Some(table),
                overridable: false,
                read_names: BTreeSet::new(),
            };
            (fields, self.context.origin(position))
        };
        tables.into_iter().enumerate().map(fields).collect()
    }

    /// A string. A variable holds it without quotes.
    pub(super) fn text(&mut self, name: &str) -> Option<Found<String>> {
        if let Some((text, origin)) = self.variable(name) {
            return Some(Found { value: text, origin });
        }
        self.typed(name, "text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// A boolean.
    pub(super) fn truth(&mut self, name: &str) -> Option<Found<bool>> {
        match self.variable(name) {
            Some((text, origin)) => match text.as_str() {
                "true" => Some(Found { value: true, origin }),
                "false" => Some(Found { value: false, origin }),
                _ => {
                    self.wrong(name, &origin, format!("{text:?} is neither true nor false"));
                    None
                }
            },
            None => self.typed(name, "true or false", Value::as_bool),
        }
    }

    /// A number of at least 1.
    pub(super) fn count(&mut self, name: &str) -> Option<Found<usize>> {
        self.number(name, "a whole number above 0", 1..=usize::MAX)
    }

    /// A number of days, at most a hundred years, so that sums of times stay in range; 0 stands for never.
    pub(super) fn days(&mut self, name: &str) -> Option<u64> {
        let days = self.number(name, "a whole number of days from 0 to 36525", 0..=36_525)?;
        u64::try_from(days.value).ok()
    }

    fn number(&mut self, name: &str, wanted: &'static str, range: RangeInclusive<usize>) -> Option<Found<usize>> {
        let counted = |number: i64| usize::try_from(number).ok().filter(|count| range.contains(count));
        match self.variable(name) {
            Some((text, origin)) => match text.parse().ok().and_then(counted) {
                Some(value) => Some(Found { value, origin }),
                None => {
                    self.wrong(name, &origin, format!("{text:?} is not {wanted}"));
                    None
                }
            },
            None => self.typed(name, wanted, |value| value.as_integer().and_then(counted)),
        }
    }

    /// A duration, like `"2s"` or `"500ms"`.
    pub(super) fn duration(&mut self, name: &str) -> Option<Found<Duration>> {
        let found = self.text(name)?;
        match humantime::parse_duration(&found.value) {
            Ok(value) => Some(Found {
                value,
                origin: found.origin,
            }),
            Err(_) => {
                let message = format!("{:?} is not a duration; write it like \"2s\" or \"500ms\"", found.value);
                self.wrong(name, &found.origin, message);
                None
            }
        }
    }

    /// A path; a relative one is resolved from the directory of the file.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let found = self.text(name)?;
        if found.value.is_empty() {
            self.wrong(name, &found.origin, "is empty".to_owned());
            return None;
        }
        Some(match found.origin {
            Origin::File { .. } => self.context.resolve(&found.value),
            Origin::Variable(_) => PathBuf::from(found.value),
        })
    }

    /// A list of strings. A variable holds it in the syntax of the file: `["a", "b"]`.
    pub(super) fn texts(&mut self, name: &str) -> Option<Found<Vec<String>>> {
        let Some((text, origin)) = self.variable(name) else {
            return self.typed(name, "a list of texts in quotes", texts_of);
        };
        let value = text.trim().parse::<Value>().ok().as_ref().and_then(texts_of);
        if value.is_none() {
            self.wrong(name, &origin, format!("{text:?} is not a list like [\"a\", \"b\"]"));
        }
        Some(Found { value: value?, origin })
    }

    /// As [`texts`](Self::texts), for paths.
    pub(super) fn paths(&mut self, name: &str) -> Vec<PathBuf> {
        let Some(found) = self.texts(name) else {
            return Vec::new();
        };
        let from_file = matches!(found.origin, Origin::File { .. });
        let resolve = |path: String| {
            if from_file {
                self.context.resolve(&path)
            } else {
                PathBuf::from(path)
            }
        };
        found.value.into_iter().map(resolve).collect()
    }

    /// Reports a required setting that is absent.
    pub(super) fn missing(&mut self, name: &str, meaning: &str) {
        // A value that is present and wrong was already reported.
        if self.table.is_some_and(|table| table.contains_key(name)) {
            return;
        }
        self.wrong(name, &self.context.origin(None), format!("is missing: {meaning}"));
    }

    /// As [`missing`](Self::missing), in a table that begins at `origin`.
    pub(super) fn missing_at(&mut self, name: &str, origin: &Origin, meaning: &str) {
        if self.table.is_none_or(|table| !table.contains_key(name)) {
            self.wrong(name, origin, format!("is missing: {meaning}"));
        }
    }

    /// Reports an invalid value.
    pub(super) fn wrong(&self, name: &str, origin: &Origin, message: String) {
        let setting = format!("{}{name}", self.prefix);
        self.context.problems.borrow_mut().push(Problem {
            origin: origin.clone(),
            setting,
            message,
        });
    }

    /// Reports a value that is allowed but probably not intended.
    pub(super) fn warn(&self, name: &str, origin: &Origin, message: String) {
        let setting = format!("{}{name}", self.prefix);
        self.context.warnings.borrow_mut().push(Problem {
            origin: origin.clone(),
            setting,
            message,
        });
    }

    /// The full name of a setting.
    pub(super) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The origin of a setting, for problems between settings.
    pub(super) fn origin_of(&self, name: &str) -> Origin {
        let span = self.table.and_then(|table| table.get(name)).and_then(Item::span);
        self.context.origin(start(span))
    }

    /// Reports the settings in the file that were never read.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, item) in table.iter().filter(|(name, _)| !self.read_names.contains(*name)) {
            let key_span = table.get_key_value(name).and_then(|(key, _)| key.span());
            let origin = self.context.origin(start(key_span.or_else(|| item.span())));
            let hint = suggestion(name, self.read_names.iter().map(String::as_str));
            self.wrong(name, &origin, format!("there is no such setting{hint}"));
        }
    }

    fn variable(&mut self, name: &str) -> Option<(String, Origin)> {
        self.read_names.insert(name.to_owned());
        if !self.overridable {
            return None;
        }
        let variable = variable_name(&format!("{}{name}", self.prefix));
        let text = self.context.variables.get(&variable).cloned();
        self.context.read_variables.borrow_mut().insert(variable.clone());
        Some((text?, Origin::Variable(variable)))
    }

    fn typed<T>(&mut self, name: &str, meaning: &str, take: impl Fn(&Value) -> Option<T>) -> Option<Found<T>> {
        let item = self.table?.get(name)?;
        let origin = self.context.origin(start(item.span()));
        match item.as_value().and_then(take) {
            Some(value) => Some(Found { value, origin }),
            None => {
                self.wrong(name, &origin, format!("must be {meaning}"));
                None
            }
        }
    }
}

/// The variable that overrides a setting: `WEFT_DOCUMENTS_SEAL_IDLE` for `documents.seal_idle`.
pub(super) fn variable_name(setting: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", setting.replace('.', "_").to_ascii_uppercase())
}

fn texts_of(value: &Value) -> Option<Vec<String>> {
    value
        .as_array()?
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn start(span: Option<std::ops::Range<usize>>) -> Option<usize> {
    span.map(|span| span.start)
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

/// `; did you mean ...?` if one of the known names is similar.
pub(super) fn suggestion<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let near = (name.chars().count() / 3).max(1);
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(edits, _)| *edits <= near)
        .min_by_key(|(edits, _)| *edits)
        .map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
}
