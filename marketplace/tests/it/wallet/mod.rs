//! Wallets: the rules alone, then whole commands through the engine on every store and rail.

mod rules;
