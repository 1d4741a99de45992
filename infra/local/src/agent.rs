//! The example agent: takes turns from `turns.fifo`, answers each through `replies.fifo`.
//!
//! It stands for the agent runtime of a platform and knows no more than that one would: the two queues and their jobs.

use anyhow::{Context as _, Result};
use channel::queues::{Entry, Queue, Queues};
use serde_json::{Value, json};

/// What the agent needs to know of a turn.
#[derive(Debug, PartialEq)]
struct Turn {
    /// The turn's id, from which the reply's derives, so that a turn told twice is answered once.
    turn: String,
    connection: String,
    /// Orders the replies of a conversation.
    conversation: String,
    /// Whom the turn is for: the name under which we answer.
    agent: String,
    /// `text`, `audio`, `image`, `unsupported` and so on.
    kind: String,
    /// The customer's words, if the turn has any.
    text: Option<String>,
}

/// Answers one turn. What is no turn is told and put aside.
///
/// # Errors
/// The queue does not take the reply.
pub(crate) async fn answer(queues: Queues, body: String) -> Result<()> {
    match decode(&body) {
        Ok(turn) => queues.send(Queue::Replies, vec![reply(&turn)]).await?,
        Err(error) => println!("The example agent cannot read a turn: {error:#}"),
    }
    Ok(())
}

/// A turn from its job.
fn decode(body: &str) -> Result<Turn> {
    let job: Value = serde_json::from_str(body).context("it is not JSON")?;
    let required = |name: &str| job[name].as_str().map(str::to_owned).with_context(|| format!("it has no `{name}`"));
    let content = &job["content"];
    // A text has `text`, a tapped button or a chosen row its `title`, a file its `caption`; a voice message was perhaps turned into words.
    let written = ["text", "title", "caption", "body"].iter().find_map(|it| content[it].as_str());
    let words = written.or_else(|| job["transcript"]["text"].as_str());
    Ok(Turn {
        turn: required("turn")?,
        connection: required("connection")?,
        conversation: required("conversation")?,
        agent: required("agent")?,
        kind: content["kind"].as_str().context("its content has no `kind`")?.to_owned(),
        text: words.filter(|it| !it.trim().is_empty()).map(str::to_owned),
    })
}

/// The job that answers a turn.
fn reply(turn: &Turn) -> Entry {
    let job = json!({
        "v": 1,
        "connection": turn.connection,
        "conversation": turn.conversation,
        "author": { "agent": turn.agent },
        "turn": turn.turn,
        "index": 0,
        "message": { "type": "text", "text": words(&turn.kind, turn.text.as_deref()) },
    });
    Entry { body: job.to_string(), group: Some(turn.conversation.clone()), deduplication: Some(format!("{}/0", turn.turn)) }
}

/// What the agent says to a message of that kind.
fn words(kind: &str, text: Option<&str>) -> String {
    match (kind, text) {
        ("audio", Some(text)) => format!("I listened to your voice message: “{text}”. Thank you! How can I help?"),
        ("audio", None) => "Thank you for your voice message. I cannot listen to it here; would you write to me?".to_owned(),
        ("image" | "video" | "document" | "sticker", Some(text)) => {
            format!("Thank you for the {kind}. You wrote “{text}”. How can I help?")
        }
        ("image" | "video" | "document" | "sticker", None) => format!("Thank you for the {kind}. What would you like me to do with it?"),
        ("unsupported", _) | (_, None) => "I cannot read this kind of message yet. Would you put it in words?".to_owned(),
        (_, Some(text)) => format!("You wrote “{text}”. Thank you, I am happy to help with that!"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(content: &Value) -> String {
        json!({
            "v": 1, "turn": "1790000000000#abc", "tenant": "demo", "agent": "example", "connection": "demo",
            "conversation": "conversation-1", "content": content,
        })
        .to_string()
    }

    #[test]
    fn a_text_is_answered_in_its_conversation_with_the_customers_words() {
        let turn = decode(&job(&json!({"kind": "text", "text": "Hello \"you\""}))).expect("it is a turn");
        let entry = reply(&turn);
        assert_eq!(entry.group.as_deref(), Some("conversation-1"));
        assert_eq!(entry.deduplication.as_deref(), Some("1790000000000#abc/0"));
        let body: Value = serde_json::from_str(&entry.body).expect("it is JSON");
        assert_eq!(body["author"]["agent"], "example");
        assert_eq!(body["turn"], "1790000000000#abc");
        let said = body["message"]["text"].as_str().expect("it says something");
        assert!(said.contains("“Hello \"you\"”"), "{said}");
    }

    #[test]
    fn a_voice_message_speaks_by_its_transcript() {
        let job = json!({
            "turn": "1790000000000#abc", "agent": "example", "connection": "demo", "conversation": "conversation-1",
            "content": { "kind": "audio", "voice": true }, "transcript": { "text": "call me back" },
        });
        let turn = decode(&job.to_string()).expect("it is a turn");
        assert!(words(&turn.kind, turn.text.as_deref()).contains("“call me back”"));
    }

    #[test]
    fn a_tapped_button_speaks_by_its_title_and_a_file_by_its_caption() {
        let text = |content| decode(&job(&content)).expect("it is a turn").text;
        assert_eq!(text(json!({"kind": "button_reply", "id": "yes", "title": "Yes"})).as_deref(), Some("Yes"));
        assert_eq!(text(json!({"kind": "image", "id": "1", "caption": "My receipt"})).as_deref(), Some("My receipt"));
        assert_eq!(text(json!({"kind": "audio", "id": "1"})), None);
    }

    #[test]
    fn every_kind_gets_a_fitting_sentence() {
        assert!(words("audio", None).contains("voice message"));
        assert!(words("audio", Some("call me")).contains("“call me”"));
        assert!(words("image", None).contains("the image"));
        assert!(words("unsupported", Some("ignored")).contains("cannot read this kind"));
        assert!(words("interactive", Some("Yes")).contains("“Yes”"));
    }

    #[test]
    fn what_is_no_turn_is_told() {
        let told = |body: &str| decode(body).expect_err("something is missing").to_string();
        assert_eq!(told(r#"{"v":1,"turn":"1"}"#), "it has no `connection`");
        assert_eq!(told(&job(&json!({}))), "its content has no `kind`");
    }
}
