//! A value of the config as JSON: what a program gets that a client did not send.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::diagnostic::Span;
use super::section::Item;

/// The value of `item`; what JSON does not have is reported, each with its place.
pub(super) fn json(item: &Item<'_>) -> Option<Value> {
    let complain = |span: &Span, what: &str, help: &str| {
        item.report.error(span, format!("`{}` holds {what}, which JSON does not have", item.name), help);
        None
    };
    of(item.value(), &item.span, &complain)
}

fn of(
    value: &DeValue<'_>,
    span: &Span,
    complain: &dyn Fn(&Span, &str, &str) -> Option<Value>,
) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.as_ref().to_owned())),
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            let number = number.map(|number| Value::Number(number.into()));
            number.or_else(|| complain(span, "a number beyond 64 bits", "put it in quotes"))
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64).map(Value::Number);
            number.or_else(|| complain(span, "infinity or no number", "put it in quotes"))
        }
        DeValue::Datetime(_) => complain(span, "a date", "put it in quotes"),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| of(item.get_ref(), &item.span(), complain)).collect();
            items.into_iter().collect()
        }
        DeValue::Table(table) => {
            let field = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.clone().into_owned(), of(value.get_ref(), &value.span(), complain)?))
            };
            let fields: Vec<_> = table.iter().map(field).collect();
            fields.into_iter().collect::<Option<Map<_, _>>>().map(Value::Object)
        }
    }
}

/// Where in `item` what a JSON pointer (RFC 6901) names stands; what is not there: where it
/// would be.
pub(super) fn place_of(item: &Item<'_>, pointer: &str) -> Span {
    let (mut value, mut span) = (item.value(), item.span.clone());
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let next = match value {
            DeValue::Table(table) => table.get(token.as_str()),
            DeValue::Array(items) => token.parse().ok().and_then(|n: usize| items.get(n)),
            _ => None,
        };
        let Some(next) = next else { break };
        (value, span) = (next.get_ref(), next.span());
    }
    span
}
