"""What people look at: the live display of a run, and the tables and last screen made from what is in the store."""
