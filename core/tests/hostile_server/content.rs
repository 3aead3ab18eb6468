//! Contents out of order, and bodies that do not end.
