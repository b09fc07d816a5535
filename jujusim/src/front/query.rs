//! The part of the query language of `juju wait-for` that scripts use.

use serde_json::Value;

use crate::error::{Error, Result};

/// A parsed query.
#[derive(Debug, PartialEq)]
pub(super) enum Query {
    Either(Box<Query>, Box<Query>),
    Both(Box<Query>, Box<Query>),
    Same(Box<Query>, Box<Query>),
    Different(Box<Query>, Box<Query>),
    /// `forEach(map, name => query)`
    Each {
        of: Vec<String>,
        name: String,
        holds: Box<Query>,
    },
    Literal(Value),
    /// `name`, `name.field`
    Field(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

const SIGNS: [&str; 9] = ["==", "!=", "&&", "||", "=>", "(", ")", ",", "."];

fn not_modelled(what: &str) -> Error {
    Error::NotModelled(format!("{what} in a query of wait-for"))
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign))
        {
            (Token::Sign(sign), sign.len())
        } else if let Some(inner) = ['"', '\''].contains(&first).then(|| &rest[1..]) {
            let end = inner
                .find(first)
                .ok_or_else(|| Error::refused(format!("invalid query {text:?}")))?;
            (Token::Text(inner[..end].to_owned()), end + 2)
        } else {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && !"-_".contains(c))
                .unwrap_or(rest.len());
            if end == 0 {
                return Err(not_modelled(&format!("{first:?}")));
            }
            let word = &rest[..end];
            (word.parse().map_or_else(|_| Token::Name(word.to_owned()), Token::Number), end)
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Query> {
        let mut parser = Parser { text, tokens: tokens(text)?.into_iter().peekable() };
        let query = parser.either()?;
        match parser.tokens.next() {
            None => Ok(query),
            Some(_) => Err(parser.wrong()),
        }
    }

    /// Whether the query is true for these values.
    pub(super) fn holds(&self, names: &Value) -> Result<bool> {
        Ok(match self {
            Query::Either(one, other) => one.holds(names)? || other.holds(names)?,
            Query::Both(one, other) => one.holds(names)? && other.holds(names)?,
            Query::Same(one, other) => one.value(names)? == other.value(names)?,
            Query::Different(one, other) => one.value(names)? != other.value(names)?,
            Query::Each { of, name, holds } => {
                let all = lookup(of, names)?;
                let all =
                    all.as_object().ok_or_else(|| not_modelled(&format!("forEach of {of:?}")))?;
                for each in all.values() {
                    let mut inner = names.clone();
                    inner[name] = each.clone();
                    if !holds.holds(&inner)? {
                        return Ok(false);
                    }
                }
                true
            }
            Query::Literal(_) | Query::Field(_) => match self.value(names)? {
                Value::Bool(value) => value,
                other => {
                    return Err(Error::refused(format!("a query is true or false, not {other}")));
                }
            },
        })
    }

    fn value(&self, names: &Value) -> Result<Value> {
        match self {
            Query::Literal(value) => Ok(value.clone()),
            Query::Field(path) => lookup(path, names).cloned(),
            other => Ok(Value::Bool(other.holds(names)?)),
        }
    }
}

fn lookup<'a>(path: &[String], names: &'a Value) -> Result<&'a Value> {
    path.iter()
        .try_fold(names, |value, name| value.get(name))
        .ok_or_else(|| not_modelled(&path.join(".")))
}

struct Parser<'a, I: Iterator<Item = Token>> {
    text: &'a str,
    tokens: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Token>> Parser<'_, I> {
    fn wrong(&self) -> Error {
        Error::refused(format!("invalid query {:?}", self.text))
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        self.tokens.next_if_eq(&Token::Sign(sign)).is_some()
    }

    fn expect(&mut self, sign: &'static str) -> Result<()> {
        if self.takes(sign) { Ok(()) } else { Err(self.wrong()) }
    }

    fn name(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name),
            _ => Err(self.wrong()),
        }
    }

    fn either(&mut self) -> Result<Query> {
        let mut query = self.both()?;
        while self.takes("||") {
            query = Query::Either(Box::new(query), Box::new(self.both()?));
        }
        Ok(query)
    }

    fn both(&mut self) -> Result<Query> {
        let mut query = self.comparison()?;
        while self.takes("&&") {
            query = Query::Both(Box::new(query), Box::new(self.comparison()?));
        }
        Ok(query)
    }

    fn comparison(&mut self) -> Result<Query> {
        let query = self.term()?;
        if self.takes("==") {
            return Ok(Query::Same(Box::new(query), Box::new(self.term()?)));
        }
        if self.takes("!=") {
            return Ok(Query::Different(Box::new(query), Box::new(self.term()?)));
        }
        Ok(query)
    }

    fn term(&mut self) -> Result<Query> {
        match self.tokens.next() {
            Some(Token::Sign("(")) => {
                let query = self.either()?;
                self.expect(")")?;
                Ok(query)
            }
            Some(Token::Text(text)) => Ok(Query::Literal(Value::from(text))),
            Some(Token::Number(number)) => Ok(Query::Literal(Value::from(number))),
            Some(Token::Name(name)) => self.named(name),
            _ => Err(self.wrong()),
        }
    }

    fn named(&mut self, name: String) -> Result<Query> {
        if let Ok(value) = name.parse::<bool>() {
            return Ok(Query::Literal(Value::from(value)));
        }
        if self.takes("(") {
            if name != "forEach" {
                return Err(not_modelled(&name));
            }
            let first = self.name()?;
            let of = self.path(first)?;
            self.expect(",")?;
            let name = self.name()?;
            self.expect("=>")?;
            let holds = Box::new(self.either()?);
            self.expect(")")?;
            return Ok(Query::Each { of, name, holds });
        }
        Ok(Query::Field(self.path(name)?))
    }

    fn path(&mut self, first: String) -> Result<Vec<String>> {
        let mut path = vec![first];
        while self.takes(".") {
            path.push(self.name()?);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(query: &str) -> Result<bool> {
        let names = json!({
            "status": "active",
            "life": "alive",
            "exposed": false,
            "units": {
                "a/0": {"workload-status": "active", "agent-status": "idle"},
                "a/1": {"workload-status": "active", "agent-status": "executing"},
            },
        });
        Query::parse(query)?.holds(&names)
    }

    #[test]
    fn queries_of_scripts_are_evaluated() {
        for (query, answer) in [
            (r#"status=="active""#, true),
            ("status == 'active' && life==\"dying\"", false),
            (r#"life=="dying" && exposed || status=="active""#, true),
            (r#"life=="dying" && (exposed || status=="active")"#, false),
            (r#"forEach(units, unit => unit.workload-status == "active")"#, true),
            (r#"forEach(units, unit => unit.agent-status=="idle")"#, false),
            (r#"status != "error" && exposed == false"#, true),
            ("true", true),
        ] {
            assert_eq!(holds(query).ok(), Some(answer), "{query}");
        }
    }

    #[test]
    fn unmodelled_and_invalid_queries_are_refused() {
        for (query, why) in [
            ("len(units) == 2", "jujusim does not model len in a query"),
            ("leader == true", "jujusim does not model leader in a query"),
            ("status > 1", "jujusim does not model '>' in a query"),
            ("status ==", "invalid query"),
            ("status == \"active", "invalid query"),
            ("(status", "invalid query"),
            ("status", "true or false"),
        ] {
            let error = holds(query).expect_err(query).to_string();
            assert!(error.contains(why), "{query}: {error}");
        }
    }
}
