"""How a conversation becomes ids: one protocol, bound to the tokenizer, the same in training and serving."""
