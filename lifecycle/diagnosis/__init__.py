"""After a disappointing run: which of six problems is it, on what evidence, and what is the cheapest way to mend it."""
