//! The store contract: every verb, on SQLite and on PostgreSQL, one body for both.

mod support;

mod store_contract {
    #[macro_use]
    pub mod house;

    mod activation;
    mod asked;
    mod audit;
    mod claims;
    mod history;
    mod leases;
    mod opening;
    mod planning;
    mod producers;
    mod schema;
    mod settling;
    mod transactions;
}
