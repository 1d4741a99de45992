//! Stories of *One person*: addresses that turn out to belong together, or no longer do.
