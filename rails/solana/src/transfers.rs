//! Reading the token's movements out of a transaction.
//!
//! Every instruction of the classic token program counts, also those that other programs make. What
//! they add up to is compared with what the chain says each account changed by, so that an instruction
//! unknown to this version is noticed instead of missed.

use std::collections::BTreeMap;

use solana_pubkey::Pubkey;
use solana_transaction::versioned::{TransactionVersion, VersionedTransaction};
use solana_transaction_status_client_types::{
    EncodedTransactionWithStatusMeta, UiInstruction, UiTransactionStatusMeta, UiTransactionTokenBalance,
    option_serializer::OptionSerializer,
};
use spl_token_interface::instruction::TokenInstruction;
use tradepost::rail::RailError;

use crate::chain::nonsense;

/// The instruction of newer token programs that holds several others: for each, the number of its
/// accounts, the length of its data, the data.
const BATCH: u8 = 255;

/// A transaction that succeeded, and its parts.
pub(crate) struct Read<'a> {
    pub(crate) transaction: VersionedTransaction,
    pub(crate) meta: &'a UiTransactionStatusMeta,
    keys: Vec<Pubkey>,
}

/// One movement of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// The instruction: `3`, `3.0` for the first one that it made, `3.0/1` inside a batch.
    pub(crate) place: String,
    pub(crate) from: Side,
    pub(crate) to: Side,
    pub(crate) amount: u64,
    /// Who ordered it.
    pub(crate) authority: Pubkey,
}

/// One end of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A token account.
    Account(Pubkey),
    /// The token's issuer, who makes and destroys it.
    Issuer(Pubkey),
}

impl Side {
    pub(crate) fn is(self, account: &Pubkey) -> bool {
        matches!(self, Self::Account(other) if other == *account)
    }
}

/// Whether a transaction moved the token at all: cheap, before anything is decoded.
pub(crate) fn touches(transaction: &EncodedTransactionWithStatusMeta, mint: &str) -> Result<bool, RailError> {
    let meta = effects(transaction)?;
    Ok(meta.err.is_none() && balances(&meta.post_token_balances).iter().any(|balance| balance.mint == mint))
}

/// Whether a transaction is of a later version than this one reads.
pub(crate) fn is_newer(transaction: &EncodedTransactionWithStatusMeta) -> bool {
    matches!(transaction.version, Some(TransactionVersion::Number(version)) if version > 0)
}

/// What the token accounts of a transaction that cannot be read changed by: their owners, and the amounts.
pub(crate) fn changes(
    transaction: &EncodedTransactionWithStatusMeta,
    mint: &str,
) -> Result<Vec<(Pubkey, i128)>, RailError> {
    let (meta, mut found) = (effects(transaction)?, BTreeMap::<u8, (Pubkey, i128)>::new());
    for (side, sign) in [(&meta.pre_token_balances, -1), (&meta.post_token_balances, 1)] {
        for balance in balances(side).iter().filter(|balance| balance.mint == mint) {
            let Some(owner) = Option::<String>::from(balance.owner.clone()).and_then(|owner| owner.parse().ok()) else {
                continue;
            };
            found.entry(balance.account_index).or_insert((owner, 0)).1 += sign * amount(balance);
        }
    }
    Ok(found.into_values().collect())
}

fn amount(balance: &UiTransactionTokenBalance) -> i128 {
    balance.ui_token_amount.amount.parse().unwrap_or_default()
}

fn effects(transaction: &EncodedTransactionWithStatusMeta) -> Result<&UiTransactionStatusMeta, RailError> {
    transaction.meta.as_ref().ok_or_else(|| nonsense("a transaction without its effects"))
}

impl<'a> Read<'a> {
    pub(crate) fn new(transaction: &'a EncodedTransactionWithStatusMeta) -> Result<Self, RailError> {
        let meta = effects(transaction)?;
        let transaction =
            transaction.transaction.decode().ok_or_else(|| nonsense("a transaction that cannot be decoded"))?;
        let mut keys = transaction.message.static_account_keys().to_vec();
        if let OptionSerializer::Some(loaded) = &meta.loaded_addresses {
            for key in loaded.writable.iter().chain(&loaded.readonly) {
                keys.push(key.parse().map_err(|_| nonsense("a loaded address is no address"))?);
            }
        }
        Ok(Self { transaction, meta, keys })
    }

    /// Every account that it names.
    pub(crate) fn keys(&self) -> &[Pubkey] {
        &self.keys
    }

    /// Every movement of the token, in the order made.
    pub(crate) fn transfers(&self) -> Result<Vec<Transfer>, RailError> {
        let mut found = Vec::new();
        for (i, instruction) in self.transaction.message.instructions().iter().enumerate() {
            let program = self.key(instruction.program_id_index)?;
            self.read(program, &instruction.accounts, &instruction.data, &i.to_string(), &mut found)?;
            let OptionSerializer::Some(inner) = &self.meta.inner_instructions else { continue };
            let made = inner.iter().filter(|made| usize::from(made.index) == i).flat_map(|made| &made.instructions);
            for (j, made) in made.enumerate() {
                let UiInstruction::Compiled(made) = made else {
                    return Err(nonsense("an instruction in a form that was not asked for"));
                };
                let data = bs58::decode(&made.data).into_vec();
                let data = data.map_err(|_| nonsense("an instruction's data is not base58"))?;
                let program = self.key(made.program_id_index)?;
                self.read(program, &made.accounts, &data, &format!("{i}.{j}"), &mut found)?;
            }
        }
        Ok(found)
    }

