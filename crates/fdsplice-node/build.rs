//! Sets the linker options a Node addon needs.

fn main() {
    napi_build::setup();
}
