"""Programs that measure this project against a named peer, limit or bar; `--json FILE` keeps the rows."""
