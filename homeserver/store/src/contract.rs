//! What every engine must do, as a suite that runs against any of them.
