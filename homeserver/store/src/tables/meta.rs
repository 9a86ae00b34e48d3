//! Tables about the store itself.

crate::tables! {
    SCHEMA: () => u64, Global, Ground, 0x0001, "The form of all rows. A program refuses a higher number than it knows.";
    POSITION_CEILING: () => u64, Global, Ground, 0x0002,
        "No position above this one was ever shown to anybody, so that none is given twice after a crash.";
    SERVER_NAME: () => String, Global, Ground, 0x0003,
        "The server whose store this is: a store that is opened under another name would hold users of two names.";
}
