//! What a function's role allows, as the template says; a wire refuses the rest, as IAM would.
//!
//! It reads the statements that our template has: `Allow`, with actions and resources named in full. It must not know any service.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>

use serde_json::Value;

use crate::template::Function;

/// The statements of one function's role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role(Vec<Statement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
}

impl Role {
    /// The role that the template gives a function.
    #[must_use]
    pub fn of(function: &Function) -> Self {
        let policies = function.properties["Policies"].as_array().into_iter().flatten();
        let statements = policies.flat_map(|it| it["Statement"].as_array().into_iter().flatten());
        let allowing = statements.filter(|it| it["Effect"] == "Allow");
        Self(allowing.map(|it| Statement { actions: texts(&it["Action"]), resources: texts(&it["Resource"]) }).collect())
    }

    /// Whether it allows this action (`dynamodb:GetItem`) on this resource (an ARN).
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let has = |list: &[String], it: &str| list.iter().any(|listed| listed == it);
        self.0.iter().any(|it| has(&it.actions, action) && has(&it.resources, resource))
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Template, queue_arn};

    #[test]
    fn what_is_not_allowed_by_name_is_not_allowed() {
        let template = Template::load().expect("is understood");
        let role = Role::of(&template.functions["WebhookFunction"]);
        let queue = |id: &str| queue_arn(&template.queue(id).name);
        assert!(role.allows("sqs:SendMessage", &queue("InboundQueue")));
        assert!(!role.allows("sqs:SendMessage", &queue("RepliesQueue")));
        assert!(!role.allows("sqs:DeleteMessage", &queue("InboundQueue")));
        assert!(!Role::default().allows("sqs:SendMessage", &queue("InboundQueue")));
    }
}
