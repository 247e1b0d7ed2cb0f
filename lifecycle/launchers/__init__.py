"""Where a job's processes run: one shape (`shape.Launcher`), and a module for each kind of place."""
