"""Where text is and how it is read: places (configuration), shards of them, and a reader for each format."""
