"""The data that ships with the `tiny` recipe, and the code that made it. `README.md` here says what each file holds."""
