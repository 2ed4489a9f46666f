//! What an operator asks of many hosts at once, beside running commands: inventory.

pub mod inventory;
