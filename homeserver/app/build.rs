//! Links the setting of the C allocator (`src/allocator.c`) into the program. Must not do anything else.

fn main() {
    println!("cargo::rerun-if-changed=src/allocator.c");
    // Nothing refers to the constructor, so the linker would leave it out.
    cc::Build::new()
        .file("src/allocator.c")
        .link_lib_modifier("+whole-archive")
        .compile("weft_allocator");
}
