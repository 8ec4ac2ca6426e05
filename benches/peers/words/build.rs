//! Makes the types of the contract.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::compile_protos("proto/words.proto")?;
    Ok(())
}
