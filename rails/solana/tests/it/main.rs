//! x
#[test]
fn builds() { let _ = litesvm::LiteSVM::new(); }
