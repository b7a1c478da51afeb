"""Data: from files and named sets to splits and batches."""
