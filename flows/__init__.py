"""When things happen: each flow is a table of contents of tasks. `python -m flows.full_lifecycle --help`."""
