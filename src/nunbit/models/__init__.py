"""Networks: names to modules, one architecture a file."""
