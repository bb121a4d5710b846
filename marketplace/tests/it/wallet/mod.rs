//! Wallets: the rules alone, then whole commands through the engine on every store.

mod bank;
mod budgets;
mod lives;
mod races;
mod ready;
mod rules;
