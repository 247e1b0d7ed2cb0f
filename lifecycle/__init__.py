"""The training lifecycle: nouns in `artifacts`, verbs in `stages`, know-how in the packages beside them."""
