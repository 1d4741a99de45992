//! A handle on one customer's phone, for tests that tell stories.

use crate::Simulator;
use crate::book::{Customer, user_id_of};
use crate::customers::{Impossible, Line, Written};

/// One customer's phone. The customer comes into being with the first word written from or to it.
#[derive(Debug, Clone)]
pub struct Phone {
    simulator: Simulator,
    who: String,
}

impl Phone {
    pub(crate) fn new(simulator: Simulator, who: &str) -> Self {
        Self { simulator, who: who.into() }
    }

    /// Writes to a number; gives the wamid.
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn writes(&self, number: &str, written: impl Into<Written>) -> Result<String, Impossible> {
        self.simulator.customer_writes(&self.who, number, written)
    }

    /// Reads what has arrived, from all numbers; gives how many messages were new.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn reads(&self) -> Result<usize, Impossible> {
        self.simulator.change(|book, now_ms| book.customer_reads(now_ms, &self.who, None))
    }

    /// Plays a voice message that has arrived.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoMessage`] if there is none of that id.
    pub fn plays(&self, message: &str) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.customer_plays(now_ms, &self.who, message))
    }

    /// Calls a number, which opens the window.
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn calls(&self, number: &str) -> Result<String, Impossible> {
        self.simulator.change(|book, now_ms| book.customer_calls(now_ms, &self.who, number, 0))
    }

    /// Stops (`stop`) or resumes (`resume`) marketing messages.
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn prefers(&self, number: &str, choice: &str) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.customer_prefers(now_ms, &self.who, number, choice))
    }

    /// Blocks a number: what it sends from now on fails with 131026.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn blocks(&self, number: &str) -> Result<(), Impossible> {
        self.simulator.change_customer(&self.who, |it| it.set_blocked(number, true))
    }

    /// Unblocks a number.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn unblocks(&self, number: &str) -> Result<(), Impossible> {
        self.simulator.change_customer(&self.who, |it| it.set_blocked(number, false))
    }

    /// Goes offline: messages wait with one tick.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn goes_offline(&self) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.set_online(now_ms, &self.who, false))
    }

    /// Comes online: what waited arrives.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn comes_online(&self) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.set_online(now_ms, &self.who, true))
    }

    /// Moves to another telephone number and user id. This handle then still names the old number: take a new one.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn changes_phone(&self, phone: &str) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.customer_changes_phone(now_ms, &self.who, phone))
    }

    /// Gets another user id.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn changes_user_id(&self, user_id: &str) -> Result<(), Impossible> {
        self.simulator.change(|book, now_ms| book.customer_changes_user_id(now_ms, &self.who, user_id))
    }

    /// What the screen shows, oldest first; nothing if the customer does not exist yet.
    pub fn screen(&self) -> Vec<Line> {
        self.simulator.look(|book, now_ms| book.screen(now_ms, &self.who)).unwrap_or_default()
    }

    /// The phone number ids that are seen typing now.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn sees_typing(&self) -> Result<Vec<String>, Impossible> {
        self.simulator.change(|book, now_ms| {
            let key = book.known_customer(&self.who)?;
            let numbers = book.numbers_of(&key);
            Ok(numbers.into_iter().filter(|it| book.thread(it, &key).typing_until_ms > now_ms).collect())
        })
    }

    /// The customer as Meta knows them, once there is one.
    pub fn customer(&self) -> Option<Customer> {
        self.simulator.look(|book, _| book.find_customer(&self.who).cloned())
    }

    /// The user id that a phone gets that appears by itself.
    pub fn usual_user_id(&self) -> String {
        user_id_of(&crate::dialling::wa_id(&crate::dialling::digits(&self.who)))
    }
}
