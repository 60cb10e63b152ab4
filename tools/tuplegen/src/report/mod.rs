//! What is written of a run.

pub mod html;
pub mod live;
pub mod run;
pub mod schema;
pub mod table;
pub mod text;
