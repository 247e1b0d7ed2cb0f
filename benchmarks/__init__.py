"""Programs that measure this project against a named peer, limit or bar. Each prints a table; `--json FILE` keeps the rows."""
