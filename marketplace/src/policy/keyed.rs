//! Reading maps whose keys are words: an error names the key, and no key may come twice.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IntoDeserializer, MapAccess, Visitor},
};

/// Reads a map, for `deserialize_with`. Keys go through their text, which is what an error's path is
/// made of.
pub(super) fn map<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: DeserializeOwned + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Entries(PhantomData))
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: DeserializeOwned + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(Word(key)) = entries.next_key()? {
            if map.insert(key, entries.next_value()?).is_some() {
                return Err(A::Error::custom("a key comes twice"));
            }
        }
        Ok(map)
    }
}

struct Word<K>(K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Word<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        K::deserialize(text.into_deserializer()).map(Self)
    }
}