    /// What an account's balance of the token changed by.
    pub(crate) fn change(&self, account: &Pubkey) -> i128 {
        self.balance(&self.meta.post_token_balances, account) - self.balance(&self.meta.pre_token_balances, account)
    }

    /// What was paid for an account to be made, in lamports.
    pub(crate) fn rent(&self, account: &Pubkey) -> u64 {
        let Some(index) = self.keys.iter().position(|key| key == account) else { return 0 };
        let at = |balances: &[u64]| balances.get(index).copied().unwrap_or_default();
        at(&self.meta.post_balances).saturating_sub(at(&self.meta.pre_balances))
    }

    /// Who owned a token account.
    pub(crate) fn owner(&self, account: &Pubkey) -> Option<String> {
        let index = self.keys.iter().position(|key| key == account)?;
        let known = balances(&self.meta.pre_token_balances).iter().chain(balances(&self.meta.post_token_balances));
        let mut known = known.filter(|balance| usize::from(balance.account_index) == index);
        known.find_map(|balance| Option::<String>::from(balance.owner.clone()))
    }

    fn balance(&self, side: &OptionSerializer<Vec<UiTransactionTokenBalance>>, account: &Pubkey) -> i128 {
        let index = self.keys.iter().position(|key| key == account);
        let entry = balances(side).iter().find(|balance| Some(usize::from(balance.account_index)) == index);
        entry.map(amount).unwrap_or_default()
    }

    fn key(&self, index: u8) -> Result<Pubkey, RailError> {
        self.keys.get(usize::from(index)).copied().ok_or_else(|| nonsense("an account that the transaction lacks"))
    }

    fn read(
        &self,
        program: Pubkey,
        accounts: &[u8],
        data: &[u8],
        place: &str,
        found: &mut Vec<Transfer>,
    ) -> Result<(), RailError> {
        if program != spl_token_interface::ID {
            return Ok(());
        }
        let keys: Vec<Pubkey> = accounts.iter().map(|index| self.key(*index)).collect::<Result<_, _>>()?;
        match data.split_first() {
            Some((&BATCH, rest)) => batch(&keys, rest, place, found),
            _ => found.extend(transfer(&keys, data, place)),
        }
        Ok(())
    }
}

fn balances(side: &OptionSerializer<Vec<UiTransactionTokenBalance>>) -> &[UiTransactionTokenBalance] {
    match side {
        OptionSerializer::Some(balances) => balances,
        OptionSerializer::None | OptionSerializer::Skip => &[],
    }
}

/// The movement that one instruction of the token program makes, if it makes one.
fn transfer(keys: &[Pubkey], data: &[u8], place: &str) -> Option<Transfer> {
    let key = |i: usize| keys.get(i).copied();
    let account = |i: usize| key(i).map(Side::Account);
    let issuer = |i: usize| key(i).map(Side::Issuer);
    let (from, to, amount, authority) = match TokenInstruction::unpack(data).ok()? {
        TokenInstruction::Transfer { amount } => (account(0)?, account(1)?, amount, key(2)?),
        TokenInstruction::TransferChecked { amount, .. } => (account(0)?, account(2)?, amount, key(3)?),
        TokenInstruction::MintTo { amount } | TokenInstruction::MintToChecked { amount, .. } => {
            (issuer(2)?, account(1)?, amount, key(2)?)
        }
        TokenInstruction::Burn { amount } | TokenInstruction::BurnChecked { amount, .. } => {
            (account(0)?, issuer(1)?, amount, key(2)?)
        }
        _ => return None,
    };
    Some(Transfer { place: place.into(), from, to, amount, authority })
}

/// What a batch that does not parse moved is noticed by comparing with the balances.
fn batch(keys: &[Pubkey], mut data: &[u8], place: &str, found: &mut Vec<Transfer>) {
    let (mut keys, mut number) = (keys, 0);
    while let [accounts, length, rest @ ..] = data {
        let (accounts, length) = (usize::from(*accounts), usize::from(*length));
        if keys.len() < accounts || rest.len() < length {
            return;
        }
        found.extend(transfer(&keys[..accounts], &rest[..length], &format!("{place}/{number}")));
        (keys, data, number) = (&keys[accounts..], &rest[length..], number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_instruction_by_instruction() {
        let keys: Vec<Pubkey> = (0..7).map(|i| Pubkey::new_from_array([i; 32])).collect();
        let transfer = |amount: u64| TokenInstruction::Transfer { amount }.pack();
        let checked = TokenInstruction::TransferChecked { amount: 9, decimals: 6 }.pack();
        let mut data = Vec::new();
        for (accounts, one) in [(3, transfer(5)), (4, checked)] {
            data.extend([accounts, u8::try_from(one.len()).unwrap()]);
            data.extend(one);
        }
        let mut found = Vec::new();
        batch(&keys, &data, "2.1", &mut found);
        let ends: Vec<_> = found.iter().map(|t| (t.place.as_str(), t.from, t.to, t.amount)).collect();
        let account = |i: usize| Side::Account(keys[i]);
        assert_eq!(ends, [("2.1/0", account(0), account(1), 5), ("2.1/1", account(3), account(5), 9)]);
        found.clear();
        batch(&keys, &data[..data.len() - 1], "0", &mut found);
        assert_eq!(found.len(), 1, "what is cut off is not read");
    }
}
