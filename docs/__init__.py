"""The programs that write documentation."""
