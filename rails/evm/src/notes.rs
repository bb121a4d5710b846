//! Reading and writing the rail's durable notes: JSON under a key, changed by compare-and-set.

use serde::{Serialize, de::DeserializeOwned};
use tradepost::rail::RailMemory;

use crate::error::EvmError;

/// How often a change is tried while others change the same note.
const ATTEMPTS: u32 = 64;

pub(crate) async fn read<T: DeserializeOwned>(memory: &dyn RailMemory, key: &str) -> Result<Option<T>, EvmError> {
    match memory.get(key).await? {
        Some(text) => parse(key, &text).map(Some),
        None => Ok(None),
    }
}

/// Changes a note until nobody was faster. `change` is given what stands there and answers what is to, and
/// something for the caller; with `None` nothing is written.
pub(crate) async fn change<T, R>(
    memory: &dyn RailMemory,
    key: &str,
    mut change: impl FnMut(Option<T>) -> Result<(Option<T>, R), EvmError>,
) -> Result<R, EvmError>
where
    T: Serialize + DeserializeOwned,
{
    for _ in 0..ATTEMPTS {
        let before = memory.get(key).await?;
        let stood = before.as_deref().map(|text| parse(key, text)).transpose()?;
        let (next, answer) = change(stood)?;
        let Some(next) = next else { return Ok(answer) };
        let text = serde_json::to_string(&next)
            .map_err(|error| EvmError::Unreadable { key: key.into(), why: error.to_string() })?;
        if before.as_deref() == Some(&text) || memory.swap(key, before.as_deref(), &text).await? {
            return Ok(answer);
        }
    }
    Err(EvmError::Contention { key: key.into(), attempts: ATTEMPTS })
}

/// Writes a note, whatever stood there.
pub(crate) async fn put<T: Serialize + DeserializeOwned + Clone>(
    memory: &dyn RailMemory,
    key: &str,
    value: &T,
) -> Result<(), EvmError> {
    change(memory, key, |_: Option<T>| Ok((Some(value.clone()), ()))).await
}

fn parse<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, EvmError> {
    serde_json::from_str(text).map_err(|error| EvmError::Unreadable { key: key.into(), why: error.to_string() })
}
