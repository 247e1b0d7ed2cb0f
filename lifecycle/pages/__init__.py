"""What an artifact says of itself to people, as Markdown inside its folder: the gate's decision, a release's card."""
