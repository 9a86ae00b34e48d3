//! Tables about the store itself. Tags 0x00xx. Must not hold data of rooms or users.

crate::tables! {
    SCHEMA: () => u64, Global, Ground, 0x0001, "The format version of all rows. A program refuses a higher version than it supports.";
    POSITION_CEILING: () => u64, Global, Ground, 0x0002,
        "No position above this one was ever visible, so that none is assigned twice after a crash.";
    SERVER_NAME: () => String, Global, Ground, 0x0003,
        "The server name of the store: a store opened under another name would have users of two servers.";
}
