"""The verbs: config and one function each. They never import each other and nothing heavy."""
