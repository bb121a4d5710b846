//! For tests of what is built on this crate: a rail that plays every part, and the conformance kit
//! that every rail has to pass.

mod eventually;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod rail;
pub mod receiver;
mod scripted;
pub mod store;
pub mod world;

pub use eventually::eventually;
pub use scripted::{
    Answer, Books, Chances, Course, Disorder, Effects, Ending, Lie, OutsideWorld, Script, ScriptedRail,
};
