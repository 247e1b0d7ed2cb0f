"""Programs started by `lifecycle.launch`. The only place where heavy packages are imported."""
