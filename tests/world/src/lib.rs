//! What tests stand on: a clock to turn, embedded engines for DynamoDB, SQS and S3, the event source mapping, and the
//! deployment template that describes all of them.

pub mod clock;
pub mod dynamo;
pub mod idle;
pub mod mapping;
pub mod orders;
pub mod roles;
pub mod s3;
pub mod sqs;
pub mod story;
pub mod template;
pub mod wire;
