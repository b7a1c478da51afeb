"""Several recipes, several seeds, the same pictures: which differences are real."""
